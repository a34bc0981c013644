"""How much of what label noise costs does each loss get back? A quick probe on synthetic features, seconds a run.

    python -m tools.noise_probe [--seeds 3] [--epochs 40]

Eight findings are noisy linear functions of 64 Gaussian features, at prevalences of 2 to 25 %. Training labels keep
half of the positives and get as many false ones, so PPV = sensitivity = 50 %. A perceptron with two hidden layers
trains on them; its mean AUROC is taken on clean labels of other rows, after every epoch. It is no chest film: the best
epoch shows what a loss can do before memorisation sets in, the last one how much it remembers of the noise.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from trainer.ema import EMATeacher
from trainer.losses import bce_loss
from trainer.memory import NVUMMemory
from trainer.mixup import mixup_draw
from trainer.nvum import NVUMConfig, log_prior, nvum_step

NUM_FEATURES, NUM_FINDINGS, BATCH_SIZE = 64, 8, 64


@dataclass(frozen=True, kw_only=True)
class Method:
    """A line of the table."""

    name: str
    """What it is called there."""

    nvum: NVUMConfig | None = None
    """None: plain cross-entropy."""

    teacher: bool = True
    """Whether an EMA teacher is remembered and evaluated."""

    clean: bool = False
    """Whether the training labels are the clean ones."""


METHODS = (
    Method(name="clean labels, bce", teacher=False, clean=True),
    Method(name="bce", teacher=False),
    Method(name="bce + EMA"),
    Method(name="nvum elementwise", nvum=NVUMConfig()),
    Method(name="nvum elementwise, no EMA", nvum=NVUMConfig(), teacher=False),
    Method(name="nvum elementwise, no mixup", nvum=NVUMConfig(mixup=False)),
    Method(name="nvum elementwise, no prior", nvum=NVUMConfig(prior_temperature=0.0)),
    Method(name="nvum elementwise, weight 3", nvum=NVUMConfig(reg_weight=3.0)),
    Method(name="nvum elementwise, weight 10", nvum=NVUMConfig(reg_weight=10.0)),
    Method(name="nvum inner product, weight 1", nvum=NVUMConfig(regulariser="inner_product")),
    Method(name="nvum inner product, weight 0.3", nvum=NVUMConfig(regulariser="inner_product", reg_weight=0.3)),
    Method(name="nvum inner product, weight 0.1", nvum=NVUMConfig(regulariser="inner_product", reg_weight=0.1)),
)


class Rows(NamedTuple):
    """Features [N, 64], clean and noisy labels [N, 8]."""

    features: torch.Tensor
    clean: torch.Tensor
    noisy: torch.Tensor


def make_rows(seed: int, num_rows: int) -> tuple[Rows, Rows]:
    """Return training and test rows of one world; PPV = sensitivity = 50 %."""
    train, test, *_ = draw_rows(seed, num_rows, num_draws=2)
    return train, test


def draw_rows(seed: int, num_rows: int, *, num_draws: int) -> list[Rows]:
    """Return several draws of rows of one world; the first ones are the same for any number of draws."""
    draw = torch.Generator().manual_seed(seed)
    weights = 3 * torch.randn(NUM_FEATURES, NUM_FINDINGS, generator=draw) / NUM_FEATURES**0.5
    prevalences = np.geomspace(0.02, 0.25, NUM_FINDINGS)

    def rows() -> Rows:
        features = torch.randn(num_rows, NUM_FEATURES, generator=draw)
        scores = features @ weights + torch.randn(num_rows, NUM_FINDINGS, generator=draw)
        clean = torch.stack(
            [score > score.quantile(1 - prevalence) for score, prevalence in zip(scores.T, prevalences, strict=True)], 1
        )
        kept = clean & (torch.rand(clean.shape, generator=draw) < 0.5)
        false_rate = kept.sum(dim=0) / (~clean).sum(dim=0)  # as many false positives as kept true ones
        noisy = kept | (~clean & (torch.rand(clean.shape, generator=draw) < false_rate))
        return Rows(features, clean.float(), noisy.float())

    return [rows() for _ in range(num_draws)]


def run(method: Method, seed: int, *, num_epochs: int, num_rows: int = 4000) -> Iterator[float]:
    """Yield the mean AUROC on clean test labels after each epoch."""
    train, test = make_rows(seed, num_rows)
    labels = train.clean if method.clean else train.noisy
    torch.manual_seed(seed)
    student = nn.Sequential(
        nn.Linear(NUM_FEATURES, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, NUM_FINDINGS)
    )
    teacher, memory = EMATeacher(student), NVUMMemory(num_rows, NUM_FINDINGS)
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-3)
    log_prior_C = log_prior(labels.mean(dim=0))
    mask_NC = torch.ones_like(labels, dtype=torch.bool)
    for epoch in range(num_epochs):
        for step, index_B in enumerate(torch.randperm(num_rows).split(BATCH_SIZE)):  # type: ignore[no-untyped-call]
            features, targets_BC, mask_BC = train.features[index_B], labels[index_B], mask_NC[index_B]
            logits_BC = student(features)
            if method.nvum is None:
                parts = bce_loss(logits_BC, targets_BC, mask_BC, index_B, num_global=len(index_B))
            else:
                perm_B, lam = mixup_draw(seed, epoch, step, 0, len(index_B))
                parts = nvum_step(
                    logits_BC,
                    teacher.forward_train(features) if method.teacher else logits_BC.detach(),
                    targets_BC,
                    mask_BC,
                    index_B,
                    memory=memory,
                    log_prior_C=log_prior_C,
                    perm_B=torch.from_numpy(perm_B),
                    lam=lam,
                    config=method.nvum,
                    num_global=len(index_B),
                )
            optimiser.zero_grad()
            parts.loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            teacher.update(student)
        memory.end_epoch()
        with torch.no_grad():
            scores = (teacher.module if method.teacher else student)(test.features)
        yield float(np.mean([roc_auc_score(test.clean[:, c], scores[:, c]) for c in range(NUM_FINDINGS)]))


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3, help="runs a method (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=40, help="epochs a run (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'mean AUROC on clean labels':32s}  best epoch       last epoch  ({options.seeds} seeds: mean +- deviation)"
    )
    for method in METHODS:
        history = np.array([list(run(method, seed, num_epochs=options.epochs)) for seed in range(options.seeds)])
        best, last = history.max(axis=1), history[:, -1]
        print(
            f"{method.name:32s}  {best.mean():.4f} +- {best.std():.4f} {last.mean():.4f} +- {last.std():.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
