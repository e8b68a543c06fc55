"""moto's server of S3 on this machine."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

KEY, SECRET_KEY = "AKIAKANARIENVOGEL", "geheimer+kanarienvogel"

_numbers = count()


@dataclass
class Bucket:
    """A bucket of its own, and what was asked of the server since it was made."""

    name: str
    client: Any
    requests: list[str]

    def put(self, contents: Mapping[str, bytes]) -> None:
        """Write objects, by their keys."""
        for key, content in contents.items():
            self.client.put_object(Bucket=self.name, Key=key, Body=content)
        self.requests.clear()


@contextmanager
def s3_server() -> Iterator[Mapping[str, str]]:
    """Serve until the block ends; the environment variables by which the server is found."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        server.stop()


def make_bucket(patch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket on the server that the environment names."""
    import boto3
    from moto.moto_server.werkzeug_app import MotoRequestHandler

    requests: list[str] = []
    patch.setattr(
        MotoRequestHandler,
        "log_request",
        lambda self, *_: requests.append(f"{self.command} {self.path}"),
        raising=False,
    )
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    name = f"bucket-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    return Bucket(name, client, requests)
