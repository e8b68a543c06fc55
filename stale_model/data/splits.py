"""Splits of the classes into those that are trained and those that are kept for zero-shot detection."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from stale_runtime.errors import DatasetError, PromptError
from stale_runtime.inputs.prompts import Prompts, read_prompts
from stale_runtime.system.files import reason
from stale_runtime.system.text import fold

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
    missing: tuple[str, ...] = ()
    """Classes of a published list that no annotation has. They stay among ``seen`` and ``unseen``, as prompts without a
    video."""

    def __post_init__(self) -> None:
        if not self.seen:
            raise DatasetError(f"split {self.name}: no seen classes, expected at least one to train on")
        for kind, names in (("seen", self.seen), ("unseen", self.unseen)):
            if twice := _first_repeated(names):
                raise DatasetError(f"split {self.name}: {twice!r} is listed twice among the {kind} classes; remove one")
            try:
                if names:
                    Prompts(names=names, places=tuple(f"class {name[:60]!r}" for name in names))
            except PromptError as problem:
                raise DatasetError(f"split {self.name}: {problem}; correct it in the annotations, too") from problem
        unseen = set(map(fold, self.unseen))
        if both := sorted(name for name in self.seen if fold(name) in unseen):
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
        lists: folder of the published splits. As the authors publish it, it has a folder for each data set:
            ``train_75_test_25/ActivityNet/train/split_N.list``, ``…/test/split_N.list``, ``train_75_test_25/THUMOS14``,
            and likewise ``train_50_test_50``; the lists that have the most annotated classes are taken. Without the
            level of the data set, or with it above ``train_75_test_25``, it is accepted too. Only used for a
            published split.
        seen: file of the seen classes, one per line.
        unseen: file of the unseen classes, one per line.
        labels: every class of the annotations, in any subset.

    Returns:
        Closed: the labels in alphabetical order; otherwise the classes in the order of their files.

    Raises:
        DatasetError: there is no such split, a list is missing or damaged, a published list shares no class with the
            annotations, or a given file has a class that no annotation has.

    Source: the folder ``splits`` of the original code.
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
        name=f"{seen.name} / {unseen.name}", seen=_read_annotated(seen, labels), unseen=_read_annotated(unseen, labels)
    )


def _published_split(spec: str, lists: Path | None, labels: Collection[str]) -> Split:
    parts = _SPEC.fullmatch(spec)
    if parts is None:
        raise DatasetError(f"split {spec[:40]!r}, expected {_EXPECTED}")
    if lists is None:
        raise DatasetError(f"split {spec} without its lists; give --split-lists, the folder of the published splits")
    kind, number = parts.groups()
    known = frozenset(labels)
    found = [_ListPair.read(folder, number, known) for folder in _list_folders(lists, _PUBLISHED[kind])]
    most = max(pair.count(known) for pair in found)
    first, *others = (pair for pair in found if pair.count(known) == most)
    if others and most:
        raise DatasetError(
            f"{first.folder} and {others[0].folder}: both have {most} annotated classes; give the lists of one of them "
            "as --seen FILE --unseen FILE"
        )
    for name, classes in ((f"train/split_{number}.list", first.train), (f"test/split_{number}.list", first.test)):
        if known.isdisjoint(classes):
            raise DatasetError(
                f"{first.folder / name}: none of its {len(classes)} classes, such as {classes[0][:60]!r}, is one of "
                f"the {len(known)} annotated classes; {_remedy(classes[0], known)}"
            )
    missing = tuple(name for name in (*first.train, *first.test) if name not in known)
    return Split(name=spec, seen=first.train, unseen=first.test, missing=missing)


@dataclass(frozen=True, kw_only=True)
class _ListPair:
    """The two lists of a published split of one data set."""

    folder: Path
    train: tuple[str, ...]
    test: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, number: str, known: Collection[str]) -> "_ListPair":
        train, test = (_read_classes(folder / part / f"split_{number}.list", known) for part in ("train", "test"))
        return cls(folder=folder, train=train, test=test)

    def count(self, known: frozenset[str]) -> int:
        """The number of annotated classes in the lists."""
        return len(known.intersection((*self.train, *self.test)))


def _list_folders(lists: Path, kind: str) -> list[Path]:
    """The folders with lists of a kind of split, at least one; each has ``train`` or ``test`` inside."""
    try:
        above = [folder / kind for folder in sorted(lists.iterdir()) if folder.is_dir()]
        below = sorted((lists / kind).iterdir()) if (lists / kind).is_dir() else []
        found = [f for f in (lists / kind, *below, *above) if (f / "train").is_dir() or (f / "test").is_dir()]
    except OSError as problem:
        raise DatasetError(
            f"--split-lists {lists}: {reason(problem)}; give the folder of the published splits"
        ) from problem
    if not found:
        raise DatasetError(
            f"{lists / kind}: no lists; --split-lists is the folder that contains "
            f"{kind}/ActivityNet/train/split_N.list or {kind}/train/split_N.list"
        )
    return found


def _read_annotated(path: Path, labels: Collection[str]) -> tuple[str, ...]:
    """The classes listed in a file, if all of them are annotated."""
    known = frozenset(labels)
    names = _read_classes(path, known)
    if unknown := [name for name in names if name not in known]:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise DatasetError(
            f"{path}: class {unknown[0][:60]!r}{more}, not one of the {len(known)} annotated classes; "
            f"{_remedy(unknown[0], known)}"
        )
    return names


def _read_classes(path: Path, known: Collection[str]) -> tuple[str, ...]:
    """The classes listed in a file, spelt as the annotations spell them."""
    spellings = {fold(label): label for label in known}
    try:
        return tuple(spellings.get(fold(name), name) for name in read_prompts(path).names)
    except PromptError as problem:
        raise DatasetError(str(problem)) from problem


def _remedy(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]!r}?" if near else "correct the list, or use the annotations it was made for"


def _first_repeated(names: Sequence[str]) -> str | None:
    known = set[str]()
    for name in names:
        if name in known:
            return name
        known.add(name)
    return None
