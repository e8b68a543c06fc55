import shutil
from pathlib import Path

import numpy as np
import pytest

from stale_runtime.arrays import unpack_arrays
from stale_runtime.bundle import Bundle
from stale_runtime.errors import BundleError, PromptError
from stale_runtime.manifest import TextEncoderSpec
from stale_runtime.text_encoder import TOKENIZER_NAME, TextEncoder, Tokenizer, encoder_identity
from tests import tiny
from tests.runtime.helpers import with_file

SPEC = TextEncoderSpec(clip="tiny", context_length=tiny.CONTEXT, pad_token=54, prompt_template="{}")
LETTERS = {chr(ord("a") + n): n for n in range(26)}
START, END = 53, 54


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


def test_embeddings_are_those_that_were_exported(encoder: TextEncoder, bundle: Path) -> None:
    recorded = unpack_arrays(Bundle(bundle).read("prompts.npz"), "prompts.npz")
    np.testing.assert_allclose(encoder.encode(recorded["texts"].tolist()), recorded["embeddings"], atol=1e-5)


def test_an_embedding_does_not_depend_on_what_is_encoded_with_it(encoder: TextEncoder) -> None:
    texts = ["abcdefghijklmnopqrstuvwxyz"[: 1 + n % 20] for n in range(130)]  # three batches
    together = encoder.encode(texts)
    assert together.shape == (130, tiny.CHANNELS)
    assert together.dtype == np.float32
    for n in (0, 1, 19, 63, 64, 129):
        np.testing.assert_allclose(encoder.encode([texts[n]])[0], together[n], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_too_many_tokens_are_refused_by_place(encoder: TextEncoder) -> None:
    with pytest.raises(PromptError, match=f"line 2: {tiny.CONTEXT + 1} tokens"):
        encoder.encode(["x" * (tiny.CONTEXT - 1)], ["line 2"])


def test_the_identity_is_of_tower_and_tokenizer(bundle: Path, tmp_path: Path) -> None:
    identity = encoder_identity(Bundle(bundle))
    assert identity == encoder_identity(Bundle(Path(shutil.copytree(bundle, tmp_path / "same"))))
    other = (bundle / TOKENIZER_NAME).read_bytes() + b"\n"
    assert encoder_identity(Bundle(with_file(bundle, tmp_path / "tokenizer", TOKENIZER_NAME, other))) != identity
    other = (bundle / "text_encoder.onnx").read_bytes() + b"\0"
    assert encoder_identity(Bundle(with_file(bundle, tmp_path / "tower", "text_encoder.onnx", other))) != identity
    assert encoder_identity(Bundle(with_file(bundle, tmp_path / "rest", "prompts.npz", b""))) == identity
