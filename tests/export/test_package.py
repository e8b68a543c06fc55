import subprocess
import sys
import types

import pytest

import stale_export


def test_the_public_names_are_those_of_all() -> None:
    public = {
        name
        for name, value in vars(stale_export).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - {"TYPE_CHECKING", "lazily"} <= set(stale_export.__all__)  # they load when used
    assert list(stale_export.__all__) == sorted(set(stale_export.__all__))


def test_a_name_that_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'stale_export' has no attribute 'no_such_name'"):
        _ = stale_export.no_such_name


def test_every_public_name_comes_from_this_package_and_is_documented() -> None:
    for name in stale_export.__all__:
        value = getattr(stale_export, name)
        assert value.__module__.startswith("stale_export.")
        assert value.__doc__


def test_the_command_starts_without_torch() -> None:
    code = "import stale_export.export_command, sys; "
    code += "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
