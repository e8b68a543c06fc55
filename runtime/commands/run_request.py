"""What ``stale-run`` is asked to do: its options, checked once."""

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from stale_runtime.batch.journal import journal_path
from stale_runtime.bundle.bundle import Bundle, find_bundle
from stale_runtime.commands.output_formats import OUTPUT_FORMATS
from stale_runtime.errors import MissingPackageError, PromptError
from stale_runtime.evaluation.video_labels import ExternalMode
from stale_runtime.formats.output_format import OutputFormat
from stale_runtime.inference.settings import Settings
from stale_runtime.inputs.feature_origin import sidecar_path
from stale_runtime.inputs.prompts import Prompts, read_prompts
from stale_runtime.inputs.shards import Shard
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import is_video, read_durations
from stale_runtime.terminal.output import check_not_an_input, check_output, check_output_folder, destination

STDIN = Path("-")
"""Stands for snippets on standard input."""
JOURNAL_NAME = "stale-run"
"""What the journal in a folder is named after."""
_FOR_FILES = {
    "duration": "--duration",
    "durations": "--durations",
    "output": "-o",
    "report": "--report",
    "resume": "--resume",
    "shard": "--shard",
    "fail_fast": "--fail-fast",
    "top": "--top",
    "max_detections": "--max-detections",
    "external_classifier": "--external-classifier",
    "external_mode": "--external-mode",
    "ground_truth": "--ground-truth",
    "subset": "--subset",
}
"""Options that make no sense for a stream, by field."""
_TIMES = {"--duration": "duration", "--fps with --stride": "fps", "--durations": "durations"}
_ENDLESS = "whose detections are printed before its end; leave it out"
_WHOLE = "that is looked at through windows; leave it out"
_WHY_NOT = {
    "--duration": "whose end is not known; give --fps with --stride",
    "--durations": "whose end is not known; give --fps with --stride",
    "-o": "whose detections are printed; write > FILE",
    "--report": "of one video; leave it out",
    "--resume": "that cannot be read again; leave it out",
    "--shard": "of one video; leave it out",
    "--fail-fast": "of one video; leave it out",
    "--window off": _WHOLE,
    "--decoder upstream": _WHOLE,
    "--length N without --window N": "that is looked at through windows; give both, or leave out --length",
    **{f"--format {name}": "whose detections are JSON lines; leave it out" for name in OUTPUT_FORMATS},
}
"""Why, and what to do instead, if it is not ``_ENDLESS``."""


