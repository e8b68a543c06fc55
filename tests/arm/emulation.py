"""Fetching qemu, an arm64 Python and wheels into a folder, and running commands with them. Nothing is installed.

qemu and Python are Debian's packages, because PyPI has neither. apt keeps its lists in the folder and downloads without
installing, so it needs no root, and dpkg-deb unpacks. Debian signs what is fetched.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stale_runtime.errors import StaleError
from stale_runtime.system.text import one_line
from tests.arm.processors import Processor

SUITE = "trixie"
"""The Debian that packages are taken from; qemu 7.2 of the one before computes SME wrongly."""
PYTHON = "3.13"
"""Python of that Debian."""
EMULATOR = "qemu-user"
PACKAGES = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6")
"""Of arm64, beside what they depend on."""
WHEELS = ("numpy", "onnxruntime", "tokenizers", "click", "tabulate")
"""The core dependencies of setup.cfg, which test_emulation.py compares."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_HIDDEN = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "OPENBLAS_CORETYPE", "LD_LIBRARY_PATH", "LD_PRELOAD")
"""Variables of this machine that an emulated one does not get."""


class FetchError(StaleError):
    """Something that is needed cannot be fetched."""


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """Where everything is that commands on emulated processors need."""

    folder: Path
    """Absolute path of a folder for everything."""
    constraints: Path
    """A pip constraints file with the versions of the wheels."""
    mirror: str | None = None
    """Address of a Debian mirror; None for the one that apt uses on this machine."""

    def fetch(self) -> None:
        """Fetch what is not there yet.

        Raises:
            FetchError: something is missing here or there.
        """
        wanted = "\n".join([SUITE, PYTHON, EMULATOR, *PACKAGES, *WHEELS, self.constraints.read_text()])
        mark, version = self.folder / "fetched", hashlib.sha256(wanted.encode()).hexdigest()
        if mark.is_file() and mark.read_text() == version:
            return
        for name in ("root", "site", "qemu"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self._fetch_packages()
        self._fetch_wheels()
        mark.write_text(version)

    def command(self, processor: Processor, arguments: Sequence[str]) -> list[str]:
        """The command line of ``stale-run`` with these arguments on a processor."""
        emulator = str(self.folder / f"qemu/usr/bin/qemu-{processor.architecture}")
        emulated = [emulator, "-cpu", processor.cpu]
        if processor.architecture == "aarch64":
            root = self.folder / "root"
            emulated += ["-L", str(root), str(root / f"usr/bin/python{PYTHON}")]
        else:
            emulated += [sys.executable]
        return [*emulated, "-m", "stale_runtime", *arguments]

    def environment(self, packages: Path, processor: Processor | None) -> Mapping[str, str]:
        """The environment of such a command.

        Args:
            packages: folder in which ``stale_runtime`` is a folder or a link to one.
            processor: None for this machine.
        """
        kept = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
        is_arm = processor is not None and processor.architecture == "aarch64"
        folders = [str(packages), *([str(self.folder / "site")] if is_arm else [])]
        return kept | {
            "PYTHONPATH": os.pathsep.join(folders),
            "PYTHONPYCACHEPREFIX": str(self.folder / "compiled"),
        }

    def _fetch_packages(self) -> None:
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise FetchError(f"{tool} is missing; make arm works on Debian, Ubuntu and others that use apt")
        apt = self.folder / "apt"
        archives = apt / "archives"
        for folder in (apt / "lists" / "partial", archives / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        for old in archives.glob("*.deb"):
            old.unlink()
        (apt / "status").touch()  # nothing is installed there
        (apt / "sources.list").write_text(f"deb [signed-by={self._keyring()}] {self._mirror()} {SUITE} main\n")
        (apt / "apt.conf").write_text(_configuration(apt))
        environment = os.environ | {"APT_CONFIG": str(apt / "apt.conf")}
        host = _run(["dpkg", "--print-architecture"], "dpkg").strip()
        names = [f"{EMULATOR}:{host}", *PACKAGES]
        _run(["apt-get", "update", "--error-on=any"], "the lists of Debian's packages", environment)
        fetching = ["apt-get", "install", "--yes", "--download-only", "--no-install-recommends", *names]
        _run(fetching, f"{', '.join(names)} of Debian {SUITE}", environment)
        for package in sorted(archives.glob("*.deb")):
            part = "qemu" if package.name.startswith(f"{EMULATOR}_") else "root"
            _run(["dpkg-deb", "--extract", str(package), str(self.folder / part)], package.name)
        (self.folder / "root" / "lib").symlink_to("usr/lib")  # as Debian's base-files, which is not among them, has it

    def _fetch_wheels(self) -> None:
        platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
        options = ["--quiet", "--only-binary=:all:", f"--python-version={PYTHON}", *platforms]
        where = [f"--target={self.folder / 'site'}", f"--constraint={self.constraints}"]
        command = [sys.executable, "-m", "pip", "install", *options, *where, *WHEELS]
        _run(command, f"wheels of {', '.join(WHEELS)} for aarch64")

    def _mirror(self) -> str:
        """The mirror that was given, or the one that apt uses for Debian on this machine."""
        if self.mirror is not None:
            return self.mirror
        listed = _run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"], "apt's sources")
        for line in listed.splitlines():
            label, _, address = line.partition(" ")
            if label == "Debian":
                return address
        raise FetchError(
            "apt does not use a Debian mirror here (or apt-get update has never run); give the address of one with "
            "ARM_OPTIONS='--mirror URL'"
        )

    def _keyring(self) -> Path:
        """Debian's keys: this machine's, or from the package that has them, which Ubuntu has, too."""
        if KEYRING.is_file():
            return KEYRING
        package = KEYRING.stem
        _run(["apt-get", "download", package], f"the package {package}, with Debian's keys", cwd=self.folder)
        found = sorted(self.folder.glob(f"{package}_*.deb"))
        _run(["dpkg-deb", "--extract", str(found[-1]), str(self.folder / "keys")], package)
        return self.folder / "keys" / KEYRING.relative_to("/")


def _configuration(apt: Path) -> str:
    """Of apt, so that it reads and writes nothing outside the folder."""
    settings = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "APT::Architecture": "arm64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    host = _run(["dpkg", "--print-architecture"], "dpkg").strip()
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    return "\n".join([*lines, f'APT::Architectures {{ "arm64"; "{host}"; }};', ""])


def _run(
    command: Sequence[str], what: str, environment: Mapping[str, str] | None = None, *, cwd: Path | None = None
) -> str:
    """Run a command, and return what it prints.

    Raises:
        FetchError: it fails.
    """
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "ERROR", "dpkg"))]
        reason = one_line(" ".join(said[-2:] or done.stderr.splitlines()[-1:]))[:300]
        raise FetchError(f"{what}: cannot be fetched: {reason or f'exit code {done.returncode}'}")
    return done.stdout
