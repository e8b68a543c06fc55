"""Lists of the videos to train on, as studies of training on little data publish them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_runtime.errors import DatasetError
from stale_runtime.inputs.videos import LARGEST_FILE, MOST_VIDEOS, check_count, video_id
from stale_runtime.system.files import read_json, read_text
from stale_runtime.system.text import has_unusable_characters

LONGEST_ID = 200
"""Characters; ActivityNet's ids have eleven."""


@dataclass(frozen=True, kw_only=True)
class TrainIds:
    """The videos that a training is restricted to."""

    path: Path
    """The file that lists them, for messages."""
    ids: frozenset[str]
    """Their ids, without ``v_``; at least one."""

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted ids, one a line: the same for every file that lists the same videos."""
        return hashlib.sha256("\n".join(sorted(self.ids)).encode()).hexdigest()


def read_train_ids(path: Path) -> TrainIds:
    """Read a list of video ids.

    Args:
        path: a text file with one id per line, with or without ``v_``; blank lines and lines that start with ``#`` are
            skipped. Or a JSON file whose keys are the ids: annotations in ActivityNet's format (``database``) or in the
            original code's, such as the samples ``anet_anno_action_20p1.json`` of the thesis, or a JSON list of ids.

    Raises:
        DatasetError: the file cannot be read, lists no video, or a line is no id.
    """
    text = read_text(path, limit=LARGEST_FILE, error=DatasetError)
    if text.lstrip()[:1] in ("{", "["):
        places = [(f"{path}: id", name) for name in _json_ids(path)]
    else:
        check_count(text.count("\n"), MOST_VIDEOS, "lines", path)
        lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
        places = [(f"{path}, line {number}: id", line) for number, line in lines if line and not line.startswith("#")]
    for place, name in places:
        if not name or len(name) > LONGEST_ID or has_unusable_characters(name):
            raise DatasetError(
                f"{place} {json.dumps(name[:60])}, expected one video id per line, of at most {LONGEST_ID} characters"
            )
    if not places:
        raise DatasetError(f"{path}: no video ids, expected one per line")
    return TrainIds(path=path, ids=frozenset(video_id(name) for _, name in places))


def _json_ids(path: Path) -> list[str]:
    content: Any = read_json(path, limit=LARGEST_FILE, error=DatasetError)
    if isinstance(content, dict) and isinstance(content.get("database"), dict):
        content = content["database"]
    names = list(content)
    check_count(len(names), MOST_VIDEOS, "videos", path)
    if not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{path}: a JSON list that has more than text in it, expected video ids")
    return names
