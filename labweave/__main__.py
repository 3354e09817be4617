"""``python -m labweave`` is the ``labweave`` command."""

from labweave.cli import main

if __name__ == "__main__":
    main()
