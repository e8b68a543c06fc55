"""Objects beside the weights are skipped without being made; those that run commands are refused."""

import argparse
import datetime
import decimal
import enum
import functools
import io
import pathlib
import random
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import pytest
import torch

from stale_model.checkpoints import tensor_pickle
from stale_model.checkpoints.loading import plain_content, quote
from stale_model.checkpoints.tensor_pickle import SkippedObject, Storage, TensorRecord, build_tensors
from stale_runtime.errors import CheckpointError
from tests.runtime.helpers import no_waiting
from tests.stale_model.checkpoints.test_legacy_archive import packed
from tests.stale_model.checkpoints.test_tensor_archive import with_pickle

WEIGHTS = {"a": torch.arange(5.0), "b": torch.ones(2, 3)}


class Config(dict[str, Any]):
    """A configuration as many programs have them: a class of their own, with items and attributes."""

    made: int = 0

    def __setitem__(self, *_: Any) -> None:
        Config.made += 1


class Colour(enum.Enum):
    RED = 1


def optimizer() -> torch.optim.Optimizer:
    """Two groups, which share the tuple of betas."""
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    groups: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "lr": 1e-3}]
    made = torch.optim.Adam(groups, lr=1e-4)
    (first.sum() + second.sum()).backward()
    made.step()
    return made


BESIDE: dict[str, Any] = {
    "numpy scalars": (np.float64(0.5), np.int64(3), np.bool_(True), np.str_("x")),
    "numpy array": np.arange(5.0),
    "numpy generator": np.random.default_rng(0),
    "state of a numpy generator": np.random.default_rng(0).bit_generator.state,
    "state of python's generator": random.Random(0).getstate(),
    "namespace": argparse.Namespace(
        lr=1e-4, path=pathlib.PurePosixPath("/x"), steps={3, 4}, device=torch.device("cpu")
    ),
    "paths": [pathlib.Path("a"), pathlib.Path("b")],
    "collections": [defaultdict(list, a=[1]), Counter("aab"), deque([1, 2])],
    "sets": [{1, 2}, frozenset("ab"), set()],
    "numbers": [1j, decimal.Decimal("0.1"), b"bytes", slice(1, 2), range(3)],
    "times": [datetime.datetime.now(datetime.UTC), datetime.date(2022, 10, 23), datetime.timedelta(1)],
    "torch": [torch.Size([3]), torch.float16, torch.device("cuda:1"), torch.strided, torch.nn.Linear],
    "kinds of tensors": [torch.eye(3).to_sparse(), torch.ones(2, device="meta")],
    "state of an optimizer": optimizer().state_dict(),
    "optimizer": optimizer(),
    "scheduler": torch.optim.lr_scheduler.StepLR(optimizer(), 10, 0.3),
    "configuration": Config(a=1, b=Config(c=[Config()])),
    "enum": Colour.RED,
    "others": [types.SimpleNamespace(a=1), uuid.UUID(int=3), functools.partial(np.mean, axis=0), np.mean],
}


def saved(content: object, *, is_zip: bool) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("name", BESIDE)
def test_what_is_beside_the_weights_is_skipped(name: str, is_zip: bool) -> None:
    buffer = saved({"before": [1, (2.5, "x")], "args": BESIDE[name], "state_dict": WEIGHTS, "after": 3}, is_zip=is_zip)
    Config.made = 0
    found = plain_content(buffer, "best.pth")
    assert Config.made == 0
    assert (list(found), found["before"], found["after"]) == (
        ["before", "args", "state_dict", "after"],
        [1, (2.5, "x")],
        3,
    )
    assert all(torch.equal(found["state_dict"][key], WEIGHTS[key]) for key in WEIGHTS)


