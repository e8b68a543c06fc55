"""The wheel contains every sub-package, and the files of pages. An editable install does not need to be told."""

import hashlib
import re
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_folder_with_code_is_listed_in_setup_cfg() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["packages"].split()
    roots = [line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines()]
    found = [
        ".".join((name, *path.parent.relative_to(ROOT / folder).parts))
        for name, folder in roots
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert sorted(set(found)) == sorted(listed)


def test_the_files_of_pages_are_in_the_wheel() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    pattern = config["options.package_data"]["stale_runtime.page"]
    there = {path for path in (ROOT / "runtime" / "page").rglob("*") if path.is_file()}
    code = {path for path in there if path.suffix in (".py", ".pyc")}
    assert there - code == set((ROOT / "runtime" / "page").glob(pattern))


def test_what_others_wrote_is_as_they_published_it() -> None:
    rows = re.findall(r"`(runtime/[\w/.]+)` \| `(\w{64})` \|", (ROOT / "THIRD_PARTY.md").read_text())
    assert len(rows) == 3
    for path, digest in rows:
        assert hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == digest, path
