"""What the model was measured at, in its card: the entries of metrics.json, each with its cautions."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.evaluation.metrics import ENOUGH_POSITIVES
from trainer.export.description import ModelDescription
from trainer.report.summary import evaluation_title

Entry = Mapping[str, Any]


def evaluation_part(description: ModelDescription, evaluations: Sequence[Entry]) -> str:
    """Return the section of the evaluations."""
    if not evaluations:
        return (
            f"## Evaluation\n\n**Not evaluated**: nothing is known of how good the {description.checkpoint} checkpoint "
            "is. Run `cxr-train evaluate` on it and export it again."
        )
    return "\n\n".join(["## Evaluation", *map(_evaluated, evaluations)])


def _evaluated(entry: Entry) -> str:
    rows = [
        f"| {found['finding']} | {found['positives']:,} | {found['negatives']:,} | {_measured(found, 'auroc')} | "
        f"{_measured(found, 'average_precision')} | {_number((found.get('calibration') or {}).get('ece'))} |"
        for found in entry["findings"]
    ]
    rows.append(
        _mean(f"mean of {entry['num_findings_in_mean']}, without No Finding", entry, _number(entry["mean_ece"]))
    )
    supported = entry.get("supported")
    if supported is not None and supported["num_findings"]:
        name = f"mean of {supported['num_findings']} with {supported['min_positives']} positives or more"
        rows.append(_mean(name, supported, ""))
    lines = [
        f"### {evaluation_title(dict(entry))}",
        f"{entry['num_images']:,} images.",
        "\n".join(
            [
                "| finding | positives | negatives | AUROC | average precision | ECE |",
                "|---|---|---|---|---|---|",
                *rows,
            ]
        ),
    ]
    drawn = entry.get("bootstrap")
    if drawn is not None:
        lines.append(
            f"In brackets: {drawn['confidence']:.0%} intervals of {drawn['draws']:,} bootstrap draws "
            f"({drawn['resampling']}); none where there are too few cases."
        )
    cautions = [f"- {warning}" for warning in entry["warnings"]] + _few(entry)
    return "\n\n".join([*lines, *(["\n".join(cautions)] if cautions else [])])


def _mean(name: str, values: Entry, ece: str) -> str:
    return f"| {name} | | | {_measured(values, 'mean_auroc')} | {_measured(values, 'mean_average_precision')} | {ece} |"


def _few(entry: Entry) -> list[str]:
    """Return a caution where findings have too few positives for their numbers to mean much."""
    enough = (entry.get("supported") or {}).get("min_positives", ENOUGH_POSITIVES)
    few = [
        found["finding"] for found in entry["findings"] if found["positives"] < enough and found["auroc"] is not None
    ]
    return [f"- fewer than {enough} positives, so that the number is noise: {', '.join(few)}"] if few else []


def _measured(values: Entry, name: str) -> str:
    ends = values.get(f"{name}_interval")
    interval = "" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})"
    return f"{_number(values[name])}{interval}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
