"""Encryption of connections, with servers and certificates made here and reached by a name that is not local."""

import logging
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from labweave.database.connection import LabConnection
from labweave.database.tls import warn_plain
from labweave.database.url import parse_url
from labweave.errors import ConfigError, ServerUnavailable

PROGRAMS = [Path(folder) for folder in ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin")]
PROGRAMS += sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def find_program(name):
    found = next((folder / name for folder in PROGRAMS if (folder / name).exists()), None) or shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} on this machine")
    return str(found)


def own_address():
    """Return the address of this machine on its network; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        try:
            found.connect(("192.0.2.200", 9))
        except OSError:
            pytest.skip("this machine has no network")
        address = found.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no network")
    return address


@pytest.fixture(scope="module")
def address():
    return own_address()


@pytest.fixture(scope="module")
def certificates(address):
    """Folder with an authority and three certificates; servers that run as other users read them."""
    openssl = find_program("openssl")

    def run(*arguments):
        subprocess.run([openssl, *map(str, arguments)], check=True, capture_output=True, cwd=folder)

    with tempfile.TemporaryDirectory(prefix="labweave-tests-tls-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
        run(*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Authority of a lab")
        run(*new, "-keyout", "self_signed.key", "-out", "self_signed.pem", "-subj", f"/CN={address}",
            "-addext", f"subjectAltName=IP:{address}")  # fmt: skip
        for kind, alternative in (("good", f"IP:{address}"), ("other_name", "DNS:db.elsewhere.example")):
            run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{kind}.key", "-out", f"{kind}.csr",
                "-subj", f"/CN={kind}")  # fmt: skip
            (folder / "names").write_text(f"subjectAltName={alternative}\n")
            run("x509", "-req", "-in", f"{kind}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{kind}.pem", "-days", "2", "-extfile", "names")  # fmt: skip
        yield folder


class Server:
    """A database server of the tests, started anew with each certificate."""

    account, backend, dbname, scheme = "", "", "", ""

    def __init__(self, address, certificates):
        self.address, self.certificates, self.process = address, certificates, None
        self.folder = Path(tempfile.mkdtemp(prefix="labweave-tests-tls-"))
        self.data = self.folder / "data"
        with socket.socket() as found:
            found.bind(("", 0))
            self.port = found.getsockname()[1]
        self.as_user = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.account)
            self.as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        for path in (self.folder, self.data):
            path.mkdir(exist_ok=True, mode=0o700)
            if self.as_user:
                os.chown(path, self.as_user["user"], self.as_user["group"])
        self.make()

    def run(self, *command):
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self.as_user)

    def url(self, options="", host=None):
        return parse_url(f"{self.scheme}://{self.user()}@{host or self.address}:{self.port}{self.dbname}{options}")

    def user(self):
        return "root"

    def start(self, certificate):
        self.stop()
        pair = None
        if certificate:
            pair = [self.folder / "server.pem", self.folder / "server.key"]
            for source, target in zip((f"{certificate}.pem", f"{certificate}.key"), pair, strict=True):
                shutil.copy(self.certificates / source, target)
                target.chmod(0o600)
                if self.as_user:
                    os.chown(target, self.as_user["user"], self.as_user["group"])
        with (self.folder / "log").open("ab") as log:
            command = self.command(*map(str, pair or ()))
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self.as_user)
        end = time.monotonic() + 60
        while True:
            try:
                LabConnection(self.url("?tls=off"), "x_").close()
                return
            except ServerUnavailable:
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                assert time.monotonic() < end
                time.sleep(0.05)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def close(self):
        self.stop()
        shutil.rmtree(self.folder)


class MariaDB(Server):
    account, scheme = "mysql", "mysql"
    cipher = "show session status like 'Ssl_cipher'"

    def make(self):
        self.run(find_program("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}", "--skip-test-db")

    def command(self, certificate=None, key=None):
        tls = [f"--ssl-cert={certificate}", f"--ssl-key={key}"] if certificate else ["--skip-ssl"]
        return [
            find_program("mariadbd"), "--no-defaults", f"--datadir={self.data}", f"--port={self.port}", *tls,
            "--bind-address=0.0.0.0", "--skip-grant-tables", "--innodb-buffer-pool-size=16M",
            f"--socket={self.folder}/s", f"--pid-file={self.folder}/pid",
        ]  # fmt: skip


class PostgreSQL(Server):
    account, scheme, dbname = "postgres", "postgresql", "/postgres"
    cipher = "select 'cipher', coalesce(cipher, '') from pg_stat_ssl where pid = pg_backend_pid()"

    def make(self):
        self.run(find_program("initdb"), "-D", str(self.data), "-A", "trust", "--no-sync", "-U", "root")
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all trust\n")

    def command(self, certificate=None, key=None):
        tls = ["-c", "ssl=on", "-c", f"ssl_cert_file={certificate}", "-c", f"ssl_key_file={key}"] if certificate else []
        return [
            find_program("postgres"), "-D", str(self.data), "-p", str(self.port), *tls,
            "-c", "listen_addresses=*", "-c", f"unix_socket_directories={self.folder}", "-c", "fsync=off",
        ]  # fmt: skip


@pytest.fixture(scope="module", params=[MariaDB, PostgreSQL], ids=["mariadb", "postgresql"])
def server(request, address, certificates):
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(request.param.account)
        except KeyError:
            pytest.skip(f"root can't run this server: there is no user {request.param.account}")
    made = request.param(address, certificates)
    yield made
    made.close()


def is_encrypted(server, url) -> bool:
    connection = LabConnection(url, "x_")
    try:
        return connection.query(server.cipher).fetchone()[1] != ""
    finally:
        connection.close()


def test_a_good_certificate_is_checked_and_used(server, certificates, monkeypatch):
    server.start("good")
    assert is_encrypted(server, server.url(f"?ca={certificates}/ca.pem"))
    assert is_encrypted(server, server.url(f"?tls=verify&ca={certificates}/ca.pem"))
    assert is_encrypted(server, server.url("?tls=require"))
    assert not is_encrypted(server, server.url("?tls=off"))
    assert is_encrypted(server, server.url(host="127.0.0.1"))  # its name is another; nobody is in between
    with pytest.raises(ConfigError, match="can't be checked"):  # the system does not know the lab's authority
        is_encrypted(server, server.url())
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificates}/ca.pem")
    assert is_encrypted(server, server.url())
    with pytest.raises(ConfigError, match=r"no file .*nowhere\.pem"):
        is_encrypted(server, server.url("?ca=/nowhere.pem"))
    with pytest.raises(ConfigError, match="can't be checked"):
        is_encrypted(server, server.url("?tls=verify", host="127.0.0.1"))


@pytest.mark.parametrize("certificate", ["other_name", "self_signed"])
def test_a_certificate_that_can_not_be_checked_is_refused_with_what_to_do(server, certificates, certificate):
    server.start(certificate)
    for options in ("?ca={}", "?tls=verify&ca={}"):
        with pytest.raises(ConfigError) as caught:
            is_encrypted(server, server.url(options.format(f"{certificates}/ca.pem")))
        assert "can't be checked" in str(caught.value)
        assert "?ca=/path/ca.pem" in str(caught.value) and "?tls=require" in str(caught.value)
        assert re.search("match" if certificate == "other_name" else "self-signed|verify failed", str(caught.value))
    assert is_encrypted(server, server.url("?tls=require"))


def test_a_server_without_encryption_is_told_once_and_refused_where_it_is_demanded(server, caplog):
    server.start(None)
    warn_plain.cache_clear()
    with caplog.at_level(logging.WARNING, "labweave"):
        for _ in range(2):
            assert not is_encrypted(server, server.url())
    [told] = caplog.records
    assert server.address in told.getMessage() and "no encryption" in told.getMessage()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "labweave"):
        assert not is_encrypted(server, server.url(host="127.0.0.1"))
        assert not is_encrypted(server, server.url("?tls=off"))
    assert not caplog.records
    for mode in ("verify", "require"):
        with pytest.raises(ServerUnavailable, match="offers no encryption"):
            is_encrypted(server, server.url(f"?tls={mode}"))


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("localhost", True), ("127.0.0.7", True), ("[::1]", True), ("192.0.2.7", False), ("db", False),
     ("localhost.example.org", False), ("127.0.0.1.example.org", False)],
)  # fmt: skip
def test_which_hosts_are_local(host, is_local):
    assert parse_url(f"mysql://u@{host}").is_local == is_local