def test_a_skipped_object_says_what_it_was() -> None:
    content = {"args": argparse.Namespace(a=1), "both": [np.float64(0.5), {"x": np.float64(0.25)}]}
    found = plain_content(saved(content, is_zip=True), "best.pth")
    assert found["args"] == SkippedObject("argparse Namespace")
    assert found["both"][0].name.endswith(".multiarray scalar")
    assert found["both"][1]["x"] == found["both"][0]


def test_no_class_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = saved({"args": argparse.Namespace(a={np.float64(1)}), "c": Config(), "e": Colour.RED}, is_zip=True)
    monkeypatch.setattr("builtins.__import__", lambda *_, **__: pytest.fail("imported"))
    assert isinstance(plain_content(buffer, "best.pth")["c"], SkippedObject)


ASKS = ["posix system", "nt system", "subprocess Popen", "builtins eval", "__builtin__ exec", "builtins getattr"]
ASKS += ["importlib import_module", "runpy run_path", "builtins __import__", "operator attrgetter", "pickle loads"]
ASKS += ["os.path join", "builtins bytearray", "functools reduce", "copyreg add_extension"]


@pytest.mark.parametrize("wanted", ASKS)
def test_what_runs_commands_is_refused_by_name(wanted: str) -> None:
    asked = b"c" + wanted.replace(" ", "\n").encode() + b"\n"
    for content in (b"}X\1\0\0\0a" + asked + b"s.", asked + b"(X\1\0\0\0atR.", asked + b")\x81}b."):
        with pytest.raises(CheckpointError, match=f"it asks for {wanted};|it asks for {wanted}\\)"):
            plain_content(io.BytesIO(with_pickle(b"\x80\2" + content)), "best.pth")


def test_in_the_files_of_a_bundle_nothing_is_skipped() -> None:
    buffer = saved({"args": argparse.Namespace(a=1)}, is_zip=True)
    with pytest.raises(CheckpointError, match="it asks for argparse Namespace"):
        plain_content(buffer, "localizer.torch.pth", quantized=True)


SKIPPED = b"cx\ny\n"


@pytest.mark.parametrize(
    "content",
    [
        SKIPPED + b"}X\4\0\0\0nameX\1\0\0\0zsb.",  # {"name": "z"} as its attributes
        SKIPPED + b"N}X\4\0\0\0nameX\1\0\0\0zs\x86b.",  # the same as slots
        SKIPPED + b"X\4\0\0\0nameX\1\0\0\0zs.",
        SKIPPED + b")\x81(K\1K\2e.",
        SKIPPED + b"(K\1K\2tRK\3a.",
    ],
    ids=["attributes", "slots", "item", "extended", "appended"],
)
def test_a_pickle_cannot_change_what_stands_in_for_an_object(content: bytes) -> None:
    found = plain_content(io.BytesIO(with_pickle(b"\x80\2" + content)), "best.pth")
    assert found == SkippedObject("x y")
    assert found.name == "x y"
    assert not hasattr(found, "__dict__")


def test_shared_tuples_of_a_few_numbers_are_read_and_nested_ones_refused() -> None:
    def read(content: bytes) -> Any:
        return plain_content(io.BytesIO(with_pickle(b"\x80\2" + content)), "best.pth")

    numbers = b"G" + bytes(8)
    assert read(b"](" + numbers * 2 + b"\x86q\1h\1e.") == [(0.0, 0.0)] * 2
    for shared in (b"(" + numbers * 4 + b"t", b")\x85", b"N" + b")" + b"\x86", b"X\1\0\0\0a\x85"):
        with pytest.raises(CheckpointError, match="tuples that are shared"):
            read(b"](" + shared + b"q\1h\1e.")


TENSOR, PARAMETER = b"ctorch._utils\n_rebuild_tensor_v2\nq\0", b"ctorch._utils\n_rebuild_parameter\nq\0"
ORDERED = b"ccollections\nOrderedDict\nq\0"
AS_KEY = b"}h<Ns\x86."


