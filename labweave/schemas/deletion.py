"""What deleting does to rows of part tables that only refer to what is deleted."""

from typing import Any


class LeavesMasters:
    """A table whose rows can be deleted though part tables of others, such as a group's members, refer to them.

    DataJoint refuses this by default. The rows of the parts go, their masters stay: the group without the cell, and its
    extraction, which populate makes again without it.
    """

    def delete(self, transaction: bool = True, prompt: bool | None = None, part_integrity: str = "ignore") -> int:
        """Delete these rows and all that refer to them."""
        return super().delete(transaction, prompt, part_integrity)  # type: ignore[misc]
