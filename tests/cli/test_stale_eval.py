import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli import command
from tests.cli.same_process import fails, run


def truth(**videos: list[tuple[str, float, float]]) -> dict[str, Any]:
    database = {
        video: {
            "duration": 100,
            "subset": "validation",
            "annotations": [{"label": label, "segment": [start, end]} for label, start, end in rows],
        }
        for video, rows in videos.items()
    }
    return {"database": database}


def found(**videos: list[tuple[str, float, float, float]]) -> dict[str, Any]:
    results = {
        video: [{"label": label, "segment": [start, end], "score": score} for label, start, end, score in rows]
        for video, rows in videos.items()
    }
    return {"version": "test", "results": results, "external_data": {}}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "gt.json").write_text(json.dumps(truth(a=[("Polo", 10, 30), ("Polo", 50, 60)], b=[("Archery", 0, 50)])))
    (tmp_path / "det.json").write_text(
        json.dumps(found(v_a=[("Polo", 10, 30, 0.9), ("Polo", 51, 60, 0.8)], v_b=[("Archery", 60, 90, 0.7)]))
    )
    return tmp_path


def evaluate(work: Path, *arguments: str) -> dict[str, Any]:
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", "--format", "json", *arguments, cwd=work)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_json_has_the_documented_shape(work: Path) -> None:
    content = evaluate(work)
    assert content["videos"] == 2
    assert content["classes"] == 2
    assert list(content["per_tiou"]) == [f"{0.5 + 0.05 * i:.2f}" for i in range(10)]
    assert content["per_tiou"]["0.50"] == pytest.approx(0.5)
    assert content["per_tiou"]["0.90"] == pytest.approx(0.5)
    assert content["per_tiou"]["0.95"] == pytest.approx(0.25)
    assert content["average"] == pytest.approx(sum(content["per_tiou"].values()) / 10)


def test_classes_and_thresholds_can_be_chosen(work: Path) -> None:
    (work / "polo.txt").write_text("Polo\n")
    content = evaluate(work, "--classes", "polo.txt", "--tiou", "0.3:0.1:0.7")
    assert content["per_tiou"] == {"0.30": 1.0, "0.40": 1.0, "0.50": 1.0, "0.60": 1.0, "0.70": 1.0}
    assert content["classes"] == 1
    assert evaluate(work, "--tiou", "0.95")["average"] == pytest.approx(0.25)


def test_a_video_without_detections_counts_and_is_said(work: Path) -> None:
    (work / "det.json").write_text(json.dumps(found(a=[("Polo", 10, 30, 0.9), ("Polo", 50, 60, 0.8)])))
    done = command.run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    assert "1 of 2 annotated videos have no detections" in done.stderr
    assert "average    50.00" in done.stdout


def add_stranger(work: Path) -> None:
    content = json.loads((work / "det.json").read_text())
    content["results"]["stranger"] = [{"label": "Polo", "segment": [0, 1], "score": 9}]
    (work / "det.json").write_text(json.dumps(content))


def test_detections_in_other_videos_are_false_positives_unless_ignored_and_both_results_said(work: Path) -> None:
    before = evaluate(work)
    add_stranger(work)
    charged, ignored = evaluate(work), evaluate(work, "--foreign-videos", "ignored")
    assert ignored["per_tiou"] == before["per_tiou"]
    assert charged["per_tiou"]["0.50"] == pytest.approx((1 / 2 + 2 / 3) / 2 / 2 + 1 / 24)
    assert (charged["foreign_videos"], ignored["foreign_videos"]) == ("published", "ignored")
    assert (charged["foreign_video_detections"], ignored["foreign_video_detections"]) == (1, 1)
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    assert "1 detections are in 1 videos outside the ground truth; counted as in the published evaluation" in (
        done.stderr
    )
    assert (
        f"{100 * charged['average']:.2f} %; with --foreign-videos ignored, {100 * ignored['average']:.2f} %"
        in done.stderr
    )
    assert done.stdout.splitlines()[-1].endswith("; in other videos: 1 (--foreign-videos published)")


