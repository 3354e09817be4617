"""The ``labweave`` command: one module per group of commands."""

from labweave.cli.app import main

__all__ = ["main"]
