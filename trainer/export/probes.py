"""Images of a run's pack that programs are compared on with the run's own model.

Shapes: B images of H x W packed pixels, C outputs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from manifests.errors import ConfigError
from pipeline.loaders.reference import DamagedSampleError, SampleReader
from pipeline.pack import open_pack
from trainer.run_folder import RunFolder

LARGEST_DIFFERENCE = 1e-4
"""Of a probability, between the run's model and a program; rounding in another order makes 1e-6."""

NUM_PROBES = 16
"""Images of the pack that a program is compared on."""


def probe_images(run: Path) -> torch.Tensor:
    """Return uint8 [B, 1, H, W]: images of the run's pack, from all over it, at least two.

    Raises:
        PackError: the pack is gone or cannot be read.
        ConfigError: it has no image that can.
    """
    folder = RunFolder(folder=run).read_config().data.pack
    assert folder is not None, "settled when the run began"
    pack = open_pack(Path(folder))
    there_n = np.setdiff1d(np.arange(pack.num_samples), np.array(pack.rejected, np.int64))
    chosen_n = there_n[np.linspace(0, len(there_n) - 1, min(NUM_PROBES, len(there_n))).astype(np.int64)]
    reader, images = SampleReader(pack), []
    for sample_index in chosen_n.tolist():
        try:
            images.append(reader.read(sample_index))
        except DamagedSampleError:
            continue
    if not images:
        raise ConfigError(f"{pack.folder}: no image can be read, so nothing tells whether a program is right")
    images_BHW = np.stack(images * 2 if len(images) == 1 else images)
    return torch.from_numpy(images_BHW)[:, None]


def largest_difference(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], file: Path) -> float:
    """Return the largest difference of a probability.

    Raises:
        ConfigError: it is larger than `LARGEST_DIFFERENCE`, or no number.
    """
    worst = max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))
    if not worst <= LARGEST_DIFFERENCE:
        raise ConfigError(
            f"{file.name}: a probability differs by {worst:.1e} from the run's own model, at most "
            f"{LARGEST_DIFFERENCE:.0e} is rounding; nothing was written. Take another --format"
        )
    return worst


def tells_nothing(probs_BC: torch.Tensor) -> bool:
    """Tell whether all probabilities are exactly 0 or 1, so that models that differ may give the same."""
    return bool(((probs_BC == 0) | (probs_BC == 1)).all())
