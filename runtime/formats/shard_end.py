"""What the file of a shard says of its run, so that ``stale-merge`` notices files that are torn or do not belong
together.
"""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stale_runtime.errors import DatasetError
from stale_runtime.formats.result_rows import settings_text
from stale_runtime.inputs.shards import Listing, Shard

START = b'{"shard": '
"""What the last line of a shard in JSON lines begins with."""


@dataclass(frozen=True, kw_only=True)
class ShardEnd:
    """What is written once all videos of a shard are done: the last line of JSON lines, or metadata of Parquet."""

    shard: Shard
    videos: int
    """How many it has, with those that failed."""
    listing: Listing
    """The videos of all shards."""
    settings: Mapping[str, Any]
    """What the detections of all shards depend on, see ``settings_text``."""

    @property
    def settings_text(self) -> str:
        """The settings as text."""
        return settings_text(self.settings)

    def to_json(self, **more: Any) -> str:
        """A JSON object on one line.

        Args:
            more: what it says besides.
        """
        content = {
            "shard": str(self.shard),
            "videos": self.videos,
            **more,
            "listing": self.listing._asdict(),
            "settings": dict(self.settings),
        }
        return json.dumps(content, ensure_ascii=False, allow_nan=False)

    @classmethod
    def read(cls, content: Any, place: str) -> "ShardEnd":
        """Read what ``to_json`` wrote, once it is parsed.

        Args:
            content: anything.
            place: the file, for messages.

        Raises:
            DatasetError: it is something else.
        """
        try:
            listing = content["listing"]
            end = cls(
                shard=Shard.parse(content["shard"]),
                videos=content["videos"],
                listing=Listing(listing["videos"], listing["sha256"]),
                settings=content["settings"],
            )
        except (TypeError, KeyError, ValueError) as problem:
            raise DatasetError(f"{place}: its end {reprlib.repr(content)[:60]} is not that of a shard") from problem
        counts = (end.videos, end.listing.videos)
        if not all(type(count) is int for count in counts) or not 0 <= end.videos <= end.listing.videos:
            raise DatasetError(f"{place}: its end says {end.videos!r:.20} of {end.listing.videos!r:.20} videos")
        if not isinstance(end.settings, dict) or not isinstance(end.listing.sha256, str):
            raise DatasetError(f"{place}: its end is not that of a shard")
        return end
