"""Comparison of the kernels with torch on the device where they are going to run."""
