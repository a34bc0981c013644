"""A dry run says what a run would be, and writes nothing."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from manifests.errors import ConfigError
from tests.trainer.tiny_runs import NVUM, settings
from trainer.cli import app
from trainer.config import TrainConfig
from trainer.dry_run import dry_run, report
from trainer.memory_estimate import memory_needs, peak_bytes
from trainer.models.registry import MODELS, build_model
from trainer.run_folder import RunFolder
from trainer.sections import build


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_written_and_what_is_said_is_a_recipe_of_the_same_run(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    before = files(tiny_pack)
    command = ["--pack", str(tiny_pack), "--model", "small", "--epochs", "1", "--set", "run.num_threads=1"]
    said = CliRunner().invoke(app, [*command, "--dry-run"], catch_exceptions=False)
    assert said.exit_code == 0
    assert list(tmp_path.iterdir()) == []
    assert files(tiny_pack) == before

    recipe = tmp_path / "recipe.toml"
    recipe.write_text(said.stdout)
    for name, arguments in (("asked", command), ("recipe", ["--recipe", str(recipe)])):
        CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / name)], catch_exceptions=False)
    asked, from_recipe = (RunFolder(folder=tmp_path / name).read_config() for name in ("asked", "recipe"))
    assert asked == from_recipe


def test_the_figures_are_those_of_the_run(tiny_pack: Path) -> None:
    run = dry_run(settings(tiny_pack, NVUM))
    num_params = sum(param.numel() for param in build_model("small", 14, input_size_px=32).parameters())
    assert (run.num_params, run.steps_per_epoch, run.num_steps, run.num_timed) == (num_params, 4, 8, 3)
    needs = {need.what: need.num_bytes for need in run.needs}
    assert needs["weights"] == needs["gradients"] == 4 * num_params
    assert needs["optimiser (adam)"] == 8 * num_params
    assert needs["memory of nvum"] == 64 * (2 * 14 * 4 + 1)
    assert needs["labels"] == 64 * 14 * 5
    assert needs["images"] == 8 * (32 * 32 + 4 * 32 * 32)
    assert run.needed_bytes == sum(needs.values())
    said = report(run)
    assert "# steps       4 an epoch x 2 epochs = 8\n" in said
    assert f"small, {num_params:,} parameters, 32 px" in said
    assert "fits: " in said
    assert build(TrainConfig, tomllib.loads(said), source="report") == run.config


@pytest.mark.parametrize(
    ("asked", "more", "less"),
    [
        ({"loss": {"name": "bce"}}, set(), {"teacher", "memory of nvum"}),
        ({"loss": {"name": "elr"}}, {"memory of elr"}, {"teacher"}),
        ({"loss": {"name": "bce"}, "ema": {"enabled": "on"}}, {"teacher"}, set()),
        ({"step": {"precision": "bf16"}}, {"weights in bf16", "teacher"}, set()),
        ({"loader": {"backend": "resident", "batch_size": 8}}, {"the pack"}, set()),
    ],
)
def test_what_takes_memory_follows_from_the_settings(
    asked: dict[str, dict[str, object]], more: set[str], less: set[str]
) -> None:
    sections = {"model": {"name": "small", "input_size_px": 32}, "run": {"device": "cpu"}} | asked
    config = build(TrainConfig, sections, source="test")
    names = {need.what for need in memory_needs(config, num_rows=64, num_outputs=14, pack_image_bytes=1024)}
    assert more <= names
    assert not less & names


def test_parts_and_recomputation_need_less() -> None:
    def features(**sections: dict[str, Any]) -> int:
        values: dict[str, dict[str, Any]] = {"loader": {"batch_size": 8}, "run": {"device": "cpu"}}
        values |= sections
        values["model"] = {"name": "densenet121", "input_size_px": 64} | values.get("model", {})
        config = build(TrainConfig, values, source="test")
        return memory_needs(config, num_rows=64, num_outputs=14, pack_image_bytes=1024)[-1].num_bytes

    plain = features()
    assert features(step={"accumulate": 4}) < 0.4 * plain
    assert features(model={"recompute": True}) < 0.7 * plain


def test_the_peak_of_a_chain_is_what_one_adds_up_by_hand() -> None:
    """Three squares in a row: forward keeps all four numbers of each; backward holds two gradients beside them."""

    class Chain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            one = x.exp()
            two = one.exp()
            return two.exp()

    num_bytes = 4 * 1000
    x = torch.zeros(1000, device="meta", requires_grad=True)
    peak = peak_bytes(Chain(), x)
    # Three features, the sum, its gradient seed; expanded seed is a view; then two gradients at a time.
    assert 5 * num_bytes <= peak <= 6 * num_bytes + 64


@pytest.mark.parametrize("name", MODELS)
def test_a_device_without_memory_tells_what_a_real_one_does(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 14, input_size_px=32)
    there = peak_bytes(model, torch.zeros(3, 1, 32, 32, device="meta"), has_teacher=True)
    here = peak_bytes(build_model(name, 14, input_size_px=32), torch.zeros(3, 1, 32, 32), has_teacher=True)
    assert there == here > 0


def test_what_does_not_fit_is_said_with_a_way_out(tiny_pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.dry_run.free_bytes", lambda device: 1000)
    said = report(dry_run(settings(tiny_pack, NVUM)))
    assert "DOES NOT FIT: 1000 bytes are free" in said
    assert "step.accumulate=2" in said


def test_a_dry_run_of_a_resumed_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="a dry run is of a new run"):
        CliRunner().invoke(app, ["--dry-run", "--resume"], catch_exceptions=False)
