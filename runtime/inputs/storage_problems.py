"""What went wrong in object storage, in our own words: a library's text may contain keys, tokens and signed URLs."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from stale_runtime.errors import RemoteFileError

_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket FSSPEC_S3_ANON=true",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS; for a public bucket FSSPEC_GS_TOKEN=anon",
    "hf": "HF_TOKEN",
}
"""The environment variables that say who asks."""
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "STORAGE_EMULATOR_HOST", "hf": "HF_ENDPOINT"}
"""The environment variables that say where the storage is."""
_TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 509})
_TEMPORARY_CODES = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling"})
_CODES = _TEMPORARY_CODES | frozenset(
    {
        *("AccessDenied", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId"),
        *("InvalidObjectState", "InvalidToken", "NoSuchBucket", "NoSuchKey", "PermanentRedirect"),
        *("RequestTimeTooSkewed", "SignatureDoesNotMatch"),
    }
)
"""The error codes of S3 that are shown. What else a server sends is not."""
_NO_CREDENTIALS = re.compile(
    r"(No|Partial|Default|Refresh)\w*Credential|ProfileNotFound|CredentialRetrieval|RefreshError"
)
_NOT_CONNECTED = re.compile(
    r"Timeout|Connection|Connect(or)?Error|Disconnected|IncompleteRead|Payload|ReadError|Proxy|SSL|HTTPClientError"
)


class StorageProblem(NamedTuple):
    """Why a request failed."""

    text: str
    """What happened, and what to do."""
    temporary: bool = False
    """Whether the same request may work a little later."""
    whole_place: bool = False
    """Whether it concerns the storage or bucket rather than the file."""

    def error(self, what: str, attempts: int = 1) -> RemoteFileError:
        """The error to raise.

        Args:
            what: the URL.
            attempts: how often it was tried.
        """
        happened, _, remedy = self.text.partition("; ")
        tried = f", tried {attempts} times" if attempts > 1 else ""
        return RemoteFileError(f"{what}: {happened}{tried}; {remedy}")


def classify(problem: BaseException, protocol: str) -> StorageProblem:
    """Why a library of object storage failed; nothing of its own text is taken over.

    Args:
        problem: what it raised.
        protocol: ``s3``, ``gs``, ``hf`` or ``memory``.
    """
    chain = list(_causes(problem))
    kinds = [kind.__name__ for found in chain for kind in type(found).__mro__]
    status, code = _status(chain)
    said = " ".join(str(part) for part in (status, code) if part is not None)
    keys = f"set {_KEYS.get(protocol, 'the credentials')}"
    endpoint = _ENDPOINTS.get(protocol, "the address")
    if any(map(_NO_CREDENTIALS.search, kinds)):
        return StorageProblem(f"there are no usable credentials ({type(chain[-1]).__name__}); {keys}", whole_place=True)
    if code == "NoSuchBucket":
        return StorageProblem(f"there is no such bucket; check its name, and {endpoint}", whole_place=True)
    if status == 404 or code == "NoSuchKey" or (status is None and "FileNotFoundError" in kinds):
        return StorageProblem("there is no such file or folder; check the name, and list the folder above it")
    if status in _TEMPORARY_STATUS or code in _TEMPORARY_CODES:
        text = f"the storage answers {said}; repeat the run with --resume when it is less busy"
        return StorageProblem(text, temporary=True, whole_place=True)
    if status in (401, 403) or (status is None and "PermissionError" in kinds):
        return StorageProblem(
            f"the storage refuses access ({said or 'no reason given'}); check the permissions, or {keys}"
        )
    if status is None and any(map(_NOT_CONNECTED.search, kinds)):
        text = f"no usable connection ({type(chain[-1]).__name__}); check the network, and {endpoint} if it is set"
        return StorageProblem(text, temporary=True, whole_place=True)
    return StorageProblem(
        f"cannot be read ({said or type(chain[-1]).__name__}); copy it to this machine, and give the copy"
    )


def out_of_time(seconds: float, protocol: str) -> StorageProblem:
    """What a request did that was ended because it took too long.

    Args:
        seconds: that it was allowed.
        protocol: as for ``classify``.
    """
    endpoint = _ENDPOINTS.get(protocol, "the address")
    return StorageProblem(
        f"took longer than {seconds:.3g} s; check the network, and {endpoint} if it is set", whole_place=True
    )


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """An exception and what caused it, at most ten."""
    found: BaseException | None = problem
    for _ in range(10):
        if found is None:
            return
        yield found
        found = found.__cause__


def _status(chain: list[BaseException]) -> tuple[int | None, str | None]:
    """The HTTP status and the storage's error code, as far as they are known and may be shown."""
    status, code = None, None
    for found in chain:
        response: Any = getattr(found, "response", None)
        candidates = [getattr(response, "status_code", None)]  # of the Hub's library
        if type(found).__name__ == "HttpError":  # of gcsfs
            candidates.append(found.code)  # type: ignore[attr-defined]
        if type(found).__name__ == "ClientResponseError":  # of aiohttp
            candidates.append(found.status)  # type: ignore[attr-defined]
        if isinstance(response, dict):  # of botocore
            error = response.get("Error") or {}
            candidates += [(response.get("ResponseMetadata") or {}).get("HTTPStatusCode"), error.get("Code")]
            code = code or (error.get("Code") if error.get("Code") in _CODES else None)
        for value in candidates:
            if status is None and re.fullmatch("[1-5][0-9]{2}", str(value)):
                status = int(str(value))
    return status, code
