"""Choosing the videos of a training by subset, list and fraction, and telling what is left out."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from stale_model.checkpoints.own_checkpoint import TrainedFeatures
from stale_model.data.common_recipe import find_common_recipe
from stale_model.data.dataset import Selection, VideoSample, sample_fraction, select_videos
from stale_model.data.feature_cache import CacheBuilder, FeatureCache, feature_cache
from stale_model.data.splits import Split
from stale_model.data.train_ids import TrainIds, read_train_ids
from stale_model.data.usable_features import UsableFeatures
from stale_model.training.train_request import TRAINING, VALIDATION, TrainRequest
from stale_model.training.training_loop import TrainingData
from stale_model.training.training_report import Reporter, name_few
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, GroundTruth, read_ground_truth
from stale_runtime.evaluation.video_info import VideoInfo, read_video_info
from stale_runtime.inputs.feature_check import FeatureCheck
from stale_runtime.inputs.feature_statistics import FeatureStatistics
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE, FeatureRecipe, read_recipe


@dataclass(frozen=True, kw_only=True)
class ChosenVideos:
    """The videos that can be used, before a fraction of the first ones is drawn."""

    training: Selection
    validation: Selection | None
    """None if there are none."""
    unseen: Selection | None
    """None if there are none."""
    train_ids: TrainIds | None
    """The list that the training videos were restricted to."""
    recipe: FeatureRecipe
    """How all features were made."""
    listed: int = 0
    """Number of ids in that list that are of the training subset."""
    cache: FeatureCache | None = None
    """Has the features of all of them; None to read their files."""


def read_all_annotations(request: TrainRequest) -> GroundTruth:
    """The annotations of all subsets, if it is known which videos may be trained on.

    Raises:
        DatasetError: they cannot be read; or they have no subsets, and neither ``video_info`` nor ``all_training`` is
            given; or they have, and ``all_training`` is.
    """
    truth = read_ground_truth(request.annotations)
    if not truth.has_subsets and request.video_info is None and not request.all_training:
        raise DatasetError(
            f"{request.annotations}: does not say which videos are for training; give --video-info FILE, such as the "
            "original code's video_info_new.csv, or --all-training to train on every video, those for validation too"
        )
    if truth.has_subsets and request.all_training:
        raise DatasetError(f"{request.annotations}: has the subset of each video itself; leave out --all-training")
    return truth


def choose_videos(request: TrainRequest, split: Split, channels: int, reporter: Reporter) -> ChosenVideos:
    """Find the videos to train on and to validate on.

    Args:
        request: where annotations, subsets and features are.
        split: the classes.
        channels: C, the width of the features.
        reporter: tells what was found, and what was left out.

    Raises:
        DatasetError: a file of annotations, subsets or ids cannot be used, or no video is left to train on.
        FeatureError: the folder of features cannot be used.
        RecipeError: the features were made by several recipes, or the file of the recipe cannot be used.
        OutputError: the cache of the features cannot be written.
    """
    info = None if request.video_info is None else read_video_info(request.video_info)
    if info is not None:
        annotated = read_ground_truth(request.annotations).videos  # with the subsets that they have themselves
        _show_coverage(request, annotated, info, reporter)
    if request.all_training:
        reporter.say(f"--all-training: every video of {request.annotations} is trained on, those for validation too")
    subset = None if request.all_training else request.train_subset
    truth = read_ground_truth(request.annotations, subset=subset, video_info=info, option="--train-subset")
    if info is not None:
        _refuse_leaks(request, annotated, truth)
    train_ids = None if request.train_ids is None else read_train_ids(request.train_ids)
    if train_ids is not None:
        truth = _restrict(truth, train_ids, subset, reporter)
    listed = 0 if train_ids is None else len(truth.videos)
    if (told := truth.spellings.describe()) is not None:
        reporter.say(f"{request.annotations}: {told}")
    if outside := truth.outside_segments:
        reporter.say(
            f"training: skipped {outside:,} annotations that lie wholly outside their video; are all times and "
            "durations in seconds?"
        )
        truth = truth.without_outside()
    if truth.ambiguous_segments:
        reporter.say(f"training: skipped {truth.ambiguous_segments:,} segments labelled Ambiguous")
    known = None if request.all_training else _read_validation(request, info, reporter)
    with _open_cache(request, channels, reporter) as builder:
        examine = None if builder is None else builder.examine
        training = select_videos(
            truth.without_ambiguous(),
            request.features,
            split.seen,
            channels=channels,
            examine=examine,
            watch=reporter.show_reading,
            say=reporter.say,
        )
        reporter.show_selection("training", training, named=train_ids is not None)
        _warn_of_features(training, reporter)
        validation = _select_validation(request, known, split.seen, channels, examine, reporter)
        if validation is None:
            reporter.say("no validation videos of the seen classes; best.pth is the last epoch")
        else:
            reporter.show_selection("validation", validation)
        unseen = _select_validation(request, known, split.unseen, channels, examine, reporter)
        if unseen is not None:
            reporter.show_selection("validation on unseen classes, once at the end", unseen)
        cache = None if builder is None else builder.finish()
    given = read_recipe(request.recipe) if request.recipe is not None else None
    recipe = find_common_recipe((part for part in (training, validation, unseen) if part is not None), given)
    reporter.say(f"recipe of the features: {recipe.describe()}")
    return ChosenVideos(
        training=training,
        validation=validation,
        unseen=unseen,
        train_ids=train_ids,
        recipe=recipe,
        listed=listed,
        cache=cache,
    )


@contextmanager
def _open_cache(request: TrainRequest, channels: int, reporter: Reporter) -> Iterator[CacheBuilder | None]:
    """The cache of the features, while no other process looks into it; None if none was asked for."""
    if request.cache_features is None:
        yield None
        return
    with feature_cache(
        request.cache_features,
        request.features,
        length=request.config.length,
        channels=channels,
        say=reporter.say,
    ) as builder:
        yield builder


def _warn_of_features(selection: Selection, reporter: Reporter) -> None:
    """Warn of features that are padded with zeros, and of durations that are not in seconds."""
    check = FeatureCheck(recipe=UNKNOWN_RECIPE, statistics=None)
    found = {
        sample.path: problem
        for sample in selection.samples
        if (summary := selection.summaries.get(sample.video)) is not None
        and (problem := check.problem_with(summary, snippet_s=sample.duration_s / summary.snippets)) is not None
    }
    if found:
        path, problem = next(iter(found.items()))
        reporter.say(f"warning: {len(found):,} of {len(selection.samples):,} training videos: {path}: {problem}")


def draw_data(request: TrainRequest, split: Split, videos: ChosenVideos, reporter: Reporter) -> TrainingData:
    """The data of one training, with its own fraction of the training videos."""
    drawn = sample_fraction(videos.training.samples, request.fraction, request.subset_seed)
    reporter.say(f"training on {len(drawn):,} videos, {len(split.seen)} seen classes, split {split.name}")
    return TrainingData(
        train=drawn,
        validation=videos.validation.samples if videos.validation is not None else (),
        classes=split.seen,
        split=split.name,
        unseen=videos.unseen.samples if videos.unseen is not None else (),
        unseen_classes=split.unseen,
        all_training=request.all_training,
        train_ids=videos.train_ids,
        listed=videos.listed,
        features=TrainedFeatures(videos.recipe, _statistics(drawn, videos.training)),
        cache=videos.cache,
    )


def _statistics(drawn: Sequence[VideoSample], known: Selection) -> FeatureStatistics | None:
    """What the features of some videos look like."""
    summaries = {sample.video: known.summaries[sample.video] for sample in drawn if sample.video in known.summaries}
    spacings_s = [s.duration_s / summaries[s.video].snippets for s in drawn if s.video in summaries]
    return FeatureStatistics.over(list(summaries.values()), spacings_s=spacings_s)


def _show_coverage(
    request: TrainRequest, videos: Mapping[str, AnnotatedVideo], info: Mapping[str, VideoInfo], reporter: Reporter
) -> None:
    """Tell how many videos are in only one of the two files; the original code ends with a ``KeyError`` at the first.

    Source: ``STALEDataset.get_video_anno`` in the authors' and the thesis's ``stale_lib/stale_dataloader.py``; the
    former looks up each video of the CSV file in the annotations, the latter the reverse.
    """
    reporter.say(f"{request.video_info}: subsets of {len(videos.keys() & info.keys()):,} of {len(videos):,} videos")
    if unlisted := videos.keys() - info.keys():
        reporter.say(f"without a subset, so not used: {name_few(unlisted)}")
    if others := info.keys() - videos.keys():
        reporter.say(f"{len(others):,} videos of {request.video_info} are not in {request.annotations}")


def _refuse_leaks(request: TrainRequest, annotated: Mapping[str, AnnotatedVideo], chosen: GroundTruth) -> None:
    """Make sure that ``video_info`` chose no video that the annotations themselves do not count as one for training."""
    allowed = {_kind(TRAINING), _kind(request.train_subset)}
    own = {video: subset for video in chosen.videos if (subset := annotated[video].subset)}
    if leaks := [video for video, subset in own.items() if _kind(subset) not in allowed]:
        others = name_few({repr(own[video]) for video in leaks})
        raise DatasetError(
            f"{request.video_info}: {len(leaks):,} videos of subset {request.train_subset!r} that are of {others} in "
            f"{request.annotations}: {name_few(leaks)}; leave out --video-info, or correct one of the files"
        )


def _kind(subset: str) -> str:
    """What a subset is for, however it is spelt: ``val`` for ``Validation`` and ``val_1``."""
    name = subset.lower()
    return next((kind for kind in ("train", "val", "test") if name.startswith(kind)), name)


def _restrict(truth: GroundTruth, wanted: TrainIds, subset: str | None, reporter: Reporter) -> GroundTruth:
    """The videos that are listed."""
    place = "the annotations" if subset is None else f"subset {subset!r}"
    kept = {video: annotated for video, annotated in truth.videos.items() if video in wanted.ids}
    absent = wanted.ids - kept.keys()
    if not kept:
        raise DatasetError(
            f"--train-ids {wanted.path}: {len(wanted.ids):,} ids, none of {place}, such as {name_few(absent)}; give "
            f"ids such as {min(truth.videos)}"
        )
    reporter.say(f"--train-ids {wanted.path}: {len(kept):,} of {len(wanted.ids):,} ids are videos of {place}")
    if absent:
        reporter.say(f"--train-ids {wanted.path}: not among them: {name_few(absent)}")
    return replace(truth, videos=kept)


def _read_validation(
    request: TrainRequest, info: Mapping[str, VideoInfo] | None, reporter: Reporter
) -> GroundTruth | None:
    """The videos of the validation subset; None, with a note, if nobody named one and there is none by that name.

    Raises:
        DatasetError: a subset was named, and there is none by that name.
    """
    try:
        return read_ground_truth(
            request.annotations, subset=request.validation_subset, video_info=info, option="--validation-subset"
        )
    except DatasetError as problem:
        if request.validation_subset != VALIDATION:
            raise
        reporter.say(f"--validation-subset: {problem}")
        return None


def _select_validation(
    request: TrainRequest,
    truth: GroundTruth | None,
    classes: Collection[str],
    channels: int,
    examine: Callable[[Path], UsableFeatures] | None,
    reporter: Reporter,
) -> Selection | None:
    """The validation videos of some classes; None if there are none."""
    if truth is None or not classes:
        return None
    try:
        return select_videos(
            truth, request.features, tuple(classes), channels=channels, examine=examine, watch=reporter.show_reading
        )
    except DatasetError:  # no video can be used
        return None
