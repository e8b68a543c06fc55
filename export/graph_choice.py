"""Which graphs a bundle gets, for bundles that have to be small. Importing this module does not load PyTorch."""

from collections.abc import Collection, Mapping
from typing import Final

from stale_runtime.bundle import layout
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.video.vision_encoder import VISION_FILES

_LOCALIZERS: Mapping[str, str] = {
    backend.name: backend.file for backend in LOCALIZER_BACKENDS.values() if backend.engine == "onnxruntime"
}
_VISION: Mapping[str, str] = {f"vision-{precision}": file for precision, file in VISION_FILES.items()}
GRAPH_FILES: Final[Mapping[str, str]] = {
    **_LOCALIZERS,
    "torch-fp32": layout.LOCALIZER_TORCH,
    "torch-int8": layout.LOCALIZER_TORCH_INT8,
    **_VISION,
}
"""The file of each graph that a bundle can do without, by the name of its backend, or of the vision tower."""
ALL_GRAPHS: Final = tuple(GRAPH_FILES)


def check_graphs(graphs: Collection[str], *, vision: bool) -> None:
    """Make sure that a bundle with these graphs can be used.

    Args:
        graphs: keys of ``GRAPH_FILES``.
        vision: whether the bundle gets a vision tower.

    Raises:
        ValueError: it cannot; the message ends with what to add or to leave out.
    """
    if unknown := [name for name in graphs if name not in GRAPH_FILES]:
        raise ValueError(f"graph {unknown[0]!r}, expected some of {', '.join(ALL_GRAPHS)}")
    if not any(name in graphs for name in _LOCALIZERS):
        raise ValueError(
            f"{' '.join(graphs)}: stale-run would have nothing to run; add at least one of {', '.join(_LOCALIZERS)}"
        )
    exact = [name for name, file in _LOCALIZERS.items() if file != layout.LOCALIZER_FAST]
    if "ort-fast" in graphs and not any(name in graphs for name in exact):
        raise ValueError(
            f"{' '.join(graphs)}: ort-fast leaves what it is too far off for to another graph; add at least one of "
            f"{', '.join(exact)}"
        )
    towers = [name for name in graphs if name in _VISION]
    if vision and not towers:
        raise ValueError(f"{' '.join(graphs)}: no graph of the vision tower; add {' or '.join(_VISION)}")
    if towers and not vision and set(graphs) != set(ALL_GRAPHS):
        raise ValueError(f"{towers[0]} without a vision tower; give the tower, or leave out {towers[0]}")


def left_out(graphs: Collection[str]) -> frozenset[str]:
    """The files that a bundle with only these graphs does not have."""
    return frozenset(file for name, file in GRAPH_FILES.items() if name not in graphs)
