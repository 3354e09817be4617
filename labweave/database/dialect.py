"""What labweave needs to know of a server beyond DataJoint's adapter, one method for each question.

`labweave.database.postgresql` and `labweave.database.mysql` answer. Other modules ask these questions, and not which
server it is.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from datajoint.errors import AccessError, DataJointError

from labweave.database.batches import Batch
from labweave.database.tls import NotOffered, warn_plain
from labweave.database.url import DatabaseUrl
from labweave.errors import AccessDenied, DatabaseError, text_of

Result = TypeVar("Result")


class TransientError(DatabaseError):
    """A deadlock, lock time-out or serialization failure: the transaction may pass when tried again."""


class RightMissing(AccessDenied, AccessError):
    """The server refuses a statement to this user; labweave's error, and DataJoint's."""


READING = {"select", "show", "with", "explain", "values"}
WRITING = {"", "insert", "update", "delete", "copy", "replace"}
"""First words of the statements of readers and scientists; admins run the others."""

OPENING_S = 10
"""How long a server may take to open a session."""

TOO_LONG = "The query took too long and was ended. Ask for less, or give it more time (--timeout)."


class Dialect(ABC):
    """How one kind of server is talked to; `connection` is a `LabConnection`.

    Attributes
    ----------
    product : {"postgresql", "mysql", "mariadb"}
    batch : type of Batch
        Writes rows.
    before_transaction : str
        Statement that makes the next transaction read what others have committed; empty where that is the default.
    start_snapshot : str
        Statement that starts a transaction which reads one state of the database.
    row_lock : str
        What follows ``for`` in a select that keeps others from writing its rows, and their children's links to them.
    nulls_last : str
        What follows ``desc`` so that missing values come last; empty where that is the default.
    rights : type of Rights
        Who may do what.
    grant_command : str
        By which an administrator gives this user a ``{role}``; empty on the embedded server.
    mark_settles_s : float
        How much older than a statement its write mark must be; see `LabConnection.write_mark`.
    """

    product: str
    batch: type[Batch]
    rights: type[Any]
    before_transaction = ""
    start_snapshot = "start transaction with consistent snapshot"
    row_lock = "update"
    nulls_last = ""
    mark_settles_s = 0.0

    grant_command = ""

    def of_version(self, version: str) -> Dialect:
        """Return the dialect of a server that says this of its version."""
        return self

    def ask_for(self, role: str) -> str:
        """Return how this user comes to a role; nothing on the embedded server, whose user may do all."""
        return f"Ask the administrator for: {self.grant_command.format(role=role)}" if self.grant_command else ""

    def right_missing(self, text: str, query: str) -> RightMissing:
        """Return the error for a statement that the server refuses to this user, with the role that it needs."""
        word = (re.match(r"\W*(\w*)", query) or [""])[1].lower()
        role = "reader" if word in READING else "scientist" if word in WRITING else "admin"
        return RightMissing(f"{text.strip().rstrip('.')}. {self.ask_for(role)}".strip())

    def open(self, url: DatabaseUrl) -> Any:
        """Open a session of the driver, encrypted as the URL says.

        Raises
        ------
        ConfigError
            The server's certificate can't be checked.
        ServerUnavailable
            It was to be encrypted, and the server can't.
        """
        if url.tls:
            return self.open_session(url, url.tls)
        try:
            return self.open_session(url, "require" if url.is_local else "verify")
        except NotOffered:
            if not url.is_local:
                warn_plain(url)
            return self.open_session(url, "off")

    @abstractmethod
    def open_session(self, url: DatabaseUrl, tls: str) -> Any:
        """Open a session in one mode of TLS; see `DatabaseUrl`."""

    @abstractmethod
    def socket_of(self, driver: Any) -> int:
        """Return the file number of the socket of a driver's connection."""

    @abstractmethod
    def mark_of(self, driver: Any) -> str:
        """Return a text by which the server knows the session of a driver's connection, and no other ever."""

    @abstractmethod
    def end_session(self, driver: Any, mark: str) -> None:
        """End another session, if it is there: one that was lost may hold locks for hours, until its server notices."""

    @abstractmethod
    def is_working(self, driver: Any, number: int) -> bool | None:
        """Say whether the session that the server calls by a number runs a statement; None where that can't be known.

        `driver` is another connection of the driver, which is asked.
        """

    @abstractmethod
    def is_silence(self, error: BaseException | None) -> bool:
        """Say whether the driver's error means that nothing came from a server, not even a refusal."""

    @abstractmethod
    def read_only(self, connection: Any, read: Callable[[], Result]) -> Result:
        """Return what `read` gives in a transaction that can't write."""

    @abstractmethod
    def run_query(self, connection: Any, sql: str, params: Any, timeout_s: float) -> tuple[list[str], list[tuple]]:
        """Return names and rows of one query that can't write, whatever is in its text; it has so many seconds."""

    @abstractmethod
    def write_mark(self, connection: Any) -> str | None:
        """Return a text that differs after every commit; see `LabConnection.write_mark`."""

    @abstractmethod
    def exclusive(self, connection: Any, name: str, timeout_s: int) -> AbstractContextManager[bool]:
        """Hold a lock of this name on the server; gives False when others held it for all of the time, 1 s or more.

        The session holds it: when that is lost, so is the lock.
        """

    @abstractmethod
    def complete_declaration(self, connection: Any, table: Any) -> None:
        """Complete what DataJoint's declaration of a table class leaves out."""

    @abstractmethod
    def add_column(self, connection: Any, schema: str, table: str, name: str, definition: str, comment: str) -> None:
        """Add a column unless it is there; `definition` is type and default, `comment` is what DataJoint reads."""

    @abstractmethod
    def indexes(self, connection: Any, schema: str, table: str) -> dict[str, str]:
        """Return the columns of each index of a table, as a definition lists them, and its name."""

    @abstractmethod
    def replace_index(self, connection: Any, schema: str, table: str, old: str | None, new: list[str]) -> None:
        """Drop the index of one name, if any, and add one of some columns, if any."""

    @abstractmethod
    def text_of(self, column: str, is_binary: bool) -> str:
        """Return the SQL that gives a column's value as text; of bytes, their sha256."""

    @abstractmethod
    def sha256_of(self, text: str) -> str:
        """Return the SQL that gives the sha256 of a text, in hexadecimal digits."""

    @abstractmethod
    def number_of(self, digits: str) -> str:
        """Return the SQL that gives the number of the first 15 hexadecimal digits of a text."""

    @abstractmethod
    def key_number(self, columns: list[str]) -> str:
        """Return the SQL that gives a number of some values, the same for equal ones in one statement."""

    @abstractmethod
    def json_has(self, column: str, text: str) -> str:
        """Return the SQL that says whether a JSON value is a text, or has it in its list or among its names."""

    @abstractmethod
    def session_ids(self, connection: Any) -> set[int]:
        """Return the ids of the sessions that this user may see."""

    def analyze(self, connection: Any, tables: Iterable[str]) -> None:  # noqa: B027
        """Have the server look at tables, given by full names, that many rows went into, if it does not by itself."""

    def break_off(self, connection: Any) -> None:  # noqa: B027
        """Make the session usable after a signal interrupted a statement, if need be by opening a new one."""


def columns_to_name(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the columns of each index, as a definition lists them, and its name; from names and columns in order."""
    columns: dict[str, list[str]] = {}
    for name, column in found:
        columns.setdefault(name, []).append(column)
    return {", ".join(names): name for name, names in columns.items()}


def in_one_text(error: DataJointError) -> DataJointError:
    """Return an error with one text; DataJoint gives several, which would be printed as a tuple."""
    return type(error)(text_of(error)) if len(error.args) > 1 else error
