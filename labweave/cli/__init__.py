"""The ``labweave`` command: one module per group of commands."""

import sys

from labweave.garbage import no_collection

__all__ = ["main"]


def main() -> None:
    """Run the command line; stopped while its modules are still being loaded, it says so like later."""
    try:
        with no_collection(lasting=True):  # an eighth of the time that its modules take
            from labweave.cli import app
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    app.main()
