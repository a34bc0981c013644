"""What did not help: other uses of a memory beside the likelihood of labels, with one setting, on the tuning seeds.

    python -m tools.noise_study.variants

Prints and appends the clean test AUROC of the epoch that noisy validation chooses, and of the last epoch, to
tools/results/noise_study_variants.csv. These are what `relay` was found among: they choose nothing else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from tools.benchmark import RESULTS, append_row
from tools.noise_probe import BATCH_SIZE, Rows, draw_rows
from tools.noise_study.training import NUM_ROWS, mean_auroc, network
from trainer.ema import EMATeacher
from trainer.optim import OptimConfig, build_optimiser
from trainer.relay import Rates, RelayConfig, assumed_rates, label_entries

NUM_EPOCHS, WEIGHT_DECAY, DROPOUT, EMA_DECAY = 32, 0.3, 0.3, 0.99
ASSUMED = RelayConfig(relay_ppv=0.3, relay_sensitivity=0.3)
SEEDS = (100, 101)


@dataclass
class State:
    """What a variant may look at in a step, and keep."""

    labels_NC: torch.Tensor
    """Noisy labels."""

    rates: Rates
    """Taken for true."""

    memory_NC: torch.Tensor
    """Running average of the teacher's logits."""

    visits_N: torch.Tensor
    """How often each row was written."""

    epoch: int = 0
    """Which one it is."""

    target_NC: torch.Tensor | None = None
    """What some variants train on, once it is there."""

    weight_NC: torch.Tensor | None = None
    """What an entry weighs, once it is known."""

    fold_N: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    """Which part of the rows each belongs to."""

    def remember(self, index_B: torch.Tensor, logits_BC: torch.Tensor, decay: float = 0.9) -> torch.Tensor:
        """Write the rows: a plain mean of the first visits, then a running one; return them."""
        self.visits_N[index_B] += 1
        kept_B1 = (1 - 1 / self.visits_N[index_B]).clamp(max=decay).unsqueeze(1)
        self.memory_NC[index_B] = kept_B1 * self.memory_NC[index_B] + (1 - kept_B1) * logits_BC
        return self.memory_NC[index_B]

    def evidence(self, labels_BC: torch.Tensor) -> torch.Tensor:
        """Return what a label adds to the log odds of the truth."""
        present_C = self.rates.log_hit_C - self.rates.log_false_C
        absent_C = self.rates.log_miss_C - self.rates.log_quiet_C
        return (labels_BC * present_C + (1 - labels_BC) * absent_C).float()

    def likelihood(self, logits_BC: torch.Tensor, index_B: torch.Tensor) -> torch.Tensor:
        """Return minus the log likelihood of each label."""
        return label_entries(logits_BC, self.labels_NC[index_B], self.rates)


