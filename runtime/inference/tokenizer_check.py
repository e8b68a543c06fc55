"""Which tokenizers are loaded: those with the parts that CLIP's have, in the sizes that they have them.

``tokenizers`` can do far more than CLIP needs, and a small file can make it turn a word into gigabytes, take years for
a regular expression, or give random tokens. So a ``tokenizer.json`` is looked through before that library reads it.
"""

import json
import re
import reprlib
from collections.abc import Collection, Sequence
from typing import Any, Final

_KEYS: Final = {"version", "truncation", "padding", "added_tokens"}
_KEYS_OF_PARTS: Final = {"normalizer", "pre_tokenizer", "post_processor", "decoder", "model"}
_NORMALIZERS: Final = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Replace", "Strip", "StripAccents")
"""Steps that turn a character into a few at most; CLIP has NFC, Replace (of spaces) and Lowercase."""
_PRE_TOKENIZERS: tuple[str, ...] = ("Split", "ByteLevel", "Whitespace", "WhitespaceSplit", "BertPreTokenizer")
_PRE_TOKENIZERS += ("Punctuation", "Digits")
"""CLIP has Split and ByteLevel."""
_POST_PROCESSORS: Final = ("RobertaProcessing", "BertProcessing", "TemplateProcessing", "ByteLevel")
"""What puts a start token before a prompt and an end token behind it; CLIP has RobertaProcessing."""
_DECODERS: Final = ("ByteLevel", "BPEDecoder")
"""Never used: token ids are not decoded."""
_MODEL_KEYS = {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk"}
_MODEL_KEYS |= {"byte_fallback", "ignore_merges", "vocab", "merges"}
MOST_STEPS: Final = 4
MOST_PIECES: Final = 8
"""CLIP's template would have three: start token, prompt, end token."""
MOST_TOKENS: Final = 2**20
"""CLIP's vocabulary has 49,408."""
MOST_ADDED_TOKENS: Final = 1000
LONGEST_TOKEN: Final = 200
LONGEST_PATTERN: Final = 1000
_ITEM: Final = r"(?:\\[pP]\{\^?\w{1,20}\}|\\.|\[(?:\\.|[^\[\]\\])+\]|[^\\\[\](){}|+*?.^$])"
"""A character or a set of them, in a regular expression."""
_PATTERN: Final = re.compile(rf"{_ITEM}+\+?(?:\|{_ITEM}+\+?)*", re.DOTALL)
"""Regular expressions that take time in proportion to the text: alternatives of which only the last item repeats."""


def require_clip_tokenizer(tokenizer_json: bytes) -> None:
    """Make sure that a tokenizer has nothing but what CLIP's tokenizers have.

    Args:
        tokenizer_json: the content of a ``tokenizer.json``.

    Raises:
        ValueError: it has more, or is no JSON of that kind.
    """
    try:
        content = json.loads(tokenizer_json.decode(), object_pairs_hook=_without_doubles)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    whole = _mapping("the file", content, _KEYS | _KEYS_OF_PARTS)
    for name in ("truncation", "padding"):  # which are switched off once they are loaded
        settings = dict(_mapping(name, whole.get(name) or {}))
        if isinstance(strategy := settings.pop("strategy", None), dict):
            _plain_values(f"{name}.strategy", strategy)
        _plain_values(name, settings)
    for step in _steps("normalizer", whole.get("normalizer"), "normalizers", _NORMALIZERS):
        _check_step("normalizer", step)
    for step in _steps("pre_tokenizer", whole.get("pre_tokenizer"), "pretokenizers", _PRE_TOKENIZERS):
        _check_step("pre_tokenizer", step)
    for step in _steps("post_processor", whole.get("post_processor"), "processors", _POST_PROCESSORS):
        _check_post_processor(step)
    for step in _steps("decoder", whole.get("decoder"), "decoders", _DECODERS):
        _plain_values("decoder", step)
    _check_added_tokens(whole.get("added_tokens"))
    _check_model(whole.get("model"))


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary; readers of JSON differ in which of two values of one key counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _mapping(name: str, value: Any, keys: Collection[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {reprlib.repr(value)}, expected a JSON object")
    if keys is not None and (other := value.keys() - keys):
        raise ValueError(f"{name} has {min(other)[:40]!r}, which CLIP's tokenizers do not have")
    return value


def _listed(name: str, value: Any, most: int) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > most:
        got = f"{len(value):,} entries" if isinstance(value, list) else reprlib.repr(value)
        raise ValueError(f"{name}: {got}, expected a list of at most {most:,}")
    return value


def _plain_values(name: str, part: dict[str, Any]) -> None:
    """Make sure that a part's settings are switches, numbers, short words, or pairs of a token and its id."""
    for key, value in part.items():
        values = _listed(f"{name}.{key}", value, 2) if isinstance(value, list) else [value]
        for one in values:
            if not isinstance(one, bool | int | str | None) or len(str(one)) > LONGEST_TOKEN:
                raise ValueError(f"{name}.{key} is {reprlib.repr(value)}, which CLIP's tokenizers do not have")


def _steps(name: str, part: Any, key: str, kinds: Collection[str]) -> list[dict[str, Any]]:
    """The steps of a part, each of one of these types; none if the part is missing."""
    if part is None:
        return []
    whole = _mapping(name, part)
    inner = _listed(f"{name}.{key}", whole.get(key), MOST_STEPS) if whole.get("type") == "Sequence" else [whole]
    steps = [_mapping(name, step) for step in inner]
    for step in steps:
        if step.get("type") not in kinds:
            raise ValueError(
                f"{name} {reprlib.repr(step.get('type'))}, which CLIP's tokenizers do not have; expected "
                f"{', '.join(kinds)}"
            )
    return steps


def _check_step(name: str, step: dict[str, Any]) -> None:
    """Check a step that changes text or cuts it into words."""
    pattern = step.get("pattern")
    if pattern is not None:
        ((kind, text),) = _mapping(f"{name}.pattern", pattern).items() if len(pattern) == 1 else [("", "")]
        known = kind in ("String", "Regex") and isinstance(text, str) and 0 < len(text) <= LONGEST_PATTERN
        if not known or (kind == "Regex" and not _PATTERN.fullmatch(text)):
            raise ValueError(
                f"{name} with pattern {reprlib.repr(pattern)}, expected a text, or a regular expression without groups "
                "in which only the last item of an alternative repeats"
            )
    if len(str(step.get("content", ""))) > 1:
        raise ValueError(f"{name} {step['type']} puts in {reprlib.repr(step['content'])}, expected one character")
    _plain_values(name, {key: value for key, value in step.items() if key != "pattern"})


def _check_post_processor(step: dict[str, Any]) -> None:
    name = "post_processor"
    if step["type"] != "TemplateProcessing":
        _plain_values(name, step)
        return
    _mapping(name, step, {"type", "single", "pair", "special_tokens"})
    for key in ("single", "pair"):
        for piece in _listed(f"{name}.{key}", step.get(key), MOST_PIECES):
            for kind in _mapping(f"{name}.{key}", piece, {"SpecialToken", "Sequence"}).values():
                _plain_values(f"{name}.{key}", _mapping(f"{name}.{key}", kind))
    tokens = _mapping(f"{name}.special_tokens", step.get("special_tokens"))
    for token in _listed(f"{name}.special_tokens", list(tokens.values()), MOST_PIECES):
        content = _mapping(f"{name}.special_tokens", token, {"id", "ids", "tokens"})
        for key in ("ids", "tokens"):
            _listed(f"{name}.special_tokens: {key}", content.get(key), 1)
        _plain_values(f"{name}.special_tokens", content)


def _check_added_tokens(tokens: Any) -> None:
    for token in _listed("added_tokens", [] if tokens is None else tokens, MOST_ADDED_TOKENS):
        _plain_values("added_tokens", _mapping("added_tokens", token))


def _check_model(model: Any) -> None:
    found = _mapping("model", model, _MODEL_KEYS)
    if found.get("type") != "BPE":
        raise ValueError(f"model {reprlib.repr(found.get('type'))}, expected BPE, as CLIP's tokenizers have")
    if found.get("dropout"):
        raise ValueError(f"model with dropout {reprlib.repr(found['dropout'])}, which makes tokens random")
    settings = {key: value for key, value in found.items() if key not in ("dropout", "vocab", "merges")}
    _plain_values("model", settings)
    if found.get("continuing_subword_prefix"):
        raise ValueError("model with a continuing_subword_prefix, which CLIP's tokenizers do not have")
    _listed("model.merges", found.get("merges"), MOST_TOKENS)
    tokens = _mapping("model.vocab", found.get("vocab"))
    if len(tokens) > MOST_TOKENS:
        raise ValueError(f"model.vocab: {len(tokens):,} tokens, expected at most {MOST_TOKENS:,}")
