"""Linear layers of a decode step: torch functions, kernels for one to 32 rows, weights in 8 bits."""
