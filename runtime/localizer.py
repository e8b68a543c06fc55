"""The library's front door: a bundle opened for one backend, length and decoder."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.arrays import unpack_arrays
from stale_runtime.bundle import Bundle, find_bundle
from stale_runtime.decoders import DECODERS
from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.errors import BundleError, PromptError, StaleError
from stale_runtime.features import check_features, read_features, resample
from stale_runtime.prompt_cache import PromptCache, default_cache_folder
from stale_runtime.prompts import Prompts, as_prompts
from stale_runtime.proposals import Ranked
from stale_runtime.segments import FloatArray
from stale_runtime.sessions import available_threads, open_session, require_interface
from stale_runtime.text_encoder import TextEncoder, encoder_identity
from stale_runtime.timeline import Timeline, check_seconds
from stale_runtime.videos import video_id

BACKENDS: Mapping[str, str] = {"ort-fp32": "localizer.fp32.onnx"}
"""The graph that each backend runs."""
PROMPTS_NAME = "prompts.npz"
SHORTEST, LONGEST = 16, 4096
"""Temporal scales that a localizer graph is exported for, in snippets."""
NO_TIMELINE = Timeline()


class EncodedPrompts(NamedTuple):
    """Class names with their embeddings."""

    names: tuple[str, ...]
    """K class names."""
    embeddings: NDArray[np.float32]
    """(K, C)"""


class Outputs(NamedTuple):
    """What the network says of one video."""

    cas_logits: NDArray[np.float32]
    """(K+1, T) class activation sequence, background last."""
    action_masks: NDArray[np.float32]
    """(T, T), row t the mask that snippet t proposes."""


class Outcome(NamedTuple):
    """One of many videos: either its detections or what was wrong with it."""

    path: Path
    detections: VideoDetections | None
    error: StaleError | None

    def result(self) -> VideoDetections:
        """The detections.

        Raises:
            StaleError: what was wrong with the video.
        """
        if self.error is not None:
            raise self.error
        assert self.detections is not None
        return self.detections


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a localizer works, beside the bundle."""

    backend: str = "ort-fp32"
    """One of ``BACKENDS``."""
    length: int | None = None
    """T that features are resampled to, in snippets; None for the T that the network was trained at."""
    threads: int = 1
    """Threads an operator may use; capped at the CPUs this process may run on."""
    decoder: str | None = None
    """One of ``DECODERS``; None for the bundle's own."""
    cache_folder: Path | None = None
    """Where prompt embeddings are kept; None for the default folder."""
    cache: bool = True
    """Whether prompt embeddings are kept on disk at all."""

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"backend {self.backend!r}, expected one of {', '.join(BACKENDS)}")
        if self.length is not None and not SHORTEST <= self.length <= LONGEST:
            raise ValueError(f"length {self.length}, expected {SHORTEST} to {LONGEST} snippets")
        if self.threads < 1:
            raise ValueError(f"threads {self.threads}, expected at least 1")
        if self.decoder is not None and self.decoder not in DECODERS:
            raise ValueError(f"decoder {self.decoder!r}, expected one of {', '.join(DECODERS)}")


