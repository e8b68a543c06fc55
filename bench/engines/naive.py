"""The published network in ONNX Runtime, exported without any change: what a user would take instead of this project.

``naive_export.py`` makes the graphs, before anything is timed. This module imports no PyTorch, because whoever runs
such a graph needs none either.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stale_bench.engines.engine import Engine, Step
from stale_bench.engines.macs import count_onnx
from stale_bench.engines.prompt_tokens import padded_token_ids
from stale_bench.protocol import BackendJob, Facts
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.features import resample
from stale_runtime.segments import FloatArray
from stale_runtime.system.workspace import workspace

FEATURES, TOKEN_IDS = "features", "token_ids"
"""Inputs of the graphs."""
FIXED = "fixed"
"""How the names of backends begin whose class names are constants of the graph."""


def graph_path(job: BackendJob, precision: str | None = None) -> Path:
    """The graph that a job runs, or the one of the same family in another precision."""
    family = job.backend.rpartition("-")[0]
    return Path(job.cache) / f"{family}-{precision or job.precision} T={job.length}.onnx"


def weights_path(graph: Path) -> Path:
    """Where a graph's weights are, if they are not in the graph itself."""
    return graph.with_name(f"{graph.name}.data")


class NaiveEngine(Engine):
    """``naive-ort-fp32`` and ``naive-ort-int8``, with the text tower in every forward pass, and ``fixed-ort-*``.

    The session has ONNX Runtime's defaults, which are all its optimizations, except for the number of threads.
    """

    def __init__(self, job: BackendJob) -> None:
        super().__init__(job)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        options.log_severity_level = 3
        self._path = graph_path(job)
        self._session = onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        self._constant: dict[str, NDArray[Any]] = {}
        if not job.backend.startswith(FIXED):
            self._constant[TOKEN_IDS] = padded_token_ids(self.bundle, job.classes)

    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        """Resampling, and the forward pass."""
        inputs = self._inputs(features)
        return {
            "resample": lambda: resample(features, self.job.length),
            "forward": lambda: self._session.run(None, inputs),
        }

    def video_steps(self, path: Path) -> Mapping[str, Step]:
        """The forward pass alone, on features that have been read and resampled already."""
        inputs = self._inputs(read_features(path, self.bundle.manifest.channels))
        return {"forward": lambda: self._session.run(None, inputs)}

    def facts(self, features: FloatArray) -> Facts:
        """Size of the graph with its weights, and the multiplications that ONNX Runtime executes."""
        with workspace() as folder:
            macs = count_onnx(self._path, self._inputs(features), folder)
        files = (self._path, weights_path(self._path))
        size = sum(file.stat().st_size for file in files if file.exists())
        return Facts(file_mb=size / 1e6, gmacs=macs.total / 1e9, int8_share=macs.int8_share)

    def _inputs(self, features: FloatArray) -> dict[str, NDArray[Any]]:
        resampled = np.ascontiguousarray(resample(features, self.job.length)[None])  # (1, T, C)
        return {FEATURES: resampled, **self._constant}
