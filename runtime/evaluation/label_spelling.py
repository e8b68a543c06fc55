"""Labels that are the same class although they are spelt differently: stray blanks, capitals or invisible marks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stale_runtime.detections import Detection
from stale_runtime.system.text import fold

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class LabelSpellings:
    """One spelling of each class: the most frequent one without stray blanks."""

    by_label: Mapping[str, str]
    """The spelling to use, by each label as it was found."""

    @classmethod
    def choose(cls, labels: Iterable[str], *, fixed: str) -> "LabelSpellings":
        """Choose a spelling of each class. Of equally frequent ones, the first in alphabetical order is taken.

        Args:
            labels: of all annotations, as often as they occur.
            fixed: a spelling that is taken wherever it occurs.
        """
        found = Counter(labels)
        counts: dict[str, Counter[str]] = {}
        for label, count in found.items():
            counts.setdefault(fold(label), Counter())[" ".join(label.split())] += count
        chosen = {
            key: fixed if fixed in spellings else min(spellings, key=lambda text: (-spellings[text], text))
            for key, spellings in counts.items()
        }
        return cls(by_label={label: chosen[fold(label)] for label in found})

    def describe(self) -> str | None:
        """Which labels were taken for another spelling, in one line; None if none was."""
        others: dict[str, list[str]] = {}
        for label, spelling in sorted(self.by_label.items()):
            if label != spelling:
                others.setdefault(spelling, []).append(label)
        if not others:
            return None
        shown = [
            f"{spelling!r} for {', '.join(map(repr, labels[:_SHOWN]))}"
            for spelling, labels in list(others.items())[:_SHOWN]
        ]
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        return f"labels that differ only in capitals, blanks or invisible marks are one class: {'; '.join(shown)}{more}"


NO_SPELLINGS = LabelSpellings(by_label={})


def respell(
    videos: Mapping[str, Sequence[Detection]], labels: Iterable[str]
) -> tuple[Mapping[str, Sequence[Detection]], Mapping[str, str]]:
    """Give detections the labels of the annotations where ``fold`` finds no difference.

    Args:
        videos: detections by video.
        labels: class names in the annotations.

    Returns:
        The detections; and the label of the annotations by each label that was replaced.
    """
    known = {fold(label): label for label in labels}
    found = {row.label for rows in videos.values() for row in rows}
    changes = {label: known[fold(label)] for label in found.difference(known.values()) if fold(label) in known}
    if not changes:
        return videos, changes
    return {
        video: [row._replace(label=changes.get(row.label, row.label)) for row in rows] for video, rows in videos.items()
    }, changes
