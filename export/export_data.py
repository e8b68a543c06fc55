"""The videos that an export reads besides the checkpoint: to calibrate on, and to validate on."""

from dataclasses import replace
from pathlib import Path

from stale_export.calibration import Calibration, read_calibration
from stale_export.export_task import ExportTask
from stale_export.int8_options import Int8Options
from stale_export.validation_gate import ValidationVideos, read_validation
from stale_export.vision_validation import AnnotatedFootage, find_footage
from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.evaluation.video_info import read_video_info
from stale_runtime.inputs.feature_check import FeatureCheck
from stale_runtime.inputs.feature_statistics import FeatureStatistics
from stale_runtime.inputs.prompts import Prompts


def read_validation_videos(export: ExportTask, prompts: Prompts) -> ValidationVideos | None:
    """The features to validate on, with the annotations spelt like the prompts; None if there are none.

    Raises:
        DatasetError, FeatureError: they cannot be used.
    """
    options = export.int8
    if options.annotations is None or options.validation_features is None:
        return None
    export.stages.enter("reading the validation features")
    videos = read_validation(
        Path(options.annotations),
        Path(options.validation_features),
        subset=options.annotations_subset,
        video_info=Path(options.video_info) if options.video_info is not None else None,
        channels=export.network.config.channels,
        length=export.network.config.temporal_scale,
        say=export.say,
    )
    return replace(videos, truth=videos.truth.spelt_like(prompts.names))


def find_validation_footage(export: ExportTask, vision: str | None, prompts: Prompts) -> AnnotatedFootage | None:
    """The video files to validate the vision tower on; None if there are none.

    Raises:
        DatasetError: they cannot be used.
        ValueError: there is no vision tower.
    """
    options = export.int8
    if options.annotations is None or options.validation_videos is None:
        return None
    if vision is None:
        raise ValueError("validation_videos without vision; give the vision tower that computes their features")
    return find_footage(
        Path(options.annotations),
        Path(options.validation_videos),
        subset=options.annotations_subset,
        video_info=Path(options.video_info) if options.video_info is not None else None,
        classes=prompts.names,
        say=export.say,
    )


def read_calibration_videos(
    export: ExportTask, validation: ValidationVideos | None, footage: AnnotatedFootage | None
) -> Calibration | None:
    """The features to calibrate on; None if there are none.

    Raises:
        DatasetError: they cannot be used, or are of videos to validate on.
    """
    options = export.int8
    if options.calibration is None:
        return None
    export.stages.enter("reading the calibration features")
    unwanted = {
        *(validation.features if validation is not None else ()),
        *(footage.paths if footage is not None else ()),
    }
    return read_calibration(
        Path(options.calibration),
        count=options.calibration_videos,
        seed=options.calibration_seed,
        unwanted=unwanted,
        durations_s=_read_known_durations(options) if options.annotations is not None else {},
        channels=export.network.config.channels,
        length=export.network.config.temporal_scale,
        say=export.say,
    )


def _read_known_durations(options: Int8Options) -> dict[str, float]:
    """Seconds that videos last, by id, of all subsets of the annotations."""
    assert options.annotations is not None
    info = read_video_info(Path(options.video_info)) if options.video_info is not None else None
    videos = read_ground_truth(options.annotations, video_info=info).videos
    return {video: annotated.duration_s for video, annotated in videos.items() if annotated.duration_s}


def choose_statistics(export: ExportTask, calibration: Calibration | None) -> FeatureStatistics | None:
    """What the features of the training look like: as the checkpoint says, else as those to calibrate on do."""
    trained = export.trained.features
    export.say(f"recipe of the training features: {trained.recipe.describe()}")
    if trained.statistics is None and calibration is None:
        export.say("no statistics of the features; with --calibration stale-run could warn of others")
    if calibration is None or trained.statistics is None:
        return trained.statistics if calibration is None else calibration.statistics
    check = FeatureCheck(recipe=trained.recipe, statistics=trained.statistics)
    problems = (check.problem_with(summary) for summary in calibration.summaries.values())
    if found := [problem for problem in problems if problem is not None]:
        export.say(
            f"warning: {len(found)} of {len(calibration.summaries)} videos of --calibration do not look like those of "
            f"the training: {found[0]}"
        )
    return trained.statistics
