"""Is the profile right? Its predictions beside what is measured once the bottleneck is gone, and what its meters cost.

    python -m tools.bench_profile

Each case makes one thing ten times slower than a step, profiles that run, and then measures the run without it, in
turn, round after round. The verdict must name the cause, and the predicted rate must be within 15 % of the measured
one; of a part that waits it is the least to be expected, and must not be more than 15 % too high. `meters`: steps with
the profile's recorder around them beside plain steps, in turn; at most 2 % slower.

One thread of torch by default: so small a step gains nothing by a second, and two that wait for each other in every
operation are as slow as the core that is disturbed the most.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from tools.bench_memory import write_pack
from tools.benchmark import RESULTS, append_row, summarise
from tools.profile_injected import Case, cases, slow
from trainer.config import TrainConfig
from trainer.distributed import ALONE, Ranks, joined_ranks
from trainer.parts import opened, settled
from trainer.profile.measurements import Measurements
from trainer.profile.profile import profile
from trainer.profile.recorder import HostClock, MeasuredStep, Recorder
from trainer.profile.split import splits
from trainer.profile.verdict import images_per_s, verdict_of
from trainer.sections import Values, build
from trainer.step import TrainStep

TIMES_SLOWER = 10
PREDICTED_WITHIN = 0.15
METERS_WITHIN = 0.02


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_profile", description="Is the profile right?")
    parser.add_argument("--images", type=int, default=1000, help="images to draw")
    parser.add_argument("--size", type=int, default=32, help="their side in px")
    parser.add_argument("--batch", type=int, default=16, help="images of a step")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; of two ranks each has one")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each profile")
    parser.add_argument("--rounds", type=int, default=3, help="profiles of each case, and of the run without it")
    parser.add_argument("--steps", type=int, default=400, help="steps of each kind, to see what the meters cost")
    parser.add_argument("--cases", nargs="*", help="CAUSE or CAUSE-computes or CAUSE-waits, meters; default: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as name:
        folder = Path(name)
        raw = write_pack(folder, num_images=options.images, size_px=options.size)
        tar = folder / "tar"
        command = [sys.executable, "-m", "pipeline.cli", "pack", "--format", "tar", "--size", str(options.size)]
        home = os.environ | {"CXR_HOME": str(folder / "home")}
        subprocess.run([*command, "--out", str(tar)], check=True, env=home, stdout=subprocess.DEVNULL)
        for case in cases(raw, tar, options):
            if not options.cases or {case.cause, case.name} & set(options.cases):
                predictions(case, folder, options)
        if not options.cases or "meters" in options.cases:
            meters(raw, options)


def predictions(case: Case, folder: Path, options: argparse.Namespace) -> None:
    """Profile a case and measure the run without its bottleneck, in turn; print and append a row."""
    plain = profiled(case, folder, options.seconds, delay_s=0.0, settings=case.repaired)
    step_s = statistics.fmean(split.step_s for split in _splits(plain))
    delay_s = TIMES_SLOWER * step_s / case.slowed.calls_a_step
    causes, bounds, predicted, measured = [], set(), [], []
    for _ in range(options.rounds):
        verdict = verdict_of(profiled(case, folder, options.seconds, delay_s=delay_s, settings=case.settings))
        causes.append(verdict.cause if verdict.rank in (None, case.world_size - 1) else f"rank {verdict.rank}")
        bounds.add(verdict.repair.bound)
        predicted.append(verdict.repair.images_per_s)
        repaired = profiled(case, folder, options.seconds, delay_s=0.0, settings=case.repaired)
        measured.append(images_per_s(_splits(repaired)))
    ratio = statistics.median(one / other for one, other in zip(predicted, measured, strict=True))
    is_right = causes == [case.cause] * options.rounds
    too_low = 0.0 if bounds == {"at least"} else 1 - ratio
    off_by = max(ratio - 1, too_low, 0.0)
    print(
        f"{case.name:18s} verdict {'right' if is_right else f'WRONG: {causes}'} ({options.rounds} times), predicted "
        f"{' or '.join(sorted(bounds))} {summarise(predicted).median:,.0f} images/s, measured "
        f"{summarise(measured).median:,.0f}: {ratio:.2f} "
        f"({'within' if off_by <= PREDICTED_WITHIN else 'NOT within'} {PREDICTED_WITHIN:.0%})",
        flush=True,
    )
    append_row(
        RESULTS / "profile.csv",
        {
            "what": case.cause,
            "how": case.slowed.how,
            "bound": "/".join(sorted(bounds)),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "batch_size": options.batch,
            "threads": options.threads,
            "size_px": options.size,
            "delay_ms": f"{delay_s * 1e3:.3f}",
            "verdicts_right": sum(cause == case.cause for cause in causes),
            "predicted_images_per_s": f"{summarise(predicted).median:.1f}",
            "measured_images_per_s": f"{summarise(measured).median:.1f}",
            "measured_min": f"{summarise(measured).min:.1f}",
            "measured_max": f"{summarise(measured).max:.1f}",
            "predicted_over_measured": f"{ratio:.4f}",
            "off_by": f"{off_by:.4f}",
            "load_1_min": round(os.getloadavg()[0], 2),
        },
    )


def _splits(measured: Measurements) -> list[Any]:
    return splits([rank.epoch for rank in measured.ranks])


def profiled(case: Case, folder: Path, seconds: float, *, delay_s: float, settings: Values) -> Measurements:
    """Return the profile of a run in which something is slow on the last rank; in processes of their own if several."""
    if case.world_size == 1:
        with slow(case.slowed, delay_s):
            measured = profile(settings, max_seconds=seconds)
        assert measured is not None
        return measured
    context = multiprocessing.get_context("spawn")
    meeting = Path(tempfile.mkdtemp(dir=folder))
    processes = [
        context.Process(target=_rank, args=(rank, case, meeting, seconds, delay_s, settings))
        for rank in range(case.world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("bench_profile: a process failed; its error stands above")
    found: Measurements = torch.load(meeting / "measured.pt", weights_only=False)
    return found


def _rank(rank: int, case: Case, meeting: Path, seconds: float, delay_s: float, settings: Values) -> None:
    of_machine = Ranks(rank=rank, world_size=case.world_size, local_rank=rank, local_world_size=case.world_size)
    with (
        joined_ranks(of_machine, init_method=f"file://{meeting / 'meet'}") as ranks,
        slow(case.slowed, delay_s if rank == case.world_size - 1 else 0.0),
    ):
        measured = profile(settings, max_seconds=seconds, ranks=ranks)
        if measured is not None:
            torch.save(measured, meeting / "measured.pt")


def meters(pack: Path, options: argparse.Namespace) -> None:
    """Do plain steps and recorded ones in turn; print and append a row."""
    values: Values = {
        "data": {"pack": str(pack)},
        "loader": {"batch_size": options.batch, "backend": "synthetic"},
        "model": {"name": "small"},
        "run": {"device": "cpu", "num_threads": options.threads},
    }
    with ExitStack() as stack:
        config, data = settled(build(TrainConfig, values, source="benchmark"), ALONE)
        parts = opened(stack, config, data, ALONE, load_weights=False)
        plain, recorded = TrainStep(config, data, parts.state), MeasuredStep(config, data, parts.state)
        recorder = recorded.recorder = Recorder(HostClock())
        with closing(parts.train_loader.train_batches(0)) as batches:
            loaded = next(iter(islice(batches, 1)))
        rows_B = loaded.batch.sample_index_B.numpy()
        times_s: dict[str, list[float]] = {"plain": [], "recorded": []}
        for number in range(options.steps + 10):
            in_turn = (("plain", plain), ("recorded", recorded))
            for name, do_step in in_turn if number % 2 else reversed(in_turn):
                begin_s = time.perf_counter()
                if do_step is recorded:
                    with recorder.part("data wait"):
                        pass
                do_step(loaded, rows_B)
                if do_step is recorded:
                    recorder.end_step(num_images=len(rows_B), is_first=False)
                if number >= 10:
                    times_s[name].append(time.perf_counter() - begin_s)
    pairs = zip(times_s["recorded"], times_s["plain"], strict=True)
    ratio = statistics.median(one / other for one, other in pairs)
    print(
        f"meters     a step {summarise(times_s['plain']).median * 1e3:.3f} ms, recorded "
        f"{summarise(times_s['recorded']).median * 1e3:.3f} ms: {ratio - 1:+.2%} "
        f"({'within' if ratio - 1 <= METERS_WITHIN else 'NOT within'} {METERS_WITHIN:.0%})"
    )
    append_row(
        RESULTS / "profile.csv",
        {
            "what": "meters",
            "rounds": options.steps,
            "batch_size": options.batch,
            "threads": options.threads,
            "size_px": options.size,
            "plain_ms": f"{summarise(times_s['plain']).median * 1e3:.4f}",
            "recorded_ms": f"{summarise(times_s['recorded']).median * 1e3:.4f}",
            "recorded_over_plain": f"{ratio:.4f}",
            "load_1_min": round(os.getloadavg()[0], 2),
        },
    )


if __name__ == "__main__":
    main()
