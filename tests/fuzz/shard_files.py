"""Readers of what stale-merge takes: shards in JSON lines and Parquet."""

from pathlib import Path

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.errors import FeatureError
from stale_runtime.formats.registry import FORMATS
from stale_runtime.formats.run_result import RunResult
from stale_runtime.formats.shard_end import ShardEnd
from stale_runtime.inputs.shards import Listing, Shard
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.target import Target


def lines_target(folder: Path) -> Target:
    """A shard in JSON lines."""
    return _shard(folder / "0.jsonl", "jsonl")


def parquet_target(folder: Path) -> Target:
    """A shard in Parquet."""
    return _shard(folder / "0.parquet", "parquet")


def _shard(path: Path, name: str) -> Target:
    from stale_runtime.batch.merging import open_results

    def run(data: bytes) -> object:
        path.write_bytes(data)
        file = open_results(path)
        for result in file.results():
            result.video.encode()
            if isinstance(result, VideoDetections):
                assert all(row.start <= row.end for row in result)
                result.to_json()
        return file.end

    return Target(seeds=(FORMATS[name].content(_result()),), run=run, mutate=mutate_bytes)


def _result() -> RunResult:
    rows = (Detection("polo", 0.5, 1.5, 0.25), Detection("archery", 0.0, 0.0, -1.0))
    videos = tuple(VideoDetections(video=name, duration_s=2.5, detections=rows, window=8) for name in "abc")
    settings = {"stale-edge": "1", "top": None}
    listing = Listing.of(["a", "b", "c", "d"])
    return RunResult(
        videos=videos,
        paths=tuple(Path(f"{name}.npy") for name in "abc"),
        failed=((Path("d.npy"), FeatureError("d.npy: empty")),),
        version="1",
        settings=settings,
        end=ShardEnd(shard=Shard(index=0, count=1), videos=4, listing=listing, settings=settings),
    )
