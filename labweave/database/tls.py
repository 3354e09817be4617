"""Encryption of connections: which authorities are trusted, and what is said where a server can't be."""

from __future__ import annotations

import functools
import logging
import re
import ssl
from pathlib import Path

from labweave.database.url import DatabaseUrl
from labweave.errors import ConfigError, ServerUnavailable

log = logging.getLogger(__name__)


class NotOffered(ServerUnavailable):
    """The server has no encryption."""


def not_offered(url: DatabaseUrl) -> NotOffered:
    """Return the error for a server that was to encrypt, and can't."""
    return NotOffered(
        f"{url} offers no encryption (TLS). Have its administrator switch it on; or, where nobody can listen on the "
        "network, write ?tls=off behind the URL."
    )


def not_trusted(url: DatabaseUrl, why: str) -> ConfigError:
    """Return the error for a certificate that can't be checked."""
    why = re.sub(r"\s+", " ", why).strip().rstrip(".")
    return ConfigError(
        f"{url}: the certificate of this server can't be checked, so that it may be another's ({why}). Name the file "
        "of the authority that signed it (?ca=/path/ca.pem behind the URL), or encrypt without checking (?tls=require)."
    )


@functools.cache
def warn_plain(url: DatabaseUrl) -> None:
    """Say once that a connection is not encrypted."""
    log.warning(
        "%s offers no encryption (TLS): who listens on the network can read password and data. Have its administrator "
        "switch it on; ?tls=off behind the URL ends this warning.",
        url,
    )


def authorities(url: DatabaseUrl) -> str:
    """Return the file of the authorities that may sign the server's certificate.

    Raises
    ------
    ConfigError
        The file that the URL names is not there.
    """
    if not url.ca:
        if found := ssl.get_default_verify_paths().cafile:
            return found
        from requests.utils import DEFAULT_CA_BUNDLE_PATH  # not every system has such a file

        return DEFAULT_CA_BUNDLE_PATH
    path = Path(url.ca).expanduser()
    if not path.is_file():
        raise ConfigError(f"{url}: there is no file {path} of authorities (?ca=).")
    return str(path)


def context(url: DatabaseUrl, mode: str) -> ssl.SSLContext:
    """Return how Python's drivers encrypt, in mode verify or require."""
    try:
        found = ssl.create_default_context(cafile=authorities(url))
    except ssl.SSLError as error:
        raise ConfigError(f"{url}: {authorities(url)} holds no certificates of authorities: {error.reason}.") from None
    found.verify_flags &= ~ssl.VERIFY_X509_STRICT  # labs make authorities by hand
    if mode == "require":
        found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    return found