@dataclass(frozen=True, kw_only=True)
class BundleRequest:
    """The bundle that a command runs on."""

    path: Path | None
    """None for ``$STALE_BUNDLE``, then ``./stale_bundle``."""
    expect_sha256: str | None
    """The manifest's hash; None to accept any."""
    verify_key: Path | None
    """Public key that the bundle must be signed with; None to accept unsigned bundles."""

    def open(self) -> Bundle:
        """Open the bundle, and check its hash and signature if asked to.

        Raises:
            BundleError: it is missing, broken, or not the expected one.
            KeyFileError: the public key cannot be used.
        """
        return Bundle(find_bundle(self.path), expect_sha256=self.expect_sha256, verify_key=self.verify_key)


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The videos and options of one run. Constructing it raises ``click.UsageError`` if they make no sense together."""

    features: tuple[Path, ...]
    """Feature files, videos, and folders of both."""
    prompts: Path | None
    """File of class names; None if they are given themselves."""
    prompt: tuple[str, ...] = ()
    """Class names that are given themselves."""
    bundle: BundleRequest
    backend: str | None
    """None for the bundle's default."""
    vision_precision: Literal["int8", "fp32"] | None
    """Which vision tower computes the features of videos; None for the bundle's default."""
    length: int | Literal["auto"] | None
    """T in snippets; None for the trained T."""
    window: int | Literal["auto", "off"]
    """Snippets of the largest windows."""
    max_detections: int | None
    """Most detections of a video; None for the default."""
    classes_per_video: int
    """Classes that are considered for a video, or for each window."""
    width: int | None
    """Numbers a row, of rows of float32 on standard input; None if it is no such stream."""
    threads: int
    """Threads that may be used."""
    decoder: str | None
    """None for the bundle's default."""
    timeout: float | None
    """Most seconds for a video, for encoding prompts, or for loading the graph; None for no limit."""
    duration: float | None
    """Seconds that the one video lasts."""
    fps: float | None
    """Frames a second; with ``stride``."""
    stride: float | None
    """Frames between the starts of two snippets; with ``fps``."""
    durations: Path | None
    """File of durations by video."""
    split_names: bool
    """Whether to prompt for class names such as "BaseballPitch" as "Baseball pitch"."""
    external_classifier: Path | None
    """File of video-level labels."""
    external_mode: ExternalMode | None
    """Which detections take these labels; None for ``surer``."""
    strict: bool
    """Whether features that are not like those of the training are an error."""
    output_format: str | None
    """A name of ``OUTPUT_FORMATS``; None for the one that ``output`` ends with, else a table, or JSON lines if snippets
    are read from standard input."""
    min_score: float | None
    """Score from which on detections are written; None for the format's default."""
    ground_truth: Path | None
    """File of annotations to show beside the detections."""
    subset: str | None
    """Subset of the annotations; None for all."""
    output: Path | None
    """File, or the folder for a file of each video; None for stdout."""
    report: Path | None
    """File for the result of each video; None for no report."""
    fail_fast: bool
    """Whether to stop at the first video that fails."""
    resume: bool
    """Whether to continue an interrupted run."""
    shard: Shard | None = None
    """Which of the videos are this machine's; None for all."""
    top: int | None
    """Detections a video; None for all."""
    cache_folder: Path | None
    """Prompt cache; None for the default folder."""
    no_cache: bool
    """Whether to leave the prompt cache alone."""
    verbose: bool
    """Whether to print what is used and how long it takes."""

    def __post_init__(self) -> None:
        if not self.features:
            raise click.UsageError("no INPUT; give a video, a .npy file, or a folder of them")
        if self.prompts is None and not self.prompt:  # --self-test needs none, so click does not require them
            raise click.UsageError(
                "no --prompts; give a text file with one class name per line, or --prompt NAME for each class"
            )
        if self.prompts is not None and self.prompt:
            raise click.UsageError(
                "--prompts with --prompt; write all names into the file, or give each as --prompt NAME"
            )
        try:
            self.settings(self.threads)
        except ValueError as problem:
            raise click.UsageError(str(problem)) from problem
        if (self.fps is None) != (self.stride is None):
            raise click.UsageError("--fps and --stride belong together; give both or neither")
        if self.is_stream:
            self._check_stream()
        else:
            self._check_files()

    def class_names(self) -> Prompts:
        """Read the class names to look for.

        Raises:
            PromptError: they cannot be used.
        """
        if self.prompts is None:
            return Prompts.of(self.prompt, split_names=self.split_names)
        if self.prompts != STDIN and not os.path.lexists(self.prompts):
            names = [name.strip() for name in self.prompts.name.split(",") if name.strip()]
            example = " ".join(f"--prompt {shlex.quote(name)}" for name in names[:3])
            raise PromptError(
                f"--prompts {self.prompts}: no such file, expected one with one class name per line; to give names "
                f"themselves: {example}"
            )
        return read_prompts(self.prompts, split_names=self.split_names)

    @property
    def form(self) -> OutputFormat:
        """The format of the detections."""
        if self.output_format is None and self.output is not None:
            named = self.output.suffix.removeprefix(".").lower()
            return OUTPUT_FORMATS.get(named, OUTPUT_FORMATS["table"])
        return OUTPUT_FORMATS[self.output_format or ("jsonl" if self.is_stream else "table")]

    @property
    def is_single(self) -> bool:
        """Whether there is one video, given as a file."""
        return len(self.features) == 1 and not os.path.isdir(self.features[0])

    @property
    def says_times(self) -> int:
        """How many options say how long the videos of feature files last; one at most makes sense."""
        return sum(value is not None for value in (self.duration, self.fps, self.durations))

    @property
    def writes_folder(self) -> bool:
        """Whether each video is written to a file of its own, in the folder ``output``."""
        given = self.output is not None and self.form.single_video
        return given and (not self.is_single or os.path.isdir(self.output or ""))

    @property
    def is_stream(self) -> bool:
        """Whether snippets are read from standard input."""
        return STDIN in self.features

    def _check_stream(self) -> None:
        if len(self.features) > 1:
            raise click.UsageError("- and another INPUT; give - alone, for the one video on standard input")
        if self.prompts == STDIN:
            raise click.UsageError("--prompts - with -: both would read standard input; give --prompt NAME or a file")
        given = {
            **{option: getattr(self, field) for field, option in _FOR_FILES.items()},
            "--window off": self.window == "off",
            "--decoder upstream": self.decoder == "upstream",
            "--length N without --window N": isinstance(self.length, int) and not isinstance(self.window, int),
            f"--format {self.output_format}": self.output_format not in (None, "jsonl"),
        }
        for option, value in given.items():
            if value:
                raise click.UsageError(f"{option} with -, a stream {_WHY_NOT.get(option, _ENDLESS)}")

    def _check_files(self) -> None:
        for path in self.features:
            if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)) and not os.path.lexists(path):
                raise click.UsageError(
                    f"{path}: an address, expected a file; write what it sends into files first, for example with "
                    "ffmpeg (docs/long_footage.md, A camera)"
                )
        if self.width is not None:
            raise click.UsageError("--width without -; it is for rows of float32 on standard input")
        times = self.says_times
        if times > 1:
            raise click.UsageError("--duration, --fps with --stride, and --durations exclude each other; give one")
        if times and all(map(is_video, self.features)):
            given = next(option for option, field in _TIMES.items() if getattr(self, field) is not None)
            raise click.UsageError(f"{given} is for feature files; a video says itself how long it is, so leave it out")
        if self.duration is not None and not self.is_single:
            raise click.UsageError("--duration is for a single video; give --durations FILE")
        if self.form.needs_seconds and self.is_single and not times and not says_duration(self.features[0]):
            raise click.UsageError(f"--format {self.form.name} needs seconds; give --duration, or --fps with --stride")
        if self.external_mode is not None and self.external_classifier is None:
            raise click.UsageError("--external-mode without --external-classifier; give the file of labels, or neither")
        self._check_format()
        self._check_outputs()

    def _check_format(self) -> None:
        form = self.form
        if form.missing:
            raise MissingPackageError.for_extra(f"--format {form.name} needs {form.module}", str(form.extra))
        if form.is_binary and self.output is None:
            raise click.UsageError(f"--format {form.name} is not text; give -o FILE")
        if self.shard is not None:
            self._check_shard()
        if self.ground_truth is not None and not form.shows_ground_truth:
            showing = " or ".join(other.name for other in OUTPUT_FORMATS.values() if other.shows_ground_truth)
            raise click.UsageError(
                f"--ground-truth with --format {form.name}, which shows no annotations; give --format {showing}, or "
                "leave it out"
            )
        if self.subset is not None and self.ground_truth is None:
            raise click.UsageError("--subset without --ground-truth; give the file of annotations, or neither")
        if form.single_video and not self.is_single:
            if self.output is None:
                raise click.UsageError(f"--format {form.name} holds a single video; for a file of each, give -o FOLDER")
            if not os.path.isdir(self.output) and (self.output.suffix == form.suffix or os.path.exists(self.output)):
                raise click.UsageError(
                    f"-o {self.output}: a file, but --format {form.name} holds a single video; give a folder, for a "
                    "file of each"
                )

    def _check_shard(self) -> None:
        if not self.form.can_be_merged:
            names = " or ".join(form.name for form in OUTPUT_FORMATS.values() if form.can_be_merged)
            raise click.UsageError(
                f"--shard with --format {self.form.name}, which cannot be merged; give --format {names}, and let "
                "stale-merge write other formats"
            )
        if self.output is None:
            raise click.UsageError("--shard without -o; give a file for what this shard finds, each shard its own")

    def _check_outputs(self) -> None:
        if self.output is not None and self.writes_folder:
            check_output_folder(self.output)
        else:
            check_output(self.output)
        check_output(self.report, "--report")
        if self.output is None and self.resume:
            raise click.UsageError("--resume without -o; give the -o of the interrupted run")
        written = () if self.output is None else (destination(self.output), self.journal)
        if self.report is not None and destination(self.report) in written:
            raise click.UsageError("-o and --report are the same file, or its journal; give two different files")
        self.check_inputs_are_kept()

    @property
    def journal(self) -> Path | None:
        """Where the journal of finished videos is, if there is one; None if the output is stdout."""
        if self.output is None:
            return None
        output = destination(self.output)
        return journal_path(output / JOURNAL_NAME if self.writes_folder else output)

    def check_inputs_are_kept(self, found: Iterable[Path] = (), bundle: Path | None = None) -> None:
        """Make sure that no file that is read would be replaced by one that is written.

        Args:
            found: videos and feature files in the folders that were given.
            bundle: the folder of the bundle; None if it is not known yet.

        Raises:
            click.UsageError: one would be.
        """
        inputs: dict[str, Path | None] = {
            "--prompts": self.prompts,
            "--durations": self.durations,
            "--external-classifier": self.external_classifier,
            "--ground-truth": self.ground_truth,
            "--verify": self.bundle.verify_key,
            "--bundle": bundle or self.bundle.path,
        }
        files = [path for path in self.features if not os.path.isdir(path)]
        for option, output in (("-o", self.output), ("--report", self.report)):
            check_not_an_input(output, {**inputs, **_with_origins(files)}, option)
            if output is not None and os.path.isfile(output):
                check_not_an_input(output, _with_origins(found), option)

    def timeline(self) -> Timeline:
        """How long videos last, read from the file of durations if there is one.

        Raises:
            DatasetError: that file cannot be used.
        """
        return Timeline(
            duration_s=self.duration,
            snippet_s=self.stride / self.fps if self.stride is not None and self.fps is not None else None,
            durations_s=read_durations(self.durations) if self.durations is not None else None,
        )

    def settings(self, threads: int) -> Settings:
        """The localizer's settings.

        Args:
            threads: those asked for, limited to what this machine has.
        """
        return Settings(
            backend=self.backend,
            length=self.length,
            threads=threads,
            window=self.window,
            most_detections=self.max_detections,
            classes=self.classes_per_video,
            vision_precision=self.vision_precision,
            decoder=self.decoder,
            timeout_s=self.timeout,
            cache_folder=self.cache_folder,
            cache=not self.no_cache,
        )


def _with_origins(paths: Iterable[Path]) -> dict[str, Path]:
    """Videos and feature files, and what says beside each how it was made, by what a message calls them."""
    named = {str(path): path for path in paths}
    return {**named, **{f"the origin of {name}": sidecar_path(path) for name, path in named.items()}}


def says_duration(path: Path) -> bool:
    """Whether a file is a video, or there is something beside it that says how long its video lasts."""
    return is_video(path) or os.path.exists(sidecar_path(path))
