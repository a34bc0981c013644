"""Real runs in which one thing is made ten times slower than the rest: the verdict must name it.

What is slow sleeps, so that the verdicts hold on a machine whose cores are busy with something else.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from pipeline.augment import AugmentConfig
from pipeline.loaders import reference
from tests.factories import make_pack
from tests.trainer.several_ranks import on_ranks, plain_net
from tests.trainer.tiny_runs import BCE, NVUM, settings
from trainer.cli import app
from trainer.distributed import Ranks
from trainer.ema import EMATeacher
from trainer.profile.compare import read_profile
from trainer.profile.measurements import Measurements
from trainer.profile.profile import profile
from trainer.profile.split import splits
from trainer.profile.verdict import Verdict, verdict_of
from trainer.sections import Values
from trainer.step import TrainStep

SECONDS = 4.0


@pytest.fixture(scope="module")
def tar_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tar pack of 64 images of 32 px."""
    return make_pack(tmp_path_factory.mktemp("tar"), num_images=64, pack_format="tar").folder


def slowed(work: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """`work`, after a sleep."""

    def call(*arguments: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return work(*arguments, **options)

    return call


def profiled(asked: Values, seconds: float = SECONDS) -> tuple[Measurements, Verdict]:
    with patch("trainer.state.build_model", plain_net):
        measured = profile(asked, max_seconds=seconds)
    assert measured is not None
    return measured, verdict_of(measured)


def test_throttled_storage_is_the_disk(tar_pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage without a cache: every read of an image takes 0.1 s, from two threads."""
    pread = os.pread

    def throttled(file: int, num_bytes: int, offset: int) -> bytes:
        time.sleep(0.1)
        return pread(file, num_bytes, offset)

    monkeypatch.setattr("os.pread", throttled)
    _, verdict = profiled(settings(tar_pack, BCE, loader={"backend": "dali", "batch_size": 4}))
    assert verdict.cause == "DISK"
    assert verdict.repair.images_per_s > 3 * verdict.images_per_s


def test_a_slow_decoder_is_decoding(tar_pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "decoded", slowed(reference.decoded, 0.02))
    _, verdict = profiled(settings(tar_pack, BCE, loader={"backend": "reference"}))
    assert verdict.cause == "DECODE"
    assert verdict.repair.options[0].startswith("cxr-prep pack --format raw")
    assert verdict.repair.images_per_s > 3 * verdict.images_per_s


def test_a_sleep_in_the_step_is_computing(tiny_pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EMATeacher, "update", slowed(EMATeacher.update, 0.1))
    measured, verdict = profiled(settings(tiny_pack, NVUM))
    assert verdict.cause == "COMPUTE"
    assert "if the part optimiser + EMA cost nothing" in f"if {verdict.repair.assumption}"
    assert verdict.repair.bound == "at least", "it waits"
    for split in splits([measured.ranks[0].epoch]):
        assert split.parts["optimiser + EMA"].p50_s >= 0.1


def test_a_huge_augmentation_is_augmenting(tiny_pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn takes a tenth of a second; what is not augmented does not."""
    from trainer import step
    from trainer.profile import stages

    for module in (step, stages):
        monkeypatch.setattr(module, "augment_params", slowed(module.augment_params, 0.1))
    _, verdict = profiled(settings(tiny_pack, BCE))
    assert (verdict.cause, verdict.repair.bound) == ("AUGMENT", "at least")
    assert verdict.repair.images_per_s > 3 * verdict.images_per_s


def _slow_rank(ranks: Ranks, asked: Values) -> Measurements | None:
    """Profile while rank 1 sleeps before each forward pass."""
    logits = TrainStep._student_logits
    with (
        patch.object(TrainStep, "_student_logits", slowed(logits, 0.3) if ranks.rank == 1 else logits),
        patch("trainer.state.build_model", plain_net),
    ):
        return profile(asked, max_seconds=SECONDS, ranks=ranks)


def test_a_sleep_in_one_of_two_ranks_is_a_straggler(tiny_pack: Path, tmp_path: Path) -> None:
    measured, nothing = on_ranks(2, tmp_path / "ranks", _slow_rank, settings(tiny_pack, BCE, loader={"batch_size": 4}))
    assert nothing is None
    verdict = verdict_of(measured)
    assert (verdict.cause, verdict.rank) == ("STRAGGLER", 1)
    assert verdict.evidence[1].endswith("most of it in: forward.")
    assert verdict.repair.images_per_s > 2 * verdict.images_per_s


def test_the_command_writes_page_and_json_and_fails_on_a_regression(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run's folder is made; a profile that is compared with one ten times as fast ends with exit code 1."""
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    command = ["profile", "--pack", str(tiny_pack), "--model", "small", "--loss", "bce", "--set", "run.device=cpu"]
    command += ["--set", "run.num_threads=1", "--max-seconds", "2"]
    first = CliRunner().invoke(app, [*command, "--json", "fast.json"], catch_exceptions=False)
    assert first.exit_code == 0
    assert "bound by COMPUTE" in first.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fast.json", "profile.html"]
    assert read_profile(tmp_path / "fast.json").num_train == 30

    again = [*command, "--set", "ema.enabled=on", "--compare", "fast.json"]
    refused = CliRunner().invoke(app, again)
    assert "teacher False and True" in str(refused.exception)
    monkeypatch.setattr(TrainStep, "_backward", slowed(TrainStep._backward, 0.5))
    slower = CliRunner().invoke(app, [*command, "--compare", "fast.json"], catch_exceptions=False)
    assert slower.exit_code == 1
    assert "SLOWER by more than 10%" in slower.stdout


def test_what_cannot_be_profiled_is_refused_before_anything_is_measured(tiny_pack: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["--max-seconds", "1"], "--max-seconds 1: expected 2 or more"),
        (["--tolerance", "x"], "--tolerance x: expected a share"),
        (["--compare", str(tmp_path / "none.json")], "none.json: cannot be read"),
        (["--loader", "dali"], "which the loader 'dali' does not read"),
    ):
        result = CliRunner().invoke(app, ["profile", "--pack", str(tiny_pack), "--model", "small", *arguments])
        assert message in str(result.exception)


def test_a_constant_batch_can_be_profiled_too(tiny_pack: Path) -> None:
    measured, verdict = profiled(
        settings(tiny_pack, BCE, loader={"backend": "synthetic"}, step={"accumulate": 2}), seconds=2.0
    )
    assert verdict.cause == "COMPUTE"
    assert set(measured.ranks[0].stages) == {"normalise", "augment"}
    assert measured.subject.augmented
    assert AugmentConfig() != AugmentConfig.none()
