"""The names of ONE-api 3 over the lab's tables: `One`, and the factory `ONE` (also ``labweave.ONE``)."""

from labweave.one.api.face import ONE, One

__all__ = ["ONE", "One"]
