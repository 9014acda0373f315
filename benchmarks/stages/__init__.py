"""What `python -m benchmarks.gpu` runs: a module a stage, each with `run(context)`."""
