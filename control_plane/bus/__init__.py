"""Hints between processes: look now. Losing one costs latency, never correctness."""
