"""Figures that stand beside a limit or a peer of the same run; see docs/benchmarks.md."""
