"""How far detections of the same videos on two processors agree."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stale_runtime.detections import Detection

Results = Mapping[str, Sequence[Detection]]
"""Detections by video id."""
FEWEST = 20
"""Detections that have to be compared, so that agreement means something."""
LARGEST_DIFFERENCE = 1e-3
"""Of two scores. Measured: 3e-6 in float; in int8, where another order of adding can round an activation to the next
byte, 4e-4 with random weights and 2e-7 with the trained ones of the example."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Detections of one processor, compared with another's."""

    detections: int
    """Those that were expected."""
    missing: int
    """Expected detections that were not found with the same video, label and segment."""
    surplus: int
    """Found ones that were not expected."""
    difference: float
    """The largest difference of the scores of a detection that both have."""

    @property
    def is_close(self) -> bool:
        """Whether all segments are equal, and the scores nearly so."""
        return self.detections >= FEWEST and self.missing == self.surplus == 0 and self.difference <= LARGEST_DIFFERENCE

    def __str__(self) -> str:
        if self.detections < FEWEST:
            return f"only {self.detections} detections, expected at least {FEWEST}"
        if self.missing or self.surplus:
            return f"{self.missing} of {self.detections} segments missing, {self.surplus} others"
        return f"{self.detections} equal segments, scores within {self.difference:.0e}"


def compare(expected: Results, found: Results) -> Agreement:
    """Compare the detections of the same videos; their order does not matter."""
    ours, theirs = Counter(_keys(expected)), Counter(_keys(found))
    scores, others = _scores(expected), _scores(found)
    differences = [
        abs(a - b) for key in scores.keys() & others.keys() for a, b in zip(scores[key], others[key], strict=False)
    ]
    return Agreement(
        detections=ours.total(),
        missing=(ours - theirs).total(),
        surplus=(theirs - ours).total(),
        difference=max(differences, default=0.0),
    )


_Key = tuple[str, str, float, float]


def _keys(results: Results) -> Iterator[_Key]:
    return ((video, found.label, found.start, found.end) for video, rows in results.items() for found in rows)


def _scores(results: Results) -> Mapping[_Key, Sequence[float]]:
    """The scores of each segment, the best first: one, unless a segment was found twice."""
    scores: dict[_Key, list[float]] = {}
    detections = (found for rows in results.values() for found in rows)
    for key, found in zip(_keys(results), detections, strict=True):
        scores.setdefault(key, []).append(found.score)
    return {key: sorted(values, reverse=True) for key, values in scores.items()}
