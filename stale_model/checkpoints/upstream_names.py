"""The original code's names of the parameters, and ours."""

import re

TEXT_TOWER = re.compile(r"txt_model\.(text_model\..*|text_projection\.weight)")

UNUSED = re.compile(
    r"(proj|classifier|bn1|reduce_mask|mask_MLP)\..*"
    r"|contexts"
    r"|txt_model\.(logit_scale|vision_model\..*|visual_projection\.weight)"
    r"|txt_model\.text_model\.embeddings\.position_ids"
)
"""Parameters that the original's checkpoints contain but its forward pass never reads."""

_BLOCK = {"w_qs": "query", "w_ks": "key", "w_vs": "value", "fc": "output", "layer_norm": "norm"}
_WHOLE_NAMES = {
    "bg_embeddings": "background_embedding",
    "localizer_mask.0.weight": "mask_localizer.hidden.weight",
    "localizer_mask.0.bias": "mask_localizer.hidden.bias",
    "localizer_mask.2.weight": "mask_localizer.kernel",
    "masktrans.query_embed.weight": "foreground.query",
}
_PREFIXES = {
    **{f"embedding.{theirs}.": f"snippet_embedding.{ours}." for theirs, ours in _BLOCK.items()},
    **{f"cross_att.{theirs}.": f"cross_adaptation.{ours}." for theirs, ours in _BLOCK.items()},
    "masktrans.input_proj.": "foreground.input.",
    "masktrans.mask_embed.layers.0.": "foreground.mask_embedding.0.",
    "masktrans.mask_embed.layers.1.": "foreground.mask_embedding.2.",
    "masktrans.mask_embed.layers.2.": "foreground.mask_embedding.4.",
    "masktrans.transformer.encoder.norm.": "foreground.encoder_norm.",
    "masktrans.transformer.decoder.norm.": "foreground.decoder_norm.",
}
_LAYER = re.compile(r"masktrans\.transformer\.(encoder|decoder)\.layers\.(\d+)\.(\w+)\.(.*)")
_SUBLAYERS = {
    "encoder": {
        "self_attn": "attention",
        "norm1": "attention_norm",
        "linear1": "feedforward.inner",
        "linear2": "feedforward.outer",
        "norm2": "feedforward_norm",
    },
    "decoder": {
        "self_attn": "self_attention",
        "norm1": "self_attention_norm",
        "multihead_attn": "cross_attention",
        "norm2": "cross_attention_norm",
        "linear1": "feedforward.inner",
        "linear2": "feedforward.outer",
        "norm3": "feedforward_norm",
    },
}


def our_name(theirs: str) -> str | None:
    """Our name of a parameter, as in ``Stale``; None if the original has no such parameter."""
    if theirs in _WHOLE_NAMES:
        return _WHOLE_NAMES[theirs]
    for prefix, ours in _PREFIXES.items():
        if theirs.startswith(prefix):
            return ours + theirs.removeprefix(prefix)
    match = _LAYER.fullmatch(theirs)
    if match is None or match[3] not in _SUBLAYERS[match[1]]:
        return None
    return f"foreground.{match[1]}.{match[2]}.{_SUBLAYERS[match[1]][match[3]]}.{match[4]}"
