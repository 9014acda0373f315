"""Benchmarks of the engine against transformers on the same weights, which are random."""
