"""What begins a night: units of systemd, a line for cron, a service for compose; as text."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labweave.database.url import parse_url
from labweave.embedded.server import EmbeddedServer
from labweave.errors import ConfigError
from labweave.ingest.base import Service
from labweave.ingest.registry import find_adapter

if TYPE_CHECKING:
    from labweave.nightly.settings import NightSettings

MARK = "# Written by labweave nightly install; labweave nightly uninstall removes it."
"""First line of what is ours."""

WAIT_AND_RUN = "labweave nightly wait && exec labweave nightly"
"""Command of a container that is started again whenever it ends."""


@dataclass(frozen=True)
class Job:
    """What is to be begun each night.

    Attributes
    ----------
    settings : NightSettings
    config : Path
        The labweave.toml.
    user : str
        Of a unit of the system: who it runs as. Empty for the user who installs it.
    """

    settings: NightSettings
    config: Path
    user: str = ""

    @property
    def name(self) -> str:
        """Name of its units."""
        return unit_name(self.settings.database.prefix)

    @property
    def embedded(self) -> EmbeddedServer | None:
        """The embedded database, if it is one."""
        text = self.settings.database.url.get_secret_value()
        return EmbeddedServer(parse_url(text).data_dir) if text.startswith("embedded:") else None

    @property
    def writes_to(self) -> list[Path]:
        """The folders that a night writes to."""
        settings, server = self.settings, self.embedded
        textfile = settings.metrics.textfile
        folders = [settings.nightly.log_dir, settings.backup.to, textfile and textfile.parent]
        return [folder.absolute() for folder in [*folders, server and server.data_dir] if folder]


class Unit(NamedTuple):
    """One file of systemd."""

    name: str
    text: str


def unit_name(prefix: str) -> str:
    """Return the name of the units of a lab, without their endings."""
    return f"{prefix}nightly"


def systemd_units(job: Job) -> list[Unit]:
    """Return service and timer.

    The service of a user does without the restrictions that need namespaces, which not every kernel gives to users.
    """
    environment = job.config.with_name("labweave.env")
    service = f"""{MARK}
[Unit]
Description=labweave night of {job.settings.database.prefix.rstrip("_")}
Wants=network-online.target
After=network-online.target
# labweave tells of what fails in a night (see [alert] in labweave.toml). To be told, too, when it can't even start,
# name a unit of your own (systemctl edit {job.name}.service):
#OnFailure=

[Service]
Type=oneshot
{f"User={job.user}" if job.user else "# runs as you"}
Environment={_quoted(f"LABWEAVE_CONFIG={job.config}")}
# Variables that labweave.toml names with env:, as NAME=value; readable by you alone.
EnvironmentFile=-{_escaped(environment)}
# A secret that only this unit can read: LoadCredential=database:/etc/labweave/database-password, and in labweave.toml
# password = "file:/run/credentials/{job.name}.service/database"
ExecStart={" ".join(_quoted(part) for part in _command())}
# Another night runs, or the budget ended: nothing has failed.
SuccessExitStatus=3 4
TimeoutStopSec=3min
KillMode=mixed
Nice=10
IOSchedulingClass=idle
UMask=0027
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
"""
    if job.user:
        service += f"""ProtectSystem=strict
ReadWritePaths={" ".join(_quoted(f"-{folder}") for folder in job.writes_to)}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
"""
    timer = f"""{MARK}
[Unit]
Description=Begins the labweave night of {job.settings.database.prefix.rstrip("_")}

[Timer]
OnCalendar=*-*-* {job.settings.nightly.at}:00
# A night that was missed, because the machine was off, begins when it is on again.
Persistent=yes
RandomizedDelaySec=10min

[Install]
WantedBy=timers.target
"""
    return [Unit(f"{job.name}.service", service), Unit(f"{job.name}.timer", timer)]


def cron_line(job: Job) -> str:
    """Return the line of a crontab."""
    hour, minute = job.settings.nightly.at.split(":")
    gently = ["nice", "-n", "10", *(["ionice", "-c", "3"] if shutil.which("ionice") else [])]
    printed = job.settings.nightly.log_dir.absolute() / f"{job.name}.out"
    command = f"LABWEAVE_CONFIG={shlex.quote(str(job.config))} {shlex.join([*gently, *_command()])}"
    command += f" > {shlex.quote(str(printed))} 2>&1"
    return f"{int(minute)} {int(hour)} * * * " + command.replace("%", r"\%")  # cron takes % for the end of a line


def compose_service(job: Job) -> str:
    """Return a service for compose, for this labweave.toml and its folders.

    Raises
    ------
    ConfigError
        The database is the embedded one, which a container has of its own.
    """
    if job.embedded:
        raise ConfigError("A container can't reach the embedded database. Name a server: [database] url")
    mounts = [(job.config, "/etc/labweave/labweave.toml:ro")]
    mounts += [
        (Path(source.location).expanduser().absolute(), "ro")
        for source in job.settings.sources
        if not issubclass(find_adapter(source.adapter), Service)
    ]
    mounts += [(folder, "rw") for folder in job.writes_to]
    lines = [
        f"{here}:{there}" if there.startswith("/") else f"{here}:{here}:{there}" for here, there in dict(mounts).items()
    ]
    return f"""# Waits until {job.settings.nightly.at} ([nightly] at), does a night, and is started again.
services:
  nightly:
    image: labweave
    command: ["sh", "-c", "{WAIT_AND_RUN}"]
    restart: always
    environment:
      TZ: {json.dumps(os.environ.get("TZ", "UTC"))}
    volumes:
{chr(10).join(f"      - {json.dumps(line)}" for line in lines)}
"""


def _command() -> list[str]:
    return [sys.executable, "-m", "labweave", "nightly"]


def _escaped(text: object) -> str:
    return str(text).replace("%", "%%")


def _quoted(text: object) -> str:
    """Return one word of a unit's line."""
    for char, instead in (("\\", r"\\"), ('"', r"\""), ("%", "%%"), ("$", "$$")):
        text = str(text).replace(char, instead)
    return f'"{text}"'
