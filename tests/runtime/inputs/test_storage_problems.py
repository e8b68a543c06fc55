from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError, ReadTimeoutError
from fsspec.exceptions import FSTimeoutError
from gcsfs.retry import HttpError

from stale_runtime.inputs.storage_problems import classify

SECRET = "kanarienvogel"


def client_error(status: int, code: str) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": SECRET}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, SECRET)


@pytest.mark.parametrize(
    ("problem", "protocol", "says", "temporary", "whole_place"),
    [
        (client_error(503, "SlowDown"), "s3", "answers 503 SlowDown", True, True),
        (client_error(500, SECRET), "s3", "answers 500;", True, True),
        (client_error(403, "AccessDenied"), "s3", "refuses access (403 AccessDenied)", False, False),
        (client_error(403, SECRET), "s3", "refuses access (403)", False, False),
        (client_error(404, "NoSuchKey"), "s3", "no such file", False, False),
        (client_error(404, "NoSuchBucket"), "s3", "no such bucket", False, True),
        (client_error(400, SECRET), "s3", "cannot be read (400)", False, False),
        (NoCredentialsError(), "s3", "AWS_ACCESS_KEY_ID", False, True),
        (ReadTimeoutError(endpoint_url=SECRET), "s3", "AWS_ENDPOINT_URL", True, True),
        (FSTimeoutError(SECRET), "gs", "STORAGE_EMULATOR_HOST", True, True),
        (HttpError({"code": 429, "message": SECRET}), "gs", "answers 429", True, True),
        (HttpError({"code": 401, "message": SECRET}), "gs", "GOOGLE_APPLICATION_CREDENTIALS", False, False),
        (ConnectionResetError(SECRET), "hf", "HF_ENDPOINT", True, True),
        (PermissionError(SECRET), "hf", "HF_TOKEN", False, False),
        (FileNotFoundError(SECRET), "hf", "no such file", False, False),
        (ValueError(SECRET), "s3", "cannot be read (ValueError)", False, False),
    ],
)
def test_each_problem_has_our_own_words(
    problem: Exception, protocol: str, says: str, temporary: bool, whole_place: bool
) -> None:
    found = classify(problem, protocol)
    assert says in found.text
    assert SECRET not in found.text
    assert "; " in found.text
    assert (found.temporary, found.whole_place) == (temporary, whole_place)


def test_a_cause_tells_more_than_what_it_became() -> None:
    problem = OSError(5, SECRET)
    problem.__cause__ = client_error(503, "SlowDown")
    assert classify(problem, "s3").temporary
