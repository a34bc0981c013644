"""Where the memory of NVUM helps and where it harms: one setting at a time, around the one that the tuning chose.

What helped most, the prior temperature, is also tried together with other weights.

    python -m tools.noise_study.nvum_settings

Weight, form, decay of the memory, prior temperature, mixup, warm-up, weights a finding. Appends to
tools/results/noise_study_nvum.csv the noisy validation AUROC of the best epoch, and the clean test AUROC of that epoch
and of the last; seeds are none of those that are reported elsewhere. What is there already is not computed again.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from tools.benchmark import RESULTS, append_row
from tools.noise_study.methods import StudyMethod, Value
from tools.noise_study.statistics import paired_difference
from tools.noise_study.training import NUM_EPOCHS, NUM_ROWS, train
from trainer.losses import LossParts
from trainer.methods import METHODS, LossConfig, LossInputs

SEEDS = (100, 101, 102, 103)

SHARED: Mapping[str, Value] = {"weight_decay": 0.519, "dropout": 0.003, "ema_lag": 0.044}
"""Of the tuning's best trial."""

BASE: Mapping[str, Value] = {
    "regulariser": "elementwise", "reg_weight": 0.36, "memory_decay": 0.64, "prior_temperature": 0.45, "mixup": False,
}  # fmt: skip
"""Of the same trial."""

Loss = Callable[[LossInputs, LossConfig], LossParts]


def plain(inputs: LossInputs, config: LossConfig) -> LossParts:
    """Compute the step as the trainer does."""
    return METHODS["nvum"].compute(inputs, config)


def after(num_epochs: int) -> Loss:
    """Return the loss whose regulariser begins after some epochs; the memory is written from the first."""

    def compute(inputs: LossInputs, config: LossConfig) -> LossParts:
        weight = 0.0 if inputs.epoch < num_epochs else config.reg_weight
        return plain(inputs, replace(config, reg_weight=weight))

    return compute


def weighted(exponent: float) -> Loss:
    """Return the loss whose cross-entropy weighs a finding by prior ** exponent, on average 1.

    The regulariser is not weighted: what weighs more in the cross-entropy is regularised less.
    """

    def compute(inputs: LossInputs, config: LossConfig) -> LossParts:
        assert inputs.log_odds_C is not None
        weight_C = torch.sigmoid(inputs.log_odds_C) ** exponent
        weight_C = (weight_C / weight_C.mean()).to(inputs.logits_BC.dtype)
        return plain(replace(inputs, mask_BC=inputs.mask_BC * weight_C), config)

    return compute


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One departure from the base."""

    changed: Mapping[str, Value] = field(default_factory=dict)
    """Settings of the loss."""

    compute: Loss = plain
    """The loss."""


SETTINGS: dict[str, Setting] = {
    "base": Setting(),
    **{f"weight {weight:g}": Setting(changed={"reg_weight": weight}) for weight in (0.0, 0.1, 1.0, 3.0, 10.0)},
    **{
        f"inner product, weight {weight:g}": Setting(changed={"regulariser": "inner_product", "reg_weight": weight})
        for weight in (0.03, 0.1, 0.36, 1.0)
    },
    **{f"memory decay {decay:g}": Setting(changed={"memory_decay": decay}) for decay in (0.3, 0.9, 0.98)},
    **{f"prior temperature {tau:g}": Setting(changed={"prior_temperature": tau}) for tau in (0.0, 1.0, 2.0)},
    **{
        f"prior temperature {tau:g}, weight {weight:g}": Setting(
            changed={"prior_temperature": tau, "reg_weight": weight}
        )
        for tau, weight in ((3.0, 0.36), (4.0, 0.36), (2.0, 1.0), (2.0, 3.0))
    },
    "inner product, weight 0.36, prior temperature 2": Setting(
        changed={"regulariser": "inner_product", "reg_weight": 0.36, "prior_temperature": 2.0}
    ),
    "mixup": Setting(changed={"mixup": True}),
    **{f"regulariser after {epochs} epochs": Setting(compute=after(epochs)) for epochs in (5, 10)},
    "rare findings weigh more (prior^-0.5)": Setting(compute=weighted(-0.5)),
    "frequent findings weigh more (prior^0.5)": Setting(compute=weighted(0.5)),
    "the authors' settings": Setting(
        changed={"reg_weight": 1.0, "memory_decay": 0.9, "prior_temperature": 1.0, "mixup": True}
    ),
}
"""Name -> setting."""


def measured(
    setting: Setting, seed: int, *, num_epochs: int = NUM_EPOCHS, num_rows: int = NUM_ROWS
) -> dict[str, float]:
    """Return what a run came to, by column."""
    method = StudyMethod(loss="nvum")
    settings = {**SHARED, **BASE, **setting.changed}
    history = train(method, settings, seed, num_epochs=num_epochs, num_rows=num_rows, compute=setting.compute)
    return {
        "valid_auroc": history.valid[history.best_epoch],
        "clean_test_auroc": history.chosen_test,
        "clean_test_auroc_last": history.test[-1],
    }


def read(path: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Return what is there, by setting and seed."""
    if not path.exists():
        return {}
    columns = ("valid_auroc", "clean_test_auroc", "clean_test_auroc_last")
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (row["setting"], int(row["seed"])): {column: float(row[column]) for column in columns}
            for row in csv.DictReader(file)
        }


def table(found: Mapping[tuple[str, int], Mapping[str, float]]) -> str:
    """Return the settings that have a row of every seed, as Markdown: means, and what each is ahead of no memory."""

    def of(name: str, column: str) -> np.ndarray:
        return np.array([found[name, seed][column] for seed in SEEDS])

    lines = [
        "| setting | noisy validation | clean test, chosen epoch | last epoch | chosen epoch less weight 0 |",
        "|---|---|---|---|---|",
    ]
    for name in SETTINGS:
        if not all((name, seed) in found for seed in SEEDS):
            continue
        ahead = paired_difference(of(name, "clean_test_auroc"), of("weight 0", "clean_test_auroc"))
        means = " | ".join(
            f"{of(name, column).mean():.4f}" for column in ("valid_auroc", "clean_test_auroc", "clean_test_auroc_last")
        )
        difference = "" if name == "weight 0" else f"{ahead.mean:+.4f} ({ahead.low:+.4f} to {ahead.high:+.4f})"
        lines.append(f"| {name} | {means} | {difference} |")
    return "\n".join(lines)


def main() -> None:
    """Run every setting on every seed, and print the table."""
    torch.set_num_threads(1)
    path = RESULTS / "noise_study_nvum.csv"
    for name, setting in SETTINGS.items():
        for seed in SEEDS:
            if (name, seed) not in read(path):
                values = {column: f"{value:.5f}" for column, value in measured(setting, seed).items()}
                append_row(path, {"setting": name, "seed": seed} | values)
                print(f"{name}, seed {seed}: {values}", flush=True)
    print(table(read(path)))


if __name__ == "__main__":
    main()
