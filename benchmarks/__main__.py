"""Print what is fast, as ratios measured in one run: python -m benchmarks"""

from benchmarks import (
    explorer,
    gallery,
    method,
    networks,
    pairs,
    program,
    ray_indexing,
    serving,
)

if __name__ == "__main__":
    for benchmark in (method, program, pairs, networks, explorer, gallery, serving, ray_indexing):
        benchmark.report()
