"""What several processes cost beside one, and a checkpoint of a large memory, on this machine.

    python -m tools.bench_distributed

Two processes, joined by gloo: the memory's merge beside a bare all-reduce of the same rows, the average of running
statistics, an agreement on signals. Then one process: a checkpoint of the memory beside the same bytes in one write.
Contenders run interleaved, round after round; median and spread are printed and appended to
tools/results/distributed.csv.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from manifests.atomic import write_bytes_atomically
from tools.benchmark import RESULTS, append_row, summarise
from trainer.checkpoint import write_checkpoint
from trainer.distributed import Ranks, joined_ranks
from trainer.ema import EMATeacher
from trainer.memory import NVUMMemory
from trainer.memory_merge import merge_memory_
from trainer.models.registry import build_model
from trainer.replicas import average_statistics_
from trainer.signals import StopRequest

NUM_OUTPUTS = 14
CPU = torch.device("cpu")


class Contender(NamedTuple):
    """One thing to time."""

    what: str
    """Name in the table."""

    peer: str
    """Name of the contender that it is compared with; its own where there is none."""

    num_bytes: int
    """Bytes that are sent by each process, or written."""

    prepare: Callable[[], object]
    """Done before each round, not timed."""

    call: Callable[[], object]
    """What is timed."""


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_distributed", description="Several processes.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the memory")
    parser.add_argument("--processes", type=int, default=2, help="processes that merge")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch in each process")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the checkpoint is written; default: a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-distributed-", dir=options.folder) as name:
        folder = Path(name)
        torch.set_num_threads(options.threads)
        report(timed_by_ranks(folder, options), options, processes=options.processes)
        report(timed(checkpoint_contenders(folder, options.rows), options.rounds), options, processes=1)


Timed = list[tuple[str, str, int, list[float]]]
"""What, its peer, bytes, and the seconds of each round."""


def timed(contenders: list[Contender], rounds: int, wait: Callable[[], object] = lambda: None) -> Timed:
    """Return the seconds of each contender in each round; `wait` brings all processes to the start."""
    times_s: dict[str, list[float]] = {contender.what: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            contender.prepare()
            wait()
            begin_s = time.perf_counter()
            contender.call()
            if number:  # the first round warms up
                times_s[contender.what].append(time.perf_counter() - begin_s)
    return [(each.what, each.peer, each.num_bytes, times_s[each.what]) for each in contenders]


def timed_by_ranks(folder: Path, options: argparse.Namespace) -> Timed:
    """Return what rank 0 of several processes measured."""
    context = multiprocessing.get_context("spawn")
    arguments = (options.processes, folder, options.rows, options.rounds, options.threads)
    processes = [context.Process(target=_rank, args=(rank, *arguments)) for rank in range(options.processes)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("bench_distributed: a process failed; its error stands above")
    measured: Timed = torch.load(folder / "times.pt")
    return measured


def _rank(rank: int, world_size: int, folder: Path, rows: int, rounds: int, threads: int) -> None:
    torch.set_num_threads(threads)
    with joined_ranks(Ranks(rank=rank, world_size=world_size), init_method=f"file://{folder / 'meet'}") as joined:
        ranks = joined.for_device(CPU)
        measured = timed(rank_contenders(ranks, rows), rounds, wait=lambda: dist.barrier(ranks.control))
        if ranks.is_first:
            torch.save(measured, folder / "times.pt")


def rank_contenders(ranks: Ranks, num_rows: int) -> list[Contender]:
    """Return what several processes do together."""
    memory = NVUMMemory(num_rows, NUM_OUTPUTS)
    memory.current_NC.normal_()
    rows_NC = torch.zeros(num_rows, NUM_OUTPUTS)

    def touch() -> None:
        memory.touched_N.zero_()
        memory.touched_N[ranks.rank :: ranks.world_size] = True

    student = build_model("densenet121", NUM_OUTPUTS, input_size_px=64)
    modules = [student, EMATeacher(student).module]
    num_statistics = sum(value.numel() for module in modules for value in module.buffers() if value.is_floating_point())
    bare, merge = f"all-reduce of {num_rows:,} x {NUM_OUTPUTS}", f"merge of a memory of {num_rows:,} x {NUM_OUTPUTS}"
    average, agree = "average of the statistics, densenet121 + teacher", "agreement on signals and clocks"
    stop = StopRequest()
    return [
        Contender(bare, bare, 4 * rows_NC.numel(), rows_NC.zero_, lambda: ranks.sum_(rows_NC)),
        Contender(merge, bare, 4 * rows_NC.numel() + num_rows, touch, lambda: merge_memory_(memory, ranks)),
        Contender(average, average, 8 * num_statistics, dict, lambda: average_statistics_(modules, ranks)),
        Contender(agree, agree, 16, dict, lambda: stop.agree(ranks)),
    ]


def checkpoint_contenders(folder: Path, num_rows: int) -> list[Contender]:
    """Return the checkpoint of a memory in the middle of an epoch, and its bytes in one write; both reach the disk."""
    memory = NVUMMemory(num_rows, NUM_OUTPUTS)
    memory.previous_NC.normal_()
    memory.current_NC.normal_()
    memory.touched_N[::2] = True
    path = folder / "step-00000001.pt"
    write_checkpoint(path, {"memory": memory.state_dict()})
    same = os.urandom(path.stat().st_size)
    bare, ours = f"write of {len(same):,} bytes", f"checkpoint of a memory of {num_rows:,} x {NUM_OUTPUTS}"
    return [
        Contender(bare, bare, len(same), dict, lambda: write_bytes_atomically(folder / "bytes", same)),
        Contender(ours, bare, len(same), dict, lambda: write_checkpoint(path, {"memory": memory.state_dict()})),
    ]


def report(measured: Timed, options: argparse.Namespace, *, processes: int) -> None:
    """Print and write down."""
    medians = {what: summarise(times_s).median for what, _, _, times_s in measured}
    for what, peer, num_bytes, times_s in measured:
        summary = summarise(times_s)
        ratio = summary.median / medians[peer]
        print(
            f"{what:50s} {processes} processes {summary.median * 1e3:9.3f} ms ({summary.min * 1e3:.3f} to "
            f"{summary.max * 1e3:.3f})  {num_bytes / summary.median / 1e6:9,.0f} MB/s  {ratio:6.2f} x {peer}"
        )
        append_row(
            RESULTS / "distributed.csv",
            {
                "what": what,
                "processes": processes,
                "threads": options.threads,
                "rounds": options.rounds,
                "median_ms": f"{summary.median * 1e3:.4f}",
                "min_ms": f"{summary.min * 1e3:.4f}",
                "max_ms": f"{summary.max * 1e3:.4f}",
                "num_bytes": num_bytes,
                "peer": peer,
                "time_over_peer": f"{ratio:.3f}",
            },
        )


if __name__ == "__main__":
    main()
