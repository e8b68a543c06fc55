import argparse
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stale_model import StaleConfig, TrainedStale, read_original_checkpoint
from stale_model.checkpoints import checkpoint
from stale_model.checkpoints.clip import MOST_LAYERS
from stale_model.checkpoints.loading import memory_errors
from stale_runtime.errors import CheckpointError, OutOfMemoryError
from tests import tiny

State = dict[str, Tensor]
Read = Callable[..., TrainedStale]
IDS = torch.tensor([[53, 0, 27, 54], [53, 5, 54, 54]])
TOWER_WEIGHT = "txt_model.text_model.encoder.layers.0.mlp.fc1.weight"


@pytest.fixture
def state(clip_folder: Path) -> State:
    return tiny.upstream_state(tiny.make_network(), tiny.make_tower(clip_folder))


@pytest.fixture
def read(clip_folder: Path, tmp_path: Path) -> Read:
    """Saves a state as the original does, and reads it back."""

    def save_and_read(state: State, prefix: str = "module.") -> TrainedStale:
        return read_original_checkpoint(
            tiny.save_checkpoint(tmp_path / "best.pth", state, prefix=prefix), str(clip_folder)
        )

    return save_and_read


def outputs(trained: TrainedStale) -> list[Tensor]:
    features = torch.randn(2, tiny.LENGTH, tiny.CHANNELS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        prompts = trained.tower(IDS)
        return [prompts, *trained.network(features, trained.network.with_background(prompts))]


def same(one: TrainedStale, other: TrainedStale) -> bool:
    return all(torch.equal(a, b) for a, b in zip(outputs(one), outputs(other), strict=True))


def refusal(read: Read, state: State) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(state)
    message = str(caught.value)
    assert "\n" not in message
    assert "best.pth: " in message
    return message


def test_what_is_read_is_what_was_saved(read: Read, state: State, clip_folder: Path) -> None:
    trained = read(state)
    network, tower = tiny.make_network(), tiny.make_tower(clip_folder)
    for module, expected in ((trained.network, network), (trained.tower, tower)):
        assert module.state_dict().keys() == expected.state_dict().keys()
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, expected.state_dict()[name]), name
    assert trained.network.config == tiny.CONFIG
    assert not trained.network.training
    assert not trained.tower.training


