import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stale_model.demo.demo_tokenizer import make_tokenizer
from stale_runtime.inference.text_encoder import load_tokenizer
from stale_runtime.inference.tokenizer_check import require_clip_tokenizer
from tests.runtime.helpers import no_waiting

CLIP: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": n, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": normalized, "special": True}
        for n, token, normalized in ((2, "<|startoftext|>", True), (3, "<|endoftext|>", False))
    ],
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"},
        ],
    },
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {
                    "Regex": "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|"
                    "[^\\s\\p{L}\\p{N}]+"
                },
                "behavior": "Removed",
                "invert": True,
            },
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ],
    },
    "post_processor": {
        "type": "RobertaProcessing",
        "sep": ["<|endoftext|>", 3],
        "cls": ["<|startoftext|>", 2],
        "trim_offsets": False,
        "add_prefix_space": False,
    },
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<|endoftext|>",
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "</w>",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {"a": 0, "a</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3, "aa</w>": 4},
        "merges": [["a", "a</w>"]],
    },
}
"""OpenAI's CLIP as transformers converts it, with a small vocabulary."""
START, PROMPT, END = (
    {"SpecialToken": {"id": "<|startoftext|>", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}},
    {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
)


def template(pieces: list[Any], ids: int = 1) -> dict[str, Any]:
    tokens = {
        token: {"id": token, "ids": [n] * ids, "tokens": [token] * ids}
        for n, token in ((2, "<|startoftext|>"), (3, "<|endoftext|>"))
    }
    pair = [PROMPT, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": pieces, "pair": pair, "special_tokens": tokens}


def encoded(**parts: Any) -> bytes:
    return json.dumps({**CLIP, **parts}).encode()


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"post_processor": template([START, PROMPT, END])},
        {"model": {**CLIP["model"], "merges": ["a a</w>"], "continuing_subword_prefix": None}},  # older and newer files
        {
            "truncation": {"direction": "Right", "max_length": 77, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 77}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 3}
            | {"pad_type_id": 0, "pad_token": "<|endoftext|>"},
        },
    ],
)
def test_what_clip_s_tokenizers_have_is_taken(parts: dict[str, Any]) -> None:
    assert load_tokenizer(encoded(**parts)).encode("  AA   a").ids == [2, 4, 1, 3]


def test_the_demo_s_tokenizer_is_taken() -> None:
    assert load_tokenizer(make_tokenizer(["polo"]).to_str().encode()).encode("polo").tokens[1] == "polo"


@pytest.mark.reference
def test_clip_s_own_is_taken(reference: Path) -> None:
    load_tokenizer((reference / "clip" / "tokenizer.json").read_bytes())


def normalizers(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}


def split(pattern: str) -> dict[str, Any]:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
    return {"pre_tokenizer": step}


def added(**changes: Any) -> dict[str, Any]:
    return {"added_tokens": [{**CLIP["added_tokens"][0], **changes}]}


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"post_processor": template([START, PROMPT] + [END] * 2000)}, "2,002 entries, expected a list of at most 8"),
        ({"post_processor": template([START, PROMPT, END], ids=10_000)}, "10,000 entries"),
        ({"post_processor": {"type": "Sequence", "processors": [template([PROMPT])] * 5}}, "5 entries"),
        ({"post_processor": {"type": "Sequence", "processors": [{"type": "Sequence"}]}}, "'Sequence'"),
        ({"model": {**CLIP["model"], "dropout": 0.5}}, "dropout 0.5, which makes tokens random"),
        ({"model": {**CLIP["model"], "type": "Unigram"}}, "'Unigram', expected BPE"),
        ({"model": {**CLIP["model"], "cache_capacity": 2**60}}, "'cache_capacity'"),
        ({"model": {**CLIP["model"], "vocab": {str(n): n for n in range(2**20 + 1)}}}, "1,048,577 tokens"),
        (normalizers({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}), "expected one character"),
        (normalizers(*[{"type": "Lowercase"}] * 5), "5 entries, expected a list of at most 4"),
        (normalizers({"type": "Prepend", "prepend": "a"}), "'Prepend'"),
        (normalizers({"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "'Precompiled'"),
        (normalizers({"type": "Sequence", "normalizers": []}), "'Sequence'"),
        (split("(a+)+$"), "without groups"),
        (split("a*a*a*a*b"), "only the last item"),
        (split("a{1,1000}{1,1000}"), "only the last item"),
        ({"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}}, "'Metaspace'"),
        (added(content="a" * 201), "added_tokens.content"),
        ({"added_tokens": CLIP["added_tokens"] * 501}, "1,002 entries"),
        ({"decoder": {"type": "WordPiece"}}, "decoder 'WordPiece'"),
        ({"more": 1}, "the file has 'more'"),
    ],
)
def test_everything_else_is_refused(parts: dict[str, Any], says: str) -> None:
    with no_waiting(), pytest.raises(ValueError, match=says):
        load_tokenizer(encoded(**parts))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('"dropout": null', '"dropout": 0.5, "dropout": null'), "occurs twice"),
        (lambda _: '{"model": ' * 100_000, "nested too deeply"),
        (lambda _: "[]", "expected a JSON object"),
        (lambda text: text[:-1], "delimiter"),
    ],
)
def test_readers_of_json_cannot_disagree(change: Callable[[str], str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        require_clip_tokenizer(change(encoded().decode()).encode())
