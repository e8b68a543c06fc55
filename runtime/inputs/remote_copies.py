"""Local copies of files in object storage, for as long as they are read."""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stale_runtime.errors import OutputError, RecipeError, RemoteFileError, StaleError
from stale_runtime.inputs.fetch_limits import USUAL_LIMITS, FetchLimits
from stale_runtime.inputs.recipe import LARGEST_FILE as LARGEST_RECIPE
from stale_runtime.inputs.remote_files import RemoteFile, Source, recipe_name
from stale_runtime.inputs.videos import is_video
from stale_runtime.system.files import MEGABYTE, why_unwritten
from stale_runtime.system.workspace import workspace

if TYPE_CHECKING:
    from stale_runtime.inputs.remote_storage import RemoteStorage

FILES_AT_ONCE = 8
"""Files that a process reads at the same time."""
MOST_COPIED = 1024 * MEGABYTE
"""Bytes of all copies that a process holds at the same time, unless a single file is larger."""
LARGEST_REMOTE = 65_536 * MEGABYTE
"""Bytes of a file that is copied."""
SPARE_DISK = 256 * MEGABYTE
"""Bytes that are left free where copies are held."""
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Copy:
    """The copy of a file in object storage, with that of the recipe beside it if there is one."""

    source: RemoteFile
    path: Path
    """Has the name of the source, in a folder of its own."""

    def named(self, text: str) -> str:
        """A message about the copy as one about the source."""
        return text.replace(f"{self.path.parent}/", f"{self.source.parent}/")

    def blamed(self, problem: StaleError) -> StaleError:
        """An error about the copy, changed into one about the source."""
        problem.args = (self.named(str(problem)),)
        return problem


@contextmanager
def fetched(source: Source, limits: FetchLimits = USUAL_LIMITS) -> Iterator[Path]:
    """The local path of a file: itself, or a copy that is removed when the block ends.

    What stands beside a feature file and says how it was made is copied with it. Our own errors that are raised in the
    block name the source instead of the copy.

    Args:
        source: a file.
        limits: of the time that copying takes.

    Raises:
        RemoteFileError: the file cannot be had.
        OutputError: there is no room for the copy.
        MissingPackageError: what reads such URLs is not installed.
    """
    if isinstance(source, Path):
        yield source
        return
    with fetched_together([source], limits) as copies:
        copy = copies[source]
        if isinstance(copy, StaleError):
            raise copy
        try:
            yield copy.path
        except StaleError as problem:
            copy.blamed(problem)
            raise