def test_outputs_are_those_of_the_saved_network(read: Read, state: State, clip_folder: Path) -> None:
    features = torch.randn(2, tiny.LENGTH, tiny.CHANNELS, generator=torch.Generator().manual_seed(0))
    network = tiny.make_network()
    with torch.no_grad():
        prompts = tiny.make_tower(clip_folder)(IDS)
        expected = [prompts, *network(features, network.with_background(prompts))]
    for got, wanted in zip(outputs(read(state)), expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("unused", [True, False])
def test_prefix_and_unused_modules_make_no_difference(
    read: Read, state: State, clip_folder: Path, prefix: str, unused: bool
) -> None:
    plain = tiny.upstream_state(tiny.make_network(), tiny.make_tower(clip_folder), unused=unused)
    assert same(read(plain, prefix), read(state))


PREFIXES = ["module.module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.model.", "my_stale."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_wrappers_put_before_all_names_is_removed(read: Read, state: State, prefix: str) -> None:
    assert same(read(state, prefix), read(state))


def test_a_prefix_of_some_names_only_is_not_removed(read: Read, state: State) -> None:
    state = {f"module.{name}": tensor for name, tensor in state.items()}
    state["bg_embeddings"] = state.pop("module.bg_embeddings")
    assert "unknown tensors module." in refusal(read, state)


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model", "net", "network", "module"])
def test_weights_are_found_under_the_usual_keys_and_without_one(
    read: Read, state: State, clip_folder: Path, tmp_path: Path, key: str | None
) -> None:
    torch.save(state if key is None else {"epoch": 3, key: state, "best": 0.5}, tmp_path / "other.pth")
    assert same(read_original_checkpoint(tmp_path / "other.pth", str(clip_folder)), read(state))


BESIDE: list[dict[str, object]] = [
    {"epoch": 3, "best_loss": torch.tensor(0.3)},
    {"epoch": torch.tensor(3)},
    {"rng": torch.get_rng_state()},
    {"model": "STALE", "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    {"model": {"name": "STALE", "channels": 512}, "norm": torch.ones(2)},
    {"state_dict": {}, "model": None},
    {"state_dict": None, "model": argparse.Namespace(name="STALE")},
]


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("beside", BESIDE, ids=lambda beside: "+".join(beside))
def test_what_is_beside_the_weights_makes_no_difference(
    read: Read, state: State, clip_folder: Path, tmp_path: Path, beside: dict[str, object], is_zip: bool
) -> None:
    path, key = tmp_path / "other.pth", "net" if "model" in beside else "state_dict"
    torch.save({**beside, key: state}, path, _use_new_zipfile_serialization=is_zip)
    assert same(read_original_checkpoint(path, str(clip_folder)), read(state))


@pytest.mark.parametrize("outer", ["model", "state_dict"])
def test_weights_are_found_one_level_deeper(
    read: Read, state: State, clip_folder: Path, tmp_path: Path, outer: str
) -> None:
    torch.save({"epoch": torch.tensor(3), outer: {"state_dict": state}}, tmp_path / "other.pth")
    assert same(read_original_checkpoint(tmp_path / "other.pth", str(clip_folder)), read(state))


@pytest.mark.parametrize("name", ["embedding.w_ks.weight", "localizer_mask.2.weight", "bg_embeddings", TOWER_WEIGHT])
def test_one_changed_weight_makes_a_difference(read: Read, state: State, name: str) -> None:
    original = read(state)
    state[name].view(-1)[3] += 0.5
    assert not same(read(state), original)


def test_the_sizes_are_read_off_the_tensors(read: Read, clip_folder: Path) -> None:
    config = StaleConfig(
        channels=16, temporal_scale=21, heads=3, mask_channels=5, foreground_layers=2, foreground_feedforward=7
    )
    trained = read(tiny.upstream_state(tiny.make_network(config=config), tiny.make_tower(clip_folder)))
    assert trained.network.config == config


def test_the_digest_is_that_of_the_file(read: Read, state: State, tmp_path: Path) -> None:
    trained = read(state)
    content = (tmp_path / "best.pth").read_bytes()
    assert trained.sha256 == hashlib.sha256(content).hexdigest()
    assert trained.size == len(content)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_become_single(read: Read, state: State, dtype: torch.dtype) -> None:
    cast = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    trained = read(cast)
    assert {tensor.dtype for tensor in trained.network.state_dict().values()} == {torch.float32}
    assert {tensor.dtype for tensor in trained.tower.state_dict().values()} == {torch.float32}
    assert same(trained, read({name: tensor.float() for name, tensor in cast.items()}))
    assert same(trained, read(state)) == (dtype == torch.float64)


def test_parameters_count_as_tensors(read: Read, state: State) -> None:
    parameters = {name: torch.nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()}
    assert same(read(parameters), read(state))


def test_a_transposed_tensor_is_read(read: Read, state: State) -> None:
    original = read(state)
    state["embedding.fc.weight"] = state["embedding.fc.weight"].T.contiguous().T
    assert not state["embedding.fc.weight"].is_contiguous()
    assert same(read(state), original)


@pytest.mark.parametrize("name", ["embedding.fc.weight", "localizer_mask.2.weight", "masktrans.input_proj.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number_is_named(read: Read, state: State, name: str, value: float) -> None:
    state[name].view(-1)[-1] = value
    assert name in refusal(read, state)


def test_a_weight_of_the_tower_that_is_no_number_is_named(read: Read, state: State) -> None:
    state[TOWER_WEIGHT][0, 0] = float("nan")
    assert TOWER_WEIGHT in refusal(read, state)


def test_weights_too_large_for_single_precision_are_refused(read: Read, state: State) -> None:
    state["embedding.fc.weight"] = state["embedding.fc.weight"].double() + 1e300
    assert "embedding.fc.weight" in refusal(read, state)


def test_nan_in_what_is_never_used_is_ignored(read: Read, state: State) -> None:
    original = read(state)
    for name in ("contexts", "proj.0.weight", "classifier.0.bias", "txt_model.logit_scale"):
        state[name] = torch.full_like(state[name], float("nan"))
    assert same(read(state), original)


def test_every_missing_tensor_is_refused(read: Read, state: State, clip_folder: Path) -> None:
    for name in tiny.upstream_state(tiny.make_network(), tiny.make_tower(clip_folder), unused=False):
        rest = {other: tensor for other, tensor in state.items() if other != name}
        message = refusal(read, rest)
        assert "no tensor for" in message or "the tensor for" in message or "text tower has 0 layers" in message, name


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("bg_embeddings", "background_embedding"),
        ("embedding.layer_norm.weight", "snippet_embedding.norm.weight"),
        ("cross_att.fc.bias", "cross_adaptation.output.bias"),
        ("localizer_mask.2.weight", "mask_localizer.kernel"),
        ("masktrans.input_proj.bias", "foreground.input.bias"),
        (TOWER_WEIGHT, "text_model.encoder.layers.0.mlp.fc1.weight"),
    ],
)
def test_a_missing_tensor_is_named(read: Read, state: State, theirs: str, ours: str) -> None:
    del state[theirs]
    assert ours in refusal(read, state)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("embedding.fc.weight", (16, 31)),
        ("embedding.fc.weight", (0, 32)),
        ("embedding.fc.bias", ()),
        ("bg_embeddings", (2, 16)),
        ("masktrans.query_embed.weight", (16,)),
        ("masktrans.input_proj.weight", (16, 16, 3, 3)),
        ("masktrans.input_proj.weight", (16,)),
        ("masktrans.input_proj.weight", ()),
        ("localizer_mask.2.weight", (16, 8, 3)),
        ("localizer_mask.0.weight", (8, 16)),
        (TOWER_WEIGHT, (8, 16)),
        ("txt_model.text_projection.weight", (12, 8)),
    ],
)
def test_a_misshapen_tensor_is_named(read: Read, state: State, name: str, shape: tuple[int, ...]) -> None:
    state[name] = torch.zeros(shape)
    assert name in refusal(read, state)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("embedding.layer_norm.weight", ()),
        ("embedding.layer_norm.weight", (0,)),
        ("embedding.layer_norm.weight", (17,)),
        ("embedding.w_qs.weight", (3, 16)),
        ("localizer_mask.2.weight", ()),
        ("localizer_mask.2.weight", (16,)),
        ("localizer_mask.2.weight", (0, 8, 1)),
        ("masktrans.transformer.encoder.layers.0.linear1.weight", (0, 16)),
    ],
)
def test_a_misshapen_tensor_that_tells_the_sizes_is_refused(
    read: Read, state: State, name: str, shape: tuple[int, ...]
) -> None:
    state[name] = torch.zeros(shape)
    refusal(read, state)


