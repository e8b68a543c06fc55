"""Packages whose public names load their modules when they are used."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module-level ``__getattr__`` that imports a public name's module on first use.

    A command line can then print its help, or say what is not installed, without loading PyTorch.

    Args:
        package: name of the package.
        homes: the module, within the package, of each public name.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get
