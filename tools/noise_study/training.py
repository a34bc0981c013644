"""One training of the probe's network on the probe's rows, with the trainer's own losses, memory and teacher."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from tools.noise_probe import BATCH_SIZE, NUM_FEATURES, NUM_FINDINGS, Rows, draw_rows
from tools.noise_study.methods import StudyMethod, Value
from trainer.ema import EMATeacher
from trainer.evaluation.metrics import auroc, ranked_counts
from trainer.losses import LossParts
from trainer.memory import NVUMMemory
from trainer.methods import METHODS, LossConfig, LossInputs
from trainer.mixup import mixup_draw
from trainer.nvum import log_prior
from trainer.optim import OptimConfig, build_optimiser
from trainer.restart import replace_weights_
from trainer.rng import stream_seed

NUM_ROWS = 4000
"""Training rows, validation rows and test rows, each."""

NUM_EPOCHS = 40


class History(NamedTuple):
    """Mean AUROCs after each epoch; those of the test choose nothing."""

    valid: list[float]
    """Of validation rows, on the labels that a user would have (noisy; clean for the bound): chooses the epoch."""

    test: list[float]
    """Of test rows, on clean labels, where validation is at its best so far and after the last epoch; else NaN."""

    candidate: list[bool]
    """Whether weights of the epoch's generation are those that the run ends with."""

    @property
    def best_epoch(self) -> int:
        """The epoch, from 0, that validation chooses."""
        return int(np.argmax(np.where(self.candidate, self.valid, -np.inf)))

    def begin_anew(self) -> None:
        """Leave out the epochs of weights that are gone, as the trainer does."""
        self.candidate[:] = [False] * len(self.candidate)

    @property
    def chosen_test(self) -> float:
        """The test AUROC of the epoch that validation chooses."""
        return self.test[self.best_epoch]


def train(
    method: StudyMethod,
    settings: Mapping[str, Value],
    seed: int,
    *,
    num_epochs: int = NUM_EPOCHS,
    patience: int | None = None,
    num_rows: int = NUM_ROWS,
    compute: Callable[[LossInputs, LossConfig], LossParts] | None = None,
) -> History:
    """Return the history of a run.

    Args:
        method: what is trained.
        settings: of one trial.
        seed: of the world, its labels, first weights and order.
        num_epochs: at most so many.
        patience: epochs without a better validation after which it ends; None: never.
        num_rows: in each of the three draws.
        compute: the loss of a step; None: the method's.
    """
    train_rows, test_rows, valid_rows = draw_rows(seed, num_rows, num_draws=3)
    labels_NC = train_rows.clean if method.clean else train_rows.noisy
    shared = {name: settings[name] for name in ("weight_decay", "dropout", "ema_lag") if name in settings}
    own = {name: value for name, value in settings.items() if name not in shared}
    config = LossConfig(name=method.loss, **{**method.settings, **own})  # type: ignore[arg-type]
    torch.manual_seed(seed)
    student = network(float(shared["dropout"]))
    teacher = EMATeacher(student, 1 - float(shared["ema_lag"])) if method.teacher else None
    optimiser = build_optimiser(
        student.parameters(), OptimConfig(name="adamw", weight_decay=float(shared["weight_decay"]))
    )
    step = Step(config, labels_NC, student, teacher, optimiser, seed)
    step.compute = compute or step.method.compute
    history = History([], [], [])
    for epoch in range(num_epochs):
        if step.begins_anew(epoch, num_epochs):
            torch.manual_seed(stream_seed(seed, epoch))
            modules = [student] if teacher is None else [student, teacher.module]
            replace_weights_(modules, optimiser, network(float(shared["dropout"])))
            history.begin_anew()
        step.train_epoch(train_rows, epoch, num_epochs)
        module = student if teacher is None else teacher.module
        history.valid.append(mean_auroc(module, valid_rows, clean=method.clean))
        history.candidate.append(True)
        is_asked_for = history.best_epoch == epoch or epoch + 1 == num_epochs
        history.test.append(mean_auroc(module, test_rows, clean=True) if is_asked_for else float("nan"))
        if patience is not None and epoch - history.best_epoch >= patience:
            break
    return history


def network(dropout: float) -> nn.Sequential:
    """Return the probe's perceptron, with dropout after both hidden layers."""
    return nn.Sequential(
        nn.Linear(NUM_FEATURES, 256), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(256, 256), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(256, NUM_FINDINGS),
    )  # fmt: skip


class Step:
    """What an epoch moves."""

    def __init__(
        self,
        config: LossConfig,
        labels_NC: torch.Tensor,
        student: nn.Module,
        teacher: EMATeacher | None,
        optimiser: torch.optim.Optimizer,
        seed: int,
    ) -> None:
        self.config, self.method = config, METHODS[config.name]
        self.compute = self.method.compute
        self.labels_NC, self.student, self.teacher, self.optimiser, self.seed = (
            labels_NC, student, teacher, optimiser, seed,
        )  # fmt: skip
        num_rows, num_findings = labels_NC.shape
        columns = self.method.memory_columns
        self.memory = NVUMMemory(num_rows, columns * num_findings) if columns else None
        prior_C = labels_NC.mean(dim=0)
        self.log_prior_C, self.log_odds_C = log_prior(prior_C), torch.logit(prior_C, eps=1e-4)

    def begins_anew(self, epoch: int, num_epochs: int) -> bool:
        """Tell whether the weights begin anew before an epoch."""
        generation_of = self.method.generation
        return generation_of is not None and generation_of(epoch, num_epochs, self.config).begins

    def train_epoch(self, rows: Rows, epoch: int, num_epochs: int) -> None:
        """Train on every row once, in a new order."""
        self.student.train()
        num_rows = len(rows.features)
        for number, index_B in enumerate(torch.randperm(num_rows).split(BATCH_SIZE)):  # type: ignore[no-untyped-call]
            features = rows.features[index_B]
            logits_BC = self.student(features)
            remembered_BC = logits_BC.detach()
            perm_B, lam = None, 1.0
            if self.method.reads_teacher:
                if self.teacher is not None:
                    remembered_BC = self.teacher.forward_train(features)
                drawn_B, lam = mixup_draw(self.seed, epoch, number, 0, len(index_B))
                perm_B = torch.from_numpy(drawn_B)
            inputs = LossInputs(
                logits_BC=logits_BC,
                teacher_logits_BC=remembered_BC,
                targets_BC=self.labels_NC[index_B],
                mask_BC=torch.ones_like(logits_BC, dtype=torch.bool),
                index_B=index_B,
                num_global=len(index_B),
                memory=self.memory,
                log_prior_C=self.log_prior_C,
                log_odds_C=self.log_odds_C,
                perm_B=perm_B,
                lam=lam,
                epoch=epoch,
                num_epochs=num_epochs,
            )
            self.optimiser.zero_grad(set_to_none=True)
            self.compute(inputs, self.config).loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            if self.teacher is not None:
                self.teacher.update(self.student)
        if self.memory is not None:
            self.memory.end_epoch()


@torch.no_grad()
def mean_auroc(module: nn.Module, rows: Rows, *, clean: bool) -> float:
    """Return the mean AUROC over the findings."""
    module.eval()
    targets_NC = (rows.clean if clean else rows.noisy).numpy()
    counts = ranked_counts(module(rows.features).numpy(), targets_NC, np.ones(targets_NC.shape, dtype=np.bool_))
    return float(np.mean(auroc(counts)))
