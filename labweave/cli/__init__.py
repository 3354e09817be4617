"""The ``labweave`` command: one module per group of commands."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C while the modules load ends it as cleanly as later."""
    try:
        from labweave.cli import app
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    app.main()
