"""Pages to look at: a video with overlapping detections, annotations and curves, and hostile names."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation
from stale_runtime.evidence import ClassScores, Evidence, PosterFrame
from stale_runtime.page.video_page import PageSettings

DURATION_S = 60.0
ROWS = (
    Detection("Long jump", 12.0, 18.0, 0.9),
    Detection("Archery", 30.0, 50.0, 0.7),
    Detection("Long jump", 11.0, 21.0, 0.5),
    Detection("Archery", 2.0, 6.0, 0.3),
    Detection("Long jump", 40.0, 42.0, 0.05),
)
TRUTH = AnnotatedVideo(
    duration_s=DURATION_S, annotations=(Annotation("Long jump", 11.0, 19.0), Annotation("Archery", 50.5, 59.0))
)
SETTINGS = PageSettings(run="stale-edge · ort-int8", min_score=0.1)
JUDGED = PageSettings(run="stale-edge · ort-int8", min_score=0.1, judged=True)
HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "\u202eabc\u202d\u2066def",
    "<!--<script>",
    "&lt;b&gt; ${alert(1)} {{7*7}}",
    "\u2028\u2029\ud800",
    "long " * 2000,
)


def curves(labels: Sequence[str] = ("Long jump", "Archery"), end: float = DURATION_S) -> ClassScores:
    times = np.linspace(0, end, 50)
    waves = [0.5 + 0.4 * np.sin(times / end * 6 + i) for i in range(len(labels))]
    return ClassScores(labels=tuple(labels), times=times, scores=np.array(waves))


def small_picture(grey: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (160, 90), (grey, grey, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


def sample(
    rows: Sequence[Detection] = ROWS, *, duration_s: float | None = DURATION_S, poster: bool = False, name: str = "a"
) -> VideoDetections:
    frames = tuple(PosterFrame(time_s=t, jpeg=small_picture(20 * int(t / 10))) for t in range(0, 60, 10))
    evidence = Evidence(class_scores=curves(end=duration_s or 1.0), poster=frames if poster else ())
    return VideoDetections(video=name, duration_s=duration_s, detections=tuple(rows), evidence=evidence)


def write_webm(path: Path, seconds: int = 60) -> Path:
    """A video that every Chromium plays: VP8, grey that gets lighter, with a key frame a second."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libvpx", rate=Fraction(5), options={"g": "5", "deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(seconds * 5):
            picture = np.full((48, 64, 3), n * 255 // (seconds * 5), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path
