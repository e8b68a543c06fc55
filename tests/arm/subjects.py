"""The bundles that are run, with videos to run them on."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.backends import LOCALIZER_BACKENDS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A bundle and what to find in which features."""

    name: str
    bundle: Path
    features: Path
    """A folder of feature files."""
    prompts: Path
    """A file with class names."""

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends of ONNX Runtime that the bundle has a graph for."""
        files = Bundle(self.bundle).manifest.files
        return tuple(
            name
            for name, backend in LOCALIZER_BACKENDS.items()
            if backend.engine == "onnxruntime" and backend.file in files
        )

    @property
    def dynamic_backends(self) -> tuple[str, ...]:
        """Those whose graph computes the range of its activations while it runs."""
        dynamic = {record.file for record in Bundle(self.bundle).manifest.quantization if record.kind == "dynamic"}
        return tuple(name for name in self.backends if LOCALIZER_BACKENDS[name].file in dynamic)


def example_subject(folder: Path) -> Subject:
    """The example in the repository: a trained network with both towers, and its videos, as make arm prepared them."""
    return Subject(
        name="example", bundle=EXAMPLES / "bundle", features=folder / "features", prompts=EXAMPLES / "classes.txt"
    )


def drawn_subject(folder: Path) -> Subject:
    """A network of the published size with random weights, and features of made-up videos; it has every graph."""
    from tests.arm.drawn_bundle import write_drawn_subject  # which needs PyTorch

    drawn = folder / "drawn"
    if not drawn.is_dir():
        unfinished = folder / "drawn.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write_drawn_subject(unfinished)
        unfinished.rename(drawn)
    return Subject(
        name="random weights",
        bundle=drawn / "bundle",
        features=drawn / "features",
        prompts=drawn / "classes.txt",
    )
