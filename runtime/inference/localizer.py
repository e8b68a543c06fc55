"""The main class of the library: a bundle opened for one backend, length and decoder."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle, find_bundle
from stale_runtime.decoding.decoders import DECODERS, DEFAULT_DECODER, decode_detections, label_segments
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import COPY_AGAIN, BundleError, OutOfMemoryError, PromptError, StaleError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, default_backend, open_backend
from stale_runtime.inference import windows
from stale_runtime.inference.onnx_session import checked_output, run_session
from stale_runtime.inference.prompt_cache import default_cache_folder
from stale_runtime.inference.prompt_store import PromptStore
from stale_runtime.inference.stream import StreamDecoder
from stale_runtime.inputs.features import check_features, read_features, resample_for_graph
from stale_runtime.inputs.prompts import Prompts, as_prompts
from stale_runtime.inputs.timeline import Timeline, check_seconds
from stale_runtime.inputs.videos import video_id
from stale_runtime.segments import FloatArray
from stale_runtime.system.cpus import available_threads
from stale_runtime.system.memory import detection_bytes, require_memory

NO_TIMELINE = Timeline()


class EncodedPrompts(NamedTuple):
    """Class names and the vectors that the network reads instead of them."""

    names: tuple[str, ...]
    """K class names, the labels of detections."""
    embeddings: NDArray[np.float32]
    """(K, C)"""
    queries: NDArray[np.float32]
    """(K, H*C)"""


AnyPrompts: TypeAlias = EncodedPrompts | Prompts | Sequence[str]


class Outputs(NamedTuple):
    """The network's outputs for one video."""

    cas_logits: NDArray[np.float32]
    """(K+1, T) class activation sequence, background last."""
    action_masks: NDArray[np.float32]
    """(T, T), row t is the mask that snippet t proposes."""


class Outcome(NamedTuple):
    """The result of one of many videos: either its detections or an error."""

    path: Path
    detections: VideoDetections | None
    error: StaleError | None

    def result(self) -> VideoDetections:
        """The detections.

        Raises:
            StaleError: the error, if there is one.
        """
        if self.error is not None:
            raise self.error
        assert self.detections is not None
        return self.detections


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a localizer."""

    backend: str | None = None
    """A key of ``LOCALIZER_BACKENDS``; None for ``ort-int8`` if the bundle proves its mAP, else ``ort-fp32``."""
    length: int | Literal["auto"] | None = None
    """T that features are resampled to, in snippets; None for the trained T; ``auto`` for the trained T, or twice that
    for videos with more snippets than twice the trained T."""
    threads: int = 1
    """Threads an operator may use; never more than the CPUs that this process may run on."""
    window: int | Literal["auto", "off"] = "auto"
    """Snippets of the largest windows that a long video is looked at through; ``off`` to resample the whole video
    to T, and ``auto`` for windows where they find more, see ``Localizer.window_for``."""
    decoder: str | None = None
    """One of ``DECODERS``; None for the bundle's own."""
    cache_folder: str | os.PathLike[str] | None = None
    """Where encoded prompts are kept; None for ``$STALE_CACHE``, then ``~/.cache/stale-edge``."""
    cache: bool = True
    """Whether encoded prompts are kept on disk."""

    def __post_init__(self) -> None:
        if self.backend is not None and self.backend not in LOCALIZER_BACKENDS:
            raise ValueError(f"backend {self.backend!r}, expected one of {', '.join(LOCALIZER_BACKENDS)}")
        usable = isinstance(self.length, int) and layout.SHORTEST <= self.length <= layout.LONGEST
        if self.length not in (None, "auto") and not usable:
            raise ValueError(
                f"length {self.length!r}, expected {layout.SHORTEST} to {layout.LONGEST} snippets, or auto"
            )
        if self.window not in ("auto", "off") and not (
            isinstance(self.window, int) and windows.SHORTEST <= self.window <= windows.LONGEST
        ):
            raise ValueError(
                f"window {self.window!r}, expected {windows.SHORTEST} to {windows.LONGEST} snippets, auto or off"
            )
        if isinstance(self.window, int) and self.decoder == "upstream":
            raise ValueError(f"window {self.window} with decoder upstream, which knows whole videos only; leave out one")
        if self.threads < 1:
            raise ValueError(f"threads {self.threads}, expected at least 1")
        if self.decoder is not None and self.decoder not in DECODERS:
            raise ValueError(f"decoder {self.decoder!r}, expected one of {', '.join(DECODERS)}")


