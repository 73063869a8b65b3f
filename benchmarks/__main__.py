"""Print what is fast, as ratios measured in one run: python -m benchmarks"""

from benchmarks import explorer, method, pairs, program

if __name__ == "__main__":
    method.report()
    program.report()
    pairs.report()
    explorer.report()