class Localizer:
    """Finds actions in videos, with one bundle opened once."""

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        """Load the backend's graph; see ``open`` for the usual way in.

        Raises:
            BundleError: the bundle is broken, or has no graph for this backend.
        """
        manifest = bundle.manifest
        name = BACKENDS[settings.backend]
        self.bundle = bundle
        self.settings = settings
        self.length = settings.length or manifest.temporal_scale
        self.decoder = settings.decoder or manifest.decoder
        if self.decoder not in DECODERS:
            raise BundleError(f"{bundle.path}: the manifest asks for decoder {self.decoder!r}; export the bundle again")
        if not SHORTEST <= self.length <= LONGEST:
            raise BundleError(f"{bundle.path}: the manifest's temporal scale is {self.length}; export the bundle again")
        self.threads = min(settings.threads, available_threads())
        self._session = open_session(bundle.read(name), name=name, threads=self.threads)
        require_interface(self._session, ("features", "prompts"), Outputs._fields, name)

    @classmethod
    def open(
        cls,
        bundle: Path | str | None = None,
        *,
        backend: str = "ort-fp32",
        threads: int = 1,
        length: int | None = None,
        decoder: str | None = None,
    ) -> "Localizer":
        """Open a bundle, ready to detect.

        Args:
            bundle: its folder; None for ``$STALE_BUNDLE``, then ``./stale_bundle``.
            backend: one of ``BACKENDS``.
            threads: threads an operator may use.
            length: T that features are resampled to; None for the trained one.
            decoder: ``standard`` or ``upstream``; None for the bundle's own.

        Raises:
            BundleError: there is no bundle, or it is broken.
            ValueError: an argument is out of range.
        """
        settings = Settings(backend=backend, threads=threads, length=length, decoder=decoder)
        return cls(Bundle(find_bundle(Path(bundle) if bundle is not None else None)), settings)

    def encode_prompts(self, prompts: Prompts | Sequence[str]) -> EncodedPrompts:
        """Embed class names; the text tower is opened only for those that neither bundle nor cache know.

        Raises:
            PromptError: a name cannot be used, or is too long for the text tower.
            BundleError: a file that is needed is broken.
        """
        prompts = as_prompts(prompts)
        spec = self.bundle.manifest.text_encoder
        texts = [spec.prompt_template.replace("{}", name) for name in prompts.names]
        channels = self.bundle.manifest.channels
        known = self._embedded_prompts()
        cache = self._prompt_cache()
        found = [known[text] if text in known else cache.get(text) if cache else None for text in texts]
        missing = [n for n, embedding in enumerate(found) if embedding is None]
        if missing:
            encoder = TextEncoder(self.bundle, threads=self.threads)
            fresh = encoder.encode([texts[n] for n in missing], [prompts.places[n] for n in missing])
            for n, embedding in zip(missing, fresh, strict=True):
                found[n] = embedding
                if cache:
                    cache.put(texts[n], embedding)
        embeddings = np.stack([embedding for embedding in found if embedding is not None])
        if embeddings.shape != (len(texts), channels):
            raise BundleError(f"{self.bundle.path}: embeddings of shape {embeddings.shape}, expected (K, {channels})")
        return EncodedPrompts(prompts.names, embeddings)

    def detect(
        self,
        features: FloatArray,
        prompts: EncodedPrompts | Prompts | Sequence[str],
        *,
        duration_s: float | None = None,
        video: str = "video",
    ) -> VideoDetections:
        """Find actions in one video.

        Args:
            features: (T0, C) snippet features of any length, float16, float32 or float64.
            prompts: class names; pass what ``encode_prompts`` returned to embed them once for many videos.
            duration_s: the video's, in seconds; without it segments are in fractions of the video.
            video: its id.

        Raises:
            FeatureError, PromptError: an input cannot be used.
            ValueError: the duration is not a positive number.
        """
        check_seconds(duration_s, "duration_s")
        check_features(features, self.bundle.manifest.channels)
        return self._detect(features, prompts, duration_s, video)

    def detect_file(
        self, path: Path, prompts: EncodedPrompts | Prompts | Sequence[str], *, timeline: Timeline = NO_TIMELINE
    ) -> VideoDetections:
        """Find actions in the video of a feature file.

        Args:
            path: a ``.npy`` file; its stem is the video's id.
            prompts: as ``detect`` takes them.
            timeline: how long videos last.

        Raises:
            FeatureError, PromptError, DatasetError: an input cannot be used.
        """
        features = read_features(path, self.bundle.manifest.channels)
        video = video_id(path.stem)
        duration_s = timeline.duration_of(video, len(features))
        return self._detect(features, prompts, duration_s, video)

    def detect_many(
        self,
        paths: Iterable[Path],
        prompts: EncodedPrompts | Prompts | Sequence[str],
        *,
        timeline: Timeline = NO_TIMELINE,
    ) -> Iterator[Outcome]:
        """Find actions in many feature files, one after the other; a bad file does not stop the others.

        Args:
            paths: ``.npy`` files.
            prompts: class names, embedded once.
            timeline: how long videos last.

        Raises:
            PromptError: a prompt cannot be used.
        """
        encoded = prompts if isinstance(prompts, EncodedPrompts) else self.encode_prompts(prompts)
        for path in paths:
            try:
                yield Outcome(path, self.detect_file(path, encoded, timeline=timeline), None)
            except StaleError as problem:
                yield Outcome(path, None, problem)

    def outputs(self, features: FloatArray, prompts: EncodedPrompts) -> Outputs:
        """Run the network on one video.

        Args:
            features: (T0, C), resampled to this localizer's length.
            prompts: K encoded prompts.

        Raises:
            FeatureError, PromptError: an input does not fit the bundle.
        """
        return self._outputs(check_features(features, self.bundle.manifest.channels), prompts)

    def _detect(
        self,
        features: FloatArray,
        prompts: EncodedPrompts | Prompts | Sequence[str],
        duration_s: float | None,
        video: str,
    ) -> VideoDetections:
        """Find actions in features that have been checked."""
        encoded = prompts if isinstance(prompts, EncodedPrompts) else self.encode_prompts(prompts)
        ranked = DECODERS[self.decoder](*self._outputs(features, encoded))
        return VideoDetections(
            video=video, duration_s=duration_s, detections=tuple(_detections(ranked, encoded.names, duration_s))
        )

    def _outputs(self, features: FloatArray, prompts: EncodedPrompts) -> Outputs:
        channels = self.bundle.manifest.channels
        if prompts.embeddings.ndim != 2 or prompts.embeddings.shape[1] != channels:
            raise PromptError(f"prompt embeddings of shape {prompts.embeddings.shape}, expected (K, {channels})")
        inputs = {"features": resample(features, self.length)[None], "prompts": prompts.embeddings}
        cas_logits, action_masks = self._session.run(Outputs._fields, inputs)
        return Outputs(cas_logits[0], action_masks[0])

    def _embedded_prompts(self) -> dict[str, NDArray[np.float32]]:
        arrays = unpack_arrays(self.bundle.read(PROMPTS_NAME), PROMPTS_NAME)
        texts, embeddings = arrays.get("texts"), arrays.get("embeddings")
        if (
            texts is None
            or embeddings is None
            or (texts.ndim, texts.dtype.kind, embeddings.dtype.kind) != (1, "U", "f")
            or embeddings.shape != (len(texts), self.bundle.manifest.channels)
            or not np.isfinite(embeddings).all()
        ):
            raise BundleError(f"{PROMPTS_NAME}: expected texts and an embedding for each; export the bundle again")
        return dict(zip(texts.tolist(), embeddings.astype(np.float32, copy=False), strict=True))

    def _prompt_cache(self) -> PromptCache | None:
        folder = self.settings.cache_folder or default_cache_folder()
        if folder is None or not self.settings.cache:
            return None
        return PromptCache(
            folder,
            encoder=encoder_identity(self.bundle),
            channels=self.bundle.manifest.channels,
        )


def _detections(ranked: Ranked, names: Sequence[str], duration_s: float | None) -> Iterator[Detection]:
    unit = 1.0 if duration_s is None else duration_s
    segments = ranked.segments.clip(0, 1) * unit
    rows = zip(ranked.classes.tolist(), segments.tolist(), ranked.scores.tolist(), strict=True)
    return (Detection(names[label], start, end, score) for label, (start, end), score in rows)
