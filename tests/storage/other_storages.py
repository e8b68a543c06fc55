"""Just enough of Google Cloud Storage and of the Hugging Face Hub to list and read a folder."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse


@contextmanager
def other_storages(objects: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve objects by their names; the address, and what was asked."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            address = urlparse(self.path)
            answer = self._answer(unquote(address.path), parse_qs(address.query))
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Length", str(len(answer or b"")))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer or b"")

        def _answer(self, path: str, query: Mapping[str, list[str]]) -> bytes | None:
            name = path.partition("/o/")[2] or path.partition("/resolve/main/")[2]
            if name:
                return objects.get(name)
            if path.endswith("/o"):
                found = [
                    {"name": name, "bucket": "bucket", "size": str(len(content)), "generation": "17"}
                    for name, content in objects.items()
                    if name.startswith(query["prefix"][0])
                ]
                return json.dumps({"items": found}).encode()
            if "/tree/" in path:
                files = [
                    {"type": "file", "oid": "17", "size": len(content), "path": name}
                    for name, content in objects.items()
                ]
                return json.dumps(files).encode()
            return json.dumps({"id": "user/name", "sha": "0" * 40}).encode() if "/api/datasets/" in path else None

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