def test_a_setting_that_makes_no_difference_is_said_to_make_none(work: Path) -> None:
    add_stranger(work)
    (work / "archery.txt").write_text("Archery\n")
    arguments = ("det.json", "--ground-truth", "gt.json", "--classes", "archery.txt", "--foreign-videos", "ignored")
    done = run("stale-eval", *arguments, cwd=work)
    assert "outside the ground truth; ignored; --foreign-videos published would give the same" in done.stderr
    assert "in other videos: 1 (--foreign-videos ignored)" in done.stdout


def test_ambiguous_segments_are_no_class_and_are_said(work: Path) -> None:
    content = truth(a=[("Polo", 10, 30), ("Ambiguous", 50, 60)], b=[("Archery", 0, 50)])
    (work / "gt.json").write_text(json.dumps(content))
    (work / "det.json").write_text(json.dumps(found(a=[("Polo", 51, 60, 0.9), ("Polo", 10, 30, 0.8)])))
    result = evaluate(work)
    assert (result["classes"], result["average"]) == (2, 0.5)
    assert (result["ambiguous_segments"], result["ambiguous_detections"]) == (1, 1)
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    assert "1 segments are labelled Ambiguous, which is no class; 1 detections overlap one" in done.stderr
    assert "the average is 50.00 %; as false positives, 25.00 %" in done.stderr


def test_results_txt_grows_by_the_original_s_line(work: Path) -> None:
    result = evaluate(work, "--results-txt", "results.txt")
    average, values = result["average"], list(result["per_tiou"].values())
    expected = "Detection: average-mAP " + format(average * 100, ".3f")
    for n, value in enumerate(values):
        expected += f" mAP@0.{50 + 5 * n} " + format(value * 100, ".3f")
    assert (work / "results.txt").read_bytes() == f"{expected}\n".encode()
    assert expected.startswith("Detection: average-mAP 47.500 mAP@0.50 50.000 mAP@0.55 50.000 ")
    evaluate(work, "--results-txt", "results.txt", "--tiou", "0.3:0.1:0.4")
    second = "Detection: average-mAP 50.000 mAP@0.30 50.000 mAP@0.40 50.000"
    assert (work / "results.txt").read_bytes() == f"{expected}\n{second}\n".encode()


@pytest.mark.parametrize(
    ("file", "more", "says"),
    [
        ("nowhere/results.txt", (), "there is no folder nowhere"),
        (".", (), "a folder"),
        ("results.txt", ("--foreign-videos", "ignored"), "--results-txt with foreign labels or videos ignored"),
    ],
)
def test_results_txt_that_cannot_be_written_is_a_usage_error(
    work: Path, file: str, more: tuple[str, ...], says: str
) -> None:
    arguments = ("det.json", "--ground-truth", "gt.json", "--results-txt", file, *more)
    fails("stale-eval", *arguments, cwd=work, code=2, says=says)
    assert not (work / "results.txt").exists()


def test_results_txt_that_is_an_input_is_refused_and_left_alone(work: Path) -> None:
    (work / "truth").mkdir()
    (work / "truth" / "Polo_val.txt").write_text("a 10 30\n")
    (work / "numbers.txt").write_text("1 Polo\n")
    (work / "det.txt").write_text("a 10 30 1 0.5\n")
    (work / "info.csv").write_text("video,seconds,subset\na,100,val\n")
    (work / "polo.txt").write_text("Polo\n")
    (work / "link.txt").symlink_to("det.txt")
    (work / "hard.txt").hardlink_to(work / "numbers.txt")
    files = ("--class-numbers", "numbers.txt", "--video-info", "info.csv", "--classes", "polo.txt")
    arguments = ("det.txt", "--ground-truth", "truth", *files, "--results-txt")
    before = {path: path.read_bytes() for path in work.rglob("*.*")}
    for file, says in (
        ("det.txt", "det.txt: the same file as DETECTIONS, which it would ruin; give another file"),
        ("link.txt", "the same file as DETECTIONS"),
        ("info.csv", "the same file as --video-info"),
        ("polo.txt", "the same file as --classes"),
        ("numbers.txt", "the same file as --class-numbers"),
        ("hard.txt", "the same file as --class-numbers"),
        ("truth/Polo_val.txt", "in the folder of --ground-truth; give a file elsewhere"),
        ("truth/new.txt", "in the folder of --ground-truth"),
    ):
        fails("stale-eval", *arguments, file, cwd=work, code=2, says=says)
    again = ("det.json", "--ground-truth", "gt.json", "--results-txt", "gt.json")
    fails("stale-eval", *again, cwd=work, code=2, says="the same file as --ground-truth")
    assert {path: path.read_bytes() for path in work.rglob("*.*")} == before
    assert run("stale-eval", *arguments, "results.txt", cwd=work).returncode == 0


