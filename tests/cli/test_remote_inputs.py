"""Videos and features in object storage, as a user names them."""

import json
import os
from functools import cache
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stale_runtime.batch.journal import journal_path
from stale_runtime.inputs import remote_storage
from tests.cli.same_process import Done, fails, run
from tests.small_video import with_tower, write_clip
from tests.storage.failing_server import SECRET, failing_server
from tests.storage.s3_server import KEY, SECRET_KEY, Bucket

RUN = ("stale-run", "--prompts", "classes.txt", "--format", "jsonl")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, which has to be empty at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def put_features(bucket: Bucket, work: Path) -> None:
    bucket.put({f"feats/{path.name}": path.read_bytes() for path in sorted((work / "features").iterdir())})


def test_a_bucket_gives_what_the_folder_gives_and_each_file_is_read_once(
    work: Path, bucket: Bucket, temporary: Path
) -> None:
    put_features(bucket, work)
    local = run(*RUN, "features", cwd=work)
    remote = run(*RUN, f"s3://{bucket.name}/feats/", cwd=work)
    assert remote == local
    assert remote.returncode == 0
    listing, *files = bucket.requests
    assert listing.startswith(f"GET /{bucket.name}?list-type=2&prefix=feats%2F")
    assert sorted(files) == [f"GET /{bucket.name}/feats/v_{name}.npy" for name in "abc"]
    assert os.listdir(temporary) == []


def test_two_workers_open_storages_of_their_own(work: Path, bucket: Bucket) -> None:
    put_features(bucket, work)
    bucket.put({"feats/v_d.npy": b"no features", **{f"feats/v_{n}.npy": b"" for n in range(7)}})
    urls = f"s3://{bucket.name}/feats"
    alone, together = (run(*RUN, urls, "--workers", workers, cwd=work) for workers in ("1", "2"))
    assert together == alone
    assert len(together.stdout.splitlines()) == 3
    assert f"{urls}/v_d.npy: " in together.stderr


def interrupted(work: Path, bucket: Bucket) -> tuple[str, ...]:
    """A run that a broken file ended; the arguments that continue it."""
    put_features(bucket, work)
    bucket.put({"feats/v_d.npy": b"no features", "feats/v_e.npy": (work / "features" / "v_b.npy").read_bytes()})
    arguments = (*RUN, f"s3://{bucket.name}/feats", "-o", "out.jsonl")
    stopped = run(*arguments, "--fail-fast", cwd=work)
    assert f"error: s3://{bucket.name}/feats/v_d.npy: " in stopped.stderr
    assert len(journal_path(work / "out.jsonl").read_text().splitlines()) == 4
    bucket.put({"feats/v_d.npy": (work / "features" / "v_a.npy").read_bytes()})
    return (*arguments, "--resume")


def test_finished_videos_are_not_fetched_again(work: Path, bucket: Bucket) -> None:
    done = run(*interrupted(work, bucket), cwd=work)
    assert "3 of 5 videos were finished before" in done.stderr
    assert sorted(bucket.requests[1:]) == [f"GET /{bucket.name}/feats/v_{name}.npy" for name in "de"]


def test_a_file_that_was_replaced_meanwhile_is_done_again(work: Path, bucket: Bucket) -> None:
    arguments = interrupted(work, bucket)
    content = bytearray((work / "features" / "v_b.npy").read_bytes())
    content[-1] ^= 1  # the size stays
    bucket.put({"feats/v_b.npy": bytes(content)})
    done = run(*arguments, cwd=work)
    assert "2 of 5 videos were finished before" in done.stderr
    assert sorted(bucket.requests[1:]) == [f"GET /{bucket.name}/feats/v_{name}.npy" for name in "bde"]


def printed(done: Done, work: Path) -> str:
    """All that a run prints and writes."""
    files = [path.read_text() for path in (work / "report.json", work / "out.jsonl.partial.jsonl") if path.exists()]
    return done.stdout + done.stderr + "".join(files)


@pytest.mark.parametrize("status", [403, 503, 418])
def test_credentials_are_never_shown(status: int, work: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setattr(remote_storage, "_open", cache(remote_storage._open.__wrapped__))
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)  # no pauses
    names = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_SESSION_TOKEN": SECRET}
    with failing_server(always=status) as server:
        for name, value in {**names, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        urls = [f"s3://bucket-{status}/{n}.npy" for n in range(2)]
        done = run(*RUN, "v_one.npy", *urls, "-o", "out.jsonl", "--report", "report.json", "--verbose", cwd=work)
    assert done.returncode == 5
    assert f"s3://bucket-{status}/1.npy: " in done.stderr
    report = json.loads((work / "report.json").read_text())
    assert [video["status"] for video in report["videos"]] == ["ok", "failed", "failed"]
    assert report["videos"][1]["error"] == "RemoteFileError"
    for secret in (KEY, SECRET_KEY, SECRET):
        assert secret not in printed(done, work)
    assert os.listdir(temporary) == []


@pytest.mark.parametrize("name", ["stale-run", "stale-features"])
def test_a_url_with_a_password_is_refused_and_not_shown(name: str, work: Path) -> None:
    done = run(name, "s3://user:kanarienvogel@bucket/a.mp4", cwd=work)
    assert done.returncode == 2
    assert "kanarienvogel" not in done.stderr
    assert "credentials belong into the environment" in done.stderr


def test_what_sends_a_stream_is_no_object_storage(work: Path) -> None:
    fails(*RUN, "rtsp://camera/1", cwd=work, code=2, says="a URL of s3://, gs://, hf://")


def test_features_of_a_remote_video_are_written_here(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    with_tower(bundle, tmp_path / "stale_bundle")
    write_clip(tmp_path / "a.mp4", 1.0)
    MemoryFileSystem().pipe("/videos/a.mp4", (tmp_path / "a.mp4").read_bytes())
    MemoryFileSystem().pipe("/videos/b.mp4", b"no video")
    local = run("stale-features", "a.mp4", "-o", "local", cwd=tmp_path)
    remote = run("stale-features", "memory://videos/", "-o", "remote", "--verbose", cwd=tmp_path)
    assert (local.returncode, remote.returncode) == (0, 5)
    assert "memory://videos/a.mp4: " in remote.stderr
    assert "error: memory://videos/b.mp4: " in remote.stderr
    assert sorted(os.listdir(tmp_path / "remote")) == ["a.npy", "a.recipe.json"]
    for name in ("a.npy", "a.recipe.json"):
        assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


def test_a_remote_video_and_its_features_are_both_detected_in(work: Path) -> None:
    """Of a folder with times in seconds: the duration is in the recipe beside the features."""
    pytest.importorskip("av")
    with_tower(work / "stale_bundle", work / "bundle")
    write_clip(work / "a.mp4", 1.0)
    run("stale-features", "a.mp4", "-o", "feats", "--bundle", "bundle", cwd=work)
    system = MemoryFileSystem()
    system.pipe("/both/a.mp4", (work / "a.mp4").read_bytes())
    for name in ("a.npy", "a.recipe.json"):
        system.pipe(f"/both/b{name[1:]}", (work / "feats" / name).read_bytes())
    done = run(*RUN, "memory://both", "--bundle", "bundle", cwd=work)
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["duration_s"] == second["duration_s"] == 1.0
    page = run(*RUN[:-1], "html", "memory://both/a.mp4", "--bundle", "bundle", "-o", "a.html", cwd=work)
    assert page.returncode == 0, page.stderr
    assert "does not play the video: memory://both/a.mp4" in (work / "a.html").read_text()
