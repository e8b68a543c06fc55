"""Finding actions in features that have been checked, whole or block by block."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from stale_runtime.decoding.decoders import READING_ROWS, decode_detections, label_segments
from stale_runtime.decoding.standard_decoder import MOST_DETECTIONS
from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.evidence import Evidence
from stale_runtime.inference.detection_stream import decode_blocks
from stale_runtime.inference.forward_pass import EncodedPrompts, Outputs
from stale_runtime.inference.guarded_pass import LocalizerNetwork
from stale_runtime.inference.lengths import LengthRules
from stale_runtime.inference.score_curves import WindowCurves, pick_curves, whole_curves
from stale_runtime.inference.stream import BATCH, FEWEST, StreamDecoder
from stale_runtime.inputs.features import cut_into_pieces
from stale_runtime.segments import FloatArray

Watch = Callable[[Iterable[FloatArray], int], Iterable[FloatArray]]
"""Blocks of a long video and their number -> the same blocks, for showing how far the work is."""
BLOCK_SNIPPETS = 4096
"""Snippets of a long array that are decoded at once."""


class Features(Protocol):
    """Checked features (T0, C) of a video, which are read when they are needed."""

    @property
    def snippets(self) -> int:
        """T0"""
        ...

    @property
    def block_count(self) -> int:
        """How many blocks there are."""
        ...

    def blocks(self) -> Iterable[FloatArray]:
        """Consecutive pieces (n, C)."""
        ...


class FeatureArray:
    """Features that are in memory."""

    def __init__(self, features: FloatArray) -> None:
        """Args: features: (T0, C)."""
        self._features, self.snippets = features, len(features)

    @property
    def block_count(self) -> int:
        """How many blocks there are."""
        return -(-self.snippets // BLOCK_SNIPPETS)

    def blocks(self) -> Iterable[FloatArray]:
        """Consecutive pieces (n, C)."""
        return cut_into_pieces(self._features, BLOCK_SNIPPETS)


class FoundWithCurves(NamedTuple):
    """What was found in a video."""

    detections: tuple[Detection, ...]
    """Best first."""
    curves: FloatArray | None
    """(K, n) class scores over its time; None if they were not asked for."""
    recomputed: int
    """See ``VideoDetections.recomputed``."""


class Detector:
    """Runs a network and decodes its outputs; threads may share it."""

    def __init__(
        self,
        network: LocalizerNetwork,
        lengths: LengthRules,
        *,
        decoder: str,
        classes: int,
        most: int | None,
    ) -> None:
        """Args: decoder, classes, most: as for ``Localizer.open``."""
        self._network, self._lengths = network, lengths
        self._decoder, self._classes, self._most = decoder, classes, most

    def detect(
        self,
        video: str,
        features: Features,
        read: Callable[[int], FloatArray],
        *,
        duration_s: float | None,
        prompts: EncodedPrompts,
        watch: Watch | None = None,
        evidence: bool = False,
    ) -> VideoDetections:
        """Find actions in a video.

        Args:
            video: its id.
            features: are read block by block if it is looked at through windows.
            read: T -> features (T0, C) of which those rows are right that resampling them to T reads; for T0, all.
            duration_s: how long it lasts; None for fractions of the video.
            prompts: K encoded prompts.
            watch: gets the blocks.
            evidence: whether to add the class scores over time.
        """
        snippets, lengths = features.snippets, self._lengths
        window: int | None = lengths.largest_window
        if lengths.is_long(snippets):
            blocks = features.blocks() if watch is None else watch(features.blocks(), features.block_count)
            found = self._detect_long(blocks, snippets, duration_s, prompts, evidence)
        else:
            held = read(snippets if lengths.may_have_scenes(snippets) else lengths.length_for(snippets))
            window = lengths.window_for(held)
            found = self._detect_held(held, window, duration_s, prompts, evidence)
        return _describe(video, found, duration_s, prompts, window)

    def detect_held(
        self, features: FloatArray, duration_s: float | None, prompts: EncodedPrompts
    ) -> tuple[Detection, ...]:
        """Find actions in features (T0, C) of a video that are in memory."""
        return self._detect_held(features, self._lengths.window_for(features), duration_s, prompts, False).detections

    def _detect_held(
        self,
        features: FloatArray,
        window: int | None,
        duration_s: float | None,
        prompts: EncodedPrompts,
        evidence: bool,
    ) -> FoundWithCurves:
        if window is not None:
            return self._detect_long([features], len(features), duration_s, prompts, evidence)
        outputs = self.outputs(features, prompts, rows=self._decoder in READING_ROWS)
        return self._decode(outputs, duration_s, prompts, evidence)

    def _decode(
        self, outputs: Outputs, duration_s: float | None, prompts: EncodedPrompts, evidence: bool
    ) -> FoundWithCurves:
        """What the network's outputs for a video that is looked at as a whole say."""
        rows = decode_detections(
            self._decoder,
            outputs.cas_logits,
            outputs.masks,
            prompts.names,
            duration_s,
            classes=self._classes,
            most=self._most or MOST_DETECTIONS,
        )
        curves = whole_curves(outputs.cas_logits) if evidence else None
        return FoundWithCurves(rows, curves, int(outputs.recomputed))

    def _detect_long(
        self,
        blocks: Iterable[FloatArray],
        snippets: int,
        duration_s: float | None,
        prompts: EncodedPrompts,
        evidence: bool,
    ) -> FoundWithCurves:
        """Find actions through windows."""
        curves = WindowCurves(len(prompts.names), snippets) if evidence else None
        decoder = self.stream_decoder(prompts, curves)
        ranked = decode_blocks(decoder, blocks, most=self._most)
        rows = label_segments(ranked, prompts.names, (duration_s or 1) / snippets, longest=snippets)
        return FoundWithCurves(rows, None if curves is None else curves.finish(), decoder.recomputed)

    def outputs(self, features: FloatArray, prompts: EncodedPrompts, *, rows: bool = True) -> Outputs:
        """The network's outputs for features (T0, C) of a video, resampled to T; ``rows`` of the masks if wanted."""
        T = self._lengths.length_for(len(features))
        self._network.require_memory(prompts, T)
        return self._network.run(self._network.prepare(features, T, prompts), rows=rows)

    def stream_decoder(self, prompts: EncodedPrompts, curves: WindowCurves | None = None) -> StreamDecoder:
        """What looks at a video through windows, and adds to ``curves`` how sure it was."""
        lengths = self._lengths
        self._network.require_memory(prompts, lengths.scene_length, windows=BATCH)
        return StreamDecoder(
            partial(self._network.run_windows, prompts=prompts),
            prompts.names,
            lengths.window_length,
            scene_length=lengths.scene_length,
            largest=lengths.largest_window,
            classes=self._classes,
            fewest=max(FEWEST, self._most or 0),
            curves=curves,
        )


def _describe(
    video: str, found: FoundWithCurves, duration_s: float | None, prompts: EncodedPrompts, window: int | None
) -> VideoDetections:
    rows, curves, recomputed = found
    shown = None
    if curves is not None:
        shown = Evidence(class_scores=pick_curves(curves, prompts.names, rows, duration_s))
    return VideoDetections(
        video=video, duration_s=duration_s, detections=rows, window=window, recomputed=recomputed, evidence=shown
    )
