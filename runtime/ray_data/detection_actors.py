"""What runs in Ray's actors: each opens the bundle once, and then takes batch after batch of the listing."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stale_runtime.batch.feature_comparison import RowSample
from stale_runtime.batch.group_detection import GroupDetection, group_size
from stale_runtime.errors import FeatureError, OutOfMemoryError, RecipeError, StaleError
from stale_runtime.formats.parquet_table import parquet_schema
from stale_runtime.formats.result_rows import FailedVideo, ResultRow, VideoResult, result_row, row_of_result
from stale_runtime.inputs.remote_copies import fetched, look_up_all
from stale_runtime.inputs.remote_files import Source, parse_source
from stale_runtime.ray_data.detection_plan import DetectionPlan
from stale_runtime.ray_data.row_parts import WARNING
from stale_runtime.system.files import MEGABYTE
from stale_runtime.system.long_calls import time_limit
from stale_runtime.system.text import as_text

if TYPE_CHECKING:
    import pyarrow

MOST_FEATURES = 512 * MEGABYTE
"""Bytes of the features of one video, which Ray passes on in memory: three days at two rows a second, 512 wide."""


class FileDetector:
    """Finds actions in feature files."""

    def __init__(self, plan: DetectionPlan) -> None:
        """Open the bundle.

        Raises:
            StaleError: it cannot be used here.
        """
        self._plan = plan
        self._group = GroupDetection(
            localizer=plan.open_localizer(),
            prompts=plan.prompts,
            timeline=plan.timeline,
            in_seconds=False,
            strict=plan.strict,
        )

    def __call__(self, batch: "pyarrow.Table") -> "pyarrow.Table":
        """From a batch with the columns ``video`` and ``path`` to one of results, see ``parquet_schema``."""
        videos, paths = batch["video"].to_pylist(), look_up_all(list(map(parse_source, batch["path"].to_pylist())))
        size, rows = group_size(paths), []
        for start in range(0, len(paths), size):
            group = self._group.process(paths[start : start + size])
            for video, (outcome, compared, _) in zip(videos[start:], group, strict=False):
                assert outcome is not None  # none is finished before
                rows.append(_named(video, result_row(outcome, self._plan.text), compared.problem))
        return _as_table(rows)


class VideoEmbedder:
    """Computes the features of videos; they travel in the rows to whoever detects."""

    def __init__(self, plan: DetectionPlan) -> None:
        """Open the bundle's vision tower.

        Raises:
            StaleError: it cannot be used here.
        """
        from stale_runtime.video.video_reader import require_video_reader

        require_video_reader()
        self._plan, self._encoder = plan, plan.open_encoder()
        self._manifest = plan.open_bundle().manifest

    def __call__(self, batch: "pyarrow.Table") -> "pyarrow.Table":
        """Add ``features`` (binary: (T0, C) of float16), ``duration_s`` and a warning, or an error and its message."""
        import pyarrow

        schema = pyarrow.schema(
            {
                "video": pyarrow.string(),
                "features": pyarrow.large_binary(),
                "duration_s": pyarrow.float64(),
                "error": pyarrow.string(),
                "message": pyarrow.string(),
                WARNING: pyarrow.string(),
            }
        )
        rows = [
            {"video": video, **self._embed(parse_source(path))}
            for video, path in zip(batch["video"].to_pylist(), batch["path"].to_pylist(), strict=True)
        ]
        return pyarrow.Table.from_pylist(rows, schema)

    def _embed(self, source: Source) -> dict[str, Any]:
        error: StaleError
        try:
            with fetched(source) as path:
                return self._embed_file(path, str(source))
        except StaleError as problem:
            error = problem
        except MemoryError as problem:
            error = OutOfMemoryError(f"{source}: not enough memory ({problem}); take fewer --actors")
        return {"error": type(error).__name__, "message": as_text(str(error))}

    def _embed_file(self, path: Path, name: str) -> dict[str, Any]:
        """The features of a video on this machine, and what to warn of.

        Raises:
            StaleError: it cannot be used.
        """
        from stale_runtime.video.video_features import VideoFeatures

        with time_limit(self._plan.settings.timeout_s, name):
            found = VideoFeatures(path, self._encoder)
            size = 2 * found.snippets * found.channels
            if size > MOST_FEATURES:
                raise FeatureError(
                    f"{path}: {size:,} bytes of features, expected at most {MOST_FEATURES:,} between two stages; "
                    "compute them with stale-features, and list the feature file"
                )
            sample = RowSample()
            features = np.concatenate(list(sample.watch(None)(found.blocks(), found.block_count)))
        problem = sample.find_problem(path, self._manifest)
        if problem is not None and self._plan.strict:
            raise RecipeError(problem)
        warning = problem or (None if found.damage is None else f"{path}: {found.damage}")
        shown = None if warning is None else warning.replace(str(path), name)
        return {"features": features.tobytes(), "duration_s": found.duration_s, WARNING: shown}


class FeatureDetector:
    """Finds actions in features that ``VideoEmbedder`` has computed."""

    def __init__(self, plan: DetectionPlan) -> None:
        """Open the bundle.

        Raises:
            StaleError: it cannot be used here.
        """
        self._plan, self._localizer = plan, plan.open_localizer()

    def __call__(self, batch: "pyarrow.Table") -> "pyarrow.Table":
        """From a batch of ``VideoEmbedder`` to one of results, see ``parquet_schema``."""
        rows = [
            _named(row["video"], row_of_result(self._detect(row), self._plan.text), row[WARNING])
            for row in batch.to_pylist()
        ]
        return _as_table(rows)

    def _detect(self, row: dict[str, Any]) -> VideoResult:
        if row["error"] is not None:
            return FailedVideo(row["video"], row["error"], row["message"])
        channels = self._localizer.bundle.manifest.channels
        features: NDArray[np.float16] = np.frombuffer(row["features"], np.float16).reshape(-1, channels)  # (T0, C)
        try:
            return self._localizer.detect(
                features, self._plan.prompts, duration_s=row["duration_s"], video=row["video"]
            )
        except StaleError as problem:
            return FailedVideo(row["video"], type(problem).__name__, as_text(str(problem)))


def _named(video: str, row: ResultRow, warning: str | None) -> dict[str, Any]:
    """A row of results under the id of the listing, which need not be that of the file name."""
    return {**row, "video": video, WARNING: None if warning is None else as_text(warning)}


def _as_table(rows: Iterable[dict[str, Any]]) -> "pyarrow.Table":
    import pyarrow

    return pyarrow.Table.from_pylist(list(rows), parquet_schema().append(pyarrow.field(WARNING, pyarrow.string())))
