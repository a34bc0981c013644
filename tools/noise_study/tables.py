"""The study's tables as Markdown, from its rows."""

from collections.abc import Mapping

import numpy as np

from tools.noise_study.methods import METHODS
from tools.noise_study.records import Row
from tools.noise_study.statistics import Estimate, gap_share, paired_difference

Rows = Mapping[tuple[str, int, int], Row]


def tables(seeds: Rows, chosen: Mapping[str, int]) -> str:
    """Return the results of the seeds that every method has, and its settings.

    Args:
        seeds: rows of the seeds.
        chosen: method -> the trial that the tuning chose; a method without a row of that trial is left out.
    """
    names = [name for name in METHODS if any(key[:2] == (name, chosen.get(name)) for key in seeds)]
    common = sorted(set.intersection(*({s for n, t, s in seeds if (n, t) == (name, chosen[name])} for name in names)))
    test = {name: np.array([seeds[name, chosen[name], seed].outcome.test for seed in common]) for name in names}
    last = {
        name: np.array([seeds[name, chosen[name], seed].outcome.last for seed in common], dtype=float) for name in names
    }
    bound = next(name for name in names if METHODS[name].role == "bound")
    baseline = max((name for name in names if METHODS[name].role == "baseline"), key=lambda name: test[name].mean())
    lines = [
        f"{len(common)} seeds ({', '.join(map(str, common))}). The gap: {bound} less {baseline}, "
        f"{test[bound].mean() - test[baseline].mean():.4f}. Mean +- standard deviation over seeds.",
        "",
        f"| method | chosen epoch | last epoch | against {baseline} | share of the gap |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        is_reference = name in (bound, baseline)
        difference = interval(paired_difference(test[name], test[baseline]), signed=True)
        share = percent(gap_share(test[name], test[baseline], test[bound]))
        lines.append(
            f"| {name} | {spread(test[name])} | {spread(last[name])} | {'' if name == baseline else difference} "
            f"| {'' if is_reference else share} |"
        )
    lines += ["", "| method | trial | its settings |", "|---|---|---|"]
    lines += [f"| {name} | {chosen[name]} | {seeds[name, chosen[name], common[0]].settings} |" for name in names]
    return "\n".join(lines)


def spread(values: np.ndarray) -> str:
    """Return mean and standard deviation."""
    return f"{values.mean():.4f} +- {values.std(ddof=1) if len(values) > 1 else float('nan'):.4f}"


def interval(estimate: Estimate, *, signed: bool) -> str:
    """Return an estimate with its interval."""
    sign = "+" if signed else ""
    return f"{estimate.mean:{sign}.4f} ({estimate.low:{sign}.4f} to {estimate.high:{sign}.4f})"


def percent(estimate: Estimate) -> str:
    """Return a share with its interval, in per cent."""
    return f"{100 * estimate.mean:.0f} % ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"
