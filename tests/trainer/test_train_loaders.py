"""Training through every loader: the same losses to the bit where the pixels are the same, and what damage does."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from pipeline.errors import PackError
from pipeline.pack import Pack
from pipeline.pack_format import PackFormat
from pipeline.tar_index import read_tar_index
from tests.factories import make_pack
from tests.loader_cases import CASES_WITH_PIXELS, LOSSLESS, Case, over
from tests.trainer.tiny_runs import NVUM, OF_THE_PROCESS, different_leaves, newest_checkpoint, own_events, settings
from trainer import launch
from trainer.cli import app
from trainer.evaluation.evaluate import EvaluateConfig, evaluate
from trainer.events import read_events

SHORT = ["--model", "small", "--set", "loader.batch_size=8", "--set", "run.num_threads=1", "--epochs", "2"]


def cxr_train(*arguments: str) -> Result:
    """Run the command line in this process; what it raises is raised here."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[PackFormat, Pack]:
    """The same images in every format, every pixel kept."""
    folder = tmp_path_factory.mktemp("packs")
    packs: dict[PackFormat, Pack] = {}
    for pack_format in ("raw", "tar", "beton"):
        (folder / pack_format).mkdir()
        packs[pack_format] = make_pack(
            folder / pack_format, num_images=64, pack_format=pack_format, encoding=LOSSLESS.get(pack_format)
        )
    return packs


@pytest.fixture(scope="module")
def reference_run(packs: dict[PackFormat, Pack], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(packs, Case("reference", "raw"), tmp_path_factory.mktemp("reference") / "run")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def train(packs: dict[PackFormat, Pack], case: Case, out: Path, **loader: Any) -> Path:
    values = settings(packs[case.pack_format].folder, NVUM, loader={"backend": case.backend, "batch_size": 8, **loader})
    return launch.train(values, out=out).run


@over([case for case in CASES_WITH_PIXELS if case != Case("reference", "raw")])
def test_training_has_the_same_bits_through_every_loader(
    case: Case, packs: dict[PackFormat, Pack], reference_run: Path, tmp_path: Path
) -> None:
    run = train(packs, case, tmp_path / "run")
    assert own_events(run) == own_events(reference_run)
    besides = OF_THE_PROCESS | {"config"}
    assert different_leaves(newest_checkpoint(run), newest_checkpoint(reference_run), besides=besides) == []


@over([Case("dali", "tar"), Case("ffcv", "beton"), Case("resident", "raw")])
def test_the_command_trains_on_the_only_pack_that_the_loader_reads(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With packs as they are packed by default: a tar holds JPEGs."""
    (tmp_path / "made").mkdir()
    made = make_pack(tmp_path / "made", num_images=64, pack_format=case.pack_format)
    shutil.copytree(made.folder, tmp_path / "packs" / f"nih-32-{case.pack_format}")
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    result = cxr_train("--loader", case.backend, *SHORT)
    run = tmp_path / "runs" / f"nih-32-{case.pack_format}-nvum-small-001"
    assert result.exit_code == 0
    assert f"report: {run / 'report.html'}" in result.stdout
    evaluated = cxr_train("evaluate", "--run", str(run))
    assert evaluated.exit_code == 0
    assert (run / "metrics.json").is_file()


@over([Case("dali", "tar")])
def test_an_image_that_does_not_decode_ends_the_run_or_is_left_out(case: Case, tmp_path: Path) -> None:
    pack = make_pack(tmp_path, num_images=64, pack_format="tar")
    damage(pack, 0)  # a training row, see `patient_splits`
    command = ["--loader", case.backend, "--pack", str(pack.folder), *SHORT]
    with pytest.raises(
        PackError, match=r"sample_index 0 is damaged: its checksum is .*cxr-prep verify.*--on-corrupt skip"
    ):
        cxr_train(*command, "--out", str(tmp_path / "ends"))

    # The run that ended goes on without the image.
    resumed = cxr_train("--resume", "--out", str(tmp_path / "ends"), "--on-corrupt", "skip")
    whole = cxr_train(*command, "--out", str(tmp_path / "whole"), "--on-corrupt", "skip")
    assert (resumed.exit_code, whole.exit_code) == (0, 0)
    for run in (tmp_path / "ends", tmp_path / "whole"):
        events = list(read_events(run / "events.jsonl"))
        assert [event["num_rows_skipped"] for event in events if event["event"] == "epoch"] == [1, 1]
        (warning,) = (e["message"] for e in events if e["event"] == "warning" and "damaged" in e["message"])
        assert "1 of " in warning
        assert f"cxr-prep verify {pack.folder}" in warning


def damage(pack: Pack, sample_index: int) -> None:
    """Cut the file of a sample of a tar pack in its middle; its place and length stay."""
    index = read_tar_index(pack)
    middle = int(index.offset_N[sample_index] + index.num_bytes_N[sample_index] // 2)
    with index.files[index.shard_N[sample_index]].open("r+b") as file:
        file.seek(middle)
        file.write(bytes(int(index.num_bytes_N[sample_index]) // 2))


def test_a_flipped_bit_ends_the_run_unless_nobody_looks(tmp_path: Path) -> None:
    pack = make_pack(tmp_path, num_images=64)
    path = pack.shard_path(pack.shards[0])
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 1]))
    command = ["--pack", str(pack.folder), *SHORT]
    with pytest.raises(PackError, match=rf"{path.name}: the shard was changed .*cxr-prep verify"):
        cxr_train(*command, "--out", str(tmp_path / "ends"))
    assert cxr_train(*command, "--out", str(tmp_path / "goes-on"), "--no-verify").exit_code == 0


def test_a_damaged_image_of_the_validation_split_is_found_too(tmp_path: Path) -> None:
    """Each loader compares the samples that it reads; shards of raw packs are compared once, by the training loader."""
    pack = make_pack(tmp_path, num_images=64, pack_format="tar")
    damage(pack, 2)  # a validation row, see `patient_splits`
    command = ["--loader", "reference", "--pack", str(pack.folder), *SHORT]
    with pytest.raises(PackError, match="sample_index 2 is damaged: its checksum is"):
        cxr_train(*command, "--out", str(tmp_path / "ends"))


def test_numbers_of_the_synthetic_loader_are_said_to_mean_nothing(
    packs: dict[PackFormat, Pack], tmp_path: Path
) -> None:
    cautions = {}
    for backend in ("synthetic", "raw"):
        run = train(packs, Case(backend, "raw"), tmp_path / backend)
        trained = [event["message"] for event in read_events(run / "events.jsonl") if event["event"] == "warning"]
        measured = evaluate(EvaluateConfig(run=run)).warnings
        cautions[backend] = [sum("reads no pixel" in text for text in texts) for texts in (trained, measured)]
    assert cautions == {"synthetic": [1, 1], "raw": [0, 0]}