Loss = Callable[[State, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""From state, logits, teacher's logits and indices of a batch to its loss."""


def labels_alone(
    state: State, logits_BC: torch.Tensor, teacher_BC: torch.Tensor, index_B: torch.Tensor
) -> torch.Tensor:
    """The likelihood of labels, no memory."""
    return state.likelihood(logits_BC, index_B).mean()


def pulled(state: State, logits_BC: torch.Tensor, teacher_BC: torch.Tensor, index_B: torch.Tensor) -> torch.Tensor:
    """The likelihood, and a third of a cross-entropy with what is remembered of all epochs."""
    remembered_BC = torch.sigmoid(state.remember(index_B, teacher_BC))
    return labels_alone(state, logits_BC, teacher_BC, index_B) + 0.3 * binary_cross_entropy_with_logits(
        logits_BC, remembered_BC
    )


def posterior(state: State, logits_BC: torch.Tensor, teacher_BC: torch.Tensor, index_B: torch.Tensor) -> torch.Tensor:
    """Posterior memory: the target is the truth's probability by label and, from epoch 5 on, half by memory."""
    prior_BC = logits_BC.detach()
    if state.epoch >= 4:
        prior_BC = (prior_BC + state.remember(index_B, teacher_BC)) / 2
    target_BC = torch.sigmoid(prior_BC + state.evidence(state.labels_NC[index_B]))
    return binary_cross_entropy_with_logits(logits_BC, target_BC)


def rates_by_em(state: State, logits_BC: torch.Tensor, teacher_BC: torch.Tensor, index_B: torch.Tensor) -> torch.Tensor:
    """The likelihood, its rates estimated anew by EM from the memory after each epoch from the fourth on."""
    state.remember(index_B, teacher_BC)
    return labels_alone(state, logits_BC, teacher_BC, index_B)


def held_out(state: State, logits_BC: torch.Tensor, teacher_BC: torch.Tensor, index_B: torch.Tensor) -> torch.Tensor:
    """A third of the rows in turn loses its labels for two epochs and is remembered at their end.

    Labels "present" that the memory contradicts then weigh down to half.
    """
    is_out_B = state.fold_N[index_B] == state.epoch // 2 % 3
    if state.epoch % 2 == 1:
        state.remember(index_B[is_out_B], teacher_BC[is_out_B], decay=0.5)
    loss_BC = state.likelihood(logits_BC, index_B)
    if state.weight_NC is not None:
        loss_BC = loss_BC * state.weight_NC[index_B]
    return loss_BC[~is_out_B].mean()


def frozen(state: State, logits_BC: torch.Tensor, teacher_BC: torch.Tensor, index_B: torch.Tensor) -> torch.Tensor:
    """As relay with two generations, but weights go on: after 12 epochs they learn the memory."""
    if state.target_NC is not None:
        return binary_cross_entropy_with_logits(logits_BC, state.target_NC[index_B])
    state.remember(index_B, teacher_BC, decay=0.5)
    return labels_alone(state, logits_BC, teacher_BC, index_B)


VARIANTS: dict[str, Loss] = {
    "labels alone": labels_alone,
    "pulled to the memory": pulled,
    "posterior memory": posterior,
    "rates by EM from the memory": rates_by_em,
    "weights from held-out memory": held_out,
    "memory learned by the same weights": frozen,
}


def end_epoch(name: str, state: State) -> None:
    """Do what a variant does between two epochs."""
    if name == "memory learned by the same weights" and state.epoch == 11:
        state.target_NC = torch.sigmoid(state.memory_NC)
    truth_NC = torch.sigmoid(state.memory_NC + state.evidence(state.labels_NC))
    if name == "weights from held-out memory" and state.epoch % 2 == 1:
        contradicted_NC = (state.labels_NC > 0) & (state.visits_N > 0).unsqueeze(1)
        state.weight_NC = torch.where(contradicted_NC, 1 - 0.5 * (1 - truth_NC), torch.ones(()))
    if name == "rates by EM from the memory" and state.epoch >= 3:
        state.rates = estimated_rates(state)


def estimated_rates(state: State, num_steps: int = 10) -> Rates:
    """Return the rates that EM finds with the memory as the truth's log odds."""
    state = replace(state)
    for _ in range(num_steps):
        truth_NC = torch.sigmoid(state.memory_NC + state.evidence(state.labels_NC)).double()
        hit_C = ((truth_NC * state.labels_NC).sum(dim=0) / truth_NC.sum(dim=0)).clamp(1e-4, 1 - 1e-4)
        false_C = (((1 - truth_NC) * state.labels_NC).sum(dim=0) / (1 - truth_NC).sum(dim=0)).clamp(1e-4, 1 - 1e-4)
        state.rates = Rates(hit_C.log(), (1 - hit_C).log(), false_C.log(), (1 - false_C).log())
    return state.rates


def train_variant(
    name: str, seed: int, *, num_epochs: int = NUM_EPOCHS, num_rows: int = NUM_ROWS
) -> tuple[float, float]:
    """Return the clean test AUROC of the epoch that noisy validation chooses, and of the last one."""
    train_rows, test_rows, valid_rows = draw_rows(seed, num_rows, num_draws=3)
    log_odds_C = torch.logit(train_rows.noisy.mean(dim=0), eps=1e-4)
    torch.manual_seed(seed)
    state = State(
        labels_NC=train_rows.noisy,
        rates=assumed_rates(log_odds_C, RelayConfig(relay_ppv=0.7, relay_sensitivity=0.7) if "EM" in name else ASSUMED),
        memory_NC=torch.zeros_like(train_rows.noisy),
        visits_N=torch.zeros(num_rows),
        fold_N=torch.randint(0, 3, (num_rows,)),
    )
    student = network(DROPOUT)
    teacher = EMATeacher(student, EMA_DECAY)
    optimiser = build_optimiser(student.parameters(), OptimConfig(name="adamw", weight_decay=WEIGHT_DECAY))
    valid, test = [], []
    for state.epoch in range(num_epochs):
        student.train()
        for index_B in torch.randperm(num_rows).split(BATCH_SIZE):  # type: ignore[no-untyped-call]
            features = train_rows.features[index_B]
            loss = VARIANTS[name](state, student(features), teacher.forward_eval(features), index_B)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            teacher.update(student)
        end_epoch(name, state)
        valid.append(mean_auroc(teacher.module, valid_rows, clean=False))
        test.append(mean_auroc(teacher.module, test_rows, clean=True))
    return test[int(np.argmax(valid))], test[-1]


def cross_fitted(seed: int, *, num_folds: int, num_epochs: int = 18, num_rows: int = NUM_ROWS) -> tuple[float, float]:
    """Return the same of weights that learn the posterior of a memory which networks wrote that never saw its labels.

    Each of `num_folds` networks learns the labels of all rows but its fold's, stops early on noisy validation, and
    writes its fold's rows.
    """
    train_rows, test_rows, valid_rows = draw_rows(seed, num_rows, num_draws=3)
    rates = assumed_rates(torch.logit(train_rows.noisy.mean(dim=0), eps=1e-4), ASSUMED)
    state = State(train_rows.noisy, rates, torch.zeros_like(train_rows.noisy), torch.zeros(num_rows))
    torch.manual_seed(seed)
    fold_N = torch.randperm(num_rows) % num_folds
    for fold in range(num_folds):
        best = -1.0
        for teacher in _epochs(
            train_rows, (fold_N != fold).nonzero().flatten(), state, num_epochs, learns_memory=False
        ):
            value = mean_auroc(teacher.module, valid_rows, clean=False)
            if value > best:
                best = value
                state.memory_NC[fold_N == fold] = teacher.forward_eval(train_rows.features[fold_N == fold])
    valid, test = [], []
    for teacher in _epochs(train_rows, torch.arange(num_rows), state, num_epochs, learns_memory=True):
        valid.append(mean_auroc(teacher.module, valid_rows, clean=False))
        test.append(mean_auroc(teacher.module, test_rows, clean=True))
    return test[int(np.argmax(valid))], test[-1]


def _epochs(
    rows: Rows, index_n: torch.Tensor, state: State, num_epochs: int, *, learns_memory: bool
) -> Iterator[EMATeacher]:
    """Yield the teacher of a new network after each epoch over some rows."""
    student = network(0.0 if learns_memory else DROPOUT)
    teacher = EMATeacher(student, EMA_DECAY)
    decay = 0.0 if learns_memory else WEIGHT_DECAY
    optimiser = build_optimiser(student.parameters(), OptimConfig(name="adamw", weight_decay=decay))
    for _ in range(num_epochs):
        student.train()
        for chosen_B in torch.randperm(len(index_n)).split(BATCH_SIZE):  # type: ignore[no-untyped-call]
            index_B = index_n[chosen_B]
            logits_BC = student(rows.features[index_B])
            if learns_memory:
                target_BC = torch.sigmoid(state.memory_NC[index_B] + state.evidence(rows.noisy[index_B]))
                loss = binary_cross_entropy_with_logits(logits_BC, target_BC)
            else:
                loss = state.likelihood(logits_BC, index_B).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            teacher.update(student)
        yield teacher


def main() -> None:
    """Run each variant on the tuning seeds."""
    torch.set_num_threads(1)
    runs: dict[str, Callable[[int], tuple[float, float]]] = {name: partial(train_variant, name) for name in VARIANTS}
    runs |= {f"cross-fitted, {num_folds} folds": partial(cross_fitted, num_folds=num_folds) for num_folds in (2, 5)}
    for name, run in runs.items():
        results = np.array([run(seed) for seed in SEEDS])
        best, last = results.mean(axis=0)
        print(f"{name:38s} chosen epoch {best:.4f}, last epoch {last:.4f}", flush=True)
        append_row(
            RESULTS / "noise_study_variants.csv",
            {
                "variant": name,
                "seeds": " ".join(map(str, SEEDS)),
                "clean_test_auroc": f"{best:.5f}",
                "clean_test_auroc_last": f"{last:.5f}",
            },
        )


if __name__ == "__main__":
    main()
