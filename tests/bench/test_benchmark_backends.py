import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from stale_bench import benchmark_backends as backends
from stale_bench.benchmark_backends import BACKENDS, GPU_BACKENDS, Backend, choose_backends
from stale_bench.engines.engine import Engine
from stale_bench.measuring.thesis import ORIGINAL, OURS
from stale_bench.measuring.worker import import_named
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BenchmarkError, BundleError, MissingPackageError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, LocalizerBackend

PEERS = ("compiled-fp32", "naive-ort-fp32", "naive-ort-int8", "fixed-ort-fp32", "fixed-ort-int8")


def test_all_that_the_runtime_runs_is_there_and_more() -> None:
    assert BACKENDS.keys() >= {
        *LOCALIZER_BACKENDS,
        *PEERS,
        "upstream-fp32",
        "upstream-int8",
        "torch-fp32",
        "torch-int8",
    }
    assert all(name == backend.name for name, backend in BACKENDS.items())


@pytest.mark.parametrize("name", [*LOCALIZER_BACKENDS, *PEERS, "upstream-fp32", "upstream-int8"])
def test_every_engine_exists(name: str) -> None:
    assert issubclass(import_named(BACKENDS[name].engine), Engine)


@pytest.mark.parametrize("backend", LOCALIZER_BACKENDS.values())
def test_a_backend_of_the_runtime_is_the_runtime_s(backend: LocalizerBackend) -> None:
    ours = BACKENDS[backend.name]
    assert ours.localizer is backend
    assert (ours.file, ours.precision) == (backend.file, backend.precision)


def test_a_backend_without_its_file_says_so(bundle: Path) -> None:
    backend = Backend(name="x", engine="", file="localizer.nothing.onnx")
    assert isinstance(backend.problem(Bundle(bundle)), BundleError)
    assert "x: the bundle" in str(backend.problem(Bundle(bundle)))
    assert BACKENDS["ort-fp32"].problem(Bundle(bundle)) is None


@pytest.mark.parametrize("module", ["no_such_module", "numpy.no_such_module", "no_such_module.of_it"])
def test_a_backend_without_its_library_says_how_to_install_it(bundle: Path, module: str) -> None:
    problem = Backend(name="x", engine="", needs=(module,)).problem(Bundle(bundle))
    assert isinstance(problem, MissingPackageError)
    assert str(problem).startswith(f"x: needs {module}, which is not installed; install it with: ")
    assert "pip install 'stale-edge[bench]'" in str(problem)


def test_a_torch_that_cannot_quantize_is_said(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_can_import", lambda module: module != backends.QUANTIZER)
    assert "this version of torch has no" in str(BACKENDS["upstream-int8"].problem(Bundle(bundle)))
    assert BACKENDS["upstream-fp32"].problem(Bundle(bundle)) is None


def test_without_a_compiler_nothing_is_compiled(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled = replace(BACKENDS["compiled-fp32"], needs=())
    (tmp_path / "Python.h").touch()
    (tmp_path / "my-c++").touch(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "my-c++")
    assert compiled.problem(Bundle(bundle)) is None
    monkeypatch.delenv("CXX")
    assert "needs the C++ compiler" in str(compiled.problem(Bundle(bundle)))
    monkeypatch.setenv("CXX", "my-c++")
    (tmp_path / "Python.h").unlink()
    assert "Python.h, which is part of" in str(compiled.problem(Bundle(bundle)))


def test_all_takes_what_can_run_and_says_why_not_the_rest(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(BACKENDS["ort-fp32"], name="broken", needs=("no_such_module",))
    monkeypatch.setattr(backends, "BACKENDS", {"broken": broken, "ort-fp32": BACKENDS["ort-fp32"]})
    chosen, left_out = choose_backends(["all"], Bundle(bundle))
    assert [backend.name for backend in chosen] == ["ort-fp32"]
    assert left_out.keys() == {"broken"}
    assert left_out["broken"].startswith("needs no_such_module")


def test_a_backend_asked_for_by_name_must_run(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Backend(name="broken", engine="", needs=("no_such_module",))
    monkeypatch.setattr(backends, "BACKENDS", {"broken": broken})
    with pytest.raises(MissingPackageError, match="broken: needs no_such_module"):
        choose_backends(["broken"], Bundle(bundle))
    with pytest.raises(BenchmarkError, match="no backend can run here; broken: needs"):
        choose_backends(["all"], Bundle(bundle))


def test_the_order_asked_for_is_kept_and_nothing_is_measured_twice(bundle: Path) -> None:
    chosen, _ = choose_backends(["upstream-fp32", "ort-fp32", "upstream-fp32", "all"], Bundle(bundle))
    names = [backend.name for backend in chosen]
    assert names[:2] == ["upstream-fp32", "ort-fp32"]
    assert len(names) == len(set(names))


def test_without_a_name_it_is_what_the_runtime_runs_here(bundle: Path) -> None:
    names = {backend.name for backend in choose_backends([], Bundle(bundle)).backends}
    assert "ort-fp32" in names
    assert names <= LOCALIZER_BACKENDS.keys()


def test_what_is_wanted_where_possible_is_left_out_with_the_reason(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, unavailable = choose_backends([ORIGINAL], Bundle(bundle), where_possible=OURS)
    assert chosen[0].name == ORIGINAL
    assert {backend.name for backend in chosen[1:]} | unavailable.keys() == set(OURS)
    broken = replace(BACKENDS[ORIGINAL], needs=("no_such_module",))
    monkeypatch.setattr(backends, "BACKENDS", {**BACKENDS, ORIGINAL: broken})
    with pytest.raises(MissingPackageError, match="needs no_such_module"):
        choose_backends([ORIGINAL], Bundle(bundle), where_possible=OURS)


def test_a_machine_without_gpu_is_told_so(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_has_gpu", lambda: True)
    assert choose_backends(list(GPU_BACKENDS), Bundle(bundle), device="cuda").backends[0].device == "cuda"
    monkeypatch.setattr(backends, "_has_gpu", lambda: False)
    with pytest.raises(BenchmarkError, match="finds no GPU"):
        choose_backends(list(GPU_BACKENDS), Bundle(bundle), device="cuda")
