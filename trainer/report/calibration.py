"""Calibration of an evaluation in a report: reliability curves as panels of a figure, and a table."""

from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.findings import NO_FINDING
from trainer.evaluation.calibration import CALIBRATION_BINS, Bins, reliability
from trainer.evaluation.predictions import Predictions
from trainer.report.figures import Line, Panel, panel_grid
from trainer.report.numbers import finding_name, number
from trainer.report.page import card, heading, paragraph

SCALES = (0.02, 0.04, 0.06, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Ends that the axes of a panel may have: those of a rare finding end early."""

Z95 = 1.959964
"""Standard normal deviate of a 95 % interval."""


def calibration_part(entry: dict[str, Any], predictions: Predictions | None) -> str:
    """Return reliability curves and the table of an entry of metrics.json; nothing where it has no calibration."""
    there = [finding for finding in entry["findings"] if finding.get("calibration") is not None]
    if not there:
        return ""
    num_bins = entry.get("calibration_bins", CALIBRATION_BINS)
    parts = [heading("Calibration", 3)]
    if predictions is not None:
        panels = reliability_panels(predictions, {finding["finding"] for finding in there}, num_bins=num_bins)
        title = (
            f"Share of images with the finding over the mean probability, in {num_bins} bins of as many images each; "
            "bars: 95 % binomial (Wilson) intervals; dashed: calibrated. Axes end where the curve does."
        )
        figure = panel_grid(panels, columns=5, width_in=1.96, height_in=1.9, left_in=0.36, label="Reliability curves")
        parts.append(card(f'<p class="small">{escape(title)}</p>{figure}'))
    text = (
        "Brier score: mean squared distance of probability and label. Skill: 1 - Brier score / that of the prevalence; "
        "below 0 the prevalence alone is better. ECE: mean distance of share and mean probability over the bins above. "
        'It is above 0 for perfect probabilities too: "by chance" is what they would be expected to have.'
    )
    return "".join([*parts, paragraph(text, "small"), card(_table(there))])


def reliability_panels(predictions: Predictions, findings: set[str], *, num_bins: int) -> list[Panel]:
    """Return a panel of all findings together, without No Finding, then one for each of `findings`."""
    columns = [column for column, name in enumerate(predictions.findings) if name in findings]
    diseases = [column for column in columns if predictions.findings[column] != NO_FINDING]
    panels = []
    if len(diseases) > 1:
        mask_nC = predictions.mask_nC[:, diseases]
        probs_m, targets_m = predictions.probs_nC[:, diseases][mask_nC], predictions.targets_nC[:, diseases][mask_nC]
        panels.append(
            _panel(f"{len(diseases)} findings pooled", reliability(probs_m, targets_m > 0.5, num_bins=num_bins))
        )
    for column in columns:
        mask_n = predictions.mask_nC[:, column]
        bins = reliability(
            predictions.probs_nC[mask_n, column], predictions.targets_nC[mask_n, column] > 0.5, num_bins=num_bins
        )
        panels.append(_panel(finding_name(predictions.findings[column]), bins))
    return panels


def wilson(share_b: NDArray[np.float64], count_b: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95 % interval of a binomial share (Wilson, JASA 1927)."""
    middle_b = (share_b + Z95**2 / (2 * count_b)) / (1 + Z95**2 / count_b)
    half_b = Z95 * np.sqrt(share_b * (1 - share_b) / count_b + Z95**2 / (4 * count_b**2)) / (1 + Z95**2 / count_b)
    return middle_b - half_b, middle_b + half_b


def _panel(title: str, bins: Bins) -> Panel:
    low_b, high_b = wilson(bins.frequency_b, bins.count_b)
    largest = max(bins.probability_b.max(), bins.frequency_b.max())
    end = next(scale for scale in SCALES if largest <= scale)
    gap_b = np.full(len(low_b), np.nan)
    bars = Line(
        x=np.stack([bins.probability_b, bins.probability_b, gap_b], axis=1).ravel(),
        y=np.stack([low_b, np.minimum(high_b, end), gap_b], axis=1).ravel(),
        role="muted",
        width=0.8,
    )
    return Panel(
        title=title,
        lines=[
            Line(x=(0, end), y=(0, end), role="muted", dashed=True, width=0.8),
            bars,
            Line(x=bins.probability_b, y=bins.frequency_b, width=1.2, dots=True),
        ],
        limits=(0, end, 0, end),
        x_ticks=(0, end / 2, end),
        y_ticks=(0, end / 2, end),
    )


def _table(findings: list[dict[str, Any]]) -> str:
    rows = []
    for finding in findings:
        found = finding["calibration"]
        interval = found.get("brier_interval")
        ends = "" if interval is None else f" <small>({interval[0]:.4f} to {interval[1]:.4f})</small>"
        prevalence = finding["positives"] / (finding["positives"] + finding["negatives"])
        kind = " class=aside" if finding["finding"] == NO_FINDING else ""
        rows.append(
            f"<tr{kind}><td>{escape(finding_name(finding['finding']))}</td><td class=number>{prevalence:.2%}</td>"
            f"<td class=number>{found['brier']:.4f}{ends}</td><td class=number>{found['brier_skill']:+.3f}</td>"
            f"<td class=number>{number(found['ece'])}</td>"
            f"<td class=number>{number(found['ece_if_calibrated'])}</td></tr>"
        )
    return (
        "<table><tr><th>finding<th class=number>prevalence<th class=number>Brier score<th class=number>skill"
        f"<th class=number>ECE<th class=number>by chance</tr>{''.join(rows)}</table>"
    )
