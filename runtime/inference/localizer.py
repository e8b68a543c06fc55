"""The main class of the library: a bundle opened for one backend, length and decoder."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle, find_bundle
from stale_runtime.bundle.reading_score import DEFAULT_READING_SCORE
from stale_runtime.decoding.decoders import DECODERS, READING_ROWS
from stale_runtime.decoding.standard_decoder import CLASSES
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import COPY_AGAIN, BundleError, OutOfMemoryError, StaleError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, default_backend
from stale_runtime.inference.detection_stream import DetectionStream
from stale_runtime.inference.detector import Detector, FeatureArray, Watch
from stale_runtime.inference.forward_pass import EncodedPrompts, GraphCall, Outputs
from stale_runtime.inference.guarded_pass import open_network
from stale_runtime.inference.lengths import LengthRules
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inference.prompt_cache import default_cache_folder
from stale_runtime.inference.prompt_store import PromptStore
from stale_runtime.inference.settings import Settings
from stale_runtime.inference.stream import BATCH
from stale_runtime.inputs.feature_duration import duration_of_features
from stale_runtime.inputs.feature_file import open_features
from stale_runtime.inputs.features import check_features
from stale_runtime.inputs.prompts import MOST_PROMPTS, Prompts, as_prompts
from stale_runtime.inputs.timeline import LONGEST_S, Timeline, check_seconds
from stale_runtime.inputs.videos import is_video, video_id
from stale_runtime.segments import FloatArray
from stale_runtime.system.cpus import available_threads
from stale_runtime.system.long_calls import time_limit
from stale_runtime.system.memory import most_detection_bytes
from stale_runtime.video.vision_store import VisionStore

NO_TIMELINE = Timeline()


AnyPrompts: TypeAlias = EncodedPrompts | Prompts | Sequence[str]


class Localizer:
    """Finds actions in videos, with one bundle.

    Threads may share a localizer and call all of its methods at once. Processes may not: open it after forking.
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        """Load a bundle's graph and prompts; ``Localizer.open`` is more convenient.

        Raises:
            BundleError: the bundle is broken, or has no graph at all.
            BackendError: the backend cannot run on this machine, or the bundle has no graph for it but for others.
            MissingPackageError: the backend needs OpenVINO, which is not installed.
            ValueError: the bundle's decoder lacks one of the options.
        """
        manifest = bundle.manifest
        backend = LOCALIZER_BACKENDS[settings.backend] if settings.backend else default_backend(manifest)
        self.backend = backend.name
        self.bundle = bundle
        self.settings = settings
        self.decoder = settings.decoder or manifest.decoder
        if self.decoder not in DECODERS:
            known = ", ".join(DECODERS)
            raise BundleError(
                f"{bundle.path}: the manifest names decoder {self.decoder!r}, expected one of {known}; {COPY_AGAIN}"
            )
        settings.check_decoder(self.decoder)
        if not layout.SHORTEST <= manifest.temporal_scale <= layout.LONGEST:
            raise BundleError(
                f"{bundle.path}: the manifest's temporal scale is {manifest.temporal_scale}, expected "
                f"{layout.SHORTEST} to {layout.LONGEST}; {COPY_AGAIN}"
            )
        self._lengths = LengthRules(
            manifest.temporal_scale, length=settings.length, window=settings.window, decoder=self.decoder
        )
        self.length, self.window = self._lengths.length, self._lengths.window
        self.threads = min(settings.threads, available_threads())
        with self._time_limit(f"loading {bundle.path}"):
            self._network = open_network(backend, bundle, threads=self.threads, working_bytes=self._working_bytes())
        folder = (settings.cache_folder or default_cache_folder()) if settings.cache else None
        self._detector = Detector(
            self._network,
            self._lengths,
            decoder=self.decoder,
            classes=settings.classes,
            most=settings.most_detections,
        )
        self._vision = VisionStore(bundle, precision=settings.vision_precision, threads=self.threads)
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
        most_detections: int | None = None,
        classes: int = CLASSES,
        decoder: str | None = None,
        timeout_s: float | None = None,
        expect_sha256: str | None = None,
        verify_key: str | os.PathLike[str] | None = None,
    ) -> "Localizer":
        """Open a bundle, ready to detect.

        Args:
            bundle: its folder; None for ``$STALE_BUNDLE``, then ``./stale_bundle``.
            backend: a key of ``LOCALIZER_BACKENDS``; None for the first of ``ort-fast`` and ``ort-int8`` whose mAP the
                bundle proves, else ``ort-fp32``, else what the bundle has a graph for. ``ort-fast`` is an
                approximation, and leaves a video that it is too far off for to the backend that would be the default
                without it, see ``VideoDetections.recomputed``.
            threads: threads an operator may use.
            length: T that features are resampled to; None for the trained T, ``auto`` to choose for each video.
            window: snippets of the largest windows that videos are looked at through, ``off`` to look at each as a
                whole, ``auto`` for windows where they find more (see ``window_for``).
            most_detections: most detections of a video; None for 100, and more for one looked at through windows.
            classes: classes that are considered for a video, or for each window of a long one.
            decoder: ``standard`` or ``upstream``; None for the bundle's own.
            timeout_s: most seconds for a video, for encoding prompts, or for loading the graph; None for no limit. ONNX
                Runtime stops between two operators of a graph, OpenVINO only after the whole graph.
            expect_sha256: hash that the bundle must have, as ``stale-export`` printed it.
            verify_key: file of a public key that the bundle must be signed with.

        Raises:
            BundleError: the bundle is missing, broken, or not the expected one.
            KeyFileError: the public key cannot be used.
            BackendError: the backend cannot run on this machine, or the bundle has no graph for it but for others.
            MissingPackageError: OpenVINO is needed for the backend, or model-signing for the key, and not installed.
            ValueError: an argument is out of range.
        """
        settings = Settings(
            backend=backend,
            threads=threads,
            length=length,
            window=window,
            most_detections=most_detections,
            classes=classes,
            decoder=decoder,
            timeout_s=timeout_s,
        )
        return cls(Bundle(find_bundle(bundle), expect_sha256=expect_sha256, verify_key=verify_key), settings)

    def encode_prompts(self, prompts: Prompts | Sequence[str]) -> EncodedPrompts:
        """Encode class names, once for many videos.

        The text tower is opened only for names that are neither in the bundle nor in the cache on disk, and encodes for
        one thread at a time.

        Raises:
            PromptError: a name cannot be used, or is too long for the text tower.
            TimeLimitError: it took longer than ``timeout_s``.
            BundleError: a file that is needed is broken.
        """
        prompts = as_prompts(prompts)
        with self._time_limit("encoding the prompts"):
            return EncodedPrompts(prompts.names, *self._prompts.encode(prompts))

    def detect(
        self,
        features: FloatArray,
        prompts: AnyPrompts,
        *,
        duration_s: float | None = None,
        video: str = "video",
        evidence: bool = False,
    ) -> VideoDetections:
        """Find actions in one video.

        Args:
            features: (T0, C) snippet features of any length, float16, float32 or float64.
            prompts: class names; pass what ``encode_prompts`` returned to encode them once for many videos. Of
                ActivityNet's 200 classes and "Neutral", "Neutral" is not reported (see ``unreported_class``).
            duration_s: duration of the video in seconds; without it segments are fractions of the video.
            video: id of the video.
            evidence: whether the result has ``evidence``: curves of class scores, to be drawn beside the detections.

        Raises:
            FeatureError, PromptError: an input cannot be used.
            OutOfMemoryError: there is not enough memory.
            TimeLimitError: it took longer than ``timeout_s``.
            ValueError: the duration is not a positive number.
        """
        check_seconds(duration_s, "duration_s")
        check_features(features, self.bundle.manifest.channels)
        encoded = self._encoded(prompts)
        with self._time_limit(video):
            return self._detector.detect(
                video,
                FeatureArray(features),
                lambda _: features,
                duration_s=duration_s,
                prompts=encoded,
                evidence=evidence,
            )

    def detect_file(
        self,
        path: str | os.PathLike[str],
        prompts: AnyPrompts,
        *,
        timeline: Timeline = NO_TIMELINE,
        watch: Watch | None = None,
        evidence: bool = False,
    ) -> VideoDetections:
        """Find actions in the video of a feature file.

        If the video is looked at through windows, the file is read block by block, and so the memory that this takes
        does not grow with the video, but for its detections.

        Args:
            path: a ``.npy`` or ``.npz`` file, named for the video's id.
            prompts: as for ``detect``.
            timeline: how long videos last; if it does not say so, what ``stale-features`` wrote beside the file does.
            watch: gets the blocks of a video that is looked at through windows; None to show nothing.
            evidence: as for ``detect``.

        Raises:
            FeatureError, PromptError, DatasetError, RecipeError: an input cannot be used.
            OutOfMemoryError: there is not enough memory.
            TimeLimitError: it took longer than ``timeout_s``.
        """
        path = Path(path)
        encoded = self._encoded(prompts)
        with self._time_limit(str(path)), open_features(path, self.bundle.manifest.channels) as file:
            duration_s = duration_of_features(path, file.snippets, timeline)
            return self._detector.detect(
                video_id(path.stem),
                file,
                lambda _: file.read(),
                duration_s=duration_s,
                prompts=encoded,
                watch=watch,
                evidence=evidence,
            )

    def detect_video(
        self,
        path: str | os.PathLike[str],
        prompts: AnyPrompts,
        *,
        watch: Watch | None = None,
        evidence: bool = False,
    ) -> VideoDetections:
        """Find actions in a video file, with features that the bundle's vision tower computes by its recipe.

        The detections are those of the file of features that ``stale-features`` writes. Only frames whose features are
        read are embedded: all if the video is looked at through windows, else at most two for each of T snippets.

        Args:
            path: a video file, named for the video's id.
            prompts: as for ``detect``.
            watch: gets the blocks of features as they are computed; None to show nothing.
            evidence: as for ``detect``; small pictures of the video are added to it.

        Raises:
            VideoError, FeatureError, PromptError: an input cannot be used.
            MissingPackageError: the extra ``video`` is not installed.
            BundleError: the bundle has no vision tower, or a broken one.
            RecipeError: the tower's recipe does not say all that is needed.
            OutOfMemoryError: there is not enough memory.
            TimeLimitError: it took longer than ``timeout_s``.
        """
        path = Path(path)
        encoded = self._encoded(prompts)
        with self._time_limit(str(path)):
            from stale_runtime.video.video_features import VideoFeatures  # only videos need it

            features = VideoFeatures(path, self._vision.open(), poster=evidence)
            found = self._detector.detect(
                video_id(path.stem),
                features,
                partial(features.read_resampled, watch=watch),
                duration_s=features.duration_s,
                prompts=encoded,
                watch=watch,
                evidence=evidence,
            )
        shown = found.evidence and replace(found.evidence, poster=features.poster)
        return replace(found, damage=features.damage, evidence=shown)

    def detect_many(
        self,
        paths: Iterable[str | os.PathLike[str]],
        prompts: AnyPrompts,
        *,
        timeline: Timeline = NO_TIMELINE,
        watch: Watch | None = None,
        evidence: bool = False,
    ) -> Iterator[Outcome]:
        """Find actions in many feature files and videos, one after the other; a bad file does not stop the others.

        The detections of a video do not depend on the others, to the last bit.

        Args:
            paths: ``.npy`` and ``.npz`` files, and videos (see ``is_video``); each is looked at before the next is
                asked for.
            prompts: as for ``detect``; encoded once.
            timeline: how long the videos of feature files last.
            watch: as for ``detect_file``.
            evidence: as for ``detect_video``.

        Raises:
            PromptError: a prompt cannot be used.
        """
        encoded = self._encoded(prompts)
        for path in map(Path, paths):
            yield self._detect_alone(path, encoded, timeline=timeline, watch=watch, evidence=evidence)

    def _detect_alone(
        self, path: Path, prompts: EncodedPrompts, *, timeline: Timeline, watch: Watch | None, evidence: bool
    ) -> Outcome:
        try:
            if is_video(path):
                found = self.detect_video(path, prompts, watch=watch, evidence=evidence)
            else:
                found = self.detect_file(path, prompts, timeline=timeline, watch=watch, evidence=evidence)
            return Outcome(path, found, None)
        except StaleError as problem:
            return Outcome(path, None, problem)
        except MemoryError as problem:
            text = f"{path}: not enough memory ({problem}); take a smaller --length, or end other programs"
            return Outcome(path, None, OutOfMemoryError(text))

    def stream(self, prompts: AnyPrompts, *, snippet_s: float | None = None) -> DetectionStream:
        """Start to find actions in snippets that arrive one after the other.

        Args:
            prompts: as for ``detect``.
            snippet_s: seconds from one snippet to the next; None for times in snippets.

        Returns:
            What takes the snippets and returns detections.

        Raises:
            PromptError: a prompt cannot be used.
            OutOfMemoryError: there is not enough memory.
            ValueError: ``snippet_s`` is not a positive number, or this localizer looks at videos of any length as a
                whole, or is to return only the best of a video's detections, which a stream cannot.
        """
        check_seconds(snippet_s, "snippet_s")
        encoded, longest_whole = self._encoded(prompts), self.longest_whole
        if longest_whole is None:
            raise ValueError(
                f"a stream with window {self.window}, length {self.length} and decoder {self.decoder} would have to be "
                "looked at as a whole; take the standard decoder, and a number of snippets as window"
            )
        if self.settings.most_detections is not None:
            raise ValueError("a stream with most_detections, which are known only at its end; leave it out")
        return DetectionStream(
            self._detector.stream_decoder(encoded),
            lambda features, duration_s: self._detector.detect_held(features, min(duration_s, LONGEST_S), encoded),
            longest_whole=longest_whole,
            names=encoded.names,
            channels=self.bundle.manifest.channels,
            snippet_s=snippet_s,
            timeout_s=self.settings.timeout_s,
        )

    def outputs(self, features: FloatArray, prompts: EncodedPrompts) -> Outputs:
        """Run the network on one video, without decoding.

        Args:
            features: (T0, C), resampled to this localizer's length.
            prompts: K encoded prompts.

        Raises:
            FeatureError, PromptError: an input does not fit the bundle.
            OutOfMemoryError: there is not enough memory.
        """
        return self._detector.outputs(check_features(features, self.bundle.manifest.channels), prompts)

    def length_for(self, snippets: int) -> int:
        """T that a video of this many snippets is resampled to.

        ``auto`` means the trained T, or twice that for videos of more than 2T snippets. Measured on synthetic features,
        this gained 1.2 to 1.6 points of mAP there; shorter videos and greater lengths gained nothing consistent.
        """
        return self._lengths.length_for(snippets)

    @property
    def longest_whole(self) -> int | None:
        """Most snippets of a video that may be looked at as a whole; None if there is no limit.

        If windows are ``auto``, this is twice the trained T: a longer video that is resampled to T shows an action of a
        few seconds in too few snippets. There is no limit if a length was asked for, nor with the ``upstream`` decoder,
        which are about whole videos.
        """
        return self._lengths.longest_whole

    def window_for(self, features: FloatArray) -> int | None:
        """Snippets of the largest windows that a video (T0, C) is looked at through; None to look at it as a whole.

        If windows are ``auto``, a video of up to ``longest_whole`` snippets is looked at as a whole, unless it has more
        snippets than the trained T and a cut parts it into scenes.
        """
        return self._lengths.window_for(features)

    @property
    def cache_problem(self) -> str | None:
        """Why the folder of encoded prompts is not used; None if it is, or none is wanted."""
        return self._prompts.cache_problem

    @property
    def reading_score(self) -> float:
        """Score from which on detections are worth a person's reading.

        It is where F1 was best on the validation videos of the bundle, or a usual one if that was not measured.
        """
        known = self.bundle.manifest.reading_score
        return DEFAULT_READING_SCORE if known is None else known.score

    def require_memory(self, prompts: EncodedPrompts) -> None:
        """Make sure that there is memory for the shortest video; a run over many checks this before the first.

        Args:
            prompts: K encoded prompts.

        Raises:
            OutOfMemoryError: there is not enough.
        """
        if self.longest_whole != 0:
            self._network.require_memory(prompts, self.length_for(1))
        else:
            self._network.require_memory(prompts, self._lengths.window_length, windows=BATCH)

    def require_videos(self) -> None:
        """Make sure that videos can be read and embedded; a run over many checks this before the first.

        Raises:
            MissingPackageError: the extra ``video`` is not installed.
            BundleError: the bundle has no vision tower, or a broken one.
            RecipeError: the tower's recipe does not say all that is needed.
        """
        from stale_runtime.video.video_features import require_usable  # only videos need them
        from stale_runtime.video.video_reader import require_video_reader

        require_video_reader()
        require_usable(self._vision.open().recipe)

    def prepare(self, features: FloatArray, prompts: EncodedPrompts) -> GraphCall:
        """What ``forward`` and ``graph_inputs`` take for one video that is looked at as a whole.

        Features of fewer snippets than T and than channels are not resampled here: the graph resamples them, and is
        faster then.

        Args:
            features: (T0, C), checked.
            prompts: K encoded prompts.

        Raises:
            PromptError: the prompts do not fit the bundle.
        """
        return self._network.prepare(features, self.length_for(len(features)), prompts)

    def graph_inputs(self, call: GraphCall) -> dict[str, NDArray[Any]]:
        """The inputs of the localizer's graph by name, from what ``prepare`` returned."""
        return self._network.inputs(call)

    def forward(self, call: GraphCall) -> Outputs:
        """Run the network and nothing else; the masks have rows if this localizer's decoder reads them.

        Args:
            call: what ``prepare`` returned.

        Raises:
            BundleError: the graph fails, or its outputs are not a localizer's.
        """
        return self._network.run(call, rows=self.decoder in READING_ROWS)

    def _time_limit(self, what: str) -> AbstractContextManager[None]:
        return time_limit(self.settings.timeout_s, what)

    def _working_bytes(self) -> int:
        """Memory that the graph may take while it runs, whatever the prompts."""
        channels, longest = self.bundle.manifest.channels, self._lengths.longest
        return most_detection_bytes(length=longest, classes=MOST_PROMPTS, channels=channels, windows=BATCH)

    def _encoded(self, prompts: AnyPrompts) -> EncodedPrompts:
        return prompts if isinstance(prompts, EncodedPrompts) else self.encode_prompts(prompts)
