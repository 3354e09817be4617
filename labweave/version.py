"""The version of labweave, in a file of its own, so that a lower floor can read it without the whole package."""

__version__ = "0.1.0"
