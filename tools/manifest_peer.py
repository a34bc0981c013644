"""The peer that `tools.bench_manifest` runs beside `cxr-prep build-manifest`: Python's csv module and pyarrow.

The plain way to the same table, a row at a time, and an oracle for the tests. It checks nothing, neither lists folders
nor computes checksums, and wants the official lists. Run as `python -m tools.manifest_peer ROOT OUT`; prints the
seconds and CPU seconds that it took after its imports.
"""

import csv
import gzip
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.datasets.nih import LABEL_FILES, LISTS, VOCABULARY
from manifests.schema import REQUIRED_COLUMNS
from manifests.splits import patient_fraction

TYPES = {"String": pa.large_string(), "Int32": pa.int32(), "Float32": pa.float32()}
VALID_FRACTION = 0.1


def peer_table(root: Path) -> pa.Table:
    """Return the manifest's columns for the release in `root`, every image under its ``images/``."""
    file = next(root / name for name in LABEL_FILES if (root / name).exists())
    with gzip.open(file, "rt", newline="") if file.suffix == ".gz" else file.open(newline="") as lines:
        rows = list(csv.reader(lines))[1:]
    official = {name: split for split, file in LISTS.items() for name in (root / file).read_text().split("\n")}
    fraction = cache(patient_fraction)
    columns: dict[str, list[Any]] = {name: [] for name in (*REQUIRED_COLUMNS, *VOCABULARY.findings)}
    for name, labels, _, patient, age, sex, view, width, height, *_ in rows:
        patient_id = f"nih:{int(patient)}"
        drawn = "valid" if fraction(patient_id, 0) < VALID_FRACTION else "train"
        columns["dataset"].append("nih")
        columns["image_id"].append(name)
        columns["path"].append(f"images/{name}")
        columns["patient_id"].append(patient_id)
        columns["study_id"].append(None)
        columns["view"].append(view)
        columns["sex"].append(sex)
        columns["age_years"].append(float(age))
        columns["split"].append("test" if official[name] == "test" else drawn)
        columns["width"].append(int(width))
        columns["height"].append(int(height))
        present = labels.split("|")
        for finding in VOCABULARY.findings:
            columns[finding].append(int(finding in present))
    types = {name: TYPES[dtype] for name, dtype in REQUIRED_COLUMNS.items()}
    return pa.table({name: pa.array(values, types.get(name, pa.int8())) for name, values in columns.items()})


def main() -> None:
    """Write the peer's manifest and print its seconds."""
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    pq.write_table(peer_table(Path(sys.argv[1])), sys.argv[2], compression="zstd")
    print(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s)


if __name__ == "__main__":
    main()
