"""Who may do what in a lab on a server: three roles, which the server itself enforces.

======================  ====================================================================
reader                  queries, status, ONE, explain
scientist               also ingest, populate, exclude, backup, and schemas of their own
admin                   also upgrade, delete, restore, and these rights
======================  ====================================================================

On PostgreSQL the roles are roles of the server, named after the prefix, and ``admin`` owns the tables. On MySQL and
MariaDB they are rights on the lab's schemas: a role is no use there to somebody who works in two labs (MariaDB makes
one role a default), and its name would not have room for a long prefix (MySQL).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

from labweave.database.connection import LabConnection
from labweave.database.declare import schema_names
from labweave.errors import AccessDenied, ConfigError

ROLES = ("reader", "scientist", "admin")
"""Each may do what those before it may."""

Statement = tuple[str, tuple]
"""SQL and its values; a line that begins with -- is for somebody else to run."""


class Rights(ABC):
    """The roles of one lab on one kind of server.

    Parameters
    ----------
    connection : LabConnection

    Attributes
    ----------
    schemas : list of str
        Names of the lab's schemas; they need not be there yet.
    """

    def __init__(self, connection: LabConnection):
        self.connection, self.prefix = connection, connection.prefix
        self.schemas, self.q = schema_names(self.prefix), connection.adapter.quote_identifier

    @staticmethod
    def of(connection: LabConnection) -> Rights:
        """Return the roles of a connection's lab."""
        return connection.adapter.rights(connection)

    @abstractmethod
    def people(self) -> dict[str, str]:
        """Return the role of each user who has one."""

    @abstractmethod
    def user_exists(self, user: str) -> bool:
        """Say whether the server knows a user."""

    @abstractmethod
    def create_user(self, user: str, password: str) -> Statement:
        """Return what makes a user."""

    @abstractmethod
    def grant(self, role: str, user: str) -> list[str]:
        """Return what gives a role to a user who has none."""

    @abstractmethod
    def revoke(self, role: str, user: str) -> list[str]:
        """Return what takes the role from a user who has it."""

    @abstractmethod
    def renew(self) -> list[str]:
        """Return what extends the rights that people have to all tables of the lab; nothing where nobody has any."""

    @abstractmethod
    def holds(self, role: str) -> bool:
        """Say whether the user of this connection may do what a role may, by whatever right."""

    def name_of(self, user: str) -> str:
        """Return a user's name as `people` gives it.

        Raises
        ------
        ConfigError
            It has quotes or control characters.
        """
        if not re.fullmatch(r"[^'\"`\\\x00-\x1f%$]{1,63}", user):
            raise ConfigError(f"{user!r} can't be the name of a user.")
        return user

    def require(self, role: str, what: str) -> None:
        """Refuse what needs a role that the user of this connection does not have.

        Raises
        ------
        AccessDenied
            Names the grant.
        """
        if not self.holds(role):
            raise AccessDenied(f"{what} needs the role {role}. {self.connection.adapter.ask_for(role)}")

    def run(self, statements: Sequence[Statement | str]) -> None:
        """Run statements, all or on MySQL as many as go."""

        def work():
            for statement in statements:
                sql, values = (statement, ()) if isinstance(statement, str) else statement
                if not sql.startswith("--"):
                    self.connection.query(sql if values else sql.replace("%", "%%"), values)

        if statements:
            self.connection.run_transaction(work)


def shown(statement: Statement | str) -> str:
    """Return a statement for people, without the secrets that are its values."""
    sql, values = (statement, ()) if isinstance(statement, str) else statement
    return (sql.replace("%s", "'***'").replace("%%", "%") if values else sql) + ";"


def statements_to_grant(rights: Rights, role: str, user: str, password: str | None = None) -> list[Statement | str]:
    """Return what gives a user one role, in place of the one they have.

    Parameters
    ----------
    rights : Rights
    role : {"reader", "scientist", "admin"}
    user : str
        As the server knows them; on MySQL and MariaDB also ``user@host``.
    password : str, optional
        Make the user, who is not there yet.

    Raises
    ------
    ConfigError
        There is no such role, no such user, or already one of whom a password is given.
    """
    user = _known(rights, role, user, is_new=password is not None)
    before = rights.people().get(user)
    made = [rights.create_user(user, password)] if password is not None else []
    return [*made, *(rights.revoke(before, user) if before not in (None, role) else []), *rights.grant(role, user)]


def statements_to_revoke(rights: Rights, role: str, user: str) -> list[str]:
    """Return what takes a role from a user.

    Raises
    ------
    ConfigError
        The user does not have it.
    """
    user = _known(rights, role, user)
    if (has := rights.people().get(user)) != role:
        raise ConfigError(f"{user} is {f'not {role} but {has}' if has else f'no {role}'}. See: labweave db roles")
    return rights.revoke(role, user)


def _known(rights: Rights, role: str, user: str, is_new: bool = False) -> str:
    if role not in ROLES:
        raise ConfigError(f"There is no role {role}. The roles are {', '.join(ROLES)}.")
    user = rights.name_of(user)
    if rights.user_exists(user) == is_new:
        raise ConfigError(
            f"The server has a user {user} already. Leave --create out."
            if is_new
            else f"The server has no user {user}. Make one (--create prompt:), or correct the name."
        )
    return user
