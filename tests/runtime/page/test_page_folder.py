from pathlib import Path

from stale_runtime.detections import VideoDetections
from stale_runtime.page.page_folder import find_pages
from stale_runtime.page.video_page import PageSettings, video_page
from stale_runtime.system.file_names import make_file_names


def test_pages_are_found_by_the_ids_of_their_videos(tmp_path: Path) -> None:
    videos = ["a", "-b", "index", "x/y", "c d"]
    (tmp_path / "pages").mkdir()
    for video, name in zip(videos, make_file_names(videos, ".html", taken=("index.html",)), strict=True):
        empty = VideoDetections(video=video, duration_s=1.0, detections=())
        (tmp_path / "pages" / name).write_text(video_page(empty, PageSettings(run="")))
    found = find_pages(tmp_path / "pages", [*videos, "gone"], tmp_path / "report.html")
    assert list(found) == videos
    assert found["a"] == "./pages/a.html"
    assert found["c d"] == "./pages/c%20d.html"
    assert len(set(found.values())) == len(videos)


def test_what_is_no_page_of_ours_and_what_is_ambiguous_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b", "B"):
        (tmp_path / f"{name}.html").write_text("<html>")
    empty = VideoDetections(video="b", duration_s=1.0, detections=())
    (tmp_path / "b.html").write_text(video_page(empty, PageSettings(run="")))
    assert find_pages(tmp_path, ["a", "b", "B"], tmp_path / "report.html") == {}
    assert find_pages(tmp_path, ["a", "b"], tmp_path / "report.html") == {"b": "./b.html"}


def test_pages_of_files_with_the_prefix_of_activitynet_are_found(tmp_path: Path) -> None:
    empty = VideoDetections(video="a", duration_s=1.0, detections=())
    text = video_page(empty, PageSettings(run=""))
    (tmp_path / "v_a.html").write_text(text)
    assert find_pages(tmp_path, ["a", "b"], tmp_path / "report.html") == {"a": "./v_a.html"}
    (tmp_path / "a.html").write_text(text)  # either may be that of the video
    assert find_pages(tmp_path, ["a", "b"], tmp_path / "report.html") == {}
