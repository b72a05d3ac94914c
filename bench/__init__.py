"""Benchmarks of scoop: ``python -m bench NAME [--smoke] [--json FILE] [--repeats N]``.

Every measured case is a fresh process (:mod:`bench.case`); the harness only starts them in turn,
reads one line of JSON from each, and prints medians.
"""
