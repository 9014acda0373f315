"""The command line of an entry point."""

from __future__ import annotations

import argparse


def help_as_written(command: str, about: str | None, epilog: str) -> argparse.ArgumentParser:
    """A parser whose --help shows both texts in their own lines.

    command: what follows `python -m`, such as "serverless.client batch".
    """
    return argparse.ArgumentParser(
        prog=f"python -m {command}",
        description=about,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
