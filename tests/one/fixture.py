"""The lab of eight sessions: see ``tests/one_lab.py``, which tests in every folder can import."""

from one_lab import *  # noqa: F403
