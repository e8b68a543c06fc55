"""How long, how large and how limited runs over very many videos are; writes the tables of docs/scale.md.

``python -m tests.scale_model`` writes the tables again. With ``--measure`` and a bundle, feature files and clips, it
measures the inputs before (see ``tests.scale_measurement``); do that on a quiet machine.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
MEASURED = Path(__file__).parent / "scale_inputs.json"
"""The measured inputs by name."""
SIZES = {10**4: 2, 10**6: 64, 10**9: 10_000}
"""Numbers of videos -> cores that work on them."""
KINDS = ("features", "clips")
_BLOCK = re.compile(r"(<!-- made by tests/scale_model\.py: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def measured(unit: str, source: str, digits: int = 3) -> Any:
    """An input that ``--measure`` measures."""
    return field(metadata={"unit": unit, "source": source, "digits": digits})


def assumed(value: float, unit: str, source: str) -> Any:
    """An input that is taken from elsewhere."""
    return field(default=value, metadata={"unit": unit, "source": source, "digits": 3})


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the model starts from. Times are of processor time unless they say otherwise."""

    features_s: float = measured("s a feature file", "`stale-run` over many, minus the same over one")
    clips_s: float = measured("s a clip", "`stale-run` over many, minus the same over one")
    features_bytes: float = measured("bytes a feature file", "mean of the files that were timed")
    clips_bytes: float = measured("bytes a clip", "mean of the files that were timed")
    jsonl_bytes: float = measured("bytes of results a video", "`--format jsonl`")
    parquet_bytes: float = measured("bytes of results a video", "`--format parquet`")
    start_s: float = measured("s of a process, by the clock", "`stale-run` over one feature file")
    start_cpu_s: float = measured("s of a process", "`stale-run` over one feature file")
    listed_s: float = measured("s an id", "reading a listing of a million paths, and the shard of each", 2)
    merged_s: float = measured("s a video", "`stale-merge` of the results")
    ray_start_s: float | None = measured("s of Ray, by the clock", "a run of Ray over one feature file")
    ray_s: float | None = measured(
        "s a video that Ray adds", "cores times duration of a run of Ray over many, minus `stale-run`"
    )
    fetched_s: float = assumed(0.003, "s to fetch a file", "measured with S3's interface, docs/remote_files.md")
    listed_at_once: float = assumed(1000, "names in the answer to a request for a list", "Amazon S3's documentation")
    latency_s: float = assumed(0.03, "s until a request is answered", "assumed, for storage in the same region")
    fetched_at_once: float = assumed(8, "files a process fetches at once", "`stale-run` with addresses")
    requests_per_s: float = assumed(5500, "requests a second and prefix", "Amazon S3's documentation")
    machine_bytes_per_s: float = assumed(1.25e9, "bytes a second and machine", "assumed: 10 Gbit/s")
    machine_cores: float = assumed(32, "cores a machine", "assumed")
    preemptions: float = assumed(0.05, "ends of a machine an hour", "assumed, for machines that may be taken away")
    failed_requests: float = assumed(0.001, "of all requests, which are repeated", "assumed")
    shard_files: float = assumed(100_000, "videos a shard at most", "`MOST_FILES` of `stale-run`")
    shards_per_core: float = assumed(4, "shards a core, so that a long one does not hold up the rest", "assumed")

    @classmethod
    def read(cls) -> "Inputs":
        """The inputs as they were measured last."""
        return cls(**json.loads(MEASURED.read_text()))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the model says of a number of videos of one kind."""

    inputs: Inputs
    kind: str
    """One of ``KINDS``."""
    videos: int
    cores: int

    @property
    def video_s(self) -> float:
        """Processor time of a video, s, with fetching it."""
        given = self.inputs
        return {"features": given.features_s, "clips": given.clips_s}[self.kind] + given.fetched_s

    @property
    def video_bytes(self) -> float:
        """Size of a file."""
        return {"features": self.inputs.features_bytes, "clips": self.inputs.clips_bytes}[self.kind]

    @property
    def work_hours(self) -> float:
        """Core hours for the videos alone."""
        return self.videos * self.video_s / 3600

    @property
    def shards(self) -> int:
        """As many as cores are to be kept busy with, and as shards may be large."""
        wanted = -(-self.videos // int(self.inputs.shard_files))
        return max(wanted, min(self.videos, int(self.cores * self.inputs.shards_per_core)))

    @property
    def start_hours(self) -> float:
        """Core hours that the processes of all shards take to start."""
        return self.shards * self.inputs.start_cpu_s / 3600

    @property
    def ends(self) -> float:
        """Processes that end with their machine."""
        return (self.work_hours + self.start_hours) * self.inputs.preemptions

    @property
    def resumed_hours(self) -> float:
        """Core hours that these cost if the shards are resumed: a start, and half of the videos in hand."""
        in_hand = self.inputs.fetched_at_once / 2 * self.video_s
        return self.ends * (self.inputs.start_cpu_s + in_hand) / 3600

    @property
    def repeated_hours(self) -> float:
        """Core hours that these cost if the shards begin anew: half a shard."""
        return self.ends * (self.inputs.start_cpu_s / 3600 + self.work_hours / self.shards / 2)

    @property
    def core_hours(self) -> float:
        """All core hours, of shards that are resumed."""
        return self.work_hours + self.start_hours + self.resumed_hours

    @property
    def ray_share(self) -> float | None:
        """What Ray adds to the core hours, as a share; None if that was not measured."""
        if self.inputs.ray_s is None or self.inputs.ray_start_s is None:
            return None
        starts = self.inputs.ray_start_s * self.cores / 3600
        return (self.videos * self.inputs.ray_s / 3600 + starts) / self.core_hours

    @property
    def file_requests(self) -> float:
        """Requests for files, those that are repeated included."""
        return self.videos * (1 + self.inputs.failed_requests)

    @property
    def list_requests(self) -> float:
        """Requests for lists, if every shard lists all videos."""
        return self.shards * -(-self.videos // self.inputs.listed_at_once)

    @property
    def hours(self) -> Mapping[str, float]:
        """How long each part would take by the clock if nothing else took time; the longest is the bottleneck."""
        given, machines = self.inputs, max(self.cores / self.inputs.machine_cores, 1)
        waiting_s = self.videos * given.latency_s / (given.fetched_at_once * self.cores)
        return {
            "computing": self.core_hours / self.cores,
            "files of one prefix": self.file_requests / given.requests_per_s / 3600,
            "lists for each shard": self.list_requests / given.requests_per_s / 3600,
            "waiting for answers": waiting_s / 3600,
            "transfer": self.videos * self.video_bytes / (given.machine_bytes_per_s * machines) / 3600,
            "reading these lists": self.shards * self.videos * given.listed_s / self.cores / 3600,
            "merging into one file": self.videos * given.merged_s / 3600,
        }

    @property
    def bottleneck(self) -> str:
        """The part that takes longest."""
        return max(self.hours, key=lambda part: self.hours[part])

    @property
    def cores_for_a_prefix(self) -> float:
        """Cores that ask for as much as one prefix of the object store answers."""
        return self.inputs.requests_per_s * self.video_s


def estimates(inputs: Inputs) -> list[Estimate]:
    """All that the page shows."""
    return [
        Estimate(inputs=inputs, kind=kind, videos=videos, cores=cores)
        for kind in KINDS
        for videos, cores in SIZES.items()
    ]


def _inputs_table(inputs: Inputs) -> str:
    def row(entry: Field[Any]) -> tuple[str, str, str, str]:
        value = getattr(inputs, entry.name)
        shown = "not measured" if value is None else _number(value, entry.metadata["digits"])
        return entry.name, shown, entry.metadata["unit"], entry.metadata["source"]

    return _table(["input", "value", "unit", "source"], [row(entry) for entry in fields(inputs)], "lrll")


def _work_table(inputs: Inputs) -> str:
    rows = [
        (
            *_what(one),
            _number(one.core_hours),
            _duration(one.core_hours / one.cores),
            f"{one.shards:,}",
            _share(one.start_hours / one.core_hours),
            _share(one.ray_share),
            _number(one.ends),
            _share(one.resumed_hours / one.core_hours),
            _share(one.repeated_hours / one.core_hours),
        )
        for one in estimates(inputs)
    ]
    names = ["videos", "", "cores", "core hours", "computing", "shards", "starts", "Ray adds"]
    names += ["processes that end", "cost if resumed", "cost if begun anew"]
    return _table(names, rows, "rlrrrrrrrrr")


def _storage_table(inputs: Inputs) -> str:
    rows = [
        (
            *_what(one)[:2],
            _size(one.videos * one.video_bytes),
            _size(one.videos * inputs.jsonl_bytes),
            _size(one.videos * inputs.parquet_bytes),
            _number(one.file_requests),
            _number(one.list_requests),
            _number(one.cores_for_a_prefix, 2),
        )
        for one in estimates(inputs)
    ]
    names = ["videos", "", "inputs", "results as JSON lines", "as Parquet"]
    names += ["requests for files", "for lists", "cores that one prefix serves"]
    return _table(names, rows, "rlrrrrrr")


def _limits_table(inputs: Inputs) -> str:
    found = estimates(inputs)
    rows = [(*_what(one), *map(_duration, one.hours.values()), one.bottleneck) for one in found]
    return _table(["videos", "", "cores", *found[0].hours, "the bottleneck"], rows, "rlrrrrrrrrl")


TABLES: Mapping[str, Callable[[Inputs], str]] = {
    "inputs": _inputs_table,
    "work": _work_table,
    "storage": _storage_table,
    "limits": _limits_table,
}
"""By their names in the page."""


def with_tables(text: str, inputs: Inputs) -> str:
    """A page with its tables written anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](inputs)}\n\n{found[3]}", text)


