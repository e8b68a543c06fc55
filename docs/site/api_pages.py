"""The pages of the Python interface: every public name, on a page of its kind, rendered by mkdocstrings."""

from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import NamedTuple

from stale_runtime import errors


class Group(NamedTuple):
    """Public names that share a page."""

    page: str
    title: str
    package: str
    first: str = ""
    """The name that the page begins with."""
    rooms: tuple[str, ...] = ()
    """The parts of the package whose public names are on the page; empty for all."""
    types: tuple[str, ...] = ()
    """Types in the signatures of the page that have a name, but are not imported from the package itself."""


GROUPS = (
    Group(
        "localizer",
        "Localizer and bundles",
        "stale_runtime",
        first="Localizer",
        rooms=("inference", "bundle"),
        types=("inference.localizer.AnyPrompts", "inference.detector.Watch", "segments.FloatArray"),
    ),
    Group("detections", "Detections", "stale_runtime", first="VideoDetections", rooms=("detections", "evidence")),
    Group("inputs", "Features, prompts and times", "stale_runtime", first="Prompts", rooms=("inputs",)),
    Group("videos", "Videos", "stale_runtime", rooms=("video",)),
    Group("pages", "Pages", "stale_runtime", first="video_page", rooms=("page",)),
    Group(
        "evaluation",
        "Evaluation",
        "stale_runtime",
        first="mean_average_precision",
        rooms=("evaluation",),
        types=("evaluation.matching.ForeignRule",),
    ),
    Group("errors", "Errors and version", "stale_runtime", first="StaleError", rooms=("errors", "version")),
    Group("stale_model", "Network and checkpoints", "stale_model", first="Stale"),
    Group("stale_export", "Export", "stale_export", first="export_bundle"),
    Group("stale_bench", "Benchmarks", "stale_bench", first="Benchmark"),
)


def write_api_pages(folder: Path) -> None:
    """Write a page for each group into a folder."""
    for group in GROUPS:
        (folder / f"{group.page}.md").write_text("\n".join(make_page(group)))


def make_page(group: Group) -> Iterator[str]:
    """The lines of a page: a heading, and for each name a directive, which mkdocstrings replaces."""
    names = find_names(group)
    yield from (f"# {group.title}", "")
    yield from (f"Import these names from `{group.package}`: `from {group.package} import {names[0]}`.", "")
    for name in names:
        yield from (f"::: {group.package}.{name}", "")
    if group.types:
        yield from ("## Types in these signatures", "")
        for name in group.types:
            yield from describe_part(f"{group.package}.{name}")
    if "errors" in group.rooms:
        yield from list_errors()


def find_names(group: Group) -> list[str]:
    """The public names of a page: the most important one, then classes, then functions."""
    package = import_module(group.package)
    names = [name for name in package.__all__ if not group.rooms or find_room(group.package, name) in group.rooms]
    return sorted(names, key=lambda name: (name != group.first, not name[0].isupper(), name))


def find_room(package: str, name: str) -> str:
    """The part of a package that a public name is from: the first module or folder below the package."""
    if name == "__version__":
        return "version"  # a string does not know where it is from
    home: str = getattr(import_module(package), name).__module__
    return home.split(".")[1]


def list_errors() -> Iterator[str]:
    """The tree of the errors as the module draws it, and each of them, since other pages refer to them."""
    drawing = (errors.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    yield from ("## Kinds of errors", "")
    yield from ("In `stale_runtime.errors`, with the exit code that a command ends with:", "")
    yield from ("```text", cleandoc(drawing), "```", "")
    for name in find_errors():
        yield from describe_part(f"{errors.__name__}.{name}")


def describe_part(path: str) -> Iterator[str]:
    """A directive for something in a section of a page."""
    yield from (f"::: {path}", "    options:", "      heading_level: 3", "")


def find_errors() -> list[str]:
    """The names of all errors but their base, which is public in ``stale_runtime`` itself."""
    return [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.StaleError) and value is not errors.StaleError
    ]