@pytest.mark.parametrize(
    "name",
    ["optimizer.step", "embedding.w_os.weight", "embedding.fc.extra", "masktrans.transformer.encoder.layers.0.norm1.x"],
)
def test_an_unknown_tensor_is_named(read: Read, state: State, name: str) -> None:
    state[name] = torch.zeros(3)
    assert name in refusal(read, state)


@pytest.mark.parametrize("name", ["two\nlines", "embedding.fc.two\nlines", "proj.two\nlines", "\x1b[31mred"])
def test_a_name_cannot_break_the_message(read: Read, state: State, name: str) -> None:
    state[name] = torch.zeros(3)
    assert refusal(read, state).isprintable()


def test_a_name_cannot_flood_the_message(read: Read, state: State) -> None:
    state["x" * 100_000] = torch.zeros(3)
    assert len(refusal(read, state)) < 1000


@pytest.mark.parametrize("value", [3, "text", None, [1.0], {"a": torch.zeros(1)}])
def test_a_value_that_is_no_tensor_is_named(read: Read, state: State, value: object) -> None:
    assert "embedding.fc.weight" in refusal(read, {**state, "embedding.fc.weight": value})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.long(),
        lambda weight: weight > 0,
        lambda weight: weight[0, 0].clone().expand_as(weight),
        lambda weight: weight[:0],
    ],
    ids=["integer", "bool", "expanded", "empty"],
)
def test_a_tensor_of_no_plain_floats_is_named(read: Read, state: State, change: Callable[[Tensor], Tensor]) -> None:
    state["embedding.fc.weight"] = change(state["embedding.fc.weight"])
    assert "embedding.fc.weight" in refusal(read, state)


