"""The deployed network in PyTorch: ``torch-fp32`` and ``torch-int8``."""

from collections.abc import Mapping
from pathlib import Path

import torch

from stale_bench.benchmark_inputs import read_encoded
from stale_bench.engines.engine import ANY_DURATION_S, Engine, Step
from stale_bench.engines.torch_macs import count_torch
from stale_bench.protocol import BackendJob, Facts, Found
from stale_export.torch_localizer import TorchLocalizer, read_torch_localizer, torch_runner
from stale_runtime.decoding.decoders import DECODERS, decode_detections
from stale_runtime.detections import Detection
from stale_runtime.errors import BundleError
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.features import check_features, resample
from stale_runtime.segments import FloatArray


class TorchEngine(Engine):
    """The network of the ONNX graphs in PyTorch; its prompts are encoded by ONNX Runtime."""

    def __init__(self, job: BackendJob) -> None:
        super().__init__(job)
        torch.set_num_threads(job.threads)
        assert job.file is not None
        self._file = job.file
        self._network = read_torch_localizer(self.bundle.read(self._file), self._file)
        manifest, sizes = self.bundle.manifest, self._network.sizes
        assert isinstance(sizes, dict)
        if (sizes["channels"], sizes["heads"]) != (manifest.channels, manifest.heads):
            raise BundleError(
                f"{self._file}: not the network that the manifest describes; copy the bundle again, or ask whoever "
                "made it to export it again"
            )
        self._prompts = read_encoded(Path(job.cache))
        self._forward = torch_runner(self._network, self._prompts)

    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        """All steps from features to detections, each alone and all in one call."""
        resampled = resample(features, self.job.length)
        outputs = self._forward(resampled)
        decode = DECODERS[self.bundle.manifest.decoder]
        return {
            "resample": lambda: resample(features, self.job.length),
            "forward": lambda: self._forward(resampled),
            "decode": lambda: decode(outputs.cas_logits, outputs.masks),
            "end_to_end": lambda: self._detections(features, ANY_DURATION_S),
        }

    def facts(self, features: FloatArray) -> Facts:
        """Size of the file, and the multiplications of the network."""
        sizes = self._network.sizes
        assert isinstance(sizes, dict)
        shapes = ((self.job.length, features.shape[1]), self._prompts.embeddings.shape, self._prompts.queries.shape)
        macs = count_torch(lambda: TorchLocalizer(**sizes), *shapes)
        file_mb = self.bundle.manifest.files[self._file].size / 1e6
        int8_share = macs.int8_share if self.job.precision == "int8" else 0.0
        return Facts(file_mb=file_mb, gmacs=macs.total / 1e9, int8_share=int8_share)

    def detect(self, path: Path, duration_s: float) -> Found:
        """Find actions in the video of a feature file."""
        return Found(detections=self._detections(read_features(path, self.bundle.manifest.channels), duration_s))

    def _detections(self, features: FloatArray, duration_s: float) -> tuple[Detection, ...]:
        check_features(features, self.bundle.manifest.channels)
        cas_logits, masks, _ = self._forward(resample(features, self.job.length))
        return decode_detections(self.bundle.manifest.decoder, cas_logits, masks, self._prompts.names, duration_s)
