"""Print what is fast, as ratios measured in one run: python -m benchmarks"""

from benchmarks import explorer, method, networks, pairs, program

if __name__ == "__main__":
    method.report()
    program.report()
    pairs.report()
    networks.report()
    explorer.report()
