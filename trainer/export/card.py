"""model_card.md: what the model is, what it was trained on and measured at, and what it is not for.

Its parts follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. Nothing in it is typed in by hand: what
a run does not tell is said not to be known.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.export.card_evaluation import evaluation_part
from trainer.export.card_loading import loading_part
from trainer.export.description import ModelDescription
from trainer.export.training_data import TrainedOn, known_dataset

RESIZE = {
    "square": "the film stretched to that size",
    "pad": "the film scaled until it fits, centred on black",
    "short-side": "the film scaled until it covers that size, the centre cut out",
}


def model_card(
    description: ModelDescription,
    data: TrainedOn | str,
    evaluations: Sequence[Mapping[str, Any]],
    *,
    method: str,
    num_parameters: int,
    differences: Mapping[str, float],
) -> str:
    """Return the card as Markdown.

    Args:
        description: the model.
        data: what it was trained on; a string says why that is not known.
        evaluations: entries of metrics.json that measured this very state.
        method: what it was trained with, as the end of a sentence.
        num_parameters: of the network.
        differences: file of a program -> largest difference of a probability to the run's own model.
    """
    parts = [
        f"# Model card: {description.run}",
        "**Not a medical device.** A research model: it is cleared for no diagnosis, triage or treatment, and no "
        "decision about a patient may rest on its output.",
        _model_part(description, method, num_parameters),
        _use_part(),
        _outputs_part(description, data),
        _input_part(description),
        _data_part(data),
        evaluation_part(description, evaluations),
        loading_part(description, differences),
        _provenance_part(description),
    ]
    return "\n\n".join(parts) + "\n"


def _model_part(description: ModelDescription, method: str, num_parameters: int) -> str:
    whose = "the EMA teacher's weights" if description.is_teacher else "the trained weights"
    return (
        "## Model\n\n"
        f"Multi-label classifier of chest X-rays: network `{description.model}`, {num_parameters:,} parameters, "
        f"{len(description.findings)} outputs (label space `{description.label_space}`). Trained{method}. This "
        f"is the {description.checkpoint} checkpoint, {whose} after {description.step:,} optimiser steps, "
        f"in {description.precision} where the device has it."
    )


def _use_part() -> str:
    return (
        "## Intended use\n\n"
        "Research on chest X-ray classification and on learning from noisy labels: comparison of methods, evaluation "
        "on other datasets, finding of suspicious labels.\n\n"
        "Not for: clinical use of any kind; other images than chest X-rays, on which its numbers mean nothing; "
        "populations, devices and projections that it was not measured on. A probability is a score that orders "
        "images; whether it is a frequency, the calibration below says."
    )


def _outputs_part(description: ModelDescription, data: TrainedOn | str) -> str:
    thresholds = description.thresholds
    rows = []
    for position, finding in enumerate(description.findings):
        counts = ""
        if isinstance(data, TrainedOn):
            counts = f"{data.positives[position]:,} of {data.labelled[position]:,}"
        threshold = None if thresholds is None else thresholds.values.get(finding)
        rows.append(f"| {position} | {finding} | {counts or 'n/a'} | {_number(threshold)} |")
    table = "\n".join(["| output | finding | labelled present in training | threshold |", "|---|---|---|---|", *rows])
    note = (
        "There are no thresholds: the model was not evaluated with any."
        if thresholds is None
        else f"Thresholds: by {thresholds.rule} on {thresholds.num_images:,} validation images; n/a: too few cases."
    )
    return f"## Outputs\n\nProbabilities, each by itself (they do not add up to 1).\n\n{table}\n\n{note}"


def _input_part(description: ModelDescription) -> str:
    spec, images = description.preprocessing.spec, description.preprocessing
    stored = ""
    if images.format == "tar" and images.encoding.image == "jpg":
        stored = f" and stored as JPEG of quality {images.encoding.quality}"
    resampled = (
        ""
        if (spec.height_px, spec.width_px) == (description.input_size_px, description.input_size_px)
        else f", resampled to {description.input_size_px} x {description.input_size_px} px (bilinear)"
    )
    return (
        "## Input\n\n"
        f"One gray image of {spec.height_px} x {spec.width_px} px (height x width), uint8, 0 black and 255 white: "
        f"{RESIZE[spec.resize]} by one antialiased triangle filter (Pillow's `BILINEAR`){stored}. Of a file the whole "
        "range of values, `MONOCHROME1` inverted, DICOM through its window; alpha and orientation tags ignored (pixel "
        f"rule {images.pixel_rule}). The network then sees `(x / 255 - {images.mean:g}) / {images.std:g}`{resampled}. "
        "`cxr-train predict` does all of it."
    )


def _data_part(data: TrainedOn | str) -> str:
    if isinstance(data, str):
        return f"## Training data\n\nNot known: {data}."
    parts = [f"## Training data\n\n{data.num_train:,} images; {data.num_valid:,} others chose the best epoch."]
    for name, count in data.datasets.items():
        known = known_dataset(name)
        if known is None:
            parts.append(
                f"**{name}**: {count:,} images. No public release of this name is known here: its origin, labels "
                "and terms of use are its owner's to tell."
            )
            continue
        parts.append(
            f"**{known.title}** (`{name}`): {count:,} images.\n"
            f"- labels: {known.label_origin}\n- citation: {known.citation}\n- terms of use: {known.terms}"
        )
    if data.labels is not None:
        parts.append(f"Labels are not the pack's own but those of the manifest `{data.labels}`.")
    if data.noise is not None:
        parts.append(f"**Labels were made noisy on purpose**, by `cxr-prep inject-noise`: `{data.noise}`.")
    parts.append(
        "**Label noise.** Labels that are mined from reports are wrong often, and a model learns some of it; numbers "
        "that are measured against such labels carry the same errors."
    )
    return "\n\n".join(parts)


def _provenance_part(description: ModelDescription) -> str:
    identities = description.identities
    return (
        "## Provenance\n\n"
        f"Run `{description.run}`, pack `{identities['pack']}`, training selection `{identities['selection']}` "
        "(sha256). `config.json` has all of this for programs."
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
