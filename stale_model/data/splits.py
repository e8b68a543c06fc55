"""Splits of the classes into those that are trained and those that are kept for zero-shot detection."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from stale_runtime.errors import DatasetError, PromptError
from stale_runtime.inputs.prompts import read_prompts

CLOSED = "closed"
_PUBLISHED = {"75-25": "train_75_test_25", "50-50": "train_50_test_50"}
_SPEC = re.compile(r"(75-25|50-50):([0-9])")
_EXPECTED = "'closed', '75-25:N' or '50-50:N' with N from 0 to 9"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Seen classes, which are trained, and unseen ones, which are not."""

    name: str
    """As requested, such as ``75-25:0``; for two files, their names."""
    seen: tuple[str, ...]
    """Classes of the training videos, at least one, in the order of the network's rows."""
    unseen: tuple[str, ...]
    """Classes that no training video has; empty in the closed set."""

    def __post_init__(self) -> None:
        if not self.seen:
            raise DatasetError(f"split {self.name}: no seen classes, expected at least one to train on")
        for kind, names in (("seen", self.seen), ("unseen", self.unseen)):
            if twice := _first_repeated(names):
                raise DatasetError(f"split {self.name}: {twice!r} is listed twice among the {kind} classes; remove one")
        if both := sorted(set(self.seen) & set(self.unseen)):
            more = f" and {len(both) - 1} more" if len(both) > 1 else ""
            raise DatasetError(
                f"split {self.name}: {both[0]!r}{more} both seen and unseen; a class that is trained is not unseen, "
                "remove it from one list"
            )


def read_split(
    spec: str | None, *, lists: Path | None, seen: Path | None, unseen: Path | None, labels: Collection[str]
) -> Split:
    """Read a split of the classes.

    Args:
        spec: ``closed`` for all classes seen, ``75-25:N`` or ``50-50:N`` (N from 0 to 9) for a published one, or None
            if ``seen`` and ``unseen`` are given.
        lists: folder of the published splits: ``train_75_test_25/train/split_N.list``, ``…/test/split_N.list``, and
            likewise ``train_50_test_50``. Only used for a published split.
        seen: file of the seen classes, one per line.
        unseen: file of the unseen classes, one per line.
        labels: every class of the annotations, in any subset.

    Returns:
        Closed: the labels in alphabetical order; otherwise the classes in the order of their files.

    Raises:
        DatasetError: there is no such split, a list is missing or damaged, or has a class that no annotation has.
    """
    if spec is None:
        return _split_from_files(seen, unseen, labels)
    if seen is not None or unseen is not None:
        raise DatasetError(f"split {spec[:40]!r} and files of seen and unseen classes; give one or the other")
    if spec == CLOSED:
        return Split(name=CLOSED, seen=tuple(sorted(set(labels))), unseen=())
    return _published_split(spec, lists, labels)


def _split_from_files(seen: Path | None, unseen: Path | None, labels: Collection[str]) -> Split:
    if seen is None and unseen is None:
        raise DatasetError(f"no split; give --split {_EXPECTED}, or --seen FILE --unseen FILE")
    if seen is None or unseen is None:
        given, missing = ("--unseen", "--seen") if seen is None else ("--seen", "--unseen")
        raise DatasetError(f"{given} without {missing}; give both files of classes, or --split closed")
    return Split(
        name=f"{seen.name} / {unseen.name}", seen=_read_classes(seen, labels), unseen=_read_classes(unseen, labels)
    )


def _published_split(spec: str, lists: Path | None, labels: Collection[str]) -> Split:
    parts = _SPEC.fullmatch(spec)
    if parts is None:
        raise DatasetError(f"split {spec[:40]!r}, expected {_EXPECTED}")
    if lists is None:
        raise DatasetError(f"split {spec} without its lists; give --split-lists, the folder of the published splits")
    kind, number = parts.groups()
    folder = lists / _PUBLISHED[kind]
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: no such folder; --split-lists is the folder that contains {_PUBLISHED[kind]}/train/split_N.list"
        )
    train, test = (_read_classes(folder / part / f"split_{number}.list", labels) for part in ("train", "test"))
    return Split(name=spec, seen=train, unseen=test)


def _read_classes(path: Path, labels: Collection[str]) -> tuple[str, ...]:
    """The classes listed in a file, if all of them are annotated."""
    try:
        names = read_prompts(path).names
    except PromptError as problem:
        raise DatasetError(str(problem)) from problem
    known = set(labels)
    if unknown := [name for name in names if name not in known]:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        near = difflib.get_close_matches(unknown[0], sorted(known), n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "correct the list, or use the annotations it was made for"
        raise DatasetError(
            f"{path}: class {unknown[0][:60]!r}{more}, not one of the {len(known)} annotated classes; {remedy}"
        )
    return names


def _first_repeated(names: Sequence[str]) -> str | None:
    known = set[str]()
    for name in names:
        if name in known:
            return name
        known.add(name)
    return None
