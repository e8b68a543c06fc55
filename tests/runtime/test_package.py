import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import stale_runtime
from stale_runtime import (
    Bundle,
    Localizer,
    Settings,
    errors,
    find_bundle,
    read_features,
    read_ground_truth,
    read_prompts,
    read_results,
)
from tests.tiny import CHANNELS

EXIT_CODES = {
    "StaleError": 1,
    "RecipeError": 3,
    "FeatureError": 3,
    "PromptError": 3,
    "VideoError": 3,
    "RemoteFileError": 3,
    "DatasetError": 3,
    "CheckpointError": 3,
    "BackendError": 2,
    "KeyFileError": 3,
    "JournalError": 3,
    "LostWorkerError": 1,
    "OutOfMemoryError": 3,
    "TimeLimitError": 3,
    "OutputError": 2,
    "BundleError": 4,
    "ChecksumError": 4,
    "SignatureError": 4,
    "BundleVersionError": 4,
    "ExportError": 1,
    "ParityError": 7,
    "QuantizationError": 7,
    "BenchmarkError": 1,
    "LimitError": 7,
    "MissingPackageError": 6,
}
HEAVY = ("torch", "transformers", "onnx", "onnxscript", "scipy", "pandas")


def fresh(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_public_names_are_those_of_all() -> None:
    code = "import types; from stale_runtime import *; import stale_runtime as s; names = {**vars(s), **globals()}; "
    code += "print(*sorted(n for n, v in names.items() if n[0] != '_' and not isinstance(v, types.ModuleType) and "
    code += "getattr(v, '__module__', '').startswith('stale_runtime.') and n not in ('lazily',)))"
    assert fresh(code).split() == sorted(set(stale_runtime.__all__) - {"__version__"})
    assert stale_runtime.__all__ == sorted(stale_runtime.__all__)
    assert all(hasattr(stale_runtime, name) for name in stale_runtime.__all__)


@pytest.mark.parametrize("package", ["stale_runtime", "stale_model", "stale_export", "stale_bench"])
def test_public_names_are_listed_before_they_are_loaded(package: str) -> None:
    """As ``dir`` and completion in an interpreter list them."""
    code = f"import {package} as p; print(*dir(p)); print(*p.__all__)"
    listed, public = (line.split() for line in fresh(code).splitlines())
    assert set(public) <= set(listed)
    assert all(name in public or name.startswith("__") for name in listed)


def test_help_shows_the_public_names() -> None:
    shown = fresh("import stale_runtime; help(stale_runtime)")
    for name in set(stale_runtime.__all__) - {"__version__"}:
        wanted = f"class {name}(" if inspect.isclass(getattr(stale_runtime, name)) else f"{name}("
        assert wanted in shown, name
    assert f"VERSION\n    {stale_runtime.__version__}" in shown


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'stale_runtime' has no attribute 'nothing'"):
        stale_runtime.nothing  # noqa: B018


def test_paths_may_be_strings(bundle: Path, features: NDArray[np.float32], tmp_path: Path) -> None:
    file, text = str(tmp_path / "v_a.npy"), str(tmp_path / "text")
    np.save(file, features)
    localizer = Localizer(Bundle(str(find_bundle(str(bundle)))), Settings(cache_folder=str(tmp_path / "cache")))
    prompts = localizer.encode_prompts(["polo", "yoga"])
    assert list((tmp_path / "cache").iterdir())
    (outcome,) = localizer.detect_many([file], prompts)
    assert outcome == (Path(file), localizer.detect_file(file, prompts), None)
    assert len(read_features(file, CHANNELS)) == len(features)
    Path(text).write_text("polo\n")
    assert read_prompts(text).names == ("polo",)
    Path(text).write_text('{"results": {"a": []}}')
    assert read_results(text).videos == {"a": []}
    Path(text).write_text('{"database": {"a": {"annotations": [], "duration": 3}}}')
    assert read_ground_truth(text).videos.keys() == {"a"}
    with pytest.raises(errors.SignatureError):
        Localizer.open(str(bundle), verify_key=text)


def test_public_names_are_documented() -> None:
    for name in set(stale_runtime.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(stale_runtime, name))


@pytest.mark.parametrize(
    "module",
    [
        "stale_runtime",
        "stale_runtime.commands.run",
        "stale_runtime.commands.evaluate",
        "stale_runtime.inference.bundle_check",
    ],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    loaded = fresh(f"import sys, {module}; print(*sorted(name.split('.')[0] for name in sys.modules))").split()
    assert "stale_runtime" in loaded
    assert not set(HEAVY) & set(loaded)


def test_importing_the_library_loads_no_command_line() -> None:
    loaded = fresh("import sys, stale_runtime; print(*sys.modules)").split()
    assert not {
        "click",
        "stale_runtime.commands.run",
        "stale_runtime.commands.evaluate",
        "tabulate",
        "onnxruntime",
    } & set(loaded)


def test_detecting_loads_nothing_heavy(bundle: object) -> None:
    code = f"""
import sys, numpy as np
from stale_runtime import Localizer
localizer = Localizer.open({str(bundle)!r})
localizer.detect(np.ones((20, 16), dtype=np.float32), ["javelin throw", "polo"])
print(*sorted({{name.split(".")[0] for name in sys.modules}}))
"""
    loaded = set(fresh(code).split())
    assert {"onnxruntime", "tokenizers"} <= loaded
    assert not set(HEAVY) & loaded


NOT_FOR_FEATURES = (
    "csv",
    "importlib.metadata",
    "numpy.ma",
    "stale_runtime.commands.run_stream",
    "stale_runtime.evaluation.ground_truth",
    "stale_runtime.formats.cues",
    "stale_runtime.formats.marked_columns",
    "stale_runtime.inference.bundle_check",
    "stale_runtime.inference.tokenizer_check",
    "stale_runtime.inputs.delimited_table",
    "stale_runtime.page.video_page",
    "stale_runtime.video.video_reader",
    "stale_runtime.video.vision_encoder",
    "subprocess",
    "tabulate",
    "tempfile",
    "tokenizers",
    "traceback",
)
"""What only videos, streams, annotations, new prompts, bugs and other formats need."""


@pytest.mark.parametrize("output_format", ["table", "json"])
def test_a_run_loads_only_what_it_needs(bundle: Path, tmp_path: Path, output_format: str) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(20, CHANNELS)).astype(np.float32))
    options = ["--prompt", "polo", "--bundle", str(bundle), "--no-cache", "--format", output_format]
    code = f"""
import sys, stale_runtime.commands.run as run
sys.argv = ["stale-run", *{[str(tmp_path / "a.npy"), *options]}]
try:
    run.main()
except SystemExit as ended:
    print(ended.code, *sys.modules)
"""
    code, *loaded = fresh(code).splitlines()[-1].split()
    assert code == "0"
    assert "onnxruntime" in loaded
    assert not set(NOT_FOR_FEATURES) & set(loaded)


