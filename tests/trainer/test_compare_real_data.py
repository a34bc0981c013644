"""Four methods and two seeds on real films, through the commands: released labels, experts' findings, suspects."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from manifests.expert import read_expert_file
from trainer.compare.plan_file import PLANS

SHIPPED = PLANS / "nih-few-cpu.toml"


def command(module: str, *arguments: object, home: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | {"CXR_HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.soak
def test_real_films_go_through_a_comparison_with_experts_findings(real_data: Path, tmp_path: Path) -> None:
    home, experts = tmp_path / "home", next((real_data / "nih").glob("google2019*"))
    command("pipeline.cli", "build-manifest", "--dataset", "nih", "--root", real_data / "nih", home=home)
    command("pipeline.cli", "pack", "--size", 64, home=home)
    pack = home / "packs" / "nih-64-raw"
    text = SHIPPED.read_text()
    for old, new in (
        ('out = "cxr-data/comparisons/nih-few-cpu"', f'out = "{tmp_path / "out"}"'),
        ("seeds = [0, 1, 2]", "seeds = [0, 1]"),
        ("min_positives = 20", "min_positives = 5"),
        ("epochs = 20", "epochs = 2"),
        ('pack = "cxr-data/packs/nih-64-raw"', f'pack = "{pack}"'),
        ("[[method]]", f'[[test]]\nname = "experts"\nexpert = "{experts}"\n\n[[method]]'),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "plan.toml").write_text(text)
    command("trainer.cli", "compare", tmp_path / "plan.toml", "--jobs", 2, home=home)

    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [(run["is_finished"], run["num_epochs"]) for run in content["runs"]] == [(True, 2)] * 8
    tables = {(table["test"], table["checkpoint"]): table for table in content["tables"]}
    assert set(tables) == {(test, name) for test in ("test list", "experts") for name in ("best", "last")}
    rows = pl.read_parquet(pack / "manifest.parquet", columns=["image_id", "patient_id", "split"])
    seen = rows.filter(split="test").join(read_expert_file(experts), on="image_id", how="inner")
    for checkpoint in ("best", "last"):
        table = tables["experts", checkpoint]
        assert (table["num_images"], table["num_patients"]) == (len(seen), seen["patient_id"].n_unique())
        assert "Fracture" not in [finding["finding"] for finding in table["findings"]]
        for finding in table["findings"]:
            name = finding["finding"]
            patients = [seen.filter(pl.col(name) == value)["patient_id"].n_unique() for value in (1, 0)]
            assert (finding["positives"], finding["patients"]) == (seen[name].sum(), patients[0])
            assert finding["is_measured"] == (min(patients) >= 5)
            for method in table["methods"]:
                assert (name in method["findings"]) == finding["is_measured"]
                if finding["is_measured"]:
                    low, high = method["findings"][name]["auroc"]["interval"]
                    assert 0 <= low < high <= 1

    run = tmp_path / "out" / "runs" / "nih-nvum-elementwise-seed-0"
    said = command("trainer.cli", "suspects", "--run", run, "--top", 5, home=home)
    assert "opinion of the memory after 2 epochs" in said
    suspects = pl.read_parquet(run / "suspects.parquet")
    assert set(suspects["image_id"]) <= set(rows.filter(split="train")["image_id"])
    assert (run / "suspects.html").read_text().count("data:image/jpeg;base64,") == len(suspects)
