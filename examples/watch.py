"""Watches a folder: what is found in each video or feature file that comes into it is written as JSON and as a page.

Start it with ``python examples/watch.py incoming/ found/``, and stop it with Ctrl-C. A file is read once it has stopped
growing. A file that cannot be used is reported, and not tried again until it changes. ``found/watched.json`` says what
was done, so that nothing is done again after a restart, unless the bundle or the classes are others.
"""

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from stale_runtime import (
    EncodedPrompts,
    Localizer,
    PageSettings,
    StaleError,
    VideoDetections,
    is_video,
    read_prompts,
    relative_url,
    video_page,
)

HERE = Path(__file__).parent
LONGEST_NAME = 255
"""Bytes of a file's name in the usual file systems."""


def main() -> None:
    """Watch until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Find actions in each file that comes into a folder.")
    parser.add_argument("folder", type=Path, help="where videos and .npy files come in")
    parser.add_argument("output", type=Path, help="where to write; it is created if it is missing")
    parser.add_argument("--bundle", type=Path, default=HERE / "bundle", metavar="FOLDER")
    parser.add_argument("--prompts", type=Path, default=HERE / "classes.txt", metavar="FILE")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="how often to look")
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        localizer = Localizer.open(given.bundle)
        localizer.require_videos()
        prompts = localizer.encode_prompts(read_prompts(given.prompts))
        given.output.mkdir(exist_ok=True)
        watcher = Watcher(folder=given.folder, output=given.output, localizer=localizer, prompts=prompts)
        print(f"watching {given.folder}; Ctrl-C ends")
        while True:
            watcher.look()
            time.sleep(given.every)
    except KeyboardInterrupt:
        print("stopped; what is finished is kept")
    except (StaleError, OSError) as problem:
        sys.exit(f"watch.py: error: {problem}")


@dataclass(kw_only=True)
class Watcher:
    """Knows which files were done, and which have stopped growing."""

    folder: Path
    output: Path
    localizer: Localizer
    prompts: EncodedPrompts
    seen: dict[str, list[int]] = field(default_factory=dict)
    """Size and time of change of each file at the last look."""

    def __post_init__(self) -> None:
        self.run = {"bundle": self.localizer.bundle.manifest_sha256, "prompts": list(self.prompts.names)}
        self.done = self.read_done()

    def look(self) -> None:
        """Look at the folder once, and process the files that are as they were at the last look."""
        for path in sorted(self.folder.iterdir()):
            wanted = is_video(path) or path.suffix.lower() in (".npy", ".npz")
            if not wanted or path.name.startswith(".") or not path.is_file():
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # removed since the folder was listed
                continue
            state = [status.st_size, status.st_mtime_ns]
            if self.seen.get(path.name) == state and self.done.get(path.name) != state:
                result = self.process(path)
                self.done[path.name] = state
                self.write("watched.json", json.dumps({"run": self.run, "done": self.done}))
                print(result)
            self.seen[path.name] = state

    def process(self, path: Path) -> str:
        """Find actions in a file and write them, and say what was found or why that is not possible."""
        json_file, page = f"{path.name}.json", f"{path.name}.html"
        if len(os.fsencode(page)) > LONGEST_NAME:
            return f"{path.name[:40]}...: a name too long to add .html to; rename the file"
        (outcome,) = self.localizer.detect_many([path], self.prompts, evidence=True)
        if outcome.detections is None:
            for name in (json_file, page):  # of an earlier state of the file
                (self.output / name).unlink(missing_ok=True)
            return f"{outcome.error}; tried again when the file changes"
        self.write(json_file, outcome.detections.to_json())
        self.write(page, self.page_of(path, outcome.detections))
        found = len(outcome.detections.min_score(self.localizer.reading_score))
        return f"{path.name}: {found} actions, see {self.output / page}"

    def page_of(self, path: Path, video: VideoDetections) -> str:
        """The page of a video, which plays it."""
        run = f"{self.localizer.backend}, bundle {self.run['bundle'][:12]}"
        settings = PageSettings(run=run, min_score=self.localizer.reading_score)
        media = relative_url(path, self.output / "page.html") if is_video(path) else None
        return video_page(video, settings, media=media)

    def read_done(self) -> dict[str, list[int]]:
        """The files that an earlier run of the same bundle and prompts has done, with their states."""
        try:
            known = json.loads((self.output / "watched.json").read_text())
            return dict(known["done"]) if known["run"] == self.run else {}
        except (OSError, ValueError, TypeError, KeyError):  # there is none yet, or it is damaged
            return {}

    def write(self, name: str, text: str) -> None:
        """Write a file so that it is never seen half-written."""
        part = self.output / "watched.part"
        try:
            with open(part, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.output / name)
        finally:
            part.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
