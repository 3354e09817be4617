"""What the method `inputs` of a computed table may return beside plain expressions."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Through:
    """Rows that a result reads through others, such as the recordings of a group's cells.

    They are hashed once for all results that read them; a join would hash them for each.

    Attributes
    ----------
    rows : DataJoint expression
        What is read.
    way : DataJoint expression
        Has attributes of the result's key, and some that it shares with `rows`.
    """

    rows: Any
    way: Any

    @property
    def shared(self) -> list[str]:
        """The attributes by which they are joined."""
        return [name for name in self.way.heading.names if name in self.rows.primary_key]
