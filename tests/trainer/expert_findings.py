"""The experts' file of ChestX-ray14 for images of `tests.factories`, with random answers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.factories import NIH_HEADER
from trainer.evaluation.expert import OUTPUTS

EXPERT_HEADER = f"{NIH_HEADER},{','.join(OUTPUTS)},Set Id"


def write_findings(path: Path, images: list[str], seed: int = 0, num_present: Mapping[str, int] | None = None) -> Path:
    """Write the answers for these images and for one that is in no release.

    Of the findings in `num_present` the first so many images have them and no other.
    """
    answers_nE = np.random.default_rng(seed).random((len(images), len(OUTPUTS))) < 0.5
    for finding, number in (num_present or {}).items():
        answers_nE[:, list(OUTPUTS).index(finding)] = np.arange(len(images)) < number
    rows = [
        f"{name},No Finding,0,1,50,F,PA,32,32,0.1,0.1,{','.join('YES' if yes else 'NO' for yes in answers)},test"
        for name, answers in zip(images, answers_nE, strict=True)
    ]
    path.write_text("\n".join([EXPERT_HEADER, *rows, rows[0].replace(images[0], "99999999_000.png")]) + "\n")
    return path
