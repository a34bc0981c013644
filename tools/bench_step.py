"""What one training step is made of, on this machine's CPU: networks, loss step, memory, teacher, order, metrics.

    python -m tools.bench_step

All contenders run interleaved, round after round; the median and the spread of the rounds are printed and appended to
tools/results/step.csv. Each part stands beside a peer of the same run: the other memory layout, plain cross-entropy,
scikit-learn, a whole permutation in memory.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from manifests.findings import FINDINGS
from pipeline.order import epoch_order
from tools.benchmark import RESULTS, append_row, summarise
from trainer.ema import EMATeacher
from trainer.losses import bce_loss
from trainer.memory import NVUMMemory
from trainer.metrics import measure
from trainer.models.registry import build_model
from trainer.nvum import NVUMConfig, log_prior, nvum_step

NUM_OUTPUTS = 14
SIZE_PX = 64


class Part(NamedTuple):
    """One thing to time."""

    what: str
    """Name in the table."""

    peer: str
    """Name of the part that it is compared with; its own where there is none."""

    num_items: int
    """Items of one call, for the rate."""

    unit: str
    """What an item is."""

    call: Callable[[], object]
    """Does the work once."""


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_step", description="Parts of a step on the CPU.")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    parts = [*network_parts(), *loss_parts(), *memory_parts(), *order_parts(), *metric_parts()]
    times_s: dict[str, list[float]] = {part.what: [] for part in parts}
    for number in range(options.rounds + 1):
        for part in parts:
            part.call()  # not timed: who comes after a large network would find its caches cold
            begin_s = time.perf_counter()
            part.call()
            if number:  # the first round warms up
                times_s[part.what].append(time.perf_counter() - begin_s)
    medians = {what: summarise(values).median for what, values in times_s.items()}
    for part in parts:
        summary = summarise(times_s[part.what])
        ratio = medians[part.peer] / summary.median
        rate = part.num_items / summary.median
        print(
            f"{part.what:42s} {summary.median * 1e3:9.3f} ms ({summary.min * 1e3:.3f} to {summary.max * 1e3:.3f})  "
            f"{rate:14,.0f} {part.unit}/s  {ratio:6.2f} x {part.peer}"
        )
        append_row(
            RESULTS / "step.csv",
            {
                "what": part.what,
                "threads": options.threads,
                "rounds": options.rounds,
                "median_ms": f"{summary.median * 1e3:.4f}",
                "min_ms": f"{summary.min * 1e3:.4f}",
                "max_ms": f"{summary.max * 1e3:.4f}",
                "per_s": f"{rate:.0f}",
                "unit": part.unit,
                "peer": part.peer,
                "speed_over_peer": f"{ratio:.3f}",
            },
        )


def network_parts() -> list[Part]:
    """Return forward and backward of each network, as built (channels_last) and with contiguous weights."""
    parts = []
    for name, batch_size in (("small", 64), ("densenet121", 16)):
        images_B1HW = torch.randn(batch_size, 1, SIZE_PX, SIZE_PX)
        for layout, memory_format in (("channels_last", torch.channels_last), ("contiguous", torch.contiguous_format)):
            model = build_model(name, NUM_OUTPUTS, input_size_px=SIZE_PX).train()
            model.to(memory_format=memory_format)  # type: ignore[call-overload]

            def step(model: torch.nn.Module = model, images_B1HW: torch.Tensor = images_B1HW) -> None:
                model.zero_grad()
                model(images_B1HW).square().mean().backward()

            what = f"{name} {SIZE_PX} px, forward + backward, {layout}"
            peer = f"{name} {SIZE_PX} px, forward + backward, contiguous"
            parts.append(Part(what, peer, batch_size, "images", step))
    return parts


def loss_parts() -> list[Part]:
    """Return forward and backward of the losses, with the teacher's update."""
    parts = []
    num_rows = 112_120
    memory = NVUMMemory(num_rows, NUM_OUTPUTS)
    prior_C = log_prior(torch.full((NUM_OUTPUTS,), 0.05))
    for batch_size in (64, 1024):
        logits_BC = torch.randn(batch_size, NUM_OUTPUTS, requires_grad=True)
        teacher_BC = torch.randn(batch_size, NUM_OUTPUTS)
        targets_BC = (torch.rand(batch_size, NUM_OUTPUTS) < 0.1).float()
        mask_BC = torch.ones(batch_size, NUM_OUTPUTS, dtype=torch.bool)
        index_B = torch.randperm(num_rows)[:batch_size]
        perm_B = torch.randperm(batch_size)

        def bce(
            logits_BC: torch.Tensor = logits_BC,
            targets_BC: torch.Tensor = targets_BC,
            mask_BC: torch.Tensor = mask_BC,
            index_B: torch.Tensor = index_B,
        ) -> None:
            logits_BC.grad = None
            bce_loss(logits_BC, targets_BC, mask_BC, index_B, num_global=len(index_B)).loss.backward()  # type: ignore[no-untyped-call]

        def nvum(
            logits_BC: torch.Tensor = logits_BC,
            teacher_BC: torch.Tensor = teacher_BC,
            targets_BC: torch.Tensor = targets_BC,
            mask_BC: torch.Tensor = mask_BC,
            index_B: torch.Tensor = index_B,
            perm_B: torch.Tensor = perm_B,
        ) -> None:
            logits_BC.grad = None
            nvum_step(
                logits_BC,
                teacher_BC,
                targets_BC,
                mask_BC,
                index_B,
                memory=memory,
                log_prior_C=prior_C,
                perm_B=perm_B,
                lam=0.7,
                config=NVUMConfig(),
                num_global=len(index_B),
            ).loss.backward()  # type: ignore[no-untyped-call]

        peer = f"bce_loss, batch {batch_size}"
        parts += [
            Part(peer, peer, batch_size, "samples", bce),
            Part(f"nvum_step, batch {batch_size}", peer, batch_size, "samples", nvum),
        ]
    return parts


def memory_parts() -> list[Part]:
    """Return what an epoch's end and a checkpoint cost the memory of a million rows, and the teacher's updates."""
    memory = NVUMMemory(1_000_000, NUM_OUTPUTS)
    end, snapshot = "memory 1,000,000 x 14, end_epoch", "memory 1,000,000 x 14, state_dict"
    parts = [
        Part(end, end, 1_000_000, "rows", memory.end_epoch),
        Part(snapshot, end, 1_000_000, "rows", memory.state_dict),
    ]
    for name in ("small", "densenet121"):
        student = build_model(name, NUM_OUTPUTS, input_size_px=SIZE_PX)
        teacher = EMATeacher(student)
        what = f"EMA teacher's update, {name}"
        parts.append(Part(what, what, 1, "updates", partial(teacher.update, student)))
    return parts


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


if __name__ == "__main__":
    main()
