"""The library's front door: a bundle opened for one backend, length and decoder."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import unpack_arrays
from stale_runtime.bundle.bundle import Bundle, find_bundle
from stale_runtime.decoding.decoders import DECODERS, label_segments
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import BundleError, OutOfMemoryError, PromptError, StaleError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, default_backend, open_backend
from stale_runtime.inference.onnx_session import checked_output, run_session
from stale_runtime.inference.prompt_cache import PromptCache, default_cache_folder
from stale_runtime.inference.text_encoder import TextEncoder, encoder_identity
from stale_runtime.inputs.features import check_features, read_features, resample
from stale_runtime.inputs.prompts import Prompts, as_prompts
from stale_runtime.inputs.timeline import Timeline, check_seconds
from stale_runtime.inputs.videos import video_id
from stale_runtime.segments import FloatArray
from stale_runtime.system.cpus import available_threads
from stale_runtime.system.memory import detection_bytes, require_memory

NO_TIMELINE = Timeline()


class EncodedPrompts(NamedTuple):
    """Class names with what the network reads of them."""

    names: tuple[str, ...]
    """K class names."""
    embeddings: NDArray[np.float32]
    """(K, C)"""
    queries: NDArray[np.float32]
    """(K, H*C)"""


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

    backend: str | None = None
    """One of ``LOCALIZER_BACKENDS``; None for ``ort-int8`` where the bundle proves its mAP, else ``ort-fp32``."""
    length: int | Literal["auto"] | None = None
    """T that features are resampled to, in snippets; None for the trained T, ``auto`` for twice that where a video has
    more snippets than twice the trained T."""
    threads: int = 1
    """Threads an operator may use; capped at the CPUs this process may run on."""
    decoder: str | None = None
    """One of ``DECODERS``; None for the bundle's own."""
    cache_folder: Path | None = None
    """Where prompt embeddings are kept; None for the default folder."""
    cache: bool = True
    """Whether prompt embeddings are kept on disk at all."""

    def __post_init__(self) -> None:
        if self.backend is not None and self.backend not in LOCALIZER_BACKENDS:
            raise ValueError(f"backend {self.backend!r}, expected one of {', '.join(LOCALIZER_BACKENDS)}")
        usable = isinstance(self.length, int) and layout.SHORTEST <= self.length <= layout.LONGEST
        if self.length not in (None, "auto") and not usable:
            raise ValueError(
                f"length {self.length!r}, expected {layout.SHORTEST} to {layout.LONGEST} snippets, or auto"
            )
        if self.threads < 1:
            raise ValueError(f"threads {self.threads}, expected at least 1")
        if self.decoder is not None and self.decoder not in DECODERS:
            raise ValueError(f"decoder {self.decoder!r}, expected one of {', '.join(DECODERS)}")


