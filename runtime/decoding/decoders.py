"""The decoders by name."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from stale_runtime.decoding.proposals import Ranked
from stale_runtime.decoding.standard_decoder import decode_standard
from stale_runtime.decoding.upstream_decoder import decode_upstream
from stale_runtime.segments import FloatArray

Decoder: TypeAlias = Callable[[FloatArray, FloatArray], Ranked]
"""(K+1, T) class activation sequence and (T, T) action masks of a video -> segments, best first."""

DECODERS: Mapping[str, Decoder] = {"standard": decode_standard, "upstream": decode_upstream}
DEFAULT_DECODER = "standard"
