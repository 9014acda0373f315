"""The soak: mixed traffic at both doors for minutes, each process watched from outside. `make soak`."""
