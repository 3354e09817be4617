"""Who is told of a night: addresses of apprise when something is new, and a healthchecks ping each time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from labweave.errors import ConfigError
from labweave.nightly import pages
from labweave.secret import reveal

if TYPE_CHECKING:
    from labweave.nightly.report import NightReport
    from labweave.nightly.settings import NightSettings

log = logging.getLogger(__name__)

TAIL_BYTES = 10_000
"""What healthchecks keeps of a log."""

NOT_STARTED = "not-started"
"""File in the folder of logs: who is to be told knows that nights can't begin."""


def tell(report: NightReport, settings: NightSettings) -> None:
    """Tell what is new in a night, if anything is, and ping."""
    mark, page = not_started_mark(settings), pages.as_text(report)
    events = _events(report) | ({"recovered"} if mark.exists() else set())
    if events & set(settings.alert.on):
        _send(settings, pages.headline(report), page, pages.as_html(report))
    mark.unlink(missing_ok=True)
    ping(settings, "fail" if report.exit_code else "", page)


def _events(report: NightReport) -> set[str]:
    """Return what of a night people may want to be told of."""
    new = {kind for step in report.steps for kind, _ in step.new.values()}
    events = {name for kind, name in (("failure", "new_failure"), ("stale", "stale")) if kind in new}
    solved = {kind for step in report.steps for kind, _ in step.recovered.values()}
    return events | ({"recovered"} if solved & {"failure", "stale"} else set())


def tell_not_started(settings: NightSettings, reason: str) -> None:
    """Tell that a night could not begin, in the first of such nights, and ping in each."""
    mark = not_started_mark(settings)
    if "new_failure" in settings.alert.on and not mark.exists():
        _send(settings, "labweave night: could not begin", reason, None)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        log.error("%s can't be made, so the next night tells again that it could not begin: %s", mark, error)
    ping(settings, "fail", reason)


def not_started_mark(settings: NightSettings) -> Path:
    """Return the file that is there while nights can't begin, written by the last that tried."""
    return settings.nightly.log_dir / f"{settings.database.prefix}{NOT_STARTED}"


def _send(settings: NightSettings, title: str, text: str, html: str | None) -> None:
    """Send one message to every address; what can't be sent stops no night."""
    if not settings.alert.to:
        return
    try:
        import apprise  # pyright: ignore[reportMissingImports]

        addresses = [reveal(address, "alert.to") for address in settings.alert.to]
    except ImportError:
        log.error("alerts need a package: pip install 'labweave[nightly]'")
        return
    except ConfigError as error:
        log.error("the alert could not be sent: %s", error)
        return
    for number, address in enumerate(addresses, 1):
        sender = apprise.Apprise()
        form = apprise.NotifyFormat.HTML if html and address.startswith("mailto") else apprise.NotifyFormat.TEXT
        is_good = sender.add(address) and sender.notify(
            title=title, body=html if html and form == apprise.NotifyFormat.HTML else text, body_format=form
        )
        if not is_good:  # the address may hold a password
            log.error("the alert could not be sent to address %d of [alert] to. Try it: apprise -vv ADDRESS", number)


def ping(settings: NightSettings, what: str, text: str = "") -> None:
    """Tell healthchecks that a night begins, has gone well, or has failed; a ping that fails stops no night."""
    try:
        address = reveal(settings.alert.healthchecks, "alert.healthchecks").rstrip("/")
        if not address:
            return
        data = text.encode()[-TAIL_BYTES:]
        requests.post(f"{address}/{what}".rstrip("/"), data=data, timeout=10).raise_for_status()
    except ConfigError as error:
        log.error("healthchecks could not be pinged: %s", error)
    except requests.RequestException as error:
        log.error("the ping of healthchecks failed: %s", type(error).__name__)  # its address is a secret