def test_videos_that_video_info_lacks_are_said(work: Path) -> None:
    (work / "info.csv").write_text("video,seconds,subset\nv_a,100,validation\n")
    arguments = ("stale-eval", "det.json", "--ground-truth", "gt.json", "--video-info", "info.csv")
    note = "annotated videos are not in info.csv"
    assert f"stale-eval: 1 {note} and are not evaluated" in run(*arguments, "--subset", "validation", cwd=work).stderr
    assert note not in run(*arguments, cwd=work).stderr
    (work / "info.csv").write_text("video,seconds,subset\nv_a,100,validation\nb,100,training\n")
    assert note not in run(*arguments, "--subset", "validation", cwd=work).stderr


def test_class_numbers_with_json_detections_are_a_usage_error(work: Path) -> None:
    arguments = ("det.json", "--ground-truth", "gt.json", "--class-numbers", "numbers.txt")
    fails("stale-eval", *arguments, cwd=work, code=2, says="det.json is not a .txt file; leave it out")


def test_a_subset_that_nothing_tells_is_refused_unless_video_info_does(work: Path) -> None:
    annotations = {"a": [("Polo", 10, 30), ("Polo", 50, 60)], "b": [("Archery", 0, 50)]}
    original = {
        f"v_{video}": {
            "duration_second": 100,
            "annotations": [{"label": label, "segment": [start, end]} for label, start, end in rows],
        }
        for video, rows in annotations.items()
    }
    (work / "gt.json").write_text(json.dumps(original))
    (work / "info.csv").write_text("video,seconds,subset\nv_a,100,validation\nv_b,100,training\n")
    assert evaluate(work)["videos"] == 2
    arguments = ("det.json", "--ground-truth", "gt.json", "--subset", "validation")
    fails("stale-eval", *arguments, cwd=work, code=3, says="give --video-info FILE")
    assert evaluate(work, "--subset", "validation", "--video-info", "info.csv")["videos"] == 1
    other = ("det.json", "--ground-truth", "gt.json", "--subset", "testing", "--video-info", "info.csv")
    fails("stale-eval", *other, cwd=work, code=3, says="found training, validation")


def test_thumos14_s_folder_and_text_detections_are_evaluated(work: Path) -> None:
    (work / "truth").mkdir()
    (work / "truth" / "Diving_test.txt").write_text("video_test_0000004 10.2 20.3\n")
    (work / "truth" / "Ambiguous_test.txt").write_text("video_test_0000004 30 40\n")
    (work / "truth" / "detclasslist.txt").write_text("26 Diving\n")
    (work / "det.txt").write_text("video_test_0000004 10 20 26 0.5\nvideo_test_0000004 35 50 26 0.9\n")
    arguments = ("stale-eval", "det.txt", "--ground-truth", "truth", "--subset", "test", "--tiou", "0.3:0.1:0.7")
    done = run(*arguments, cwd=work)
    assert "average   100.00" in done.stdout
    assert "swapped" not in done.stderr
    (work / "det.txt").write_text("video_test_0000004 20 10 26 0.5\nvideo_test_0000004 35 50 26 0.9\n")
    done = run(*arguments, cwd=work)
    assert "average   100.00" in done.stdout
    assert "1 detections of det.txt end before they start; start and end are swapped" in done.stderr
    (work / "truth" / "detclasslist.txt").rename(work / "numbers.txt")
    fails(*arguments, cwd=work, code=3, says="give --class-numbers FILE")
    assert "average   100.00" in run(*arguments, "--class-numbers", "numbers.txt", cwd=work).stdout


