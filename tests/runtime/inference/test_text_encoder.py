import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import TextEncoderSpec
from stale_runtime.errors import BundleError, PromptError
from stale_runtime.inference.text_encoder import TextEncoder, Tokenizer, encoder_identity
from tests import tiny
from tests.runtime.helpers import altered, with_file

LETTERS = {chr(ord("a") + n): n for n in range(26)}
START, END = 53, 54
SPEC = TextEncoderSpec(
    clip="tiny",
    context_length=tiny.CONTEXT,
    pad_token=END,
    prefix=(START, 26 + LETTERS["a"], LETTERS["b"], 26 + LETTERS["y"]),
    prompt_template="a by {}",
)


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> TextEncoder:
    return TextEncoder(Bundle(bundle))


@pytest.fixture(scope="module")
def tokenizer(clip_folder: Path) -> Tokenizer:
    return Tokenizer((clip_folder / "tokenizer.json").read_bytes(), SPEC)


def test_tokens_by_value(tokenizer: Tokenizer) -> None:
    ids = tokenizer(["AB c", "d"])
    expected = [
        [START, LETTERS["a"], 26 + LETTERS["b"], 26 + LETTERS["c"], END],
        [START, 26 + LETTERS["d"], END, SPEC.pad_token, SPEC.pad_token],
    ]
    np.testing.assert_array_equal(ids, expected)
    assert ids.dtype == np.int64


def test_a_prompt_of_exactly_the_context_is_taken(tokenizer: Tokenizer) -> None:
    assert tokenizer(["x" * (tiny.CONTEXT - 2)]).shape == (1, tiny.CONTEXT)


def test_a_prompt_of_more_tokens_is_refused_by_place(tokenizer: Tokenizer) -> None:
    texts = ["short", "x" * (tiny.CONTEXT - 1)]
    with pytest.raises(
        PromptError,
        match=rf"^classes\.txt, line 7: {tiny.CONTEXT + 1} tokens, the text tower takes {tiny.CONTEXT}; shorten",
    ):
        tokenizer(texts, ["classes.txt, line 3", "classes.txt, line 7"])
    with pytest.raises(PromptError, match=f"^prompt 2: {tiny.CONTEXT + 1} tokens"):
        tokenizer(texts)


def test_padding_and_truncation_of_the_file_are_not_followed(clip_folder: Path) -> None:
    from tokenizers import Tokenizer as Implementation

    other = Implementation.from_file(str(clip_folder / "tokenizer.json"))
    other.enable_truncation(3)
    other.enable_padding(length=20, pad_id=1)
    assert Tokenizer(other.to_str().encode(), SPEC)(["abcdef"]).shape == (1, 8)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b"[" * 1000, b'{"model": {"type": "Unheard"}}'])
def test_what_is_no_tokenizer_is_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer(data, SPEC)


class Panic(BaseException):
    """What the library raises where its Rust panics is no Exception either."""


