"""Database URLs: where the lab's database is and how to reach it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from labweave.errors import ConfigError

FORMS = "embedded:, embedded:///path, mysql://user:password@host:port or postgresql://user:password@host:port/dbname"
DEFAULT_PORTS = {"mysql": 3306, "postgresql": 5432}
TLS_MODES = ("preferred", "required", "verify", "off")


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
    tls : {"preferred", "required", "verify", "off"}
        Encryption of the connection, from ``?tls=``.
    """

    backend: str
    embedded: bool = False
    data_dir: Path | None = None
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    dbname: str | None = None
    tls: str = "preferred"

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
        Unknown scheme, missing user or host, bad port or option. The message never
        holds the password.
    """
    parts = urlsplit(url.strip())
    scheme = {"postgres": "postgresql", "mariadb": "mysql"}.get(parts.scheme, parts.scheme)
    if scheme == "embedded":
        if parts.netloc:
            raise ConfigError(
                f"Database URL 'embedded://{parts.netloc}{parts.path}' names a host. "
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
    tls = options.pop("tls", "preferred")
    if tls not in TLS_MODES or options:
        found = f"tls={tls}" if tls not in TLS_MODES else ", ".join(options)
        raise ConfigError(f"Database URL option {found} is not known. The one option is tls={'|'.join(TLS_MODES)}.")
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
    )
