"""Benchmarks: faults planted in models built on the spot, and how many of them are found, placed, named and proven."""