def test_foreign_labels_are_treated_as_published_and_both_results_said(work: Path) -> None:
    content = json.loads((work / "det.json").read_text())
    content["results"]["v_b"] += [{"label": "Beer pong", "segment": [10, 30], "score": 0.99}]  # number 0: Polo here
    (work / "det.json").write_text(json.dumps(content))
    assert evaluate(work)["per_tiou"]["0.50"] == pytest.approx(0.5 * 2 / 3)
    assert evaluate(work, "--foreign-labels", "ignored")["per_tiou"]["0.50"] == pytest.approx(0.5)
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    assert "1 detections are of classes without ground truth" in done.stderr


def test_a_subset_is_chosen_and_a_wrong_one_is_named(work: Path) -> None:
    content = json.loads((work / "gt.json").read_text())
    content["database"]["b"]["subset"] = "training"
    (work / "gt.json").write_text(json.dumps(content))
    assert evaluate(work, "--subset", "validation")["videos"] == 1
    arguments = ("det.json", "--ground-truth", "gt.json", "--subset", "test")
    fails("stale-eval", *arguments, cwd=work, code=3, says="training, validation")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("det.json", "{", "not valid JSON"),
        ("det.json", "[]", "no 'results'"),
        ("det.json", '{"results": {"a": [{"label": "x", "score": NaN, "segment": [0, 1]}]}}', "not valid JSON"),
        ("det.json", '{"results": {"a": [{"label": "x", "score": 1, "segment": [5, 1]}]}}', "ends before it starts"),
        ("det.json", '{"results": {"a": [{"label": "x", "segment": [0, 1]}]}}', "without a 'score', expected a number"),
        ("det.json", '{"results": {"a": []}, "unit": "fraction of the video"}', "--durations"),
        ("det.json", '{"results": {"z": []}}', "no video in common"),
        ("gt.json", '{"v_a": {"duration": 3, "annotations": []}}', "no 'database'"),
        ("gt.json", '{"database": {"a": {"subset": "x"}}}', "annotations"),
        ("gt.json", '{"database": {"a": {"subset": "x", "annotations": []}}}', "no annotation"),
        ("gt.json", "\xff\xfe", "UTF-8"),
    ],
)
def test_bad_files_end_with_one_line(work: Path, file: str, content: str, says: str) -> None:
    (work / file).write_bytes(content.encode("latin-1"))
    fails("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work, code=3, says=says)


@pytest.mark.parametrize("tiou", ["0.5:0:0.9", "0.9:0.1:0.5", "0", "1.5", "a,b", "", "0.5:0.05"])
def test_bad_thresholds_are_usage_errors(work: Path, tiou: str) -> None:
    arguments = ("det.json", "--ground-truth", "gt.json", "--tiou", tiou)
    fails("stale-eval", *arguments, cwd=work, code=2, says="expected START:STEP:STOP")


def test_a_missing_file_is_named(work: Path) -> None:
    command.fails(
        "stale-eval", "nowhere.json", "--ground-truth", "gt.json", cwd=work, code=3, says="nowhere.json: No such file"
    )


def test_precision_recall_and_f1_are_those_at_the_best_score_or_the_given_one(work: Path) -> None:
    best = evaluate(work)["from_score"]
    assert best == {
        "score": 0.8,
        "chosen_by": "best F1",
        "tiou": 0.5,
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
    }
    given = evaluate(work, "--min-score", "0.7")
    assert (given["from_score"]["chosen_by"], given["from_score"]["precision"]) == ("--min-score", pytest.approx(2 / 3))
    assert given["average"] == evaluate(work)["average"], "mAP is of all detections"
    assert evaluate(work, "--min-score", "2")["from_score"]["f1"] == 0
    table = run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work).stdout
    assert "precision  100.00" in table
    assert "of detections that score 0.8 or more, where F1 is best, at tIoU 0.50" in table


