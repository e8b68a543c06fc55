"""What every stage of an export needs."""

from dataclasses import dataclass

from stale_export.int8_options import Int8Options
from stale_export.say import Say
from stale_export.stages import Stages
from stale_model import Stale, TrainedStale
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import TextEncoderSpec
from stale_runtime.errors import ExportError


@dataclass(frozen=True, kw_only=True)
class ExportTask:
    """What every stage of an export needs."""

    trained: TrainedStale
    """Network, text tower and tokenizer."""
    text_spec: TextEncoderSpec
    """How class names become token ids of the trained text tower."""
    int8: Int8Options
    """How the int8 graphs are made and checked."""
    say: Say
    """Called with one line about each result and warning."""
    stages: Stages
    """Shows which stage the export is in."""

    def __post_init__(self) -> None:
        T = self.network.config.temporal_scale
        if not layout.SHORTEST <= T <= layout.LONGEST:
            raise ExportError(
                f"the checkpoint was trained at T={T}, expected {layout.SHORTEST} to {layout.LONGEST} snippets; train "
                "it again at such a length"
            )

    @property
    def network(self) -> Stale:
        """The trained network."""
        return self.trained.network
