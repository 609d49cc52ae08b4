"""The parts of the benchmarks, one file each, with one function: run(bench, report, size)."""
