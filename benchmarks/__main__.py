"""Print what is fast, as ratios measured in one run: python -m benchmarks"""

from benchmarks import explorer, gallery, method, networks, pairs, program, ray_indexing

if __name__ == "__main__":
    method.report()
    program.report()
    pairs.report()
    networks.report()
    explorer.report()
    gallery.report()
    ray_indexing.report()