class Localizer:
    """Finds actions in videos, with one bundle.

    Threads may share a localizer and call all of its methods at once. Processes may not: open it after forking.
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        """Load a bundle's graph and prompts; ``Localizer.open`` is more convenient.

        Raises:
            BundleError: the bundle is broken, or has no graph for this backend.
            BackendError: the backend cannot run on this machine.
        """
        manifest = bundle.manifest
        backend = LOCALIZER_BACKENDS[settings.backend] if settings.backend else default_backend(manifest)
        self.backend = backend.name
        self.bundle = bundle
        self.settings = settings
        self.length = settings.length or manifest.temporal_scale
        """T that features are resampled to, or ``auto``."""
        self.window = settings.window
        self.decoder = settings.decoder or manifest.decoder
        if self.decoder not in DECODERS:
            known = ", ".join(DECODERS)
            raise BundleError(
                f"{bundle.path}: the manifest names decoder {self.decoder!r}, expected one of {known}; {COPY_AGAIN}"
            )
        if not layout.SHORTEST <= manifest.temporal_scale <= layout.LONGEST:
            raise BundleError(
                f"{bundle.path}: the manifest's temporal scale is {manifest.temporal_scale}, expected "
                f"{layout.SHORTEST} to {layout.LONGEST}; {COPY_AGAIN}"
            )
        self.threads = min(settings.threads, available_threads())
        self._granted_bytes = 0
        self._session = open_backend(backend, bundle, threads=self.threads)
        folder = (settings.cache_folder or default_cache_folder()) if settings.cache else None
        self._prompts = PromptStore(bundle, cache_folder=Path(folder) if folder else None, threads=self.threads)

    @classmethod
    def open(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        *,
        backend: str | None = None,
        threads: int = 1,
        length: int | Literal["auto"] | None = None,
        window: int | Literal["auto", "off"] = "auto",
        decoder: str | None = None,
        expect_sha256: str | None = None,
        verify_key: str | os.PathLike[str] | None = None,
    ) -> "Localizer":
        """Open a bundle, ready to detect.

        Args:
            bundle: its folder; None for ``$STALE_BUNDLE``, then ``./stale_bundle``.
            backend: a key of ``LOCALIZER_BACKENDS``; None for ``ort-int8`` if the bundle proves its mAP, else
                ``ort-fp32``.
            threads: threads an operator may use.
            length: T that features are resampled to; None for the trained T, ``auto`` to choose for each video.
            window: snippets of the largest windows for long videos, ``off`` for whole videos, or ``auto``.
            decoder: ``standard`` or ``upstream``; None for the bundle's own.
            expect_sha256: hash that the bundle must have, as ``stale-export`` printed it.
            verify_key: file of a public key that the bundle must be signed with.

        Raises:
            BundleError: the bundle is missing, broken, or not the expected one.
            KeyFileError: the public key cannot be used.
            BackendError: the backend cannot run on this machine.
            ValueError: an argument is out of range.
        """
        settings = Settings(backend=backend, threads=threads, length=length, window=window, decoder=decoder)
        return cls(Bundle(find_bundle(bundle), expect_sha256=expect_sha256, verify_key=verify_key), settings)

    def encode_prompts(self, prompts: Prompts | Sequence[str]) -> EncodedPrompts:
        """Encode class names, once for many videos.

        The text tower is opened only for names that are neither in the bundle nor in the cache on disk, and encodes for
        one thread at a time.

        Raises:
            PromptError: a name cannot be used, or is too long for the text tower.
            BundleError: a file that is needed is broken.
        """
        prompts = as_prompts(prompts)
        return EncodedPrompts(prompts.names, *self._prompts.encode(prompts))

    def detect(
        self, features: FloatArray, prompts: AnyPrompts, *, duration_s: float | None = None, video: str = "video"
    ) -> VideoDetections:
        """Find actions in one video.

        Args:
            features: (T0, C) snippet features of any length, float16, float32 or float64.
            prompts: class names; pass what ``encode_prompts`` returned to encode them once for many videos. Of
                ActivityNet's 200 classes and "Neutral", "Neutral" is not reported (see ``unreported_class``).
            duration_s: duration of the video in seconds; without it segments are fractions of the video.
            video: id of the video.

        Raises:
            FeatureError, PromptError: an input cannot be used.
            OutOfMemoryError: there is not enough memory.
            ValueError: the duration is not a positive number.
        """
        check_seconds(duration_s, "duration_s")
        check_features(features, self.bundle.manifest.channels)
        return self._detect(features, prompts, duration_s, video)

    def detect_file(
        self, path: str | os.PathLike[str], prompts: AnyPrompts, *, timeline: Timeline = NO_TIMELINE
    ) -> VideoDetections:
        """Find actions in the video of a feature file.

        Args:
            path: a ``.npy`` file, named for the video's id.
            prompts: as for ``detect``.
            timeline: how long videos last.

        Raises:
            FeatureError, PromptError, DatasetError: an input cannot be used.
            OutOfMemoryError: there is not enough memory.
        """
        path = Path(path)
        features = read_features(path, self.bundle.manifest.channels)
        video = video_id(path.stem)
        return self._detect(features, prompts, timeline.duration_of(video, len(features)), video)

    def detect_many(
        self, paths: Iterable[str | os.PathLike[str]], prompts: AnyPrompts, *, timeline: Timeline = NO_TIMELINE
    ) -> Iterator[Outcome]:
        """Find actions in many feature files, one after the other; a bad file does not stop the others.

        Args:
            paths: ``.npy`` files.
            prompts: as for ``detect``; encoded once.
            timeline: how long videos last.

        Raises:
            PromptError: a prompt cannot be used.
        """
        encoded = self._encoded(prompts)
        for path in map(Path, paths):
            try:
                yield Outcome(path, self.detect_file(path, encoded, timeline=timeline), None)
            except StaleError as problem:
                yield Outcome(path, None, problem)
            except MemoryError as problem:
                text = f"{path}: not enough memory ({problem}); take a smaller --length, or end other programs"
                yield Outcome(path, None, OutOfMemoryError(text))

    def outputs(self, features: FloatArray, prompts: EncodedPrompts) -> Outputs:
        """Run the network on one video, without decoding.

        Args:
            features: (T0, C), resampled to this localizer's length.
            prompts: K encoded prompts.

        Raises:
            FeatureError, PromptError: an input does not fit the bundle.
            OutOfMemoryError: there is not enough memory.
        """
        return self._outputs(check_features(features, self.bundle.manifest.channels), prompts)

    def length_for(self, snippets: int) -> int:
        """T that a video of this many snippets is resampled to.

        ``auto`` means the trained T, or twice that for videos of more than 2T snippets. Measured on synthetic features,
        this gained 1.2 to 1.6 points of mAP there; shorter videos and greater lengths gained nothing consistent.
        """
        if self.length != "auto":
            return self.length
        trained = self.bundle.manifest.temporal_scale
        return trained if snippets <= 2 * trained else min(2 * trained, layout.LONGEST)

    def window_for(self, snippets: int) -> int | None:
        """Snippets of the largest windows that a video of this many snippets is looked at through; None for none.

        ``auto`` means windows for videos of more than twice the trained T, because the whole video resampled to T
        shows an action of a few seconds in too few snippets. Not if a length was asked for, nor with the ``upstream``
        decoder, which are about whole videos.
        """
        if isinstance(self.window, int):
            return self.window
        whole = self.window == "off" or isinstance(self.settings.length, int) or self.decoder != DEFAULT_DECODER
        return None if whole or snippets <= 2 * self.bundle.manifest.temporal_scale else windows.LARGEST

    def require_memory(self, prompts: EncodedPrompts, length: int | None = None) -> None:
        """Make sure that there is memory for a video; a run over many checks this before the first.

        An amount that was granted once is not checked again: ONNX Runtime keeps the memory that it has taken.

        Args:
            prompts: K encoded prompts.
            length: T, in snippets; None for this localizer's, and for ``auto`` the shorter of the two.

        Raises:
            OutOfMemoryError: there is not enough.
        """
        T, K, manifest = length or self.length_for(1), len(prompts.names), self.bundle.manifest
        needed = detection_bytes(length=T, classes=K, channels=manifest.channels)
        if needed > self._granted_bytes:
            require_memory(needed, f"T={T} with {K:,} prompts", "take a smaller --length or fewer prompts")
            self._granted_bytes = needed

    def graph_inputs(self, features: FloatArray, prompts: EncodedPrompts) -> dict[str, NDArray[Any]]:
        """The inputs of the localizer's graph for one video.

        Features of fewer snippets than T and than channels are not resampled here: the graph resamples them, and is
        faster then.

        Args:
            features: (T0, C), checked.
            prompts: K encoded prompts.

        Raises:
            PromptError: the prompts do not fit the bundle.
        """
        channels, K = self.bundle.manifest.channels, len(prompts.names)
        shapes = prompts.embeddings.shape, prompts.queries.shape
        expected = (K, channels), (K, self.bundle.manifest.heads * channels)
        if shapes != expected:
            raise PromptError(
                f"encoded prompts of shapes {shapes}, expected {expected}; pass what encode_prompts of this localizer "
                "returned"
            )
        length = self.length_for(len(features))
        batch = resample_for_graph(features, length)[None]  # (1, T0 or T, C)
        return layout.localizer_inputs(batch, length, prompts.embeddings, prompts.queries)

    def forward(self, inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        """Run the network and nothing else.

        Args:
            inputs: what ``graph_inputs`` returned.

        Raises:
            BundleError: the graph fails, or its outputs are not a localizer's.
        """
        found = run_session(self._session, layout.LOCALIZER_OUTPUTS, inputs)
        _, length, embeddings, _ = (inputs[name] for name in layout.LOCALIZER_INPUTS)
        K, T = len(embeddings), int(length)
        name = str(self.bundle.path)
        cas_logits = checked_output(name, found[0], (1, K + 1, T))
        action_masks = checked_output(name, found[1], (1, T, T))
        return Outputs(cas_logits[0], action_masks[0])

    def _encoded(self, prompts: AnyPrompts) -> EncodedPrompts:
        return prompts if isinstance(prompts, EncodedPrompts) else self.encode_prompts(prompts)

    def _detect(
        self, features: FloatArray, prompts: AnyPrompts, duration_s: float | None, video: str
    ) -> VideoDetections:
        """Find actions in features that have been checked."""
        encoded = self._encoded(prompts)
        largest = self.window_for(len(features))
        if largest is None:
            rows = decode_detections(self.decoder, *self._outputs(features, encoded), encoded.names, duration_s)
        else:
            decoder = self._stream_decoder(encoded, largest)
            ranked = decoder.push_all(features)
            segments = ranked.segments / len(features)
            rows = label_segments(ranked._replace(segments=segments), encoded.names, duration_s)
        return VideoDetections(video=video, duration_s=duration_s, detections=rows)

    def _stream_decoder(self, prompts: EncodedPrompts, largest: int) -> StreamDecoder:
        T = self.bundle.manifest.temporal_scale if self.length == "auto" else self.length
        self.require_memory(prompts, T)  # TODO times BATCH
        return StreamDecoder(partial(self._forward_windows, prompts=prompts), prompts.names, T, largest=largest)

    def _forward_windows(
        self, batch: NDArray[np.float32], prompts: EncodedPrompts
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Run the network on B windows (B, T, C)."""
        B, T, _ = batch.shape
        K = len(prompts.names)
        inputs = layout.localizer_inputs(batch, T, prompts.embeddings, prompts.queries)
        found = run_session(self._session, layout.LOCALIZER_OUTPUTS, inputs)
        name = str(self.bundle.path)
        cas_logits = checked_output(name, found[0], (B, K + 1, T))
        action_masks = checked_output(name, found[1], (B, T, T))
        return zip(cas_logits, action_masks, strict=True)

    def _outputs(self, features: FloatArray, prompts: EncodedPrompts) -> Outputs:
        self.require_memory(prompts, self.length_for(len(features)))
        return self.forward(self.graph_inputs(features, prompts))
