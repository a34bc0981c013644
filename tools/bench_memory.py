"""Anonymous memory of a training process, epoch by epoch: does it stay flat?

    python -m tools.bench_memory

It draws a small release, packs it, starts `cxr-train` on it, and reads RssAnon of that process (memory that belongs to
it alone; the memory-mapped pack does not count) all the time. The first epochs fill buffers, the optimiser's averages
and the allocator's pools; what counts is the slope after them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tools.benchmark import RESULTS, append_row
from tools.demo_data import write_release

MIB = 1 << 20
POLL_S = 0.01


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_memory", description="Memory of a training process.")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of the run")
    parser.add_argument("--warm-up", type=int, default=5, help="epochs before the slope counts")
    parser.add_argument("--images", type=int, default=400, help="images in the pack")
    parser.add_argument("--size", type=int, default=64, help="their side in px")
    parser.add_argument("--loss", default="nvum", choices=["bce", "nvum"], help="loss, nvum with teacher and memory")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    options = parser.parse_args()
    if not 1 <= options.warm_up <= options.epochs - 2:
        parser.error("--warm-up must leave two epochs or more")
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        pack = write_pack(Path(folder), num_images=options.images, size_px=options.size)
        print(f"{options.epochs} epochs of {options.loss}, {options.images:,} images of {options.size} px", flush=True)
        rss_anon = []
        for epoch, num_bytes in enumerate(measured_epochs(pack, Path(folder) / "run", options), start=1):
            rss_anon.append(num_bytes / MIB)
            if epoch in (1, options.warm_up) or epoch % 10 == 0:
                print(f"  epoch {epoch:3d}  RssAnon {rss_anon[-1]:8.2f} MiB", flush=True)
    flat = np.array(rss_anon[options.warm_up - 1 :])
    slope_kib = float(np.polyfit(np.arange(len(flat)), flat, 1)[0]) * 1024
    print(
        f"epoch {options.warm_up}: {flat[0]:.2f} MiB, epoch {len(rss_anon)}: {flat[-1]:.2f} MiB, "
        f"ratio {flat[-1] / flat[0]:.4f}, slope {slope_kib:+.1f} KiB an epoch"
    )
    row = {
        "loss": options.loss,
        "epochs": options.epochs,
        "warm_up_epochs": options.warm_up,
        "images": options.images,
        "size_px": options.size,
        "threads": options.threads,
        "rss_anon_first_mib": f"{rss_anon[0]:.2f}",
        "rss_anon_warm_mib": f"{flat[0]:.2f}",
        "rss_anon_last_mib": f"{flat[-1]:.2f}",
        "ratio_last_to_warm": f"{flat[-1] / flat[0]:.4f}",
        "slope_kib_per_epoch": f"{slope_kib:.2f}",
    }
    append_row(RESULTS / "memory.csv", row)


def write_pack(folder: Path, *, num_images: int, size_px: int) -> Path:
    """Draw a release and pack it with the project's own commands; return the pack's folder."""
    release = write_release(folder / "demo", num_images=num_images, size_px=size_px, workers=os.cpu_count() or 1)
    home = {"CXR_HOME": str(folder / "home")}
    for command in (
        ["build-manifest", "--dataset", "nih", "--root", str(release.folder)],
        ["pack", "--size", str(size_px), "--out", str(folder / "pack")],
    ):
        program = [sys.executable, "-m", "pipeline.cli", *command]
        subprocess.run(program, check=True, env=os.environ | home, stdout=subprocess.DEVNULL)
    return folder / "pack"


def measured_epochs(pack: Path, run: Path, options: argparse.Namespace) -> Iterator[int]:
    """Train on `pack` in a process of its own; yield for each epoch the smallest RssAnon seen in it, in bytes.

    The smallest, since a checkpoint on its way to the disk holds a copy of the memory: a leak raises that floor too.
    """
    command = [sys.executable, "-m", "trainer.cli", "--pack", str(pack), "--out", str(run)]
    command += ["--model", "small", "--loss", options.loss, "--epochs", str(options.epochs + 1)]
    command += ["--set", "loader.batch_size=32", "--set", f"run.num_threads={options.threads}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    num_seen, smallest = 0, sys.maxsize
    try:
        while num_seen < options.epochs:
            if process.poll() is not None:
                raise SystemExit(f"cxr-train ended early:\n{process.stderr.read() if process.stderr else ''}")
            now = rss_anon_bytes(process.pid)
            smallest = min(smallest, now) if num_seen else now  # in the first epoch the process still grows
            if count_epochs(run / "events.jsonl") > num_seen:
                num_seen += 1
                yield smallest
                smallest = sys.maxsize
            time.sleep(POLL_S)
    finally:
        process.kill()  # in the epoch after the last one, so that each was measured in a living process
        process.wait()


def count_epochs(events: Path) -> int:
    """Return how many epochs the history tells of."""
    return events.read_bytes().count(b'{"event": "epoch"') if events.exists() else 0


def rss_anon_bytes(pid: int) -> int:
    """Return the resident anonymous memory of a process (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/{pid}/status has no RssAnon: the process has ended")


if __name__ == "__main__":
    main()
