"""The text files of THUMOS14: annotations with one file a class, detections, and the numbers of the classes."""

import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stale_runtime.detections import Detection
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.segment_rows import as_number, check_segment
from stale_runtime.inputs.videos import LARGEST_FILE, check_count
from stale_runtime.system.files import MEGABYTE, read_text, reason
from stale_runtime.system.text import as_text, has_unusable_characters

MOST_CLASSES = 4096
"""Most files in a folder of annotations, and most classes in a list of class numbers."""
CLASS_LIST = "detclasslist.txt"
"""The list of class numbers in the toolkit's folder of annotations."""
_SUFFIX = re.compile(r"(?P<label>.+)_(?P<subset>train|training|val|validation|test|testing)")
_SUBSETS = {"train": "training", "val": "validation", "testing": "test"}


def is_text_form(path: Path) -> bool:
    """Whether a path is a folder or a ``.txt`` file, so that it holds THUMOS14's text form instead of JSON."""
    return os.path.isdir(path) or path.suffix.lower() == ".txt"


def whole_subset_name(subset: str | None) -> str | None:
    """The subset that a name stands for, however it is written: ``validation`` for ``val`` and ``Validation``."""
    name = None if subset is None else subset.strip().lower()
    return name if name is None else _SUBSETS.get(name, name)


def read_class_files(path: Path, *, most: int) -> tuple[dict[str, Any], bool]:
    """Read annotations with one file a class, such as ``BaseballPitch_val.txt``, with lines of ``VIDEO START END``.

    The class is the file's name without ``_val`` or ``_test``, which is the subset of its videos.

    Args:
        path: a folder of such files, or one of them. Hidden files and ``detclasslist.txt`` are skipped.
        most: most annotations.

    Returns:
        The videos as in ActivityNet's JSON format, by name, with the full name of their subset; and whether every file
        says what subset it is of.

    Raises:
        DatasetError: a file cannot be read, is a link, or has other lines; or a video is in two subsets.

    Source: ``TH14evaldet.m`` of THUMOS14's toolkit.
    """
    files = _class_files(path)
    remedy = "; correct the line, or remove the file if it has no annotations" if os.path.isdir(path) else ""
    database: dict[str, Any] = {}
    subsets = set()
    annotations = 0
    for file in files:
        label, subset = _label_and_subset(file)
        subsets.add(subset)
        for place, (name, *times) in _rows(file, "VIDEO START END", remedy=remedy):
            annotations += 1
            check_count(annotations, most, "annotations or more", path)
            video = database.setdefault(name, {"subset": subset, "annotations": []})
            if video["subset"] != subset:
                raise DatasetError(f"{place}: video {name[:60]!r} is of subset {video['subset']!r} in another file")
            start, end = (_number(text, place) for text in times)
            video["annotations"].append({"label": label, "segment": list(check_segment(start, end, place))})
    return database, None not in subsets


def read_class_numbers(path: str | os.PathLike[str]) -> dict[int, str]:
    """Read the numbers of classes from a file such as ``detclasslist.txt``, with lines of ``NUMBER CLASS``.

    Raises:
        DatasetError: the file has other lines, or lists a number twice.

    Source: ``TH14evaldet.m`` of THUMOS14's toolkit.
    """
    classes: dict[int, str] = {}
    for place, (number, label) in _rows(Path(path), "NUMBER CLASS", limit=MEGABYTE):
        check_count(len(classes) + 1, MOST_CLASSES, "classes or more", Path(path))
        if has_unusable_characters(label):
            raise DatasetError(f"{place}: control characters in {label[:40]!r}, expected a class name")
        if classes.setdefault(_class_number(number, place), label) != label:
            raise DatasetError(
                f"{place}: class {number} has two names, {classes[int(number)][:40]!r} and {label[:40]!r}"
            )
    if not classes:
        raise DatasetError(f"{path}: no class, expected lines such as '7 BaseballPitch'")
    return classes


def read_text_detections(
    path: Path, classes: Mapping[int, str], *, most: int
) -> tuple[dict[str, list[Detection]], int]:
    """Read detections with lines of ``VIDEO START END CLASS_NUMBER CONFIDENCE``, in seconds.

    The toolkit ignores detections of other classes. They are kept here, with a label such as ``class 5``, for which
    there is no ground truth. Start and end are swapped where the end comes first, as in the toolkit, which sorts them;
    its own sample results have such lines.

    Args:
        path: the file.
        classes: names by number.
        most: most detections.

    Returns:
        The detections by video, named without ``.mp4`` or ``.mpeg``; and how many of them were swapped.

    Raises:
        DatasetError: the file cannot be read, or has other lines.

    Source: ``TH14evaldet.m`` and ``intervaloverlapvalseconds.m`` of THUMOS14's toolkit.
    """
    videos: dict[str, list[Detection]] = {}
    swapped = 0
    for count, (place, (name, *times, number, confidence)) in enumerate(
        _rows(path, "VIDEO START END CLASS_NUMBER CONFIDENCE"), start=1
    ):
        check_count(count, most, "detections or more", path)
        first, second = (_number(text, place) for text in times)
        start, end = check_segment(min(first, second), max(first, second), place)
        swapped += second < first
        known = _class_number(number, place)
        label = classes.get(known, f"class {known}")
        row = Detection(label, start, end, _number(confidence, place))
        videos.setdefault(re.sub(r"\.(mp4|mpeg)$", "", name), []).append(row)
    return videos, swapped


def _class_files(path: Path) -> list[Path]:
    if not os.path.isdir(path):
        return [path]
    try:
        names = sorted(os.listdir(path))
    except OSError as problem:
        raise DatasetError(f"{path}: {reason(problem)}; give a folder of annotations that you may read") from problem
    names = [name for name in names if name.endswith(".txt") and not name.startswith(".") and name != CLASS_LIST]
    check_count(len(names), MOST_CLASSES, "files", path)
    if not names:
        raise DatasetError(f"{path}: no annotations in this folder, expected files such as BaseballPitch_test.txt")
    for name in names:
        if os.path.islink(path / name):  # it could lead to a file that has nothing to do with the folder
            raise DatasetError(f"{path / name}: a link, expected a file; replace it by the file that it leads to")
    return [path / name for name in names]


def _label_and_subset(file: Path) -> tuple[str, str | None]:
    stem = as_text(file.stem)
    if has_unusable_characters(stem):
        raise DatasetError(f"{file}: control characters in the file's name, which names the class; rename it")
    match = _SUFFIX.fullmatch(stem)
    return (match["label"], whole_subset_name(match["subset"])) if match else (stem, None)


def _rows(file: Path, columns: str, *, limit: int = LARGEST_FILE, remedy: str = "") -> Iterator[tuple[str, list[str]]]:
    """Place and columns of each line that is not blank."""
    text = read_text(file, limit=limit, error=DatasetError)
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        row = line.split()
        if row and len(row) != len(columns.split()):
            raise DatasetError(f"{file}, line {number}: {line.strip()[:60]!r}, expected {columns}{remedy}")
        if row:
            yield f"{file}, line {number}", row


def _number(text: str, place: str) -> float:
    number = as_number(text)
    if number is None or number in (float("inf"), float("-inf")):
        raise DatasetError(f"{place}: {text[:40]!r}, expected a number")
    return number


def _class_number(text: str, place: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise DatasetError(f"{place}: {text[:40]!r}, expected the number of a class")
    return int(text)
