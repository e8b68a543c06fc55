"""A server of single objects that answers what a test wants: errors, silence, or fewer bytes than it says."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = int | Literal["stall", "drip", "short", "reset"]
"""A status; or no answer, an endless one, one that ends too early, none at all."""
SECRET = "kanarienvogel"
"""Is in everything that this server says of its errors."""


@dataclass
class FailingServer:
    """What is asked of the server, and what it answers."""

    content: bytes
    faults: list[Fault] = field(default_factory=list)
    """Of the first requests; the object is in the answers to those after."""
    always: Fault | None = None
    """Of all further requests."""
    requests: list[str] = field(default_factory=list)
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def failing_server(
    content: bytes = b"", faults: Sequence[Fault] = (), always: Fault | None = None
) -> Iterator[FailingServer]:
    """Serve until the block ends."""
    known = FailingServer(content, list(faults), always)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known.requests.append(f"{self.command} {self.path}")
            fault = known.faults.pop(0) if known.faults else known.always
            self.close_connection = fault is not None
            if isinstance(fault, int):
                self._fail(fault)
            elif fault == "stall":
                known.ended.wait()
            elif fault != "reset":
                self._send(fault)

        do_HEAD = do_GET  # noqa: N815 -- so it is called

        def _fail(self, status: int) -> None:
            code = {503: "SlowDown", 403: "AccessDenied", 404: "NoSuchKey"}.get(status, SECRET)
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def _send(self, fault: Fault | None) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(known.content)))
            self.send_header("ETag", '"1"')
            self.end_headers()
            if fault is None:
                self.wfile.write(known.content)
                return
            self.wfile.write(known.content[:-1])
            while fault == "drip" and not known.ended.wait(0.01):
                self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield known
    finally:
        known.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
