"""``examples/serve.py`` answers, and lets nobody take more than their share."""

import http.client
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stale_runtime import EncodedPrompts, Localizer
from tests.examples.example import VIDEO, load, start

pytest.importorskip("fastapi", reason="no FastAPI; install it with: pip install '.[service]'")


class Running(NamedTuple):
    """A service, and where it is."""

    module: Any
    port: int
    temporary: Path


@pytest.fixture(scope="module")
def service(
    localizer: Localizer, prompts: EncodedPrompts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    module, temporary = load("serve"), tmp_path_factory.mktemp("service")
    limits = {"MOST_BYTES": 600_000, "MOST_WAITING": 2, "UPLOAD_S": 3.0, "HEADERS_S": 3.0}
    with pytest.MonkeyPatch.context() as patch, closing(socket.create_server(("127.0.0.1", 0))) as listening:
        patch.setattr("tempfile.tempdir", str(temporary))
        for name, limit in limits.items():
            patch.setattr(module, name, limit)
        server = module.make_server(localizer, prompts, "127.0.0.1", 0)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield Running(module, listening.getsockname()[1], temporary)
        finally:
            patch.setattr(server, "should_exit", True)
            thread.join()


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        assert answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(answer.read())


def begin(port: int, path: str) -> socket.socket:
    """Send the beginning of a file."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegin".encode())
    return connection


def wait_for_files(folder: Path, pattern: str, count: int = 1) -> None:
    """Wait until the service has created files, without taking the CPU from it."""
    deadline = time.monotonic() + 60
    while len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < deadline, f"no {pattern} in {folder}"
        time.sleep(0.01)


def test_as_a_user_starts_asks_and_ends_it(tmp_path: Path, localizer: Localizer, prompts: EncodedPrompts) -> None:
    with start("serve", "--port", "0", folder=tmp_path) as process:
        assert process.stdout is not None
        where = None
        while where is None:
            where = re.search(r"running on http://127\.0\.0\.1:(\d+)", line := process.stdout.readline())
            assert line, "it ended"
        port = int(where[1])
        assert ask(port, "GET", "/health") == (
            200,
            {"status": "ok", "backend": "ort-int8", "bundle_sha256": localizer.bundle.manifest_sha256},
        )
        status, found = ask(port, "POST", "/detect/washing_a_car.mp4", VIDEO.read_bytes())
        assert (status, found) == (200, json.loads(localizer.detect_video(VIDEO, prompts).to_json()))
        with begin(port, "/detect/slow.mp4"):
            wait_for_files(tmp_path, "tmp*/file.mp4")
            process.send_signal(signal.SIGINT)
            assert "Traceback" not in process.stdout.read()
    assert process.returncode == 0
    assert list(tmp_path.glob("tmp*")) == []


def test_what_cannot_be_used_is_refused_with_its_status(service: Running) -> None:
    def refused(path: str, body: bytes | None = b"x", **headers: str) -> tuple[int, str]:
        status, content = ask(service.port, "POST", path, body, headers)
        return status, str(content["detail"])

    assert refused("/detect/a.txt") == (415, "a.txt: expected the name of a video, or of a .npy or .npz file")
    status, text = refused("/detect/a.npy")
    assert (status, text.startswith("a.npy: not a .npy file")) == (422, True)
    assert refused("/detect/a.mp4")[0] == 422
    assert refused("/detect/a.npy?prompt=a&prompt=a")[0] == 422
    assert refused("/detect/a.npy?duration_s=nan")[0] == 422
    assert refused(f"/detect/a.npy?{'prompt=a&' * 501}") == (400, "501 prompts, expected at most 500")
    assert refused("/detect/a.mp4", b"", **{"Content-Length": "600001"})[0] == 413
    assert ask(service.port, "GET", "/nothing")[0] == 404
    assert ask(service.port, "GET", "/detect/a.mp4")[0] == 405
    assert list(service.temporary.iterdir()) == []


def test_a_file_that_does_not_say_how_large_it_is_has_the_same_limit(service: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    with closing(connection):
        connection.request("POST", "/detect/a.mp4", iter([b"x" * 500_000, b"x" * 100_001]), encode_chunked=True)
        assert connection.getresponse().status == 413
    assert list(service.temporary.iterdir()) == []


def test_too_many_are_sent_away_and_slow_ones_ended(service: Running) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(begin(service.port, "/detect/slow.mp4")) for _ in range(2)]
        wait_for_files(service.temporary, "*", count=2)
        assert ask(service.port, "GET", "/health")[0] == 200
        assert ask(service.port, "POST", "/detect/a.npy", b"x") == (503, {"detail": "2 requests are being worked on"})
        silent = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60))
        silent.sendall(b"POST /detect/a.mp4 HT")
        for connection in slow:
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        assert silent.recv(100) == b""
    assert list(service.temporary.iterdir()) == []
    assert ask(service.port, "POST", "/detect/a.npy", b"x")[0] == 422


def test_unexpected_errors_stay_in_the_log(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service.module.Finder, "find", fail)
    status, content = ask(service.port, "POST", "/detect/a.npy", b"x")
    assert (status, content) == (500, {"detail": "an error of the service; its log says more"})


def test_the_work_on_a_video_ends_in_time(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.module, "WORK_S", 0.0)
    assert ask(service.port, "POST", "/detect/a.mp4", VIDEO.read_bytes())[0] == 503
    assert list(service.temporary.iterdir()) == []
