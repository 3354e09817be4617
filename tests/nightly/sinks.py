"""Where alerts and pings go in the tests: a real HTTP server and a real SMTP server, which keep what comes."""

import email
import email.policy
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def http_sink():
    """Give an address and the list of (path, text) that was posted to it."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            text = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            posted.append((self.path, text))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"127.0.0.1:{port}", posted


@contextmanager
def smtp_sink():
    """Give an address and the list of messages that were mailed to it."""
    mailed = []

    class Handler(socketserver.StreamRequestHandler):
        def say(self, text):
            self.wfile.write(f"{text}\r\n".encode())

        def handle(self):
            self.say("220 sink")
            while line := self.rfile.readline():
                word = line[:4].upper().strip()
                if word == b"DATA":
                    self.say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    content = b"".join(each.removeprefix(b".") if each.startswith(b"..") else each for each in lines)
                    mailed.append(email.message_from_bytes(content, policy=email.policy.default))
                    self.say("250 taken")
                elif word == b"QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 sink" if word in (b"EHLO", b"HELO", b"MAIL", b"RCPT", b"RSET") else "502 unknown")

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"127.0.0.1:{port}", mailed


@contextmanager
def _serving(server):
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
