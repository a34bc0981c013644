"""How long `cxr-prep build-manifest` takes over the 112,120 label rows of ChestX-ray14, beside a plain peer.

Whole processes, their start included, and the share after their imports; many runs, the contenders in turn; wall time
and CPU time of all threads, which tells on a busy machine what wall time does not. Run as
`python -m tools.bench_manifest --labels DIR/Data_Entry_2017_v2020.csv.gz` (with the official lists beside it), or
without `--labels` on a synthetic release of the same size. One row a contender goes to tools/results/manifest.csv.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from manifests.datasets.nih import COLUMNS, LABEL_FILES, LISTS
from tools.benchmark import PROJECT, RESULTS, append_row, summarise

NUM_PATIENTS = 30_805
NUM_ROWS = 112_120
NUM_FOLDERS = 12
WHOLE_TARGET_S, SHARE_TARGET_S = 1.5, 0.6
"""What the whole process and its share after imports are to stay below, on two cores."""

SHARE_CODE = """
import sys, time
from pathlib import Path
from manifests.build import BuildConfig, build_manifest
import manifests.datasets.nih
begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
build_manifest(BuildConfig(dataset="nih", root=Path(sys.argv[1]), out=Path(sys.argv[2]), allow_missing_images=True))
print(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s)
"""


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, help="label file of the release; the official lists lie beside it")
    parser.add_argument("--images", action="store_true", help="also list 112,120 (empty) image files")
    parser.add_argument("--runs", type=int, default=15, help="runs of each contender (default 15)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "release", Path(folder) / "out.parquet"
        root.mkdir()
        labels = copy_labels(arguments.labels, root) if arguments.labels else write_synthetic_labels(root)
        if arguments.images:
            write_images(root)
        contenders = contenders_of(root, out)
        times: dict[str, list[Seconds]] = {name: [] for name in contenders}
        for contender in contenders.values():  # once unmeasured: byte code and page cache
            contender()
        for run in range(arguments.runs):
            for name, contender in contenders.items():
                times[name].append(contender())
            print(f"\rrun {run + 1} of {arguments.runs}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    report(times, labels=labels, files=NUM_ROWS if arguments.images else 0)


class Seconds(NamedTuple):
    """What one run took."""

    wall: float
    cpu: float


def contenders_of(root: Path, out: Path) -> dict[str, Callable[[], Seconds]]:
    """Return what is measured: name -> run it once, give seconds."""
    program = Path(sys.executable).with_name("cxr-prep")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "pipeline.cli"]
    command += ["build-manifest", "--dataset", "nih", "--root", str(root), "--out", str(out), "--allow-missing-images"]
    share = [sys.executable, "-c", SHARE_CODE, str(root), str(out)]
    peer = [sys.executable, "-m", "tools.manifest_peer", str(root), str(out.with_name("peer.parquet"))]
    environment = os.environ | {"CXR_HOME": str(root.parent / "home")}

    def run(arguments: list[str]) -> str:
        return subprocess.run(
            arguments, check=True, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True
        ).stdout

    def whole(arguments: list[str]) -> Seconds:
        begin_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        run(arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return Seconds(time.perf_counter() - begin_s, cpu_s)

    def after_imports(arguments: list[str]) -> Seconds:
        return Seconds(*map(float, run(arguments).split()))

    return {
        "cxr-prep: whole process": lambda: whole(command),
        "peer: whole process": lambda: whole(peer),
        "cxr-prep: after imports": lambda: after_imports(share),
        "peer: after imports": lambda: after_imports(peer),
    }


def report(times: dict[str, list[Seconds]], *, labels: str, files: int) -> None:
    """Print the table, ratios and targets, and append the rows."""
    for name, seconds in times.items():
        part = name.partition(": ")[2]
        median, least, most = summarise([run.wall for run in seconds])
        cpu = summarise([run.cpu for run in seconds]).median
        ratio = summarise([run.wall for run in times[f"peer: {part}"]]).median / median
        target = {"whole process": WHOLE_TARGET_S, "after imports": SHARE_TARGET_S}[part]
        verdict = "" if name.startswith("peer") else f", target < {target} s {'met' if median < target else 'MISSED'}"
        print(
            f"{name:24} median {median:.3f} s ({least:.3f} to {most:.3f}), CPU {cpu:.3f} s, "
            f"{ratio:.2f} x the peer's speed{verdict}"
        )
        append_row(
            RESULTS / "manifest.csv",
            {
                "what": name,
                "labels": labels,
                "rows": NUM_ROWS,
                "image_files": files,
                "runs": len(seconds),
                "median_s": round(median, 4),
                "min_s": round(least, 4),
                "max_s": round(most, 4),
                "cpu_median_s": round(cpu, 4),
                "speed_over_peer": round(ratio, 3),
                "load_1_min": round(os.getloadavg()[0], 2),
                "niceness": os.nice(0),
            },
        )


def copy_labels(labels: Path, root: Path) -> str:
    """Copy a real label file and the lists beside it to `root`; return its name."""
    if labels.name not in LABEL_FILES:
        sys.exit(f"--labels {labels}: expected one of {', '.join(LABEL_FILES)}")
    for file in (labels, *(labels.with_name(name) for name in LISTS.values())):
        shutil.copyfile(file, root / file.name)
    return labels.name


def write_synthetic_labels(root: Path) -> str:
    """Write a label file and lists of the release's size, by fixed rules; return what they are."""
    lines, lists = [",".join(COLUMNS)], {split: list[str]() for split in LISTS}
    findings = ("No Finding", "Infiltration", "Effusion|Atelectasis", "Mass", "Nodule|Pleural_Thickening", "No Finding")
    for number in range(NUM_ROWS):
        patient, follow_up = number % NUM_PATIENTS + 1, number // NUM_PATIENTS
        name = f"{patient:08d}_{follow_up:03d}.png"
        labels, sex, view = findings[number % len(findings)], "FM"[patient % 2], ("PA", "AP")[number % 3 == 0]
        lines.append(f"{name},{labels},{follow_up},{patient},{number % 90},{sex},{view},2500,2048,0.168,0.168")
        lists["test" if patient % 10 == 0 else "train_val"].append(name)
    (root / LABEL_FILES[0]).write_text("\n".join(lines) + "\n")
    for split, names in lists.items():
        (root / LISTS[split]).write_text("\n".join(names))
    return "synthetic"


def write_images(root: Path) -> None:
    """Write an empty file for every name of the lists, in twelve folders as in the release."""
    names = sorted(name for file in LISTS.values() for name in (root / file).read_text().split("\n"))
    folders = [root / f"images_{number:03d}" / "images" for number in range(1, NUM_FOLDERS + 1)]
    for folder in folders:
        folder.mkdir(parents=True)
    for number, name in enumerate(names):
        (folders[number * NUM_FOLDERS // len(names)] / name).touch()


if __name__ == "__main__":
    main()
