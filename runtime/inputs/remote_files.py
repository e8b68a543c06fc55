"""Files in object storage, named by a URL such as ``s3://bucket/features/holiday.npy``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from stale_runtime.inputs.feature_origin import SUFFIX

PROTOCOLS = ("s3", "gs", "hf", "memory")
"""Kinds of URLs that are read; ``memory`` is for tests, and is the memory of this process."""
LONGEST_URL = 2_000
"""Characters; S3 allows keys of 1,024 bytes."""
LONGEST_NAME = 255
"""Bytes of a file's name, because its copy has the same name."""
_ADDRESS = re.compile(rf"({'|'.join(PROTOCOLS)}):/", re.IGNORECASE)
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
"""A bucket, or the first part of a Hub's path: no user, password or port."""
_UNUSUAL = re.compile(r"[\x00-\x1f\x7f-\x9f?\\*]|::")
"""Control characters, queries, patterns and chained URLs."""


class RemoteState(NamedTuple):
    """What a storage says of a file before it is read, to notice later changes."""

    size: int
    """Bytes."""
    version: str
    """ETag, generation, hash or time, whichever the storage has."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file or folder in object storage. It is small, and can be sent to other processes."""

    url: str
    """The whole URL, without credentials, without a slash at the end."""
    state: RemoteState | None = None
    """None if the storage has not been asked, or did not say."""
    recipe: RemoteState | None = None
    """What the storage says of ``ID.recipe.json`` beside a feature file; None if there is none."""

    def __post_init__(self) -> None:
        protocol, _, rest = self.url.partition("://")
        place, *parts = rest.split("/")
        if protocol not in PROTOCOLS or not _PLACE.fullmatch(place):
            kinds = ", ".join(f"{kind}://" for kind in PROTOCOLS[:-1])
            # what follows is not shown, because it may be a password
            raise ValueError(
                f"{protocol if protocol in PROTOCOLS else 'an address'}://...: expected {kinds} and a bucket's name of "
                "letters, digits, dots and hyphens; credentials belong into the environment (docs/remote_files.md)"
            )
        if len(self.url) > LONGEST_URL:
            raise ValueError(
                f"{protocol}://{place}/...: {len(self.url):,} characters, expected at most {LONGEST_URL:,}"
            )
        if _UNUSUAL.search(rest) or not all(part.strip(".") for part in parts):
            raise ValueError(
                f"{protocol}://{place}/...: has an empty part, '..', a control character or one of ? * \\ ::, "
                "which are not read; give the plain name of a file or folder"
            )
        if parts and len(recipe_name(self.name).encode(errors="replace")) > LONGEST_NAME:
            raise ValueError(f"{protocol}://{place}/...: the name is longer than {LONGEST_NAME} bytes; rename the file")

    def __str__(self) -> str:
        return self.url

    @property
    def protocol(self) -> str:
        """One of ``PROTOCOLS``."""
        return self.url.partition("://")[0]

    @property
    def place(self) -> str:
        """The URL of the bucket, or of what the Hub calls a repository type or user."""
        return "/".join(self.url.split("/")[:3])

    @property
    def parent(self) -> str:
        """The URL of the folder."""
        return self.url.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The file's name without what it ends with, as ``Path.stem``."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """What the file's name ends with, such as ``.npy``."""
        return Path(self.name).suffix

    @property
    def known_state(self) -> RemoteState | None:
        """Size and version of the file and of the recipe beside it, in one; None if the storage has no version."""
        if self.state is None or not self.state.version:
            return None
        beside = "" if self.recipe is None else f", recipe {self.recipe.size} {self.recipe.version}"
        return RemoteState(self.state.size, f"{self.state.version}{beside}")


Source: TypeAlias = Path | RemoteFile
"""A local file or folder, or one in object storage."""


def parse_source(text: str) -> Source:
    """The file or folder that a user names.

    Raises:
        ValueError: it is a URL of object storage that is not read. What could be a password is not in the message.
    """
    if not _ADDRESS.match(text):
        return Path(text)
    protocol, _, rest = text.partition(":")
    return RemoteFile(f"{protocol.lower()}:{rest.removesuffix('/')}")


def recipe_name(name: str) -> str:
    """The name of the file beside a feature file that says how it was made."""
    return Path(name).stem + SUFFIX
