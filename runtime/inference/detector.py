"""Finding actions in features that have been checked, whole or block by block."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from stale_runtime.decoding.decoders import decode_detections, label_segments
from stale_runtime.decoding.standard_decoder import MOST_DETECTIONS
from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.inference.detection_stream import decode_blocks
from stale_runtime.inference.forward_pass import EncodedPrompts, ForwardPass, Outputs
from stale_runtime.inference.lengths import Lengths
from stale_runtime.inference.stream import BATCH, StreamDecoder
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


class Detector:
    """Runs a network and decodes its outputs; threads may share it."""

    def __init__(self, network: ForwardPass, lengths: Lengths, *, decoder: str, classes: int, most: int | None) -> None:
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
    ) -> VideoDetections:
        """Find actions in a video.

        Args:
            video: its id.
            features: are read block by block if it is looked at through windows.
            read: T -> features (T0, C) that will be resampled to T, if it is looked at as a whole.
            duration_s: how long it lasts; None for fractions of the video.
            prompts: K encoded prompts.
            watch: gets the blocks.
        """
        snippets = features.snippets
        largest = self._lengths.window_for(snippets)
        if largest is None:
            rows = self.detect_whole(read(self._lengths.length_for(snippets)), duration_s, prompts)
        else:
            blocks = features.blocks() if watch is None else watch(features.blocks(), features.block_count)
            ranked = decode_blocks(self.stream_decoder(prompts, largest), blocks, most=self._most)
            rows = label_segments(ranked, prompts.names, (duration_s or 1) / snippets, longest=snippets)
        return VideoDetections(video=video, duration_s=duration_s, detections=rows, window=largest)

    def detect_whole(
        self, features: FloatArray, duration_s: float | None, prompts: EncodedPrompts
    ) -> tuple[Detection, ...]:
        """Find actions in features (T0, C) of a video, resampled to T."""
        outputs = self.outputs(features, prompts)
        most = self._most or MOST_DETECTIONS
        return decode_detections(self._decoder, *outputs, prompts.names, duration_s, classes=self._classes, most=most)

    def outputs(self, features: FloatArray, prompts: EncodedPrompts) -> Outputs:
        """The network's outputs for features (T0, C) of a video, resampled to T."""
        T = self._lengths.length_for(len(features))
        self._network.require_memory(prompts, T)
        return self._network.run(self._network.inputs(features, T, prompts))

    def stream_decoder(self, prompts: EncodedPrompts, largest: int) -> StreamDecoder:
        """What looks at a video through windows of at most ``largest`` snippets."""
        T = self._lengths.window_length
        self._network.require_memory(prompts, T, windows=BATCH)
        forward = partial(self._network.run_windows, prompts=prompts)
        return StreamDecoder(forward, prompts.names, T, largest=largest, classes=self._classes)
