"""``labweave db grant``, ``revoke`` and ``roles``: who may do what in a lab on a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labweave.cli.base import out, print_table
from labweave.errors import ConfigError

if TYPE_CHECKING:
    from labweave.database.rights import Rights

Role = Annotated[str, typer.Argument(metavar="reader|scientist|admin")]
User = Annotated[str, typer.Argument(help="As the server knows them; on MySQL and MariaDB USER or USER@HOST")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; print the SQL")]


@contextlib.contextmanager
def _rights() -> Iterator[Rights]:
    """Give the roles of the lab that the settings choose; its tables need not be there."""
    from labweave.database.connection import LabConnection
    from labweave.database.rights import Rights
    from labweave.database.url import find_url
    from labweave.settings import load_settings

    url = find_url()
    if url.embedded:
        raise ConfigError(
            "The embedded database has no roles: who may read its folder may do all. Rights need a database server; "
            "see: labweave db --help"
        )
    with contextlib.closing(LabConnection(url, load_settings().database.prefix)) as connection:
        rights = Rights.of(connection)
        rights.require("admin", "Looking after roles")
        yield rights


def grant(
    role: Role,
    user: User,
    create: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Make the user; where the password is: prompt:, file:/path or env:NAME"),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Let somebody read the lab, work in it, or administer it, and print the SQL that does it.

    reader: queries, status, ONE, explain. scientist: also ingest, populate, exclude, backup and own schemas.
    admin: also upgrade, delete, restore and grant. See the guide "People and rights" for what the server enforces.
    """
    from labweave.database.rights import statements_to_grant

    password = _password(create) if create is not None else None
    with _rights() as rights:
        _run(rights, statements_to_grant(rights, role, user, password), dry_run)


def revoke(role: Role, user: User, dry_run: DryRun = False) -> None:
    """Take a role from somebody, and print the SQL that does it."""
    from labweave.database.rights import statements_to_revoke

    with _rights() as rights:
        _run(rights, statements_to_revoke(rights, role, user), dry_run)


def roles() -> None:
    """List who has which role in this lab. Administrators of the server may do all, and are not listed."""
    with _rights() as rights:
        people = rights.people()
    if people:
        print_table(("user", "role"), sorted(people.items()))
    else:
        out.print("Nobody has a role yet. Try: labweave db grant scientist USER")


def _run(rights: Rights, statements: list[Any], dry_run: bool) -> None:
    from labweave.database.rights import shown

    for statement in statements:
        out.print(shown(statement))
    if not dry_run:
        rights.run(statements)


def _password(place: str) -> str:
    """Return the password of a new user; it is never written on the command line."""
    from pydantic import SecretStr

    from labweave.secret import PLACES, reveal

    if place.partition(":")[0] not in PLACES:
        raise ConfigError("--create says where the password is, not what: prompt:, file:/path or env:NAME.")
    return reveal(SecretStr(place), "password of the new user")
