"""How long a test waits for what must happen. Only what never happens takes as long, however busy the machine is."""

PATIENCE = 600.0
"""Seconds."""
