"""Tables of detections beside what annotators marked."""

from stale_runtime.evaluation.ground_truth import AMBIGUOUS, AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.formats.detections_table import detections_table
from stale_runtime.formats.marked_columns import MOST_LISTED
from tests.runtime.formats.results import result_of, video_of

FOUND = (("polo", 10.0, 20.0, 0.9), ("chess", 1.0, 2.0, 0.8), ("polo", 60.0, 61.0, 0.7))


def truth_of(*rows: tuple[str, float, float], name: str = "holiday", duration_s: float | None = 100.0) -> GroundTruth:
    annotations = tuple(Annotation(*row) for row in rows)
    return GroundTruth(videos={name: AnnotatedVideo(duration_s=duration_s, annotations=annotations)})


def test_each_detection_has_the_action_beside_it_that_it_overlaps_most() -> None:
    truth = truth_of(("polo", 0.0, 11.0), ("polo", 11.0, 21.0), ("chess", 50.0, 70.0), (AMBIGUOUS, 60.0, 61.0))
    assert detections_table(result_of(video_of(*FOUND), ground_truth=truth)).splitlines() == [
        "video    label           start           end    score    marked start    marked end    tIoU",
        "-------  -------  ------------  ------------  -------  --------------  ------------  ------",
        "holiday  polo     00:00:10.000  00:00:20.000   0.9000    00:00:11.000  00:00:21.000    0.82",
        "holiday  chess    00:00:01.000  00:00:02.000   0.8000               -             -       -",
        "holiday  polo     00:01:00.000  00:01:01.000   0.7000               -             -       -",
        "1 of 3 marked actions were found with a tIoU of 0.5 or more; not found:",
        "  polo, 00:00:00.000 to 00:00:11.000, in holiday",
        "  chess, 00:00:50.000 to 00:01:10.000, in holiday",
    ]


def test_what_scores_too_little_finds_nothing_but_what_is_only_not_shown_does() -> None:
    truth = truth_of(("polo", 10.0, 20.0), ("polo", 60.0, 61.0))
    assert "2 of 2 marked actions were found with a tIoU of 0.5 or more.\n" in detections_table(
        result_of(video_of(*FOUND), ground_truth=truth, top=1)
    )
    assert detections_table(result_of(video_of(*FOUND), ground_truth=truth, min_score=0.95)).splitlines() == [
        "No actions found.",
        "3 detections score below 0.95; --min-score 0 shows them too.",
        "0 of 2 marked actions were found with a tIoU of 0.5 or more; not found:",
        "  polo, 00:00:10.000 to 00:00:20.000, in holiday",
        "  polo, 00:01:00.000 to 00:01:01.000, in holiday",
    ]


def test_only_the_first_missed_actions_are_listed() -> None:
    truth = truth_of(*(("polo", 21.0 + n, 22.0 + n) for n in range(MOST_LISTED + 5)))
    lines = detections_table(result_of(video_of(FOUND[0]), ground_truth=truth)).splitlines()
    assert sum("to 00:00:" in line for line in lines) == MOST_LISTED
    assert lines[-1] == "  and 5 more"


def test_fractions_are_compared_if_somebody_knows_how_long_the_video_is() -> None:
    video = video_of(("polo", 0.1, 0.2, 0.9), duration_s=None)
    rows = ("polo", 10.0, 20.0)
    table = detections_table(result_of(video, ground_truth=truth_of(rows)))
    assert table.splitlines()[2].split()[-3:] == ["0.100", "0.200", "1.00"]
    unknown = detections_table(result_of(video, ground_truth=truth_of(rows, duration_s=None)))
    assert unknown.splitlines()[2].split()[-3:] == ["-", "-", "-"]
    assert unknown.endswith("Nothing says how long these videos are, so they are not compared: holiday.\n")


def test_videos_that_nobody_annotated_are_named() -> None:
    table = detections_table(result_of(video_of(*FOUND), ground_truth=truth_of(name="\x1bother")))
    assert table.endswith("Not in the ground truth: holiday.\n")
    assert "marked actions" not in table


def test_no_name_breaks_the_notes() -> None:
    table = detections_table(result_of(video_of(*FOUND), ground_truth=truth_of(("a\n\x1b[31mb", 50.0, 70.0))))
    assert "\x1b" not in table
    assert len(table.splitlines()) == 7
