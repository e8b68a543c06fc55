from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stale_runtime.errors import RemoteFileError
from stale_runtime.inputs.fetch_limits import FetchLimits
from stale_runtime.inputs.remote_files import RemoteFile
from stale_runtime.inputs.remote_storage import RemoteStorage, open_storage
from tests.storage.failing_server import SECRET, FailingServer, Fault, failing_server
from tests.storage.s3_server import KEY, SECRET_KEY, Bucket

CONTENT = bytes(range(256)) * 1000
Storages = dict[FetchLimits, RemoteStorage]
Serve = Callable[..., tuple[FailingServer, RemoteStorage]]
FILE = RemoteFile("s3://bucket/a.npy")
AT_ONCE = FetchLimits(pause_s=0)
HASTY = FetchLimits(request_s=0.2, slowest=1e9, pause_s=0)


@pytest.fixture(scope="module")
def only_server() -> Iterator[FailingServer]:
    with failing_server(CONTENT) as server:
        yield server


@pytest.fixture(scope="module")
def storages() -> Storages:
    """Those that were opened: opening one takes half a second."""
    return {}


@pytest.fixture
def served(
    only_server: FailingServer, storages: dict[FetchLimits, RemoteStorage], monkeypatch: pytest.MonkeyPatch
) -> Serve:
    """Let the server fail, and open a storage that asks it."""
    names = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_ENDPOINT_URL": only_server.url}
    for name, value in names.items():
        monkeypatch.setenv(name, value)

    def serve(
        *faults: Fault, always: Fault | None = None, limits: FetchLimits = AT_ONCE
    ) -> tuple[FailingServer, RemoteStorage]:
        only_server.faults, only_server.always, only_server.requests = list(faults), always, []
        if limits not in storages:
            storages[limits] = RemoteStorage("s3", limits)
        storage = storages[limits]
        monkeypatch.setattr(storage, "_places", type(storage._places)())  # none is given up yet
        return only_server, storage

    return serve


@pytest.mark.parametrize("fault", [503, 500, "reset", "short"])
def test_what_may_be_temporary_is_tried_again(fault: Fault, tmp_path: Path, served: Serve) -> None:
    server, storage = served(fault, fault)
    storage.download(FILE, tmp_path / "a.npy", len(CONTENT))
    assert (tmp_path / "a.npy").read_bytes() == CONTENT
    assert server.requests[2:] == ["GET /bucket/a.npy"]


@pytest.mark.parametrize(
    ("fault", "says", "requests"),
    [
        (503, "answers 503 SlowDown, tried 4 times; ", 4),
        ("reset", "no usable connection", 8),  # aiohttp repeats a request once if a connection is closed
        ("short", "no usable connection", 4),
        (403, "refuses access (403 AccessDenied); ", 1),
        (404, "no such file", 1),
        (418, "cannot be read (418)", 1),
    ],
)
def test_retries_are_bounded_and_none_where_they_are_of_no_use(
    fault: Fault, says: str, requests: int, tmp_path: Path, served: Serve
) -> None:
    server, storage = served(always=fault)
    with pytest.raises(RemoteFileError) as failed:
        storage.download(FILE, tmp_path / "a.npy", len(CONTENT))
    assert str(failed.value).startswith("s3://bucket/a.npy: ")
    assert says in str(failed.value)
    assert len(server.requests) == requests
    assert not any(secret in str(failed.value) for secret in (SECRET, KEY, SECRET_KEY))


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_a_file_has_a_deadline(fault: Fault, tmp_path: Path, served: Serve) -> None:
    server, storage = served(always=fault, limits=HASTY)
    with pytest.raises(RemoteFileError, match=r"a\.npy: took longer than 0\.2 s; check the network"):
        storage.download(FILE, tmp_path / "a.npy", len(CONTENT))
    assert len(server.requests) <= 1


def test_silence_is_tried_again_within_the_deadline(tmp_path: Path, served: Serve) -> None:
    limits = FetchLimits(read_s=0.1, pause_s=0)
    server, storage = served("stall", limits=limits)
    storage.download(FILE, tmp_path / "a.npy", len(CONTENT))
    assert len(server.requests) == 2


@pytest.mark.parametrize(("size", "says"), [(len(CONTENT) - 1, "more bytes"), (len(CONTENT) + 1, "256,000 bytes")])
def test_another_size_than_the_storage_had_said_is_refused(size: int, says: str, tmp_path: Path, served: Serve) -> None:
    server, storage = served()
    with pytest.raises(RemoteFileError, match=says):
        storage.download(FILE, tmp_path / "a.npy", size)
    assert len(server.requests) == 1


def test_a_bucket_that_cannot_be_reached_is_given_up(tmp_path: Path, served: Serve) -> None:
    server, storage = served(always=503, limits=FetchLimits(attempts=1))
    for n in range(8):
        with pytest.raises(RemoteFileError) as failed:
            storage.download(RemoteFile(f"s3://bucket/{n}.npy"), tmp_path / "a.npy", len(CONTENT))
    asked = len(server.requests)
    server.always = None
    storage.download(RemoteFile("s3://other/a.npy"), tmp_path / "a.npy", len(CONTENT))
    assert asked == 5
    assert str(failed.value).startswith("s3://bucket/7.npy: not tried, because 5 files of s3://bucket in a row")
    assert "503 SlowDown" in str(failed.value)


def test_a_closed_port_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with failing_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with pytest.raises(RemoteFileError, match=r"no usable connection \(EndpointConnectionError\), tried 2 times"):
        RemoteStorage("s3", FetchLimits(attempts=2, pause_s=0)).look_up(FILE)


def test_a_folder_is_listed_with_sizes_and_etags(bucket: Bucket) -> None:
    bucket.put({"feats/": b"", "feats/a.npy": b"12", "feats/sub/b.npy": b"", "c.npy": b""})
    storage = open_storage("s3")
    found = storage.entries(RemoteFile(f"s3://{bucket.name}/feats"))
    assert found.keys() == {"a.npy", "sub"}
    assert found["sub"] is None
    assert found["a.npy"] == storage.look_up(RemoteFile(f"s3://{bucket.name}/feats/a.npy"))
    assert found["a.npy"] is not None
    assert found["a.npy"].size == 2
    before = found["a.npy"]
    bucket.put({"feats/a.npy": b"34"})
    assert storage.find(RemoteFile(f"s3://{bucket.name}/feats/a.npy")) not in (None, before)
    assert storage.find(RemoteFile(f"s3://{bucket.name}/feats/d.npy")) is None


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_does_not_exist_is_named() -> None:
    with pytest.raises(RemoteFileError, match=r"s3://no-such-bucket: there is no such bucket"):
        open_storage("s3").entries(RemoteFile("s3://no-such-bucket"))
