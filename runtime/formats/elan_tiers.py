"""Annotation documents of ELAN."""

from collections.abc import Iterable

from stale_runtime.detections import Detection
from stale_runtime.formats.frames import media_url, relative_media_path
from stale_runtime.formats.run_result import RunResult
from stale_runtime.system.text import plain_line


def elan_document(result: RunResult) -> str:
    """A document of one video, with a tier for each class, linked to the video if that was given.

    Annotations of a tier must not overlap, so detections of a class that do are put into further tiers, whose names end
    in a number.

    Source: ELAN Annotation Format (EAF) 2.8, Max Planck Institute for Psycholinguistics.
    """
    from pympi.Elan import Eaf, to_string  # of the extra "edit"

    video, path = result.shown[0], result.paths[0]
    document = Eaf(author=result.version)
    document.remove_tier("default")
    url = media_url(path)
    if url is not None:
        import mimetypes  # only this format needs it

        kind = mimetypes.guess_type(path.name)[0] or "video/unknown"
        document.add_linked_file(url, relpath=f"./{relative_media_path(path, result.output)}", mimetype=kind)
    names: dict[tuple[str, int], str] = {}
    for label, lane, start_ms, end_ms in _in_lanes(video):
        name = names.get((label, lane))
        if name is None:
            name = names[label, lane] = _unused_name(label, lane, names.values())
            document.add_tier(name)
        document.add_annotation(name, start_ms, end_ms, label)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{to_string(document)}\n'


def _in_lanes(rows: Iterable[Detection]) -> list[tuple[str, int, int, int]]:
    """Label, lane, start and end in milliseconds of each detection; those of one label and lane do not overlap."""
    placed = []
    free_from: dict[str, list[int]] = {}
    for row in sorted(rows, key=lambda row: (row.start, -row.score)):
        label = plain_line(row.label) or "?"
        start, end = max(0, round(row.start * 1000)), round(row.end * 1000)
        end = max(end, start + 1)
        lanes = free_from.setdefault(label, [])
        lane = next((n for n, free in enumerate(lanes) if free <= start), len(lanes))
        lanes[lane:] = [end, *lanes[lane + 1 :]]
        placed.append((label, lane, start, end))
    return placed


def _unused_name(label: str, lane: int, used: Iterable[str]) -> str:
    """The name of a tier: the label, and from the second lane on a number, so that no two tiers have one name."""
    name, number, taken = label if lane == 0 else f"{label} {lane + 1}", lane + 1, set(used)
    while name in taken:
        number += 1
        name = f"{label} {number}"
    return name
