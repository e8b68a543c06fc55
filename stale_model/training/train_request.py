"""What ``stale-train`` is asked to do. Importing this module does not load PyTorch."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from stale_model.checkpoints.default_clip import DEFAULT_CLIP
from stale_model.training.training_config import TrainingConfig
from stale_runtime.evaluation.thumos14 import whole_subset_name

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "32", "bf16", "16")
TRAINING, VALIDATION = "training", "validation"
"""ActivityNet's names of the subsets."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One or several trainings on one data set."""

    annotations: Path
    """ActivityNet's JSON."""
    features: Path
    """Folder with a ``.npy`` feature file for each video."""
    cache_features: Path | None = None
    """Folder of the file with all features, resampled, which is made if it is missing; None to read each file."""
    recipe: Path | None = None
    """JSON file that says how the features were made; None for what ``stale-features`` wrote beside them, if it did."""
    split: str | None = None
    """``closed``, ``75-25:N`` or ``50-50:N``; None if ``seen`` and ``unseen`` are given instead."""
    split_lists: Path | None = None
    """Folder of the published splits; see ``stale_model.data.splits``."""
    seen: Path | None = None
    """File of the classes to train on."""
    unseen: Path | None = None
    """File of the classes to keep out."""
    video_info: Path | None = None
    """CSV file with the subset and duration of each video, for annotations that lack them."""
    all_training: bool = False
    """Whether all videos of annotations without subsets are trained on."""
    train_ids: Path | None = None
    """List of the videos to restrict the training subset to."""
    train_subset: str = TRAINING
    """Name of the subset in the annotations."""
    validation_subset: str = VALIDATION
    """Name of the subset in the annotations, another than ``train_subset``."""
    fraction: float = 1.0
    """Part of the training videos to use, in (0, 1]."""
    subset_seed: int = 0
    """Seed that decides which videos ``fraction`` takes."""
    clip: str = DEFAULT_CLIP
    """Hugging Face id or folder of the CLIP whose text tower and tokenizer are used."""
    text_from: Path | None = None
    """Checkpoint whose text tower to start with instead of CLIP's."""
    config: TrainingConfig = field(default_factory=TrainingConfig)
    """How to train. Its loss weights are replaced by those of the split."""
    seeds: int = 1
    """Number of trainings, at least 1; each adds one to both seeds."""
    device: str = "auto"
    """One of ``DEVICES``; ``auto`` is the GPU if there is one."""
    precision: str = "auto"
    """One of ``PRECISIONS``; ``auto`` is bf16 or 16 on a GPU, 32 on the CPU."""
    threads: int | None = None
    """CPU threads of PyTorch; None for its own choice."""
    output: Path = Path("stale_training")
    """Folder for the results."""
    resume: bool = False
    """Whether to continue the training in the output folder."""

    def __post_init__(self) -> None:
        if self.split is None and self.seen is None:
            raise ValueError("no --split; give closed, 75-25:N or 50-50:N, or --seen with --unseen")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction {self.fraction}, expected more than 0 and at most 1")
        if self.all_training and self.video_info is not None:
            raise ValueError("--all-training with --video-info, which says what the training videos are; give one")
        self._check_subsets()
        if self.train_ids is not None and self.fraction < 1:
            raise ValueError(f"--train-ids with --fraction {self.fraction}: the list is the sample; give one")
        if self.seeds < 1:
            raise ValueError(f"seeds {self.seeds}, expected at least 1")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads {self.threads}, expected at least 1")
        if self.device not in DEVICES:
            raise ValueError(f"device {self.device!r}, expected one of {', '.join(DEVICES)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r}, expected one of {', '.join(PRECISIONS)}")
        if self.precision == "16" and self.device == "cpu":
            raise ValueError("--precision 16: only a GPU computes in it; give bf16 or 32")

    def _check_subsets(self) -> None:
        train, validation = self.train_subset, self.validation_subset
        if self.all_training:
            if train != TRAINING:
                raise ValueError(f"--all-training with --train-subset {train}: it trains on all videos; give one")
            if validation != VALIDATION:
                raise ValueError(
                    f"--all-training with --validation-subset {validation}: every video is trained on; give one"
                )
        elif whole_subset_name(train) == whole_subset_name(validation):
            other = VALIDATION if whole_subset_name(train) == "test" else "test"
            raise ValueError(
                f"--train-subset {train} and --validation-subset {validation} are the same videos; give "
                f"--validation-subset, such as {other}"
            )

    def runs(self) -> "tuple[TrainRequest, ...]":
        """Each of the trainings; several have one folder each inside the output folder."""
        if self.seeds == 1:
            return (self,)
        return tuple(
            replace(
                self,
                config=replace(self.config, seed=self.config.seed + n),
                subset_seed=self.subset_seed + n,
                output=self.output / f"seed_{self.config.seed + n}",
            )
            for n in range(self.seeds)
        )
