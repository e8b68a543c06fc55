"""Timelines of OpenTimelineIO, whose markers video editors show."""

from stale_runtime.formats.frames import frame_rate_of, frame_span, media_url
from stale_runtime.formats.run_result import RunResult
from stale_runtime.system.text import plain_line

_METADATA = "stale-edge"


def otio_timeline(result: RunResult) -> str:
    """A timeline with one video as its only clip, and a marker on the clip for each detection.

    Times are whole frames, at the video's frame rate if it is known. A marker's score is in its comment and metadata.

    Source: OpenTimelineIO's schemas Timeline.1, Clip.2 and Marker.2.
    """
    import opentimelineio as otio  # of the extra "edit"

    video = result.shown[0]
    rate = frame_rate_of(result, video.video)
    name, url = plain_line(video.video), media_url(result.paths[0])

    def frames(first: int, after: int) -> otio.opentime.TimeRange:
        return otio.opentime.TimeRange(
            otio.opentime.RationalTime(first, rate), otio.opentime.RationalTime(after - first, rate)
        )

    markers = [
        otio.schema.Marker(
            name=plain_line(row.label),
            marked_range=frames(*frame_span(row, rate)),
            metadata={_METADATA: {"score": row.score}},
            comment=f"score {row.score:.2f}",
        )
        for row in sorted(video, key=lambda row: (row.start, row.end))
    ]
    whole = frames(0, max(1, round((video.duration_s or 0) * rate)))
    media = otio.schema.MissingReference(available_range=whole)
    if url is not None:
        media = otio.schema.ExternalReference(target_url=url, available_range=whole)
    clip = otio.schema.Clip(name=name, media_reference=media, source_range=whole, markers=markers)
    track = otio.schema.Track(name="video", kind=otio.schema.TrackKind.Video, children=[clip])
    timeline = otio.schema.Timeline(name=name, tracks=[track], metadata={_METADATA: {"version": result.version}})
    return f"{timeline.to_json_string(indent=1)}\n"
