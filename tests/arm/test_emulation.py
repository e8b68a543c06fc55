import configparser
import re
import sys
from pathlib import Path

import pytest

from tests.arm import emulation
from tests.arm.emulation import WHEELS, Emulation, FetchError
from tests.arm.processors import PROCESSORS
from tests.arm.subjects import ROOT


@pytest.fixture
def emulated(tmp_path: Path) -> Emulation:
    (tmp_path / "constraints.txt").write_text("numpy==2\n")
    return Emulation(folder=tmp_path / "arm", constraints=tmp_path / "constraints.txt")


def test_the_wheels_are_the_core_dependencies() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    core = re.findall(r"^\s*([\w-]+)", setup["options"]["install_requires"], re.MULTILINE)
    assert sorted(core) == sorted(WHEELS)


def test_arm_runs_its_own_python_and_x86_this_one(emulated: Emulation) -> None:
    at = emulated.folder
    assert emulated.command(PROCESSORS["max,sme=off"], ["--version"]) == [
        *(f"{at}/qemu/usr/bin/qemu-aarch64", "-cpu", "max,sme=off", "-L", f"{at}/root"),
        *(f"{at}/root/usr/bin/python3.13", "-m", "stale_runtime", "--version"),
    ]
    assert emulated.command(PROCESSORS["Nehalem"], ["--version"]) == [
        *(f"{at}/qemu/usr/bin/qemu-x86_64", "-cpu", "Nehalem", sys.executable, "-m", "stale_runtime", "--version")
    ]


def test_variables_of_this_machine_do_not_reach_the_emulated_one(
    emulated: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    arm, x86 = (emulated.environment(Path("/here"), PROCESSORS[cpu]) for cpu in ("cortex-a53", "Nehalem"))
    assert not {"OPENBLAS_CORETYPE"} & (arm.keys() | x86.keys())
    assert arm["PYTHONPATH"] == f"/here:{emulated.folder}/site"
    assert x86["PYTHONPATH"] == emulated.environment(Path("/here"), None)["PYTHONPATH"] == "/here"


class Fetching:
    """Stands in for the programs that fetch, and notes what they are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, *, label: str = "Debian") -> None:
        self.commands: list[list[str]] = []
        self._folder, self._label = folder, label
        monkeypatch.setattr(emulation, "_run", self._run)
        monkeypatch.setattr("shutil.which", lambda tool: f"/usr/bin/{tool}")

    def _run(self, command: list[str], *_: object, **__: object) -> str:
        self.commands.append(command)
        if command[:2] == ["dpkg-deb", "--extract"]:
            Path(command[3]).mkdir(exist_ok=True)
        if command[1] == "install":
            for name in ("qemu-user_10_amd64.deb", "libc6_2_arm64.deb"):
                (self._folder / "apt" / "archives" / name).touch()
        return f"{self._label} http://mirror/debian\n" if command[1] == "indextargets" else "amd64\n"


def test_everything_is_fetched_once_and_again_for_other_versions(
    emulated: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetching = Fetching(monkeypatch, emulated.folder)
    emulated.fetch()
    asked = [" ".join(command) for command in fetching.commands]
    assert any("--download-only" in command and "qemu-user:amd64" in command for command in asked)
    assert [command.split("/")[-1] for command in asked if command.startswith("dpkg-deb")] == ["root", "qemu"]
    assert any("--platform=manylinux_2_28_aarch64" in command for command in asked)
    assert " http://mirror/debian trixie main\n" in (emulated.folder / "apt/sources.list").read_text()
    emulated.fetch()
    assert len(fetching.commands) == len(asked)
    emulated.constraints.write_text("numpy==3\n")
    emulated.fetch()
    assert len(fetching.commands) == 2 * len(asked)


def test_without_apt_one_line_says_where_it_works(emulated: Emulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(FetchError, match=r"^apt-get is missing; make arm works on Debian, Ubuntu and"):
        emulated.fetch()


def test_without_a_debian_mirror_one_can_be_given(emulated: Emulation, monkeypatch: pytest.MonkeyPatch) -> None:
    Fetching(monkeypatch, emulated.folder, label="Ubuntu")
    with pytest.raises(FetchError, match=r"give the address of one with ARM_OPTIONS='--mirror URL'$"):
        emulated.fetch()
    assert not (emulated.folder / "fetched").exists()


def test_what_cannot_be_fetched_is_named_with_the_reason() -> None:
    script = "import sys; print('N: note\\nE: no such host\\nmore', file=sys.stderr); sys.exit(100)"
    with pytest.raises(FetchError, match=r"^the lists: cannot be fetched: E: no such host$"):
        emulation._run([sys.executable, "-c", script], "the lists")
