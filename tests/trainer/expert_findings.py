"""The experts' file of ChestX-ray14 for images of `tests.factories`, with random answers."""

from pathlib import Path

import numpy as np

from tests.factories import NIH_HEADER
from trainer.evaluation.expert import OUTPUTS

EXPERT_HEADER = f"{NIH_HEADER},{','.join(OUTPUTS)},Set Id"


def write_findings(path: Path, images: list[str], seed: int = 0) -> Path:
    """Write the answers for these images and for one that is in no release."""
    answers_nE = np.random.default_rng(seed).random((len(images), len(OUTPUTS))) < 0.5
    rows = [
        f"{name},No Finding,0,1,50,F,PA,32,32,0.1,0.1,{','.join('YES' if yes else 'NO' for yes in answers)},test"
        for name, answers in zip(images, answers_nE, strict=True)
    ]
    path.write_text("\n".join([EXPERT_HEADER, *rows, rows[0].replace(images[0], "99999999_000.png")]) + "\n")
    return path
