"""The study's tables as Markdown, from its rows."""

from collections.abc import Mapping

import numpy as np

from tools.noise_study.methods import METHODS
from tools.noise_study.records import Row, chosen_trial
from tools.noise_study.statistics import Estimate, gap_share, paired_difference

Rows = Mapping[tuple[str, int, int], Row]


def tables(trials: Rows, seeds: Rows, *, num_trials: int, tuning_seeds: list[int]) -> str:
    """Return the results of the seeds that every method has, and the settings that were chosen."""
    names = [name for name in METHODS if any(key[0] == name for key in seeds)]
    chosen = {name: chosen_trial(trials, name, num_trials=num_trials, seeds=tuning_seeds) for name in names}
    common = sorted(set.intersection(*({s for n, t, s in seeds if (n, t) == (name, chosen[name])} for name in names)))
    test = {name: np.array([seeds[name, chosen[name], seed].outcome.test for seed in common]) for name in names}
    last = {
        name: np.array([seeds[name, chosen[name], seed].outcome.last for seed in common], dtype=float) for name in names
    }
    bound = next(name for name in names if METHODS[name].role == "bound")
    baseline = max((name for name in names if METHODS[name].role == "baseline"), key=lambda name: test[name].mean())
    lines = [
        f"{len(common)} seeds. The gap: {bound} less {baseline}, "
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
    lines += ["", "| method | validation, tuning seeds | settings of the chosen trial |", "|---|---|---|"]
    for name in names:
        rows = [trials[name, chosen[name], seed] for seed in tuning_seeds]
        lines.append(f"| {name} | {np.mean([row.outcome.valid for row in rows]):.4f} | {rows[0].settings} |")
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
