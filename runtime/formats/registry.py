"""The formats by name."""

from collections.abc import Mapping
from types import MappingProxyType

from stale_runtime.formats.audacity_labels import audacity_labels
from stale_runtime.formats.detections_table import TABLE_ROWS, detections_table
from stale_runtime.formats.elan_tiers import elan_document
from stale_runtime.formats.label_studio import label_studio_tasks
from stale_runtime.formats.otio_markers import otio_timeline
from stale_runtime.formats.output_format import OutputFormat
from stale_runtime.formats.program_rows import activitynet_results, comma_separated, json_lines, parquet_table
from stale_runtime.formats.subtitles import subrip, web_vtt

_ALL = (
    OutputFormat(
        name="table",
        help=f"the {TABLE_ROWS} best of each video, to read",
        suffix=".txt",
        render=detections_table,
        for_people=True,
        shows_ground_truth=True,
    ),
    OutputFormat(
        name="json",
        help="ActivityNet's results, for stale-eval",
        suffix=".json",
        render=activitynet_results,
        for_people=False,
    ),
    OutputFormat(
        name="jsonl",
        help="a JSON object a line: a video as soon as it is done, or for - a detection",
        suffix=".jsonl",
        render=json_lines,
        for_people=False,
        can_be_merged=True,
    ),
    OutputFormat(
        name="csv",
        help="rows with a header that says the unit",
        suffix=".csv",
        render=comma_separated,
        for_people=False,
    ),
    OutputFormat(
        name="parquet",
        help="a row a video, also of those that failed",
        suffix=".parquet",
        render=parquet_table,
        for_people=False,
        is_binary=True,
        can_be_merged=True,
        module="pyarrow",
        extra="parquet",
    ),
    OutputFormat(
        name="srt",
        help="subtitles for players",
        suffix=".srt",
        render=subrip,
        for_people=True,
        single_video=True,
        needs_seconds=True,
    ),
    OutputFormat(
        name="vtt",
        help="subtitles for browsers",
        suffix=".vtt",
        render=web_vtt,
        for_people=True,
        single_video=True,
        needs_seconds=True,
    ),
    OutputFormat(
        name="labelstudio",
        help="predictions to import into Label Studio",
        suffix=".json",
        render=label_studio_tasks,
        for_people=False,
        needs_seconds=True,
        needs_frame_rate=True,
    ),
    OutputFormat(
        name="audacity",
        help="a label track",
        suffix=".txt",
        render=audacity_labels,
        for_people=True,
        single_video=True,
        needs_seconds=True,
    ),
    OutputFormat(
        name="otio",
        help="OpenTimelineIO markers for video editors",
        suffix=".otio",
        render=otio_timeline,
        for_people=True,
        single_video=True,
        needs_seconds=True,
        needs_frame_rate=True,
        module="opentimelineio",
        extra="edit",
    ),
    OutputFormat(
        name="eaf",
        help="tiers of ELAN",
        suffix=".eaf",
        render=elan_document,
        for_people=True,
        single_video=True,
        needs_seconds=True,
        module="pympi",
        extra="edit",
    ),
)
FORMATS: Mapping[str, OutputFormat] = MappingProxyType({form.name: form for form in _ALL})
"""All formats of this package, in the order in which help lists them."""
