"""Rows a second and peak memory of `cxr-prep build-manifest` over label files of millions of rows, beside pandas.

A synthetic train.csv in CheXpert's format, each contender in a process of its own, in turn, timed after its imports.
One row a contender and size goes to tools/results/rows.csv. Run as `python -m tools.bench_rows`.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from manifests.datasets.chexpert import PERSON, VOCABULARY
from tools.benchmark import PROJECT, RESULTS, append_row, summarise

SIZES = (1_000_000, 2_000_000)
TARGET_ROWS_PER_S = 1_000_000
"""On two cores that are free."""

TARGET_PEAK_GIB = 1.5
"""Of the larger file."""

IMAGES_PER_PATIENT = 3

CELLS = ("1.0", "0.0", "-1.0", "")
CHANCES = ((10, 0, 0, 90), (5, 10, 5, 80), (15, 5, 15, 65), (45, 10, 5, 40))
"""Of each of `CELLS` in %, from finding to finding in turn. They are independent: so there are more different rows of
labels than in a release, where findings come together."""
GIB = 2**30

BUILD_CODE = """
import sys, time
from pathlib import Path
from manifests.build import BuildConfig, build_manifest
import manifests.datasets.chexpert
from tools.peak_memory import peak_memory_bytes
begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
build_manifest(
    BuildConfig(dataset="chexpert", root=Path(sys.argv[1]), out=Path(sys.argv[2]), allow_missing_images=True)
)
print(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s, peak_memory_bytes())
"""


class Run(NamedTuple):
    """What one run took."""

    wall_s: float
    cpu_s: float
    peak_bytes: float


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="rows of the label files")
    parser.add_argument("--runs", type=int, default=3, help="runs of each contender (default 3)")
    arguments = parser.parse_args()
    for num_rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "release"
            write_labels(root, num_rows)
            report(measure(root, Path(folder), arguments.runs), num_rows)


def measure(root: Path, folder: Path, num_runs: int) -> dict[str, list[Run]]:
    """Return the runs of each contender, after one that only reads the file into the page cache."""
    contenders = {
        "cxr-prep": [sys.executable, "-c", BUILD_CODE, str(root), str(folder / "ours.parquet")],
        "pandas": [sys.executable, "-m", "tools.rows_peer", str(root), str(folder / "peer.parquet")],
    }
    (root / "train.csv").read_bytes()
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    for number in range(num_runs):
        for name, command in contenders.items():
            done = subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
            runs[name].append(Run(*map(float, done.stdout.split())))
        print(f"\rrun {number + 1} of {num_runs}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return runs


def report(runs: dict[str, list[Run]], num_rows: int) -> None:
    """Print rates, memory and targets, and append the rows."""
    peer_s = summarise([run.wall_s for run in runs["pandas"]]).median
    for name, taken in runs.items():
        wall = summarise([run.wall_s for run in taken])
        cpu_s = summarise([run.cpu_s for run in taken]).median
        peak_gib = max(run.peak_bytes for run in taken) / GIB
        rate = num_rows / wall.median
        verdict = ""
        if name != "pandas":
            fast, small = rate >= TARGET_ROWS_PER_S, peak_gib < TARGET_PEAK_GIB
            verdict = f"; target {TARGET_ROWS_PER_S:,} rows/s {'met' if fast else 'MISSED'}"
            verdict += f", below {TARGET_PEAK_GIB} GiB {'met' if small else 'MISSED'}"
        print(
            f"{name:9} {num_rows:,} rows: {rate:,.0f} rows/s (best {num_rows / wall.min:,.0f}), CPU {cpu_s:.2f} s, "
            f"peak {peak_gib:.2f} GiB, {peer_s / wall.median:.1f} x pandas{verdict}"
        )
        append_row(
            RESULTS / "rows.csv",
            {
                "what": name,
                "labels": "drawn a study, CheXpert's format",
                "rows": num_rows,
                "runs": len(taken),
                "median_s": round(wall.median, 3),
                "min_s": round(wall.min, 3),
                "max_s": round(wall.max, 3),
                "cpu_median_s": round(cpu_s, 3),
                "rows_per_s": round(rate),
                "peak_gib": round(peak_gib, 3),
                "speed_over_pandas": round(peer_s / wall.median, 2),
                "load_1_min": round(os.getloadavg()[0], 2),
            },
        )


def write_labels(root: Path, num_rows: int) -> None:
    """Write a train.csv of `num_rows` rows: patients of one study with three images, which bear the study's labels."""
    root.mkdir(parents=True)
    words = list(VOCABULARY.finding_of)
    draw = random.Random(0)
    num_studies = -(-num_rows // IMAGES_PER_PATIENT)
    columns = [
        draw.choices(CELLS, weights=CHANCES[position % len(CHANCES)], k=num_studies) for position in range(len(words))
    ]
    with (root / "train.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(["Path", *PERSON, *words]) + "\n")
        for patient, labels in enumerate(zip(*columns, strict=True)):
            for view in range(min(IMAGES_PER_PATIENT, num_rows - patient * IMAGES_PER_PATIENT)):
                side, projection = ("Frontal", ("AP", "PA")[(patient + view) % 2]) if view < 2 else ("Lateral", "")
                name = f"CheXpert-v1.0-small/train/patient{patient + 1:06d}/study1/view{view + 1}_{side.lower()}.jpg"
                person = f"{('Female', 'Male')[patient % 2]},{patient % 91},{side},{projection}"
                file.write(f"{name},{person},{','.join(labels)}\n")


if __name__ == "__main__":
    main()
