import types

import stale_model


def test_the_public_names_are_those_of_all() -> None:
    public = {
        name
        for name, value in vars(stale_model).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - {"TYPE_CHECKING", "lazily"} <= set(stale_model.__all__)  # they load when used
    assert list(stale_model.__all__) == sorted(set(stale_model.__all__))


def test_every_public_name_comes_from_this_package_and_is_documented() -> None:
    for name in stale_model.__all__:
        value = getattr(stale_model, name)
        if not isinstance(value, str):
            assert value.__module__.startswith("stale_model.")
            assert value.__doc__
