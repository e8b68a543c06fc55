import subprocess
import sys

NO_TORCH = "import sys; sys.modules['torch'] = None; from stale_model.__main__ import main; main()"


def without_torch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", NO_TORCH, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_without_torch_the_command_says_what_to_install() -> None:
    ran = without_torch("--annotations", "a.json", "--features", "feats", "--split", "closed")
    assert ran.returncode == 6
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("stale-train: error: training needs torch, which is not installed; install it with: ")
    assert f"{sys.executable} -m pip install 'stale-edge[train]' (PyTorch may bring gigabytes of CUDA" in last


def test_without_torch_the_command_shows_its_help_and_checks_its_options() -> None:
    ran = without_torch("--help")
    assert ran.returncode == 0
    assert "Train STALE on snippet features." in ran.stdout
    ran = without_torch("--annotations", "a.json", "--features", "feats", "--precision", "8")
    assert ran.returncode == 2
    assert ran.stderr.startswith("stale-train: error: Invalid value for '--precision'")


def test_the_package_runs_as_a_module_and_is_imported_without_torch() -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "stale_model", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.startswith("stale-train, version")
    assert "torch" not in ran.stderr
