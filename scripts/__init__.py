"""Scripts for those who work on this repository; nothing that the worker needs."""
