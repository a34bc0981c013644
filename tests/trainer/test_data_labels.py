"""A run trains and validates on the labels of another manifest, and on no others unnoticed."""

import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.errors import ConfigError, ManifestError
from tests.trainer.tiny_runs import (
    BCE,
    NVUM,
    OF_THE_PROCESS,
    before_step,
    different_leaves,
    newest_checkpoint,
    settings,
    with_column,
)
from trainer import launch
from trainer.data import TrainingData, open_training_data
from trainer.run_folder import RunFolder
from trainer.step import TrainStep


def labels_like(pack: Path, out: Path, *, changed: dict[str, dict[str, int]] | None = None) -> Path:
    """The manifest of a pack with its rows turned round; `changed`: finding -> image -> its label."""
    table = pq.read_table(pack / "manifest.parquet")
    for name, by_image in (changed or {}).items():
        before = zip(table["image_id"].to_pylist(), table[name].to_pylist(), strict=True)
        table = with_column(table, name, pa.array([by_image.get(image, value) for image, value in before], pa.int8()))
    pq.write_table(table.take(pa.array(range(table.num_rows)[::-1])), out)
    return out


def image_of(data: TrainingData, split: str, *, without: str) -> str:
    """Name of the first selected image of a split that does not bear a finding."""
    selection = data.train if split == "train" else data.valid
    column = data.space.findings.index(without)
    absent_n = selection.targets_NC[selection.sample_index_n, column] == 0
    row = int(selection.sample_index_n[absent_n][0])
    return str(data.pack.manifest().strings("image_id")[row])


def opened(pack: Path, labels: Path | None = None) -> TrainingData:
    return open_training_data(pack, space_name="nih14", prior_form="plain", labels=labels)


def selection_of(data: TrainingData) -> str:
    return data.identities(model="small", input_size_px=32).selection


def test_the_labels_that_count_are_the_other_ones_image_by_image(tiny_pack: Path, tmp_path: Path) -> None:
    own = opened(tiny_pack)
    image = image_of(own, "train", without="Mass")
    other = opened(tiny_pack, labels_like(tiny_pack, tmp_path / "other.parquet", changed={"Mass": {image: 1}}))
    row, column = own.pack.manifest().strings("image_id").index(image), own.space.findings.index("Mass")
    expected_NC = own.train.targets_NC.copy()
    expected_NC[row, column] = 1
    assert np.array_equal(other.train.targets_NC, expected_NC)
    assert other.prior_C[column] == pytest.approx(own.prior_C[column] + 1 / own.train.num_selected)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_changed_label_of_either_split_is_another_selection(split: str, tiny_pack: Path, tmp_path: Path) -> None:
    image = image_of(opened(tiny_pack), split, without="Mass")
    same = opened(tiny_pack, labels_like(tiny_pack, tmp_path / "same.parquet"))
    changed = opened(tiny_pack, labels_like(tiny_pack, tmp_path / "changed.parquet", changed={"Mass": {image: 1}}))
    assert selection_of(same) == selection_of(opened(tiny_pack, labels_like(tiny_pack, tmp_path / "again.parquet")))
    assert selection_of(changed) != selection_of(same)


def test_images_that_the_labels_do_not_have_are_not_trained_on(tiny_pack: Path, tmp_path: Path) -> None:
    own = opened(tiny_pack)
    table = pq.read_table(tiny_pack / "manifest.parquet")
    kept = [row for row in range(table.num_rows) if row != own.train.sample_index_n[0]]
    pq.write_table(table.take(pa.array(kept)), tmp_path / "fewer.parquet")
    fewer = opened(tiny_pack, tmp_path / "fewer.parquet")
    assert fewer.train.sample_index_n.tolist() == own.train.sample_index_n[1:].tolist()
    assert fewer.train.left_out["no label of the label space"] == 1


def test_another_split_of_an_image_is_refused(tiny_pack: Path, tmp_path: Path) -> None:
    table = pq.read_table(tiny_pack / "manifest.parquet")
    splits = table["split"].to_pylist()
    row = splits.index("test")
    moved = with_column(table, "split", pa.array(["train" if i == row else split for i, split in enumerate(splits)]))
    pq.write_table(moved, tmp_path / "moved.parquet")
    image = table["image_id"][row].as_py()
    with pytest.raises(ManifestError, match=f"1 images are in another split(.|\n)*{image}: test in the pack, train"):
        opened(tiny_pack, tmp_path / "moved.parquet")
    with pytest.raises(ManifestError, match="no such manifest"):
        opened(tiny_pack, tmp_path / "nowhere.parquet")


def test_the_packs_own_labels_by_another_way_are_the_same_run(tiny_pack: Path, tmp_path: Path) -> None:
    labels = labels_like(tiny_pack, tmp_path / "same.parquet")
    launch.train(settings(tiny_pack, BCE, run={"epochs": 1}), out=tmp_path / "own")
    launch.train(settings(tiny_pack, BCE, run={"epochs": 1}, data={"labels": str(labels)}), out=tmp_path / "other")
    one, other = (newest_checkpoint(tmp_path / name)["student"] for name in ("own", "other"))
    assert all(value.equal(other[name]) for name, value in one.items())


def test_a_run_goes_on_with_its_labels_wherever_they_are_and_with_no_others(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(open_training_data(tiny_pack, space_name="nvum-nih", prior_form="plain"), "train", without="Mass")
    labels = labels_like(tiny_pack, tmp_path / "noisy.parquet", changed={"Mass": {image: 1}})
    asked = settings(tiny_pack, NVUM, data={"labels": str(labels)})
    launch.train(asked, out=tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        stop = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
        patched.setattr(TrainStep, "__call__", before_step(2, stop, TrainStep.__call__))
        launch.train(asked, out=tmp_path / "run")

    other = labels_like(tiny_pack, tmp_path / "other.parquet")
    for wrong in (str(other), "none"):
        with pytest.raises(ConfigError, match="checkpoint of another selection"):
            launch.resume({"data": {"labels": wrong}}, out=tmp_path / "run")
    moved = labels.rename(tmp_path / "moved.parquet")
    assert launch.resume({"data": {"labels": str(moved)}}, out=tmp_path / "run").finished
    assert RunFolder(folder=tmp_path / "run").read_config().data.labels == str(moved)
    ends = [newest_checkpoint(tmp_path / name) for name in ("undisturbed", "run")]
    assert different_leaves(ends[0], ends[1], besides=OF_THE_PROCESS | {"config"}) == [], "but for where the labels are"


def test_the_option_is_the_setting(tiny_pack: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from trainer.cli import app

    labels = labels_like(tiny_pack, tmp_path / "other.parquet")
    options = ["--pack", str(tiny_pack), "--labels", str(labels), "--model", "small", "--loss", "bce", "--epochs", "1"]
    result = CliRunner().invoke(app, [*options, "--set", "loader.batch_size=8", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert RunFolder(folder=tmp_path / "run").read_config().data.labels == str(labels)
