"""One of the formats that detections can be written in."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stale_runtime.formats.run_result import RunResult
from stale_runtime.system.file_names import make_file_names


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """A format, and what it asks of a run."""

    name: str
    """As in ``--format NAME``."""
    help: str
    """A few words on what it is for."""
    suffix: str
    """Of its files, with the dot."""
    render: Callable[[RunResult], str | bytes]
    """Writes the videos of a run; exactly one video if ``single_video``. Text, unless ``is_binary``."""
    for_people: bool
    """Whether people read it, so that detections which are likely to be wrong are left out unless asked for."""
    is_binary: bool = False
    """Whether it is not text, so that it has to be written to a file."""
    can_be_merged: bool = False
    """Whether it says enough of each video, and of the run, for ``stale-merge`` to join the shards of a run."""
    single_video: bool = False
    """Whether a file holds one video, so that several videos are written as a folder of files."""
    needs_seconds: bool = False
    """Whether the duration of every video has to be known."""
    needs_frame_rate: bool = False
    """Whether it counts frames of the video."""
    shows_ground_truth: bool = False
    """Whether it shows annotations beside the detections."""
    shows_evidence: bool = False
    """Whether it shows curves and frames, which a run then has to keep."""
    module: str | None = None
    """The library that it needs and the runtime does not; None if there is none."""
    extra: str | None = None
    """The extra of this package that installs ``module``."""
    index: tuple[str, Callable[[RunResult, tuple[str, ...]], str]] | None = None
    """Name of the file that leads to those of the videos, and what writes it, given their names; None for none."""

    @property
    def missing(self) -> bool:
        """Whether the library that it needs is not installed."""
        return self.module is not None and find_spec(self.module) is None

    def content(self, result: RunResult) -> bytes:
        """The content of a file in this format, see ``render``."""
        written = self.render(result)
        return written if isinstance(written, bytes) else written.encode()

    def files(self, result: RunResult, folder: Path, made: Mapping[Path, Path]) -> Iterator[tuple[str, bytes]]:
        """Write each video as a file of its own, named after the video's, and at last the index if there is one.

        Args:
            result: the run.
            folder: where the files will be.
            made: where the content of a file lies that was made before, by the path of its video or features.

        Yields:
            Name and content of each file.
        """
        taken = () if self.index is None else (self.index[0],)
        names = make_file_names([path.stem for path in result.paths], self.suffix, taken=taken)
        for n, (path, name) in enumerate(zip(result.paths, names, strict=True)):
            early = made.get(path)
            if early is not None:
                yield name, early.read_bytes()
            else:
                yield name, self.content(result.of_video(n, output=folder / name))
        if self.index is not None:
            name, write = self.index
            yield name, write(result, tuple(names)).encode()
