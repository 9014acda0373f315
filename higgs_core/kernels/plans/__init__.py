"""Which kernel runs a linear operation: plans of GPU models, and the timing where there is none."""
