"""The version of this project, stated here alone: pyproject.toml and the HTTP app read it."""

VERSION = "0.1.0"
