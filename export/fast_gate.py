"""Making the approximate localizer of a bundle, with as few directions as suffice; none where no number does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_export.calibration import Calibration
from stale_export.expansion import Directions, Expansion
from stale_export.fast_localizer import GUARD_ROWS, HIDDEN, fast_model, fast_schemes
from stale_export.folding import FoldedAttention
from stale_export.graph_builder import serialize
from stale_export.graph_runner import Features, localize_video, run_on_video
from stale_export.localizer_graph import watched_name
from stale_export.quantization import QuantizedGraph, count_integer_operators
from stale_export.say import Say
from stale_export.schemes import Scheme, StaticScheme, bits_for
from stale_export.stages import Watch, unwatched
from stale_export.validation_gate import Found, MapGate
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.approximation_record import ApproximationAtLength, ApproximationRecord
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.errors import QuantizationError
from stale_runtime.inference.forward_pass import EncodedPrompts, Outputs, read_outputs
from stale_runtime.inference.video_landmarks import LANDMARKS
from stale_runtime.inputs.features import resample
from stale_runtime.system.cpus import available_threads

FILE = layout.LOCALIZER_FAST
DIRECTIONS = (0, 1, 2, 4, 8, 16, 32)
"""Numbers of directions to try. More make it more exact and, from 16 on, noticeably slower."""
MOST_RMS = 0.05
"""Largest root mean square error of the class activations. These are 100 times a cosine; int8 alone causes 0.02."""
MOST_GUARDED = 0.05
"""Largest share of the calibration videos that the guard may leave to the exact graph, which makes them slower."""
GUARD_SHARE = 0.05
"""The guard's limit, as a share of the length of a snippet's features. Videos like those of the training have a seventh
of that in int8, and where the approximation fails it is several times as much."""
LONG = 800
"""T of long videos that the approximation is checked at."""


class _Reference(NamedTuple):
    """What the float graph says of a video."""

    logits: NDArray[np.float32]
    """(K+1, T) class activations."""
    kept: NDArray[np.bool_]
    """(T,) snippets that are kept."""


@dataclass(frozen=True, kw_only=True)
class FastGraph(QuantizedGraph):
    """An approximate graph that has passed, and the manifest's records of it."""

    approximation: ApproximationRecord
    found: Found | None
    """What it finds in the validation videos, with its guard; None if there are none."""