def test_average_recall_and_the_precision_of_each_class_stand_beside_map(work: Path) -> None:
    content = evaluate(work)
    assert list(content["average_recall"]) == ["AR@1", "AR@5", "AR@10", "AR@100", "area"]
    assert content["average_recall"]["AR@100"] == pytest.approx((1 + 0.9) / 3)  # the other is 0.9 of its annotation
    assert content["per_class"] == {"Polo": pytest.approx((9 + 9 * 1 + 1 + 0.5 * 1) / 20, abs=0.05), "Archery": 0}
    assert content["average"] == pytest.approx(sum(content["per_class"].values()) / 2)


@pytest.mark.parametrize("score", ["nan", "-1", "inf", "high"])
def test_a_score_that_is_none_is_refused(work: Path, score: str) -> None:
    fails(
        "stale-eval",
        "det.json",
        "--ground-truth",
        "gt.json",
        "--min-score",
        score,
        cwd=work,
        code=2,
        says="--min-score",
    )


def test_the_result_goes_to_a_file(work: Path) -> None:
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", "--format", "json", "-o", "out.json", cwd=work)
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads((work / "out.json").read_text()) == evaluate(work)


def test_the_result_never_replaces_an_input(work: Path) -> None:
    before = (work / "gt.json").read_bytes()
    says = "the same file as --ground-truth"
    fails("stale-eval", "det.json", "--ground-truth", "gt.json", "-o", "gt.json", cwd=work, code=2, says=says)
    assert (work / "gt.json").read_bytes() == before


def write_page(work: Path, *arguments: str) -> str:
    done = run(
        "stale-eval", "det.json", "--ground-truth", "gt.json", "--format", "html", "-o", "r.html", *arguments, cwd=work
    )
    assert done.returncode == 0, done.stderr
    return (work / "r.html").read_text()


@pytest.mark.parametrize(("name", "start"), [("r.HTML", "<!doctype"), ("r.json", "{"), ("r.txt", "   tIoU")])
def test_the_output_s_name_chooses_the_format(work: Path, name: str, start: str) -> None:
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", "-o", name, cwd=work)
    assert done.returncode == 0, done.stderr
    assert (work / name).read_text().startswith(start)


def test_a_page_links_the_worst_videos_to_their_pages(work: Path) -> None:
    assert "<a " not in write_page(work)
    pages = work / "pages #1"
    pages.mkdir()
    (pages / "b.html").write_text('<meta name="generator" content="stale-edge 0.1.0">')
    (pages / "a.html").write_text("something else of that name")
    assert re.findall(r"<a href=\"(.*?)\">(.*?)</a>", write_page(work, "--pages", "pages #1")) == [
        ("./pages%20%231/b.html", "b")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pages", "."), "give --format html, too"),
        (("--pages", ".", "--format", "html"), "--pages without -o"),
        (("--pages", "nowhere", "--format", "html", "-o", "r.html"), "--pages nowhere: no such folder"),
    ],
)
def test_pages_that_cannot_be_linked_are_refused(work: Path, arguments: tuple[str, ...], message: str) -> None:
    fails("stale-eval", "det.json", "--ground-truth", "gt.json", *arguments, cwd=work, code=2, says=message)


def test_labels_that_differ_only_in_capitals_or_blanks_count_and_are_told_of(work: Path) -> None:
    before = run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    content = (work / "det.json").read_text()
    (work / "det.json").write_text(content.replace('"Polo"', '" POLO "'))
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    assert content.count('"Polo"') > 0
    assert done.stdout == before.stdout
    assert "only in capitals, blanks or invisible marks count as these: 1, such as ' POLO ' as 'Polo'" in done.stderr
    (work / "some.txt").write_text("pOlo\njuggling\n")
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", "--classes", "some.txt", cwd=work)
    assert "1 of 2 classes in some.txt have no annotation, such as 'juggling'; they do not count" in done.stderr


def test_all_shares_are_in_percent(work: Path) -> None:
    """On stderr as in the table."""
    result = json.loads((work / "det.json").read_text())
    result["results"]["z"] = [{"label": "polo", "score": 1, "segment": [0, 1]}]
    (work / "det.json").write_text(json.dumps(result))
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    (average,) = re.findall(r"average +([\d.]+)", done.stdout)
    assert f"the average is {average} %; with --foreign-videos ignored, " in done.stderr
    assert re.search(r"ignored, \d+\.\d\d %$", done.stderr, re.MULTILINE)