def doubled(operations: bytes, first: bytes = b"N\x85") -> bytes:
    """A list of values, each made of the previous one twice: 2**60 values, written out in full.

    Args:
        operations: what makes a value of the two on the stack.
        first: what makes the first value.
    """
    return first + b"q\1" + b"".join(b"h%ch%c" % (n, n) + operations + b"q%c" % (n + 1) for n in range(1, 60))


def called(operations: bytes) -> bytes:
    """As ``doubled``, by the function in slot 0."""
    return b"](" + b"".join(b"h\0h%ch%c" % (n, n) + operations + b"q%c" % (n + 1) for n in range(1, 60)) + b"e"


BRANCHING = {
    "tensors as a key": (TENSOR + b"h\0N\x85Rq\1" + called(b"\x86R") + AS_KEY, "a tensor as a key"),
    "parameters of a list": (PARAMETER + b"]q\1" + called(b"\x86\x85R") + b"\x86.", "a parameter that is no tensor"),
    "tuples, built": (b"](" + doubled(b"\x86Nb") + b"e" + AS_KEY, "BINPUT after BUILD"),
    "tuples, filled": (b"](" + doubled(b"\x86(u") + b"e" + AS_KEY, "BINPUT after SETITEMS"),
    "tuples, extended": (b"](" + doubled(b"\x86(e") + b"e" + AS_KEY, "BINPUT after APPENDS"),
    "tuples, stored twice": (b"](" + doubled(b"\x86q=") + b"e" + AS_KEY, "BINPUT after BINPUT"),
}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("name", BRANCHING)
def test_what_takes_years_to_hash_or_to_build_is_refused(name: str, is_zip: bool) -> None:
    content, says = BRANCHING[name]
    data = with_pickle(b"\x80\2" + content) if is_zip else packed(b"\x80\2" + content)
    with no_waiting(), pytest.raises(CheckpointError, match=says):
        plain_content(io.BytesIO(data), "best.pth")


def test_scales_that_have_scales_themselves_are_refused() -> None:
    numbers = Storage(torch.int8, "0"), 0, (1,), (1,)
    record = TensorRecord("_rebuild_tensor_v2", numbers)
    for _ in range(60):
        record = TensorRecord("_rebuild_qtensor", (*numbers, (torch.per_channel_affine, record, record, 0)))
    reader: Any = types.SimpleNamespace(size=1000, storage=lambda _: torch.zeros(1, dtype=torch.int8))
    with no_waiting(), pytest.raises(ValueError, match="scales that are themselves of int8"):
        build_tensors(record, reader)


@pytest.mark.parametrize("is_zip", [True, False])
def test_the_items_of_a_list_fill_one_dictionary_only(is_zip: bool) -> None:
    """Python 2 wrote ordered dictionaries like that, each with a list of its own."""
    items = b"]q\1(](K\1K\2e](K\3Nee"
    content = b"\x80\2](" + ORDERED + items + b"\x85R" + b"h\0h\1\x85R" * 3 + b"e."
    found = plain_content(io.BytesIO(with_pickle(content) if is_zip else packed(content)), "best.pth")
    assert found == [{1: 2, 3: None}, {}, {}, {}]


def test_a_message_does_not_write_out_what_is_shared() -> None:
    value: Any = OrderedDict(a=1)
    for _ in range(60):
        value = OrderedDict(a=value, b=value)
    with no_waiting():
        assert quote(value) == "OrderedDict"
        assert quote([value, 1]) == "[OrderedDict, 1]"


def test_the_list_of_standard_values_has_only_existing_names() -> None:
    """A misspelt one would never be skipped."""
    old = {"__builtin__": "builtins", "copy_reg": "copyreg"}
    for wanted in tensor_pickle._STANDARD_VALUES:
        module, name = wanted.split()
        if wanted == "__builtin__ xrange" or module == "pathlib._local":
            continue
        imported = __import__(old.get(module, module), fromlist=[name])
        assert hasattr(imported, name), wanted
