"""Seconds that bootstrap draws of the AUROC and average precision of many findings take, beside scikit-learn in a loop.

`with rates` also adds up what Brier scores and the rates of operating points are made of: all that `evaluate` draws.

The peer computes AUROCs alone, for a few draws; its seconds for all of them are that, multiplied, and said to be. One
row a contender goes to tools/results/evaluation.csv. Run as `python -m tools.bench_evaluation`.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from sklearn.metrics import roc_auc_score

from tools.benchmark import RESULTS, append_row, summarise
from trainer.evaluation.bootstrap import BootstrapConfig, Resampling, bootstrap, times_drawn
from trainer.evaluation.rate_intervals import Sums

TARGET_S = 5.0
"""Of the resampling by patients, 2,000 draws of 25,000 images and 14 findings, on two cores that are free."""

WITH_RATES = "with rates"
"""Name of the contender that draws all intervals of an evaluation, by patients."""

MEASURES = {"scikit-learn": "AUROC", WITH_RATES: "AUROC, AP and sums of 6 values"}
"""Contender -> what it computes; the others AUROC and AP."""

IMAGES_PER_PATIENT = 3
PREVALENCES = (0.002, 0.2)
"""Of the rarest and the most common finding; the others lie evenly between them."""

Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=25_000)
    parser.add_argument("--findings", type=int, default=14)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--peer-draws", type=int, default=5, help="draws that scikit-learn computes (default 5)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each contender (default 3)")
    parser.add_argument("--stratified", action="store_true", help="measure the stratified resampling too: far slower")
    arguments = parser.parse_args()
    case = made_up(arguments.images, arguments.findings)
    contenders: dict[str, tuple[Callable[[], object], int]] = {}
    resamplings: tuple[Resampling, ...] = ("patient", "stratified") if arguments.stratified else ("patient",)
    for resampling in resamplings:
        config = BootstrapConfig(draws=arguments.draws, resampling=resampling)
        contenders[resampling] = partial(bootstrap, *case, config), arguments.draws
    values_NCK = np.random.default_rng(1).random((*case[0].shape, len(Sums._fields)))
    contenders[WITH_RATES] = (
        partial(bootstrap, *case, BootstrapConfig(draws=arguments.draws), values_NCK),
        arguments.draws,
    )
    contenders["scikit-learn"] = partial(by_scikit_learn, case, arguments.peer_draws), arguments.peer_draws
    bootstrap(*case, BootstrapConfig(draws=100))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.runs):
        for name, (contender, num_draws) in contenders.items():
            begin_s = time.perf_counter()
            contender()
            times[name].append((time.perf_counter() - begin_s) * arguments.draws / num_draws)
    report(times, case, arguments.draws, arguments.peer_draws)


def made_up(num_images: int, num_findings: int) -> Case:
    """Return scores without ties, targets, a mask without gaps, and patients."""
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((num_images, num_findings)) < np.linspace(*PREVALENCES, num_findings)).astype(np.float32)
    scores_NC = rng.normal(size=targets_NC.shape) + targets_NC
    return scores_NC, targets_NC, np.ones(targets_NC.shape, bool), np.arange(num_images) // IMAGES_PER_PATIENT


def by_scikit_learn(case: Case, num_draws: int) -> np.ndarray:
    """Return the AUROCs of the first draws by patients as a loop computes them, [draws, findings]."""
    scores_NC, targets_NC, _, patient_N = case
    weights_NB = times_drawn(patient_N.max() + 1, num_draws, np.random.default_rng(0))[patient_N]
    return np.array(
        [
            [
                roc_auc_score(targets_NC[:, c], scores_NC[:, c], sample_weight=weight_N)
                for c in range(scores_NC.shape[1])
            ]
            for weight_N in weights_NB.T
        ]
    )


def report(times: dict[str, list[float]], case: Case, num_draws: int, peer_draws: int) -> None:
    """Print seconds, ratios and the target, and append the rows."""
    num_images, num_findings = case[0].shape
    peer_s = summarise(times["scikit-learn"]).median
    for name, taken in times.items():
        seconds = summarise(taken)
        is_peer = name == "scikit-learn"
        line = f"{name:12} {num_draws:,} draws of {num_images:,} x {num_findings}: {seconds.median:.2f} s"
        line += f" (best {seconds.min:.2f})"
        line += (
            f", extrapolated from {peer_draws} draws" if is_peer else f", {peer_s / seconds.median:.0f} x scikit-learn"
        )
        if name in ("patient", WITH_RATES):
            line += f"; target {TARGET_S:.0f} s {'met' if seconds.median < TARGET_S else 'MISSED'}"
        print(line)
        append_row(
            RESULTS / "evaluation.csv",
            {
                "what": name,
                "measures": MEASURES.get(name, "AUROC and AP"),
                "images": num_images,
                "findings": num_findings,
                "draws": num_draws,
                "draws_computed": peer_draws if is_peer else num_draws,
                "runs": len(taken),
                "median_s": round(seconds.median, 3),
                "min_s": round(seconds.min, 3),
                "max_s": round(seconds.max, 3),
                "speed_over_scikit_learn": round(peer_s / seconds.median, 1),
                "load_1_min": round(os.getloadavg()[0], 2),
            },
        )


if __name__ == "__main__":
    main()