@dataclass(frozen=True, kw_only=True)
class FastGate:
    """Makes the approximate graph of one network."""

    network: Stale
    """In evaluation mode."""
    calibration: Calibration
    """Videos that it is made for and compared on."""
    prompts: EncodedPrompts
    exact: bytes
    """The float graph that it is compared with."""
    guarding: bytes
    """The graph that gets what the guard refuses; a bundle's best one besides the approximate one."""
    target: str = "portable"
    """One of ``TARGETS``."""
    weight_bits: int | None = None
    """None for the largest number that is exact on the target."""
    gate: MapGate | None = None
    """Limits the loss of mAP; without it mAP is not measured."""
    say: Say
    watch: Watch = unwatched
    """Shows how many videos it was compared on."""

    def make(self) -> FastGraph:
        """Make the graph with the fewest directions that suffice.

        Raises:
            QuantizationError: the approximation is too far off with any number of directions.
        """
        if self.gate is not None:
            self.gate.require_meaning(FILE, self._exact_map)
        refused = ""
        for directions in (r for r in DIRECTIONS if r <= self.network.config.channels):
            try:
                made = self._make(self._directions.expansion(directions))
            except QuantizationError as problem:
                refused = str(problem)
                continue
            worst = max(made.approximation.lengths, key=lambda found: found.logits_rms_median)
            self.say(
                f"{FILE}: {directions} directions, class activations off by {worst.logits_rms_median:.3f} (root mean "
                f"square, median of {len(self._videos)} videos; worst video {worst.logits_rms_worst:.3f}) at "
                f"T={worst.length}; {made.approximation.guard_rows} snippets of each video are checked"
            )
            return made
        raise QuantizationError(
            f"{FILE}: not written, because {refused}; without it stale-run computes attention exactly"
        )

    def _make(self, expansion: Expansion) -> FastGraph:
        """Make the graph of an expansion.

        Raises:
            QuantizationError: it is too far off.
        """
        schemes = self._calibrate(expansion)
        model = serialize(fast_model(self.network, expansion, schemes))
        lengths = tuple(self._compare(model, length, expansion.directions) for length in self.lengths)
        found = self._find(model)
        scores = (None, None) if self.gate is None or found is None else (self.gate.score(found), self._exact_map)
        if self.gate is not None and not self.gate.accepts(*scores):
            raise QuantizationError(
                f"mAP is {scores[0]:.2f} against {scores[1]:.2f} in float with {expansion.directions} directions, "
                f"expected a drop of at most {self.gate.max_drop}"
            )
        counted = count_integer_operators(model)
        if counted != len(schemes):
            raise QuantizationError(f"ONNX Runtime computes {counted} of {len(schemes)} layers in integers")
        return FastGraph(
            model=model,
            record=self._record(schemes, *scores),
            approximation=ApproximationRecord(
                file=FILE,
                directions=expansion.directions,
                landmarks=LANDMARKS,
                guard_rows=GUARD_ROWS,
                guard_limit=self.limit,
                lengths=lengths,
            ),
            found=found,
        )

    @property
    def limit(self) -> float:
        """The largest deviation that the guard accepts."""
        return GUARD_SHARE * self.calibration.norm

    @property
    def lengths(self) -> Sequence[int]:
        """The numbers T of snippets at which it is compared."""
        T0 = self.network.config.temporal_scale
        return sorted({min(T, layout.LONGEST) for T in (T0, 2 * T0, LONG)})

    def _calibrate(self, expansion: Expansion) -> Mapping[str, Scheme]:
        """The quantization of each layer, with the range on the calibration videos at the trained length.

        Raises:
            QuantizationError: activations are not finite.
        """
        model = serialize(fast_model(self.network, expansion, watch=True))
        session = open_session(model, name="calibration", threads=available_threads())
        values = np.stack(
            [
                run_on_video(session, features, self.prompts, [watched_name(HIDDEN)])[0]
                for features in self.calibration.features.values()
            ]
        )  # (videos, T, C)
        if not np.isfinite(values).all():
            raise QuantizationError("activations on the calibration videos are NaN or infinite")
        bits = bits_for(self.target, self.weight_bits)
        hidden = StaticScheme.over(float(values.min()), float(values.max()), bits)
        return fast_schemes(self.network.config.heads, hidden)

    def _compare(self, model: bytes, length: int, directions: int) -> ApproximationAtLength:
        """Compare with the float graph at a length, without the videos that the guard would leave to it.

        Raises:
            QuantizationError: it is too far off.
        """
        session = open_session(model, name=FILE, threads=available_threads())
        names = (layout.CAS_LOGITS, layout.KEPT, layout.DEVIATION)
        errors, guarded = [], 0
        for features, exact in self.watch(list(zip(self._videos, self._references[length], strict=True)), "video"):
            logits, kept, deviation = run_on_video(session, resample(features, length), self.prompts, names)
            if deviation <= self.limit:
                errors.append(_rms(logits, kept > 0, exact))
            else:
                guarded += 1
        share = guarded / len(self._videos)
        where = f"with {directions} directions at T={length}"
        if share > MOST_GUARDED:
            raise QuantizationError(
                f"the guard finds attention more than {self.limit:.2f} off in {share:.0%} of the calibration videos "
                f"{where}, expected at most {MOST_GUARDED:.0%}"
            )
        pooled = float(np.sqrt(np.mean(np.square(errors))))
        if not pooled <= MOST_RMS:
            raise QuantizationError(
                f"class activations are off by {pooled:.3f} (root mean square over the calibration videos) {where}, "
                f"expected at most {MOST_RMS}"
            )
        return ApproximationAtLength(
            length=length,
            logits_rms_median=float(np.median(errors)),
            logits_rms_worst=max(errors),
            guarded_share=share,
        )

    def _find(self, model: bytes) -> Found | None:
        """What the graph finds in the validation videos, with its guard."""
        gate = self.gate
        if gate is None:
            return None
        threads, length = available_threads(), gate.videos.length
        fast = open_session(model, name=FILE, threads=threads)
        guarding = open_session(self.guarding, name="localizer", threads=threads)

        def run(features: Features) -> Outputs:
            resampled = resample(features, length)
            names = (*layout.LOCALIZER_OUTPUTS, layout.DEVIATION)
            outputs = dict(zip(names, run_on_video(fast, resampled, self.prompts, names), strict=True))
            if outputs[layout.DEVIATION] <= self.limit:
                return read_outputs({name: output[None] for name, output in outputs.items()})[0]
            return localize_video(guarding, features, self.prompts, length=length)

        return gate.find_with(run)

    def _record(self, schemes: Mapping[str, Scheme], score: float | None, exact: float | None) -> QuantizationRecord:
        return QuantizationRecord(
            file=FILE,
            kind="static",
            target=self.target,
            weight_bits=bits_for(self.target, self.weight_bits),
            integer_operators_expected=len(schemes),
            integer_operators_found=len(schemes),
            range_method="minmax",
            calibration_videos=tuple(sorted(self.calibration.features)),
            calibration_seed=self.calibration.seed,
            map_percent=score,
            fp32_map_percent=exact,
            validation_videos=len(self.gate.videos.features) if self.gate else None,
        )

    @cached_property
    def _exact_map(self) -> float:
        assert self.gate is not None
        return self.gate.measure(self.exact)

    @cached_property
    def _directions(self) -> Directions:
        return Directions(FoldedAttention.of(self.network.snippet_embedding), self.calibration.features.values())

    @cached_property
    def _videos(self) -> Sequence[Features]:
        """(S, C) of each calibration video."""
        return list((self.calibration.originals or self.calibration.features).values())

    @cached_property
    def _references(self) -> Mapping[int, Sequence[_Reference]]:
        """What the float graph says of each calibration video, by the length that these are resampled to."""
        session = open_session(self.exact, name="reference", threads=available_threads())
        names = (layout.CAS_LOGITS, layout.KEPT)

        def refer(video: Features, length: int) -> _Reference:
            logits, kept = run_on_video(session, resample(video, length), self.prompts, names)
            return _Reference(logits, kept > 0)

        return {length: [refer(video, length) for video in self._videos] for length in self.lengths}


def _rms(logits: NDArray[np.float32], kept: NDArray[np.bool_], exact: _Reference) -> float:
    """Root mean square difference of class activations (K+1, T), over the snippets that both keep or both discard.

    Whether a snippet near the threshold is kept is decided by rounding, in any graph; mAP says what that costs.
    """
    alike = kept == exact.kept
    return float(np.sqrt(np.mean(np.square(logits - exact.logits)[:, alike])))