def test_a_tokenizer_that_panics_is_a_bundle_error(
    tokenizer: Tokenizer, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(*_: object) -> None:
        raise Panic("index out of bounds")

    monkeypatch.setattr(tokenizer, "_implementation", SimpleNamespace(encode_batch=panic))
    with pytest.raises(BundleError, match=r"tokenizer\.json: fails \(index out of bounds\)"):
        tokenizer(["polo"])
    monkeypatch.setattr("tokenizers.Tokenizer", SimpleNamespace(from_str=panic))
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a tokenizer like CLIP's \(index out of bounds\)"):
        Tokenizer((clip_folder / "tokenizer.json").read_bytes(), SPEC)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_a_tokenizer_can_be_interrupted(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    def interrupt(*_: object) -> None:
        raise interruption

    monkeypatch.setattr(tokenizer, "_implementation", SimpleNamespace(encode_batch=interrupt))
    with pytest.raises(interruption):
        tokenizer(["polo"])


def test_embeddings_are_those_that_were_exported(encoder: TextEncoder, bundle: Path) -> None:
    recorded = unpack_arrays(Bundle(bundle).read("prompts.npz"), "prompts.npz")
    assert recorded["texts"].tolist() == [f"a video of action {name}" for name in tiny.CLASSES]
    encoded = encoder.encode(tiny.CLASSES)
    embeddings, queries = np.split(recorded["vectors"], [tiny.CHANNELS], axis=1)
    np.testing.assert_allclose(encoded.embeddings, embeddings, rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoded.queries, queries, rtol=0, atol=1e-5)


def test_a_prompt_does_not_depend_on_what_is_encoded_with_it(encoder: TextEncoder) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [letters[n % 7 : n % 7 + 1 + n % 20] for n in range(130)]  # 20 lengths, none after its like
    names += [f"{a}{b}" for a in letters for b in letters][:600]  # three batches of one length
    together = encoder.encode(names)
    assert together.embeddings.shape == (730, tiny.CHANNELS)
    assert together.queries.shape == (730, tiny.CONFIG.heads * tiny.CHANNELS)
    assert together.embeddings.dtype == together.queries.dtype == np.float32
    for n in (0, 1, 19, 63, 64, 129, 130, 385, 386, 729):
        alone = encoder.encode([names[n]])
        np.testing.assert_allclose(alone.embeddings[0], together.embeddings[n], rtol=0, atol=1e-5)
        np.testing.assert_allclose(alone.queries[0], together.queries[n], rtol=0, atol=1e-5)
    assert len(np.unique(together.embeddings.round(6), axis=0)) == len(set(names))


def test_what_is_encoded_is_given_back_in_the_order_of_the_names(encoder: TextEncoder) -> None:
    names = ["long jump", "polo", "archery", "judo", "x", "polo"]
    forwards, backwards = encoder.encode(names), encoder.encode(names[::-1])
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_allclose(one, other[::-1], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(one[1], one[5])
        assert len(np.unique(one.round(6), axis=0)) == 5


def test_suffixes_are_what_stands_behind_the_prefix(tokenizer: Tokenizer) -> None:
    assert tokenizer.suffixes(["AB c", "d"]) == [
        [LETTERS["a"], 26 + LETTERS["b"], 26 + LETTERS["c"], END],
        [26 + LETTERS["d"], END],
    ]
    assert tokenizer.suffixes([]) == []


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a <|endoftext|> b", [26, END]),
        ("a<|endoftext|><|endoftext|>", [26, END]),
        ("<|endoftext|>", [END]),
        ("<|startoftext|>a", [START, 26, END]),
    ],
)
def test_a_suffix_ends_with_its_first_end_token(tokenizer: Tokenizer, name: str, suffix: list[int]) -> None:
    assert tokenizer.suffixes([name]) == [suffix]


def test_a_name_that_changes_the_words_before_it_is_refused_by_place(tokenizer: Tokenizer) -> None:
    spec = dataclasses.replace(SPEC, prompt_template="a by{}")
    clinging = Tokenizer(tokenizer._implementation.to_str().encode(), spec)
    assert clinging.suffixes([" polo"]) == tokenizer.suffixes(["polo"])
    with pytest.raises(PromptError, match=r"^line 2: the tokenizer merges 'polo' with the words before it"):
        clinging.suffixes([" polo", "polo"], ["line 1", "line 2"])
    with pytest.raises(PromptError, match=r"^prompt 1: the tokenizer merges 'polo'"):
        clinging.suffixes(["polo"])


def test_a_tokenizer_that_ends_no_prompt_is_a_bundle_error(clip_folder: Path) -> None:
    content = json.loads((clip_folder / "tokenizer.json").read_text())
    content["post_processor"] = None
    endless = Tokenizer(json.dumps(content).encode(), dataclasses.replace(SPEC, prefix=SPEC.prefix[1:]))
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        endless.suffixes(["polo"])


def test_a_name_fills_the_context_at_most(encoder: TextEncoder, bundle: Path) -> None:
    room = tiny.CONTEXT - len(Bundle(bundle).manifest.text_encoder.prefix) - 1
    assert np.isfinite(encoder.encode(["x" * room]).embeddings).all()
    with pytest.raises(PromptError, match=rf"^line 2: {tiny.CONTEXT + 1} tokens, the text tower takes {tiny.CONTEXT}"):
        encoder.encode(["polo", "x" * (room + 1)], ["line 1", "line 2"])
    with pytest.raises(PromptError, match=f"^prompt 2: {tiny.CONTEXT + 1} tokens"):
        encoder.encode(["polo", "x" * (room + 1)])


def test_the_identity_is_of_tower_and_tokenizer(bundle: Path, tmp_path: Path) -> None:
    identity = encoder_identity(Bundle(bundle))
    assert identity == encoder_identity(Bundle(Path(shutil.copytree(bundle, tmp_path / "same"))))
    other = (bundle / layout.TOKENIZER).read_bytes() + b"\n"
    assert encoder_identity(Bundle(with_file(bundle, tmp_path / "tokenizer", layout.TOKENIZER, other))) != identity
    other = (bundle / "text_encoder.onnx").read_bytes() + b"\0"
    assert encoder_identity(Bundle(with_file(bundle, tmp_path / "tower", "text_encoder.onnx", other))) != identity
    assert encoder_identity(Bundle(with_file(bundle, tmp_path / "rest", "prompts.npz", b""))) == identity


def test_what_clip_s_tokenizer_does_is_taken(clip_folder: Path) -> None:
    content = json.loads((clip_folder / "tokenizer.json").read_text())
    spaces = {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]}
    assert Tokenizer(json.dumps(content).encode(), SPEC).rows(["A  B"])[0][1:3] == [
        26 + LETTERS["a"],
        26 + LETTERS["b"],
    ]


def test_the_identity_of_an_encoder_is_all_that_an_embedding_depends_on(bundle: Path, tmp_path: Path) -> None:
    """Otherwise a bundle with the same tower could put wrong embeddings into another bundle's cache."""
    manifest = Bundle(bundle).manifest
    spec = manifest.text_encoder
    specs = [
        dataclasses.replace(spec, prefix=spec.prefix[:-1]),
        dataclasses.replace(spec, pad_token=0),
        dataclasses.replace(spec, prompt_template="{}"),
        dataclasses.replace(spec, context_length=50),
    ]
    changes: list[dict[str, Any]] = [*({"text_encoder": changed} for changed in specs), {"heads": 1}, {"channels": 8}]
    copies = [altered(bundle, tmp_path / str(n), **change) for n, change in enumerate(changes)]
    identities = {encoder_identity(Bundle(path)) for path in (bundle, *copies)}
    assert len(identities) == 1 + len(changes)


@pytest.mark.parametrize("name", ["text_encoder.onnx", layout.TOKENIZER])
def test_a_bundle_without_a_tower_has_no_identity(bundle: Path, tmp_path: Path, name: str) -> None:
    files = {other: record for other, record in Bundle(bundle).manifest.files.items() if other != name}
    copy = altered(bundle, tmp_path / "copy", files=files)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"the bundle has no {name}; copy the bundle again"):
        encoder_identity(Bundle(copy))
