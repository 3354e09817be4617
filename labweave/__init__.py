"""labweave: a schema-driven data layer for neuroscience labs, on DataJoint 2."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from labweave.version import __version__

if TYPE_CHECKING:
    from labweave.database import Database, connect
    from labweave.one.api import ONE
    from labweave.provenance import explain

__all__ = ["ONE", "Database", "__version__", "connect", "explain"]

# labweave has settings of its own; DataJoint warns at import that it found none.
warnings.filterwarnings("ignore", message="No datajoint.json found", category=UserWarning)


def __getattr__(name: str) -> Any:
    """Load the database layer when it is first asked for: the science code works without it."""
    if name not in __all__:
        raise AttributeError(f"module 'labweave' has no attribute {name!r}")
    place = {"ONE": "one.api", "explain": "provenance"}.get(name, "database")
    module = importlib.import_module(f"labweave.{place}")
    return globals().setdefault(name, getattr(module, name))
