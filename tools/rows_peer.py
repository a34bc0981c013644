"""The peer that `tools.bench_rows` runs beside `cxr-prep build-manifest`: pandas, as one would write it.

Columns at a time, the same table from CheXpert's train.csv, and an oracle for the tests. It checks nothing, computes no
checksum and looks for no image. Run as `python -m tools.rows_peer ROOT OUT`; prints what `tools.bench_rows` reads.
"""

import sys
import time
from pathlib import Path

import pandas as pd
import polars as pl

from manifests.datasets.chexpert import VOCABULARY
from manifests.splits import patient_fractions
from tools.peak_memory import peak_memory_bytes

VALID_FRACTION = 0.1


def peer_table(root: Path) -> pd.DataFrame:
    """Return the manifest's columns for the train.csv in `root`."""
    labels = pd.read_csv(root / "train.csv")
    path = labels["Path"].str.split("/", n=1).str[1]
    parts = path.str.split("/", expand=True)
    patient_id = "chexpert:" + parts[1]
    patients = patient_id.unique()
    fractions = dict(zip(patients, patient_fractions(pl.Series(patients.tolist()), 0), strict=True))
    columns = {
        "dataset": "chexpert",
        "image_id": path,
        "path": path,
        "patient_id": patient_id,
        "study_id": parts[1] + "/" + parts[2],
        "view": labels["AP/PA"].where(labels["Frontal/Lateral"] == "Frontal", "Lateral"),
        "sex": labels["Sex"].map({"Female": "F", "Male": "M"}),
        "age_years": labels["Age"].where(labels["Age"] > 0).astype("float32"),
        "split": patient_id.map(fractions).lt(VALID_FRACTION).map({True: "valid", False: "train"}),
        "width": pd.Series(pd.NA, index=labels.index, dtype="Int32"),
        "height": pd.Series(pd.NA, index=labels.index, dtype="Int32"),
    }
    word_of = {finding: word for word, finding in VOCABULARY.finding_of.items()}
    columns |= {finding: labels[word_of[finding]].astype("Int8") for finding in VOCABULARY.findings}
    return pd.DataFrame(columns)


def main() -> None:
    """Write the peer's manifest and print its seconds, CPU seconds and peak memory."""
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    peer_table(Path(sys.argv[1])).to_parquet(sys.argv[2], compression="zstd", index=False)
    print(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s, peak_memory_bytes())


if __name__ == "__main__":
    main()
