"""Backends that ``stale_runtime.Localizer`` runs."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime  # noqa: F401 -- sessions import it late, but it is part of what a process has to import

from stale_bench.engines.engine import ANY_DURATION_S, Engine, Step
from stale_bench.engines.macs import count_onnx
from stale_bench.protocol import BackendJob, Facts, Found
from stale_runtime.bundle import layout
from stale_runtime.decoding.decoders import DECODERS
from stale_runtime.detections import VideoDetections
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inference.settings import Settings
from stale_runtime.inference.text_encoder import TextEncoder
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.segments import FloatArray
from stale_runtime.system.workspace import workspace


class LocalizerEngine(Engine):
    """The deployed network, as an application uses it."""

    def __init__(self, job: BackendJob) -> None:
        super().__init__(job)
        by_default = job.mode == "windows"
        settings = Settings(
            backend=job.backend,
            length="auto" if by_default else job.length,
            window="auto" if by_default else "off",
            threads=job.threads,
            cache_folder=Path(job.cache),
            cache=True,
        )
        self._localizer = Localizer(self.bundle, settings)

    def prompt_steps(self) -> Mapping[str, Step]:
        """Looking prompts up in bundle or cache, and opening the text tower to encode them."""
        names = self.job.classes
        return {
            "prompts_warm": lambda: self._localizer.encode_prompts(names),
            "prompts_cold": lambda: TextEncoder(self.bundle, threads=self.job.threads).encode(names),
        }

    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        """All steps from features to detections, each alone and all in one call."""
        localizer = self._localizer
        prompts = localizer.encode_prompts(self.job.classes)
        call = localizer.prepare(features, prompts)
        outputs = localizer.forward(call)
        decode = DECODERS[localizer.decoder]
        return {
            "resample": lambda: localizer.prepare(features, prompts),
            "forward": lambda: localizer.forward(call),
            "decode": lambda: decode(outputs.cas_logits, outputs.masks),
            "end_to_end": lambda: localizer.detect(features, prompts, duration_s=ANY_DURATION_S),
        }

    def video_steps(self, path: Path) -> Mapping[str, Step]:
        """From a feature file to detections, as ``stale-run`` does it; the prompts are encoded before."""
        prompts, timeline = self._localizer.encode_prompts(self.job.classes), Timeline(duration_s=ANY_DURATION_S)
        return {"video": lambda: self._localizer.detect_file(path, prompts, timeline=timeline)}

    def facts(self, features: FloatArray) -> Facts:
        """Size of the graph's file, and the multiplications that ONNX Runtime executes.

        Those of the exact graph are not counted that an approximation leaves a video to.
        """
        assert self.job.file is not None
        prompts = self._localizer.encode_prompts(self.job.classes)
        inputs = self._localizer.graph_inputs(self._localizer.prepare(features, prompts))
        with workspace() as folder:
            macs = count_onnx(self.bundle.read(self.job.file), inputs, folder)
        found = self._localizer.detect(features, prompts, duration_s=ANY_DURATION_S)
        return Facts(
            file_mb=self.bundle.manifest.files[self.job.file].size / 1e6,
            gmacs=macs.total / 1e9,
            int8_share=macs.int8_share,
            recomputed=self._was_recomputed(found),
        )

    def detect(self, path: Path, duration_s: float) -> Found:
        """Find actions in the video of a feature file."""
        prompts = self._localizer.encode_prompts(self.job.classes)
        found = self._localizer.detect_file(path, prompts, timeline=Timeline(duration_s=duration_s))
        return Found(detections=found.detections, recomputed=self._was_recomputed(found))

    def _was_recomputed(self, found: VideoDetections) -> bool | None:
        return found.recomputed > 0 if self.job.file == layout.LOCALIZER_FAST else None
