"""The wheel contains every sub-package: ``setup.cfg`` lists them one by one, and an editable install needs no list."""

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
