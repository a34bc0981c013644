"""One training step and what it is made of: options, networks, loss step, memory, teacher, order, metrics.

    python -m tools.bench_step
    python -m tools.bench_step --only steps --compile
    python -m tools.bench_step --only losses --device cuda --compile --rounds 100

All contenders run interleaved, round after round; the median and the spread of the rounds are printed and appended to
tools/results/step.csv. Each part stands beside a peer of the same run: the other memory layout, plain cross-entropy,
scikit-learn, a whole permutation in memory.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from manifests.findings import FINDINGS
from pipeline.order import epoch_order
from tools.benchmark import RESULTS
from tools.interleaved import Part, run_parts
from tools.loss_parts import loss_parts
from tools.step_parts import network_parts, step_parts
from trainer.checkpoint import write_checkpoint
from trainer.ema import EMATeacher
from trainer.evaluation.metrics import measure
from trainer.memory import NVUMMemory
from trainer.models.registry import build_model

NUM_OUTPUTS = 14
SIZE_PX = 64


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_step", description="Parts of a step.")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups of parts to time")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where losses and steps are computed")
    parser.add_argument("--compile", action="store_true", help="torch.compile of steps and of the loss takes part")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    groups = GROUPS | {
        "losses": partial(loss_parts, options.device, compiles=options.compile),
        "steps": partial(step_parts, options.device, compiles=options.compile),
    }
    parts = [part for name in options.only for part in groups[name]()]
    columns = {"threads": options.threads}
    if options.device == "cuda":
        columns |= {"gpu": torch.cuda.get_device_name()}
    run_parts(parts, rounds=options.rounds, path=RESULTS / "step.csv", columns=columns, device=options.device)


def memory_parts() -> list[Part]:
    """Return what an epoch's end and a checkpoint cost the memory of a million rows, and the teacher's updates."""
    memory = NVUMMemory(1_000_000, NUM_OUTPUTS)
    end, snapshot = "memory 1,000,000 x 14, end_epoch", "memory 1,000,000 x 14, state_dict"
    written = "memory 1,000,000 x 14, checkpoint on disk"

    def checkpoint() -> None:
        with tempfile.TemporaryDirectory(prefix="bench-step-") as folder:
            write_checkpoint(Path(folder) / "memory.pt", {"memory": memory.state_dict()})

    parts = [
        Part(end, end, 1_000_000, "rows", memory.end_epoch),
        Part(snapshot, end, 1_000_000, "rows", memory.state_dict),
        Part(written, end, 1_000_000, "rows", checkpoint),
    ]
    for name in ("small", "densenet121"):
        student = build_model(name, NUM_OUTPUTS, input_size_px=SIZE_PX)
        teacher = EMATeacher(student)
        what, peer = f"EMA teacher's update, {name}", f"EMA teacher's update, {name}, tensor by tensor"
        parts.append(Part(peer, peer, 1, "updates", partial(update_one_by_one, teacher, student)))
        parts.append(Part(what, peer, 1, "updates", partial(teacher.update, student)))
    return parts


@torch.no_grad()
def update_one_by_one(teacher: EMATeacher, student: torch.nn.Module) -> None:
    """Do what the teacher's update does, by a loop."""
    theirs = student.state_dict()
    for name, own in teacher.module.state_dict().items():
        if own.is_floating_point():
            own.lerp_(theirs[name], 1 - teacher.decay)
        else:
            own.copy_(theirs[name])


def order_parts() -> list[Part]:
    """Return the order of an epoch of ten million, cut at 1,024 batches, beside a whole permutation."""
    n, batch_size, num_batches = 10_000_000, 256, 1024

    def lazily() -> None:
        for number, _ in enumerate(epoch_order(n, epoch=0, seed=0, batch_size=batch_size), start=1):
            if number == num_batches:
                return

    def whole() -> None:
        np.random.default_rng(0).permutation(n)

    peer = "numpy permutation of 10,000,000, all of it"
    ours = "epoch_order over 10,000,000, 1,024 batches"
    return [
        Part(peer, peer, n, "positions", whole),
        Part(ours, peer, batch_size * num_batches, "positions", lazily),
    ]


def metric_parts() -> list[Part]:
    """Return AUROC and average precision of 25,000 x 14, beside scikit-learn a finding."""
    rng = np.random.default_rng(0)
    targets_nC = (rng.random((25_000, NUM_OUTPUTS)) < 0.05).astype(np.float32)
    scores_nC = rng.random((25_000, NUM_OUTPUTS)).astype(np.float32)
    mask_nC = np.ones(targets_nC.shape, np.bool_)
    findings = FINDINGS[:NUM_OUTPUTS]

    def ours() -> None:
        measure(scores_nC, targets_nC, mask_nC, findings)

    def peer() -> None:
        for column in range(NUM_OUTPUTS):
            roc_auc_score(targets_nC[:, column], scores_nC[:, column])
            average_precision_score(targets_nC[:, column], scores_nC[:, column])

    name = "scikit-learn a finding, 25,000 x 14"
    return [
        Part(name, name, 1, "evaluations", peer),
        Part("AUROC + average precision, 25,000 x 14", name, 1, "evaluations", ours),
    ]


GROUPS: dict[str, Callable[[], list[Part]]] = {
    "steps": step_parts,
    "networks": network_parts,
    "losses": loss_parts,
    "memory": memory_parts,
    "order": order_parts,
    "metrics": metric_parts,
}

if __name__ == "__main__":
    main()