def test_every_error_has_its_documented_exit_code() -> None:
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.StaleError)
    }
    assert {name: kind.exit_code for name, kind in classes.items()} == EXIT_CODES
    assert len([kind for kind in vars(errors).values() if inspect.isclass(kind)]) == len(classes)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = (errors.__doc__ or "").splitlines()
    parents: list[str] = []
    found = {}
    for line in drawn:
        words = line.replace("├──", "   ").replace("└──", "   ").replace("│", " ")
        name = (words.split() or [""])[0]
        if name not in EXIT_CODES:
            continue
        depth = (len(words) - len(words.lstrip())) // 4 - 1
        found[name] = parents[depth - 1] if depth else "Exception"
        parents[depth:] = [name]
        assert name == "StaleError" or int(words.split()[1]) == EXIT_CODES[name]
    assert found == {name: getattr(errors, name).__base__.__name__ for name in EXIT_CODES}


def test_the_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", stale_runtime.__version__)


@pytest.mark.parametrize("telemetry", [None, "0"])
def test_onnx_runtime_reports_nothing_unless_asked_to(bundle: Path, tmp_path: Path, telemetry: str | None) -> None:
    """Where it reports, it keeps an identifier of the machine and a queue under the user's and the temporary folder."""
    kept = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in kept}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    if telemetry is not None:
        environment["ORT_DISABLE_TELEMETRY"] = telemetry
    code = f"from stale_runtime import Localizer; Localizer.open({str(bundle)!r}); import os; "
    code += "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == (telemetry or "1")
    if telemetry is None:
        assert list(tmp_path.iterdir()) == []
