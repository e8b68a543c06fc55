"""Comparing features with those of a training, and saying in plain words what is likely to be wrong with them."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from stale_runtime.inputs.feature_origin import FeatureOrigin
from stale_runtime.inputs.feature_statistics import FeatureStatistics, FeatureSummary
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE, FeatureRecipe

LOWEST_COSINE: Final = 0.5
"""Features whose mean direction has a smaller cosine to the training's are of another kind. Of 1,000 drawn videos the
lowest had 0.65, of random rotations and projections of them, transposed ones and noise the highest had 0.19."""
_PART_OF_LOW: Final = 0.6
"""If already the videos of the training differ much, so may others: the limit is at most this part of theirs."""
_NOISE: Final = 4.0
"""Directions without a relation have cosines around 0 with deviation 1/sqrt(C). A limit of less than so many deviations
tells nothing apart, so there is none."""
NORM_FACTOR: Final = 2.0
"""How many times longer or shorter snippets may be than in training."""
_ONE: Final = 0.01
"""A length within this of 1 counts as normalised."""
MORE_ZEROS: Final = 0.1
"""How much larger the share of zero rows may be than in training."""
SPACING_FACTOR: Final = 4.0
"""How many times larger or smaller the seconds a snippet may be than in training; one more frame rate than that is
unlikely, but 0.02 s, one frame, for 16 frames is what a wrong ``--stride`` gives."""
RECIPE_SPACING_FACTOR: Final = 1.5
"""The same, if the recipe says how many seconds a snippet takes."""
DENSEST_S: Final = 0.004
SPARSEST_S: Final = 60.0
"""Seconds a snippet that are unlikely whatever the training's: more than 250 rows a second, or less than one a minute.
Milliseconds that are taken for seconds, and 25000 frames a second for 25, are beyond."""
MOST_ZERO_CHANNELS: Final = 0.1
"""Share of the channels that may be 0 in all snippets."""
_ENOUGH_SNIPPETS: Final = 4
"""In shorter videos the last, incomplete snippet changes the seconds a snippet too much."""


@dataclass(frozen=True, kw_only=True)
class FeatureCheck:
    """What is known about the features that a network was trained on."""

    recipe: FeatureRecipe
    statistics: FeatureStatistics | None
    """None if nothing was recorded."""

    @property
    def knows_anything(self) -> bool:
        """Whether there is anything to compare with."""
        return self.statistics is not None or self.recipe != UNKNOWN_RECIPE

    @property
    def lowest_cosine(self) -> float | None:
        """Smallest cosine to the training's mean direction that is accepted; None if it tells nothing apart."""
        if self.statistics is None:
            return None
        limit = min(LOWEST_COSINE, _PART_OF_LOW * self.statistics.cosine_low)
        return limit if limit >= _NOISE / math.sqrt(len(self.statistics.direction)) else None

    def problem_with(
        self,
        summary: FeatureSummary | None,
        *,
        origin: FeatureOrigin | None = None,
        snippet_s: float | None = None,
    ) -> str | None:
        """What is likely to be wrong with the features of a video, and the remedy; None if nothing is.

        Args:
            summary: of the features; None if they have values that are not finite, which is an error elsewhere.
            origin: how they were made, if that is known.
            snippet_s: seconds from a snippet to the next, as the user says; None if the user does not.
        """
        if origin is not None and (differences := self.recipe.differences(origin.recipe)):
            return self._describe_differences(origin.recipe, differences)
        if summary is None:
            return None
        found = self._zeros(summary)
        if found is None and self.statistics is not None:
            found = self._direction(self.statistics, summary) or self._norm(self.statistics, summary)
        return found or self._zero_channels(summary) or self._spacing(snippet_s, summary.snippets)

    def _describe_differences(self, found: FeatureRecipe, names: tuple[str, ...]) -> str:
        told = found.tell_from(self.recipe, names)
        return f"features made by another recipe than those of the training: {told}; {self._make_again}"

    def _zeros(self, summary: FeatureSummary) -> str | None:
        high = 0.0 if self.statistics is None else self.statistics.zero_rows_high
        if summary.zero_rows <= high + MORE_ZEROS:
            return None
        if summary.zero_rows == 1:
            return "all rows are zeros; extract the features again"
        trained = "" if self.statistics is None else f", in training at most {high:.0%}"
        return (
            f"padded with zeros: {summary.zero_rows:.0%} of the rows{trained}; remove them: "
            "features[features.any(axis=1)], and give the duration of what is left"
        )

    def _zero_channels(self, summary: FeatureSummary) -> str | None:
        C = len(summary.direction)
        if summary.norm == 0 or summary.zero_channels <= MOST_ZERO_CHANNELS * C:
            return None
        return (
            f"padded to the width: {summary.zero_channels} of {C} columns are zeros, so these are not the features of "
            f"the CLIP that the network was trained on; {self._make_again}"
        )

    def _direction(self, known: FeatureStatistics, summary: FeatureSummary) -> str | None:
        limit = self.lowest_cosine
        mean = np.asarray(known.direction, np.float32)  # (C,)
        if limit is None or mean.shape != summary.direction.shape:
            return None
        cosine = float(summary.direction @ mean)
        if cosine >= limit:
            return None
        if summary.transposed is not None and float(summary.transposed @ mean) >= limit:
            return "transposed features, whose rows are channels; save features.T"
        measured = f"cosine to the training's {cosine:.2f}, expected at least {limit:.2f}"
        if summary.zero_channels:
            C = len(known.direction)
            return (
                f"features of another CLIP, padded to the width: {summary.zero_channels} of {C} columns are zeros "
                f"({measured}); {self._make_again}"
            )
        return (
            "features of another CLIP or of another layer of it, or not of images at all "
            f"({measured}); {self._make_again}"
        )

    def _norm(self, known: FeatureStatistics, summary: FeatureSummary) -> str | None:
        low, high = known.norm_low, known.norm_high
        trained = f"in training {low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"in training {low:.3g} to {high:.3g}"
        if abs(summary.norm - 1) < _ONE and not low - _ONE <= 1 <= high + _ONE:
            return (
                f"length-normalised features: rows of length 1, {trained}; extract them again without dividing rows by "
                "their length"
            )
        if max(abs(low - 1), abs(high - 1)) < _ONE <= abs(summary.norm - 1):
            return (
                f"features that are not length-normalised: rows of length {summary.norm:.3g}, in training 1; divide "
                "each row by its length"
            )
        if low / NORM_FACTOR <= summary.norm <= high * NORM_FACTOR:
            return None
        return (
            f"scaled features, not projected ones, or of another CLIP: rows of length {summary.norm:.3g}, {trained}; "
            f"{self._make_again}"
        )

    def _spacing(self, snippet_s: float | None, snippets: int) -> str | None:
        if snippet_s is None or snippets < _ENOUGH_SNIPPETS:
            return None
        exact, known = self.recipe.snippet_s, self.statistics
        if exact is not None:
            low, high, factor, trained = exact, exact, RECIPE_SPACING_FACTOR, f"{exact:.3g}"
        elif known is not None and known.snippet_s_low is not None and known.snippet_s_high is not None:
            low, high, factor = known.snippet_s_low, known.snippet_s_high, SPACING_FACTOR
            trained = f"{low:.3g} to {high:.3g}"
        else:
            low, high, factor, trained = DENSEST_S, SPARSEST_S, 1.0, ""
        if low / factor <= snippet_s <= high * factor:
            return None
        expected = f"in training {trained}" if trained else f"which is very {'short' if snippet_s < low else 'long'}"
        shown = f"{snippet_s:,.0f}" if snippet_s >= 100 else f"{snippet_s:.3g}"
        return (
            f"{shown} s a snippet, {expected}: is --fps, --stride or a duration wrong? Durations are in "
            "seconds, not milliseconds; the stride is the number of frames from one row to the next"
        )

    @property
    def _make_again(self) -> str:
        if self.recipe == UNKNOWN_RECIPE:
            return "ask whoever trained the network how its features were made, and make yours so"
        return f"make them as those of the training: {self.recipe.describe()}"
