"""Alyx over REST: a client, what each endpoint offers, and its records as table rows."""

from labweave.formats.alyx.client import AlyxClient, AlyxError, Login
from labweave.formats.alyx.resources import RESOURCES, Resource

__all__ = ["RESOURCES", "AlyxClient", "AlyxError", "Login", "Resource"]
