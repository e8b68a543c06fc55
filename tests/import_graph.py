"""The import graph by room: ``python -m tests.import_graph`` draws it, and writes ``docs/architecture.md``.

A room is a sub-package, or a module that lies directly in one of our packages. The floors are those of the contracts in
``setup.cfg``, which ``make layering`` checks; here they are only drawn.
"""

import ast
import configparser
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
FOLDERS = {"stale_bench": "bench", "stale_export": "export", "stale_model": "stale_model", "stale_runtime": "runtime"}
"""The folder of each package, the uppermost package first."""
CONTRACTS = {"stale_bench": "bench", "stale_model": "model", "stale_runtime": "runtime"}
"""The contract that lists the floors of a package. ``stale_export`` has no sub-packages and is drawn as one room."""
PAGE = ROOT / "docs" / "architecture.md"
GENERATED = re.compile(r"(?<=<!-- written by make drawing -->\n).*(?=<!-- end -->)", re.DOTALL)
NAME_WIDTH, PAGE_WIDTH = 25, 118

Arrows = Mapping[tuple[str, str], int]
"""How many imports lead from one room to another."""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Rooms of a package that lie side by side."""

    package: str
    number: int
    """From 1, the lowest of the package."""
    rooms: tuple[str, ...]


def read_floors() -> list[Floor]:
    """The floors of all packages, from the top to the ground."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    floors: list[Floor] = []
    rows: list[tuple[str, ...]]
    for package in FOLDERS:
        if package in CONTRACTS:
            layers = config[f"importlinter:contract:{CONTRACTS[package]}"]["layers"].strip().split("\n")
            rows = [tuple(f"{package}.{name}" for name in re.findall(r"\w+", layer)) for layer in layers]
        else:
            rows = [()]
        rows[0] = (package, *rows[0])  # what a package itself offers is for its commands and for other packages
        floors += [Floor(package=package, number=len(rows) - n, rooms=rooms) for n, rooms in enumerate(rows)]
    return floors


def find_arrows() -> Arrows:
    """Count the imports between rooms; what a package's own ``__init__`` offers is not one."""
    graph = grimp.build_graph(*FOLDERS)
    pairs = (
        (room_of(importer), room_of(imported))
        for importer in graph.modules - CONTRACTS.keys()
        for imported in graph.find_modules_directly_imported_by(importer)
    )
    return Counter((room, other) for room, other in pairs if room != other)


def room_of(module: str) -> str:
    """The room that a module lies in."""
    package = module.split(".")[0]
    return ".".join(module.split(".")[:2]) if package in CONTRACTS else package


def find_upward(floors: list[Floor], arrows: Arrows) -> list[tuple[str, str]]:
    """The arrows that lead to a higher floor; there should be none."""
    depth = {room: n for n, floor in enumerate(floors) for room in floor.rooms}
    return sorted((room, other) for room, other in arrows if depth[other] < depth[room])


def draw(floors: list[Floor], arrows: Arrows, *, counted: bool) -> str:
    """A paragraph for each package and a line for each room: its floor, its name, and the rooms that it imports.

    Args:
        floors: as ``read_floors`` gives them.
        arrows: as ``find_arrows`` gives them.
        counted: whether to say how many imports each arrow stands for.
    """
    lines: list[str] = []
    for floor in floors:
        for room in floor.rooms:
            imported = [other for below in floors for other in below.rooms if (room, other) in arrows]
            if room == floor.package:
                lines += ["", room] if lines else [room]
            if room == floor.package and not imported:
                continue
            counts = {other: f" ({arrows[room, other]})" if counted else "" for other in imported}
            own = [_shorten(other) + counts[other] for other in imported if other.startswith(floor.package)]
            others = [other + counts[other] for other in imported if not other.startswith(floor.package)]
            lines += _wrap(f"{floor.number:>3}  {_shorten(room)}", own + others)
    return "\n".join(lines) + "\n"


def describe(floors: list[Floor]) -> str:
    """A table of what each room holds, in the words of its own docstring."""
    rooms = [room for floor in floors for room in floor.rooms if not _shorten(room).startswith("_")]
    rows = [f"| `{room}` | {_summary(room)} |" for room in rooms]
    return "\n".join(["| room | what it holds |", "|---|---|", *rows]) + "\n"


def make_page() -> str:
    """``docs/architecture.md`` as it should be now."""
    floors = read_floors()
    drawing = f"\n```text\n{draw(floors, find_arrows(), counted=False)}```\n\n{describe(floors)}\n"
    return GENERATED.sub(lambda _: drawing, PAGE.read_text())


def find_modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module of the four packages."""
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def _shorten(room: str) -> str:
    """A room's name within its package."""
    return room.split(".")[-1]


def _wrap(name: str, imported: list[str]) -> list[str]:
    """The lines of one room."""
    if not imported:
        return [name]
    text = ", ".join(imported).replace(" (", "\N{NO-BREAK SPACE}(")  # a count stays on its room's line
    start = f"{name:<{NAME_WIDTH}}-> "
    wrapped = textwrap.wrap(text, PAGE_WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in wrapped]


def _summary(room: str) -> str:
    """The first paragraph of a room's docstring, as Markdown."""
    path = dict(find_modules())[room]
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.split("\n\n")[0].replace("\n", " ").replace("``", "`")


def main() -> None:
    """Print the graph with numbers of imports, and write the page; exit with 1 if an arrow leads up."""
    floors, arrows = read_floors(), find_arrows()
    print(draw(floors, arrows, counted=True), end="")
    PAGE.write_text(make_page())
    if upward := find_upward(floors, arrows):
        sys.exit(f"these arrows lead up: {', '.join(' -> '.join(pair) for pair in upward)}")


if __name__ == "__main__":
    main()
