"""``stale-run --format html``, as a user types it."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.commands.run_output import RunOutput
from stale_runtime.evidence import Evidence
from stale_runtime.inference.outcome import Outcome
from tests.cli.same_process import fails, run
from tests.tiny import CLASSES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROMPTS = ("--prompts", "classes.txt", "--format", "html")


@pytest.fixture
def work(tmp_path: Path, bundle: Path, features: NDArray[np.float32]) -> Path:
    shutil.copytree(bundle, tmp_path / "stale_bundle")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (tmp_path / "features").mkdir()
    for name in ("a", "b b", "c#?"):
        np.save(tmp_path / "features" / f"{name}.npy", features)
    (tmp_path / "truth.json").write_text(
        json.dumps({"database": {"a": {"duration": 50, "annotations": [{"label": CLASSES[0], "segment": [1, 9]}]}}})
    )
    return tmp_path


def content(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text().split('id="data">')[1].split("</script>")[0])
    return data


def test_a_page_of_one_video(work: Path) -> None:
    arguments = ("features/a.npy", *PROMPTS, "--duration", "50", "--ground-truth", "truth.json", "--min-score", "0.2")
    done = run("stale-run", *arguments, "-o", "a.html", cwd=work)
    assert done.returncode == 0, done.stderr
    data = content(work / "a.html")
    json_run = run(
        "stale-run", "features/a.npy", "--prompts", "classes.txt", "--duration", "50", "--format", "json", cwd=work
    )
    rows = json.loads(json_run.stdout)["results"]["a"]
    shown = [[data["labels"][label], [start, end], score] for label, start, end, score in data["detections"]]
    assert [row[0] for row in shown] == [row["label"] for row in rows]  # all of them, however low they score
    assert [row[1] for row in shown] == [pytest.approx(row["segment"], rel=1e-5) for row in rows]
    assert data["min_score"] == 0.2
    assert [data["labels"][label] for label, *_ in data["truth"]] == [CLASSES[0]]
    assert data["curves"]["labels"]
    assert re.match(r"stale-edge [\d.]+ · ort-\w+ · T=\d+ · .*bundle [0-9a-f]{12}", data["run"])


def test_a_page_on_stdout_is_the_same_file(work: Path) -> None:
    printed = run("stale-run", "features/a.npy", *PROMPTS, cwd=work)
    run("stale-run", "features/a.npy", *PROMPTS, "-o", "a.html", cwd=work)
    assert printed.stdout == (work / "a.html").read_text()


def test_a_folder_of_pages_has_an_index_that_leads_to_them(work: Path) -> None:
    np.save(work / "features" / "broken.npy", np.zeros((3, 4), np.float32))
    done = run("stale-run", "features", *PROMPTS, "-o", "pages", cwd=work)
    assert done.returncode == 5
    data = content(work / "pages" / "index.html")
    assert [row[0] for row in data["videos"]] == ["a", "b b", "c#?"]
    assert [name for name, _ in data["failed"]] == ["broken.npy"]
    assert "shape (3, 4)" in data["failed"][0][1]
    files = {path.name for path in (work / "pages").iterdir()}
    assert len(files) == 4
    assert files >= {"index.html", "a.html", "b b.html"}


def test_what_pages_show_is_not_kept_until_the_end(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Evidence | None] = []

    def write(output: RunOutput, outcomes: Sequence[Outcome]) -> None:
        kept.extend(outcome.evidence for outcome in outcomes)
        write_all(output, outcomes)

    write_all = RunOutput.write
    monkeypatch.setattr(RunOutput, "write", write)
    assert run("stale-run", "features", *PROMPTS, "-o", "pages", cwd=work).returncode == 0
    assert kept == [None] * 3
    assert run("stale-run", "features/b b.npy", *PROMPTS, "-o", "b.html", cwd=work).returncode == 0
    assert kept[3] is not None
    assert (work / "b.html").read_text() == (work / "pages" / "b b.html").read_text()


def test_a_file_cannot_hold_the_pages_of_a_folder(work: Path) -> None:
    says = "--format html holds a single video; give a folder"
    fails("stale-run", "features", *PROMPTS, "-o", "pages.html", cwd=work, code=2, says=says)


def test_the_links_of_the_index_work_in_a_browser(work: Path, browser: "Browser") -> None:
    from tests.page.browser import watched_page

    assert run("stale-run", "features", *PROMPTS, "-o", "pages", cwd=work).returncode == 0
    for n, name in enumerate(("a", "b b", "c#?")):
        with watched_page(browser) as watched:
            page = watched.open(work / "pages" / "index.html")
            page.locator("tbody a").nth(n).click()
            page.wait_for_url(lambda url: "index.html" not in url)
            assert page.inner_text("h1") == name
            assert watched.messages == []


def test_the_video_of_a_run_plays_in_its_page(tmp_path: Path, bundle: Path, browser: "Browser") -> None:
    pytest.importorskip("av", reason="no PyAV; install it with: pip install '.[video]'")
    from tests.page.browser import wait_until, watched_page
    from tests.page.samples import write_webm
    from tests.small_video import with_tower

    with_tower(bundle, tmp_path / "stale_bundle")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (tmp_path / "my films").mkdir()
    write_webm(tmp_path / "my films" / "50 % grey.webm", seconds=12)
    done = run("stale-run", "my films/50 % grey.webm", *PROMPTS, "-o", "grey.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made_by = content(tmp_path / "grey.html")["run"]
    assert "feature recipe: tower " in made_by
    assert "unknown" not in made_by
    with watched_page(browser) as watched:
        page = watched.open(tmp_path / "grey.html")
        page.locator("#poster button").last.click()
        wait_until(page, "document.getElementById('video').currentTime > 9")
        assert watched.messages == []
        assert [url for url in watched.requests if not url.startswith((tmp_path.as_uri(), "data:image/"))] == []