@contextmanager
def fetched_together(
    sources: Sequence[RemoteFile], limits: FetchLimits = USUAL_LIMITS
) -> Iterator[Mapping[RemoteFile, Copy | StaleError]]:
    """Copies of several files, which are read at the same time and removed when the block ends.

    Args:
        sources: files, not more than ``parts_to_fetch`` puts together.
        limits: as for ``fetched``.

    Returns:
        The copy of each file, or why there is none.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(workspace()) if sources else Path()
        except (OSError, OutputError) as problem:
            why = why_unwritten(problem) if isinstance(problem, OSError) else str(problem)
            yield {source: OutputError(f"{source}: no place for a copy: {why}") for source in sources}
            return
        places = [(source, folder / str(n)) for n, source in enumerate(sources)]
        made = _in_threads(lambda item: _make_copy(*item, limits), places)
        yield dict(zip(sources, made, strict=True))


def parts_to_fetch(sources: Sequence[Source]) -> Iterator[Sequence[Source]]:
    """Consecutive parts of a group of files whose copies may be there at the same time."""
    part: list[Source] = []
    size = 0
    for source in sources:
        own = 0 if isinstance(source, Path) or source.state is None else source.state.size
        if part and (size + own > MOST_COPIED or len(part) == FILES_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(source)
        size += own
    if part:
        yield part


def look_up(source: RemoteFile, limits: FetchLimits = USUAL_LIMITS) -> RemoteFile:
    """Ask the storage about a file, and about the recipe beside it if it is a feature file.

    Raises:
        RemoteFileError: the file cannot be had.
        MissingPackageError: what reads such URLs is not installed.
    """
    storage = _storage(source, limits)
    state, recipe = storage.look_up(source), None
    if not is_video(source):
        recipe = storage.find(RemoteFile(f"{source.parent}/{recipe_name(source.name)}"))
    return replace(source, state=state, recipe=recipe)


def look_up_all(sources: Sequence[Source], limits: FetchLimits = USUAL_LIMITS) -> list[Source]:
    """Ask storages about files that were named one by one; those that cannot be had stay as they are.

    Raises:
        MissingPackageError: what reads such URLs is not installed.
    """

    def ask(source: Source) -> Source:
        if isinstance(source, Path) or source.state is not None:
            return source
        try:
            return look_up(source, limits)
        except RemoteFileError:  # fetching it says why
            return source

    found: list[Source] = []
    for n in range(0, len(sources), FILES_AT_ONCE):
        for source in _in_threads(ask, sources[n : n + FILES_AT_ONCE]):
            if isinstance(source, StaleError):
                raise source
            found.append(source)
    return found


def list_folder(folder: RemoteFile, limits: FetchLimits = USUAL_LIMITS) -> tuple[list[RemoteFile], list[str]]:
    """What a folder in object storage contains, sorted by name, without hidden files.

    Returns:
        The files whose names can be used, each with what is known of it and of the recipe beside it; and the URLs of
        the folders in it.

    Raises:
        RemoteFileError: it cannot be listed.
        MissingPackageError: what reads such URLs is not installed.
    """
    entries = _storage(folder, limits).entries(folder)
    files = []
    for name, state in sorted(entries.items()):
        if state is not None and not name.startswith("."):
            with suppress(ValueError):  # a name that is read from no storage
                file = RemoteFile(f"{folder}/{name}", state)
                files.append(file if is_video(file) else replace(file, recipe=entries.get(recipe_name(name))))
    return files, [f"{folder}/{name}" for name, state in sorted(entries.items()) if state is None]


def _storage(source: RemoteFile, limits: FetchLimits) -> "RemoteStorage":
    from stale_runtime.inputs.remote_storage import open_storage  # only remote files need it

    return open_storage(source.protocol, limits)


def _make_copy(source: RemoteFile, folder: Path, limits: FetchLimits) -> Copy:
    """Copy a file, and the recipe beside it if there is one, into a new folder."""
    known = look_up(source, limits) if source.state is None else source
    state, beside = known.state, known.recipe
    assert state is not None
    if state.size > LARGEST_REMOTE:
        raise RemoteFileError(f"{source}: {state.size:,} bytes, expected at most {LARGEST_REMOTE:,}; split the video")
    if beside is not None and beside.size > LARGEST_RECIPE:
        raise RecipeError(
            f"{source.parent}/{recipe_name(source.name)}: {beside.size:,} bytes, expected at most {LARGEST_RECIPE:,}; "
            "delete it, or make the features again with stale-features"
        )
    free = shutil.disk_usage(folder.parent).free
    if state.size + SPARE_DISK > free:
        raise OutputError(
            f"{source}: {state.size:,} bytes, but only {free:,} are free in {folder.parent.parent}, of which "
            f"{SPARE_DISK:,} are kept free; make room, or name a larger folder in TMPDIR"
        )
    storage = _storage(source, limits)
    folder.mkdir()
    copy = Copy(source, folder / source.name)
    storage.download(source, copy.path, state.size)
    if beside is not None:
        file = RemoteFile(f"{source.parent}/{recipe_name(source.name)}")
        storage.download(file, folder / file.name, beside.size)
    return copy


def _in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result | StaleError]:
    """Call a function for several items at the same time.

    If the wait is interrupted, as by Ctrl-C, the threads end by themselves, or with the process.

    Returns:
        What it returned for each, or the error of ours that it raised.
    """
    if len(items) == 1:
        return [_call(function, items[0])]
    results: dict[int, _Result | StaleError] = {}
    problems: list[BaseException] = []

    def work(n: int) -> None:
        try:
            results[n] = _call(function, items[n])
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(len(items))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return [results[n] for n in range(len(items))]


def _call(function: Callable[[_Item], _Result], item: _Item) -> _Result | StaleError:
    try:
        return function(item)
    except StaleError as problem:
        return problem
