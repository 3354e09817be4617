"""Database URLs: where the lab's database is and how to reach it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from labweave.errors import ConfigError
from labweave.secret import reveal
from labweave.settings import load_settings

FORMS = "embedded:, embedded:///path, mysql://user:password@host:port or postgresql://user:password@host:port/dbname"
DEFAULT_PORTS = {"mysql": 3306, "postgresql": 5432}
TLS_MODES = ("verify", "require", "off")


@dataclass(frozen=True)
class DatabaseUrl:
    """One parsed database URL.

    Attributes
    ----------
    backend : {"mysql", "postgresql"}
        The SQL dialect; the embedded server is PostgreSQL.
    embedded : bool
        True for the server that labweave starts itself.
    data_dir : Path or None
        Folder of the embedded server; None means the user's data folder.
    host, port, user, password, dbname
        Address of a server; `dbname` only for PostgreSQL.
    tls : {"verify", "require", "off", ""}
        Encryption of the connection, from ``?tls=``: with the server's certificate checked, not checked, or none.
        Empty, it is checked for hosts that are not local, where the server offers encryption.
    ca : str
        File of the authorities that sign certificates, from ``?ca=``; empty for those of the system.
    """

    backend: str
    embedded: bool = False
    data_dir: Path | None = None
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    dbname: str | None = None
    tls: str = ""
    ca: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, so that nobody is in between."""
        if self.host == "localhost" or self.host.startswith("/") or self.embedded:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        """Return the URL with the password masked."""
        if self.embedded:
            return f"embedded://{quote(str(self.data_dir))}" if self.data_dir else "embedded:"
        login = quote(self.user, safe="") + (":***" if self.password else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.backend}://{login}@{host}:{self.port}" + (f"/{self.dbname}" if self.dbname else "")


def parse_url(url: str) -> DatabaseUrl:
    """Parse a database URL.

    Parameters
    ----------
    url : str
        One of the forms in `FORMS`; user and password may be percent-encoded.

    Raises
    ------
    ConfigError
        Unknown scheme, missing user or host, bad port or option, or a character that must be percent-encoded. The
        message never holds a part of the password.
    """
    parts = _split(url.strip())
    scheme = {"postgres": "postgresql", "mariadb": "mysql"}.get(parts.scheme, parts.scheme)
    if scheme == "embedded":
        if parts.netloc:
            raise ConfigError(
                "Database URL embedded: names a host. "
                "Write embedded: for the default folder or embedded:///absolute/path with three slashes."
            )
        return DatabaseUrl("postgresql", embedded=True, data_dir=Path(unquote(parts.path)) if parts.path else None)
    if scheme not in DEFAULT_PORTS:
        raise ConfigError(f"Database URL has the unknown scheme {parts.scheme!r}. Use {FORMS}.")
    try:
        port = parts.port or DEFAULT_PORTS[scheme]
    except ValueError:
        raise ConfigError(f"Database URL for {scheme} has a port that is not a number from 1 to 65535.") from None
    if not parts.hostname or not parts.username:
        missing = "host" if not parts.hostname else "user"
        raise ConfigError(f"Database URL for {scheme} has no {missing}. Use {FORMS}.")
    options = dict(parse_qsl(parts.query))
    tls, ca = options.pop("tls", ""), options.pop("ca", "")
    if tls not in ("", *TLS_MODES) or options:
        found = f"tls={tls}" if tls not in ("", *TLS_MODES) else ", ".join(options)
        raise ConfigError(
            f"Database URL option {found} is not known. The options are tls={'|'.join(TLS_MODES)} and ca=FILE."
        )
    dbname = unquote(parts.path.strip("/")) or None
    if scheme == "mysql" and dbname:
        raise ConfigError(
            f"Database URL for mysql names the database {dbname!r}. "
            "On MySQL and MariaDB every labweave schema is a database of its own: leave the name out "
            "and use a prefix to keep two labs apart."
        )
    return DatabaseUrl(
        scheme,
        host=parts.hostname,
        port=port,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        dbname=(dbname or "postgres") if scheme == "postgresql" else None,
        tls=tls,
        ca=ca,
    )


def _split(url: str) -> SplitResult:
    """Split a URL; refuse one whose password would come into other parts."""
    scheme, _, address = url.partition("://")
    inside = re.search(r"[/?#\t\r\n]", address)
    try:
        parts = urlsplit(url)
        is_clear = not inside or "@" not in address[inside.end() :] or scheme == "embedded"
    except ValueError:  # its text has the password
        is_clear = False
    if not is_clear:
        raise ConfigError(
            "The user or password in the database URL has a character with a meaning of its own. Write @ as %40, : as "
            "%3A, / as %2F, # as %23, ? as %3F, % as %25; or leave the password out, and give it as "
            "LABWEAVE_DATABASE_PASSWORD."
        )
    return parts


def find_url(url: str | None = None) -> DatabaseUrl:
    """Return the database that a URL or the settings choose, with the password that is kept elsewhere.

    Parameters
    ----------
    url : str, optional
        Instead of that of the settings.
    """
    settings = load_settings(url).database
    found = parse_url(reveal(settings.url, "database.url"))
    if found.embedded or found.password or not settings.password:
        return found
    return replace(found, password=reveal(settings.password, "database.password"))
