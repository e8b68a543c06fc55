"""Finding actions as functions on a ``ray.data.Dataset``, to be combined with Ray's own.

::

    ray.init()
    plan = DetectionPlan.make(Bundle("stale_bundle"), Settings(), read_prompts("classes.txt"))
    listing = listing_dataset([read_listing(Path("videos.parquet"))])
    found = detect_files(listing, plan, actors=2)
    for batch in write_parts(found, Path("out")).iter_batches(batch_format="pyarrow"):
        print(batch["video"], batch["status"])

Actors that take all CPUs would leave none for the tasks that read and write, and Ray would wait for ever. So an actor
for each CPU takes nine tenths of it, and a task that writes one tenth, while the listing needs no task at all. A
dataset that Ray reads itself needs whole CPUs for that: give it fewer actors than there are CPUs.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stale_runtime.errors import MissingPackageError
from stale_runtime.ray_data.detection_actors import FeatureDetector, FileDetector, VideoEmbedder
from stale_runtime.ray_data.detection_plan import DetectionPlan
from stale_runtime.ray_data.row_parts import write_part
from stale_runtime.ray_data.video_listing import ListedVideo

if TYPE_CHECKING:
    from ray.data import Dataset

DETECTOR_CPUS = 0.9
"""Share of a CPU that Ray reserves for an actor that detects; with a task that writes, they take no more than one."""
EMBEDDER_CPUS = 0.8
"""Of an actor that computes features of videos; one that detects for it, and a task that writes, have the rest."""
SMALL_CPUS = 0.1
"""Of what needs little."""
VIDEOS_A_DETECTOR = 8
"""Actors that compute features, for each that detects in them, which is a hundred times faster."""
MOST_ATTEMPTS = 3
"""How often a batch is tried again whose process was killed. Ray would do it for ever, also if a file is the cause."""


def require_ray() -> None:
    """Make sure that Ray Data is installed.

    Raises:
        MissingPackageError: it is not.
    """
    try:
        import ray.data  # noqa: F401 -- takes a second, for which errors in the options need not wait
    except ImportError as problem:
        raise MissingPackageError.for_extra("this needs Ray Data", "ray") from problem


def listing_dataset(blocks: Sequence[Sequence[ListedVideo]]) -> "Dataset":
    """The videos of a listing, with the columns ``video`` and ``path``.

    Args:
        blocks: videos of what ``read_listing`` returned: each block is what an actor does at once, and what is lost if
            it is killed.
    """
    import pyarrow
    import ray.data

    schema = pyarrow.schema({"video": pyarrow.string(), "path": pyarrow.string()})
    return ray.data.from_arrow(
        [pyarrow.Table.from_pylist([video._asdict() for video in block], schema) for block in blocks]
    )


def detect_files(dataset: "Dataset", plan: DetectionPlan, *, actors: int) -> "Dataset":
    """Find actions in feature files; ``detect_videos`` is for videos.

    Args:
        dataset: columns ``video``, an id that no other row has, and ``path``.
        plan: how to detect.
        actors: processes that detect, each on a CPU.

    Returns:
        The columns of ``ResultRow``, and a warning of features that are not like those of the training.
    """
    return _map_with_actors(dataset, FileDetector, plan, actors=actors, num_cpus=DETECTOR_CPUS)


def detect_videos(dataset: "Dataset", plan: DetectionPlan, *, actors: int, num_gpus: float = 0) -> "Dataset":
    """Find actions in videos in two stages: features, by actors with CPUs or GPUs, and detections, by other actors.

    Args:
        dataset: as for ``detect_files``; a block should have one video.
        plan: how to detect; made with ``videos=True``, and with ``vision_processor="cuda"`` for GPUs.
        actors: processes that compute features.
        num_gpus: GPUs for each of them, such as 0.5; 0 for none.

    Returns:
        As ``detect_files``.
    """
    features = _map_with_actors(dataset, VideoEmbedder, plan, actors=actors, num_cpus=EMBEDDER_CPUS, num_gpus=num_gpus)
    return _map_with_actors(
        features, FeatureDetector, plan, actors=-(-actors // VIDEOS_A_DETECTOR), num_cpus=SMALL_CPUS
    )


def write_parts(dataset: "Dataset", folder: Path) -> "Dataset":
    """Write the results into a folder of Parquet files, which ``stale-merge`` reads; see ``row_parts``.

    Args:
        dataset: what ``detect_files`` or ``detect_videos`` returned.
        folder: must exist; on a cluster, the same on all machines.

    Returns:
        What became of each video. Nothing is written until this is consumed.
    """
    return dataset.map_batches(
        partial(write_part, folder=folder), batch_size=None, batch_format="pyarrow", num_cpus=SMALL_CPUS
    )


def _map_with_actors(
    dataset: "Dataset", actor: type, plan: DetectionPlan, *, actors: int, num_cpus: float, num_gpus: float = 0
) -> "Dataset":
    """Give a dataset to actors block by block."""
    from ray.data import ActorPoolStrategy

    return dataset.map_batches(
        actor,
        fn_constructor_args=(plan,),
        batch_size=1 if num_gpus else None,  # None: a block, however large, which Ray refuses for actors with GPUs
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),  # more would fail with one that dies
        num_cpus=num_cpus,
        num_gpus=num_gpus or None,
        ray_remote_args_fn=_retry_limit,
    )


def _retry_limit() -> dict[str, int]:
    return {"max_task_retries": MOST_ATTEMPTS}
