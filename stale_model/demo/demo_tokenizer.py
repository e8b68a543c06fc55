"""A tokenizer like CLIP's for a small vocabulary."""

from collections.abc import Sequence
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT: Final = 77
"""Most tokens of a prompt, as in CLIP."""
_WORD = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def make_tokenizer(words: Sequence[str]) -> Tokenizer:
    """A tokenizer that splits text as CLIP's does; known words are one token each, all others one token a byte.

    Args:
        words: known words, in lower case.
    """
    byte_tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*byte_tokens, *(f"{byte}</w>" for byte in byte_tokens)]
    tokens += [word for word in words if len(word) > 1]
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=END, end_of_word_suffix="</w>", ignore_merges=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([START, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