def _what(one: Estimate) -> tuple[str, str, str]:
    return f"{one.videos:,}", one.kind, f"{one.cores:,}"


def _table(names: list[str], rows: list[Any], alignment: str) -> str:
    align = [{"l": "left", "r": "right"}[letter] for letter in alignment]
    return tabulate(rows, names, tablefmt="pipe", colalign=align, disable_numparse=True)


def _number(value: float, digits: int = 3) -> str:
    rounded = float(f"{value:.{digits}g}")
    if rounded >= 100 or rounded == int(rounded):
        return f"{rounded:,.0f}"
    return np.format_float_positional(rounded, trim="-")


def _share(share: float | None) -> str:
    return "not measured" if share is None else f"{_number(100 * share, 2)} %"


def _duration(hours: float) -> str:
    for unit, size in (("days", 24.0), ("h", 1.0), ("min", 1 / 60)):
        if hours >= 2 * size:
            return f"{_number(hours / size, 2)} {unit}"
    return f"{_number(hours * 3600, 2)} s"


def _size(count: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{_number(count / size)} {unit}"
    return f"{_number(count / 1e6)} MB"


def main() -> int:
    """Write the tables, after measuring if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale_model")
    parser.add_argument("--measure", action="store_true", help="measure the inputs first, on a quiet machine")
    for name in ("bundle", "prompts", "features", "clips"):
        parser.add_argument(f"--{name}", type=Path, help="for --measure; clips need the bundle's vision tower")
    options = parser.parse_args()
    if options.measure:
        from tests.scale_measurement import measure  # needs the commands

        before = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
        found = measure(options.bundle, options.prompts, options.features, options.clips)
        MEASURED.write_text(json.dumps({**before, **found}, indent=1) + "\n")
    PAGE.write_text(with_tables(PAGE.read_text(), Inputs.read()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
