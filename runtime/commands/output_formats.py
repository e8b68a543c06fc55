"""The formats that ``stale-run`` offers, and what of a run is written in one of them."""

from collections.abc import Mapping
from typing import Final

from stale_runtime.commands.html_format import HTML
from stale_runtime.formats.output_format import OutputFormat
from stale_runtime.formats.registry import FORMATS

OUTPUT_FORMATS: Mapping[str, OutputFormat] = {**FORMATS, HTML.name: HTML}
"""By name, in the order in which help lists them."""
HIGHEST_SCORE: Final = 1e6
"""Largest ``--min-score``; scores of the upstream decoder may exceed 1."""
