import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.inputs.remote_files import RemoteFile, RemoteState, parse_source


def test_a_url_has_the_parts_of_a_path() -> None:
    file = parse_source("S3://bucket/feats/v_holiday.tar.npy")
    assert isinstance(file, RemoteFile)
    assert str(file) == "s3://bucket/feats/v_holiday.tar.npy"
    assert (file.name, file.stem, file.suffix) == ("v_holiday.tar.npy", "v_holiday.tar", ".npy")
    assert (file.protocol, file.place, file.parent) == ("s3", "s3://bucket", "s3://bucket/feats")


@pytest.mark.parametrize(
    "text", ["holiday.npy", "a/b", "-", "s3", "http://host/a.npy", "file://a.npy", "rtsp://camera"]
)
def test_everything_else_is_a_path(text: str) -> None:
    assert parse_source(text) == Path(text)


@pytest.mark.parametrize(
    "url",
    [
        "s3://user:kanarienvogel@bucket/a.npy",
        "s3://kanarienvogel@bucket/a.npy",
        "s3://AKIA:kanarienvogel/with/slashes@bucket/a.npy",
        "s3://bucket/a.npy?X-Amz-Signature=kanarienvogel",
        "s3://bucket:443/kanarienvogel.npy",
        "gs://bucket/../kanarienvogel.npy",
        "s3://bucket//kanarienvogel.npy",
        "s3://bucket/a\n.kanarienvogel.npy",
        "hf://datasets/a::file:///kanarienvogel.npy",
        "s3:///kanarienvogel.npy",
        "s3:/kanarienvogel.npy",
        "s3://",
        f"s3://bucket/{'kanarienvogel' * 200}.npy",
        f"s3://bucket/{'kanarienvogel' * 19}.mp4",
    ],
)
def test_credentials_queries_and_tricks_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"://") as refused:
        parse_source(url)
    assert "kanarienvogel" not in str(refused.value)
    assert "expected" in str(refused.value) or ";" in str(refused.value)


@given(st.text())
def test_what_is_taken_names_one_file_below_its_bucket(text: str) -> None:
    try:
        file = parse_source(f"s3://bucket/{text}")
    except ValueError:
        return
    assert isinstance(file, RemoteFile)
    assert file.url.startswith("s3://bucket")
    assert file.name not in ("", ".", "..")
    assert "/" not in file.name


def test_the_state_is_also_that_of_the_recipe_beside_it() -> None:
    file = RemoteFile("s3://bucket/a.npy", RemoteState(10, "etag"))
    described = replace(file, recipe=RemoteState(3, "other"))
    assert file.known_state == RemoteState(10, "etag")
    assert described.known_state not in (None, file.known_state)
    assert replace(file, state=RemoteState(10, "")).known_state is None
    assert RemoteFile("s3://bucket/a.npy").known_state is None


def test_it_is_small_and_can_be_sent_to_other_processes() -> None:
    file = RemoteFile("s3://bucket/a.npy", RemoteState(10, "etag"), RemoteState(3, "other"))
    sent = pickle.dumps(file)
    assert pickle.loads(sent) == file
    assert len(sent) < 400
