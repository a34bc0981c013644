"""What is evaluated on what, and how its numbers are made."""

from dataclasses import dataclass, field
from pathlib import Path

from manifests.errors import ConfigError
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.metrics import ENOUGH_POSITIVES
from trainer.evaluation.operating import OperatingRule

PACK_LABELS = "pack"
"""Name, in metrics.json, of the labels that are in the pack's own manifest."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is evaluated on what."""

    run: Path
    """Folder of the run."""

    pack: Path | None = None
    """Folder of the pack; None: the one that the run was trained on."""

    split: str = "test"
    """train, valid or test, as in the pack's manifest."""

    labels: Path | None = None
    """Manifest whose labels count instead of the pack's; None: the pack's."""

    expert: Path | None = None
    """File of the experts' findings of ChestX-ray14, which count instead (`expert.py`); None: they do not."""

    checkpoint: str = "best"
    """`best` on validation, `last`, or the path of a checkpoint of the run."""

    loader: str | None = None
    """Backend that reads the pack; None: the run's."""

    batch_size: int | None = None
    """Images a step; None: the run's."""

    device: str = "auto"
    """`auto` (the GPU where there is one), `cpu`, `cuda` or `cuda:N`."""

    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    """How intervals are drawn."""

    min_positives: int = ENOUGH_POSITIVES
    """Fewest positives of a finding in the mean over findings with enough of them."""

    operating: OperatingRule | None = field(default_factory=OperatingRule)
    """How thresholds are chosen on the run's validation images; None: no operating points."""

    def __post_init__(self) -> None:
        if self.labels is not None and self.expert is not None:
            raise ConfigError("--labels and --expert both say which labels count; expected one of them")

    def checkpoint_name(self, path: Path) -> str:
        """Return the checkpoint as metrics.json and names of files have it; `path` is where it was found."""
        return self.checkpoint if self.checkpoint in ("best", "last") else path.stem
