"""Experts' findings of ChestX-ray14 as a test set: four labels, each scored against the maximum of several outputs.

The file is that of Majkowska et al., Radiology 2020 (`manifests.expert` has its story, and compares it with released
labels). It is read with the standard library: an evaluation needs no polars. Shapes: N rows of a pack, n images, C
outputs, E experts' findings.
"""

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manifests.errors import ManifestError
from manifests.table import ManifestTable
from trainer.evaluation.predictions import Predictions

OUTPUTS: dict[str, tuple[str, ...]] = {
    "Fracture": ("Fracture", "Rib Fracture", "Clavicle Fracture"),
    "Pneumothorax": ("Pneumothorax",),
    "Airspace opacity": ("Lung Opacity", "Consolidation", "Infiltration", "Pneumonia", "Edema"),
    "Nodule or mass": ("Nodule", "Mass", "Lung Lesion"),
}
"""Experts' finding -> outputs of a model, the largest of which is its score; those that a label space lacks do not
count, and where it lacks all of them there is no score. Which outputs mean opacity of the air spaces is our reading of
the findings' definitions: atelectasis is lost volume, not filled air spaces."""

LABELS = "expert-findings"
"""Name, in metrics.json, of these labels."""

DATASET = "nih"
"""Dataset of the images."""

IMAGE, SET = "Image Index", "Set Id"
ANSWERS = {"YES": 1.0, "NO": 0.0}
SETS = ("test", "val")

Answers = dict[str, tuple[float, ...]]
"""image_id -> 1 or 0 for each key of `OUTPUTS`."""


def read_expert_findings(path: Path) -> tuple[Answers, dict[str, str]]:
    """Return the experts' answers for each image, and the set (`test` or `val`) that each is in.

    Raises:
        ManifestError: the file cannot be read, is another one, or has rows that cannot be right; all of them.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restkey="surplus", restval="")
        missing = [name for name in (IMAGE, *OUTPUTS, SET) if name not in (rows.fieldnames or ())]
        if missing:
            raise ManifestError(
                f"--expert {path}: no column {', '.join(missing)}; expected google2019_nih-chest-xray-labels.csv, "
                "plain or .gz"
            )
        return _checked(rows, path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"--expert {path}: cannot be read ({error})") from error


def _checked(rows: "csv.DictReader[str]", path: Path) -> tuple[Answers, dict[str, str]]:
    answers: Answers = {}
    sets: dict[str, str] = {}
    problems = []
    for row in rows:
        name = row[IMAGE]
        given = {finding: row[finding] for finding in OUTPUTS}
        wrong = [f"{finding} {word!r}: expected YES or NO" for finding, word in given.items() if word not in ANSWERS]
        wrong += [f"{SET} {row[SET]!r}: expected {' or '.join(SETS)}"] if row[SET] not in SETS else []
        wrong += ["more cells than columns"] if "surplus" in row else []
        wrong += [f"{IMAGE} is blank"] if not name else [f"{IMAGE} {name!r} again"] if name in answers else []
        problems += [f"line {rows.line_num}: {what}" for what in wrong]
        if not wrong:
            answers[name] = tuple(ANSWERS[word] for word in given.values())
            sets[name] = row[SET]
    if problems or not answers:
        raise ManifestError(f"--expert {path}: {len(problems):,} problems, {len(answers):,} images", problems)
    return answers, sets


def expert_rows(
    table: ManifestTable, split: str, rejected: Sequence[int], answers: Answers
) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[str, int]]:
    """Return the rows of `split` that the experts saw, their labels [N, E] (0 elsewhere), and who was left out.

    No row is left out for its released labels: a test set chosen by noisy labels is no clean one.
    """
    is_theirs_N = table.in_split(split) & table.is_any_of("dataset", (DATASET,))
    names = table.strings("image_id")
    has_answer_N = np.array([name in answers for name in names], np.bool_) & is_theirs_N
    has_pixels_N = np.ones(table.num_rows, np.bool_)
    has_pixels_N[np.asarray(rejected, np.int64)] = False
    rows_n = np.flatnonzero(has_answer_N & has_pixels_N).astype(np.int64)
    targets_NE = np.zeros((table.num_rows, len(OUTPUTS)), np.float32)
    for row in rows_n:
        targets_NE[row] = answers[str(names[row])]
    left_out = {
        "rejected image": int((has_answer_N & ~has_pixels_N).sum()),
        "not seen by the experts": int((table.in_split(split) & ~has_answer_N).sum()),
    }
    return rows_n, targets_NE, {reason: count for reason, count in left_out.items() if count}


def outputs_there(findings: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return experts' finding -> those of its outputs that a model with outputs `findings` has."""
    return {name: tuple(output for output in outputs if output in findings) for name, outputs in OUTPUTS.items()}


def combined(predictions: Predictions) -> Predictions:
    """Return predictions of the experts' findings from those of a model's outputs.

    The score is the largest of the outputs, NaN where the model has none of them. The label is 1 where one of them is
    present, 0 where all of them are labelled absent, else masked.
    """
    names = outputs_there(predictions.findings)
    shape = (len(predictions.sample_index_n), len(names))
    probs_nE, targets_nE, mask_nE = (
        np.full(shape, np.nan, np.float32),
        np.zeros(shape, np.float32),
        np.zeros(shape, bool),
    )
    for position, outputs in enumerate(names.values()):
        if outputs:
            columns = [predictions.findings.index(output) for output in outputs]
            mask_nO = predictions.mask_nC[:, columns]
            present_n = ((predictions.targets_nC[:, columns] > 0.5) & mask_nO).any(axis=1)
            probs_nE[:, position] = predictions.probs_nC[:, columns].max(axis=1)
            targets_nE[:, position] = present_n
            mask_nE[:, position] = present_n | mask_nO.all(axis=1)
    return replace(predictions, findings=tuple(names), probs_nC=probs_nE, targets_nC=targets_nE, mask_nC=mask_nE)


def with_answers(predictions: Predictions, targets_nE: NDArray[np.float32]) -> Predictions:
    """Return the predictions with the experts' labels, all of which are there."""
    return replace(predictions, targets_nC=targets_nE, mask_nC=np.ones(targets_nE.shape, np.bool_))


def expert_warnings(sets: Mapping[str, str], images: Sequence[str], split: str) -> list[str]:
    """Return what makes a measurement on these images doubtful."""
    if split == "train":
        return ["a model that was trained on this split has seen the experts' images in it: do not measure it on them"]
    num_val = sum(sets[name] == "val" for name in images)
    if split == "test" and num_val:
        return [
            f"{num_val:,} of the images are in the experts' val set: what is tuned on that must not be tested on them"
        ]
    return []