class Localizer:
    """Finds actions in videos, with one bundle opened once.

    Threads may share one and call all its methods at once; each gets what it would get alone. Prompts are encoded by
    one thread at a time, so that the text tower is in memory only once. Processes need one each: open it after forking.
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        """Load the backend's graph; see ``open`` for the usual way in.

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
        self.decoder = settings.decoder or manifest.decoder
        if self.decoder not in DECODERS:
            raise BundleError(f"{bundle.path}: the manifest asks for decoder {self.decoder!r}; export the bundle again")
        if not layout.SHORTEST <= manifest.temporal_scale <= layout.LONGEST:
            raise BundleError(
                f"{bundle.path}: the manifest's temporal scale is {manifest.temporal_scale}; export the bundle again"
            )
        self.threads = min(settings.threads, available_threads())
        self._encoding = Lock()
        self._granted = 0
        self._session = open_backend(backend, bundle, threads=self.threads)

    @classmethod
    def open(
        cls,
        bundle: Path | str | None = None,
        *,
        backend: str | None = None,
        threads: int = 1,
        length: int | Literal["auto"] | None = None,
        decoder: str | None = None,
        expect_sha256: str | None = None,
        verify_key: Path | None = None,
    ) -> "Localizer":
        """Open a bundle, ready to detect.

        Args:
            bundle: its folder; None for ``$STALE_BUNDLE``, then ``./stale_bundle``.
            backend: one of ``LOCALIZER_BACKENDS``; None for ``ort-int8`` where the bundle proves its mAP, else
                ``ort-fp32``.
            threads: threads an operator may use.
            length: T that features are resampled to; None for the trained one, ``auto`` to choose by the video.
            decoder: ``standard`` or ``upstream``; None for the bundle's own.
            expect_sha256: hash that the bundle must have, as ``stale-export`` printed it.
            verify_key: file of a public key that the bundle must be signed with.

        Raises:
            BundleError: there is no bundle, it is broken, or not the one expected.
            KeyFileError: the public key cannot be used.
            BackendError: the backend cannot run on this machine.
            ValueError: an argument is out of range.
        """
        settings = Settings(backend=backend, threads=threads, length=length, decoder=decoder)
        path = find_bundle(Path(bundle) if bundle is not None else None)
        return cls(Bundle(path, expect_sha256=expect_sha256, verify_key=verify_key), settings)

    def encode_prompts(self, prompts: Prompts | Sequence[str]) -> EncodedPrompts:
        """Embed class names; the text tower is opened only for those that neither bundle nor cache know.

        Raises:
            PromptError: a name cannot be used, or is too long for the text tower.
            BundleError: a file that is needed is broken.
        """
        with self._encoding:
            return self._encode(as_prompts(prompts))

    def _encode(self, prompts: Prompts) -> EncodedPrompts:
        texts = self.bundle.manifest.text_encoder.fill(prompts.names)
        known = self._encoded_prompts()
        cache = self._prompt_cache()
        found = [known[text] if text in known else cache.get(text) if cache else None for text in texts]
        missing = [n for n, vector in enumerate(found) if vector is None]
        if missing:
            encoder = TextEncoder(self.bundle, threads=self.threads)
            fresh = encoder.encode([prompts.names[n] for n in missing], [prompts.places[n] for n in missing])
            vectors = np.concatenate(fresh, axis=1)
            for n, vector in zip(missing, vectors, strict=True):
                found[n] = vector
            if cache:
                cache.put([texts[n] for n in missing], vectors)
        vectors = np.stack([vector for vector in found if vector is not None])
        if vectors.shape != (len(texts), self._vector_width()):
            raise BundleError(f"{self.bundle.path}: prompts of shape {vectors.shape}; export the bundle again")
        embeddings, queries = np.split(vectors, [self.bundle.manifest.channels], axis=1)
        return EncodedPrompts(prompts.names, np.ascontiguousarray(embeddings), np.ascontiguousarray(queries))

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
            except MemoryError as problem:
                text = f"{path}: not enough memory ({problem}); take a smaller --length, or end other programs"
                yield Outcome(path, None, OutOfMemoryError(text))

    def outputs(self, features: FloatArray, prompts: EncodedPrompts) -> Outputs:
        """Run the network on one video.

        Args:
            features: (T0, C), resampled to this localizer's length.
            prompts: K encoded prompts.

        Raises:
            FeatureError, PromptError: an input does not fit the bundle.
        """
        return self._outputs(check_features(features, self.bundle.manifest.channels), prompts)

    def length_for(self, snippets: int) -> int:
        """T that a video of so many snippets is resampled to.

        ``auto`` takes the trained T, and twice as much for videos of more than 2T snippets: there mAP gained 1.2 to
        1.6 points on drawn features, elsewhere and beyond nothing that lasted.
        """
        if self.length != "auto":
            return self.length
        trained = self.bundle.manifest.temporal_scale
        return trained if snippets <= 2 * trained else min(2 * trained, layout.LONGEST)

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
            video=video, duration_s=duration_s, detections=label_segments(ranked, encoded.names, duration_s)
        )

    def _outputs(self, features: FloatArray, prompts: EncodedPrompts) -> Outputs:
        self.require_memory(prompts, self.length_for(len(features)))
        return self.forward(self.prepared(features), prompts)

    def require_memory(self, prompts: EncodedPrompts, length: int | None = None) -> None:
        """Make sure that there is memory for a video; a run over many finds out so before the first.

        What has been granted once is not asked for again: ONNX Runtime keeps the memory that it has taken.

        Args:
            prompts: K encoded prompts.
            length: T, in snippets; None for this localizer's, and for ``auto`` the shorter of the two.

        Raises:
            OutOfMemoryError: there is not.
        """
        T, K, manifest = length or self.length_for(1), len(prompts.names), self.bundle.manifest
        needed = detection_bytes(length=T, classes=K, channels=manifest.channels)
        if needed > self._granted:
            require_memory(needed, f"T={T} with {K:,} prompts", "take a smaller --length or fewer prompts")
            self._granted = needed

    def forward(self, prepared: Mapping[str, NDArray[Any]], prompts: EncodedPrompts) -> Outputs:
        """Run the network and nothing else.

        Args:
            prepared: what ``prepared`` made of one video.
            prompts: K encoded prompts.

        Raises:
            PromptError: the prompts do not fit the bundle.
            BundleError: the graph fails, or gives what no localizer gives.
        """
        channels, names = self.bundle.manifest.channels, prompts.names
        shapes = prompts.embeddings.shape, prompts.queries.shape
        if shapes != ((len(names), channels), (len(names), self._vector_width() - channels)):
            raise PromptError(f"encoded prompts of shapes {shapes}, expected those of encode_prompts for {len(names)}")
        inputs = {**prepared, "prompts": prompts.embeddings, "queries": prompts.queries}
        found = run_session(self._session, layout.LOCALIZER_OUTPUTS, inputs)
        K, T = len(names), int(prepared["length"])
        shapes = (1, K + 1, T), (1, T, T)
        cas_logits, action_masks = map(partial(checked_output, str(self.bundle.path)), found, shapes)
        return Outputs(cas_logits[0], action_masks[0])

    def prepared(self, features: FloatArray) -> dict[str, NDArray[Any]]:
        """The graph's inputs for one video.

        Features of fewer snippets than T are left as they are: the graph resamples them itself, and is faster then.

        Args:
            features: (T0, C), checked.
        """
        length = self.length_for(len(features))
        if len(features) >= min(length, self.bundle.manifest.channels):
            features = resample(features, length)
        return {"features": np.asarray(features, np.float32)[None], "length": np.array(length, np.int64)}

    def _vector_width(self) -> int:
        """Of a prompt: its embedding, and its query for every head."""
        return (1 + self.bundle.manifest.heads) * self.bundle.manifest.channels

    def _encoded_prompts(self) -> dict[str, NDArray[np.float32]]:
        """What the bundle knows of prompts, by text: embedding and queries in one vector."""
        arrays = unpack_arrays(self.bundle.read(layout.PROMPTS), layout.PROMPTS)
        texts, vectors = arrays.get("texts"), arrays.get("vectors")
        if (
            texts is None
            or vectors is None
            or (texts.ndim, texts.dtype.kind, vectors.dtype) != (1, "U", np.dtype(np.float32))
            or vectors.shape != (len(texts), self._vector_width())
            or not np.isfinite(vectors).all()
        ):
            raise BundleError(f"{layout.PROMPTS}: expected texts and a vector for each; export the bundle again")
        return dict(zip(texts.tolist(), vectors, strict=True))

    def _prompt_cache(self) -> PromptCache | None:
        folder = self.settings.cache_folder or default_cache_folder()
        if folder is None or not self.settings.cache:
            return None
        return PromptCache(
            folder,
            encoder=encoder_identity(self.bundle),
            width=self._vector_width(),
        )