def test_a_tensor_with_fewer_weights_than_its_shape_is_named(read: Read, state: State) -> None:
    weight = state["embedding.fc.weight"]
    state["embedding.fc.weight"] = torch.zeros(1).as_strided(weight.shape, (0,) * weight.ndim)
    assert "embedding.fc.weight has fewer weights than its shape says" in refusal(read, state)


def test_more_layers_than_there_can_be_are_refused(read: Read, state: State) -> None:
    layer = {name: tensor for name, tensor in state.items() if ".layers.0." in name and "transformer" in name}
    assert layer
    for n in range(1, MOST_LAYERS + 1):
        state.update({name.replace(".layers.0.", f".layers.{n}."): tensor.clone() for name, tensor in layer.items()})
    assert f"{MOST_LAYERS + 1} layers" in refusal(read, state)


@pytest.mark.parametrize(
    ("change", "asked_for"),
    [
        (lambda weight: weight.to(torch.complex64), "torch ComplexFloatStorage"),
        (lambda weight: weight.to_sparse(), "torch._utils _rebuild_sparse_tensor"),
        (lambda weight: weight.to("meta"), "torch._utils _rebuild_meta_tensor_no_storage"),
    ],
    ids=["complex", "sparse", "meta"],
)
def test_a_tensor_of_another_kind_is_not_even_made(
    read: Read, state: State, change: Callable[[Tensor], Tensor], asked_for: str
) -> None:
    state["embedding.fc.weight"] = change(state["embedding.fc.weight"])
    assert f"it asks for {asked_for}" in refusal(read, state)


def test_thousands_of_names_for_one_storage_are_refused_before_any_is_copied(
    read: Read, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "to", lambda *_, **__: pytest.fail("copied"))
    one = torch.zeros(100_000, dtype=torch.float16)
    layer = "masktrans.transformer.encoder.layers.{}.norm1.weight"
    state |= {layer.format(n): one for n in range(10)}
    assert re.search(r"its tensors claim more than twice the \d{3},\d{3} bytes of the file", refusal(read, state))


def test_a_weight_that_two_layers_share_is_read(read: Read, state: State) -> None:
    largest = max((name for name in state if state[name].ndim == 2), key=lambda name: state[name].numel())
    twin = next(name for name in state if name != largest and state[name].shape == state[largest].shape)
    state[twin] = state[largest]
    assert read(state)


def test_shapes_are_compared_before_memory_is_taken(read: Read, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "as_weights", lambda *_: pytest.fail("copied"))
    state[TOWER_WEIGHT] = torch.zeros(8, 16)
    assert TOWER_WEIGHT in refusal(read, state)


@pytest.mark.parametrize(
    "problem",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes.")],
)
def test_memory_that_is_not_there_is_said(
    read: Read, state: State, problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise problem

    for module, name in ((torch, "frombuffer"), (Tensor, "isfinite"), (checkpoint, "TextTower")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(OutOfMemoryError, match="not enough memory to read it"):
                read(state)


def test_pytorch_says_that_there_is_no_memory_as_we_expect() -> None:
    with pytest.raises(OutOfMemoryError, match=r"^x: "), memory_errors("x"):
        torch.empty(2**56)
