"""A network that fails: a proxy between labweave and a server, which cuts, stalls and goes away when it is told to."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time


class Proxy:
    """Forwards connections from a port of this machine to a server.

    Parameters
    ----------
    target : tuple or str
        Host and port, or the path of a Unix socket.

    Attributes
    ----------
    port : int
    is_silent : bool
        Nothing is forwarded any more, of old connections and of new ones; nobody is told.
    n_accepted : int
    """

    def __init__(self, target):
        self._target, self._pairs, self._stalled = target, [], set()
        self.is_silent, self.n_accepted = False, 0
        self._listener = None
        self.port = 0
        self.come_back()

    def come_back(self) -> None:
        """Accept connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def go_away(self) -> None:
        """Refuse connections, and reset those there are, as the system of a server does whose program has ended."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut("rst")

    def cut(self, how: str) -> int:
        """Do something to all connections there are, and return how many: rst, fin, half (of one way), stall."""
        pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            with contextlib.suppress(OSError):
                if how == "stall":
                    self._stalled |= {client, server}
                    continue
                if how == "half":
                    client.shutdown(socket.SHUT_WR)
                    continue
                if how == "rst":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.shutdown(socket.SHUT_RD)  # wakes who reads, and tells nobody
                    client.close()
            _close(client)
            _close(server)
        return len(pairs)

    def _accept(self, listener) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.n_accepted += 1
                try:
                    server = _connected(self._target)
                except OSError:
                    _close(client)
                    continue
                self._pairs.append((client, server))
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one, other) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                while self.is_silent and one not in self._stalled:
                    time.sleep(0.01)
                if one in self._stalled:
                    return  # both stay open, nobody reads
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it, and all connections."""
        self.is_silent = False
        self.go_away()
        for end in self._stalled:
            _close(end)


def _connected(target):
    if isinstance(target, str):
        server = socket.socket(socket.AF_UNIX)
        server.connect(target)
        return server
    return socket.create_connection(target)


def _close(end) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)  # wakes who reads; a close alone does not
    end.close()
