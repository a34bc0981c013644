"""`cxr-train` as a person types it: defaults, messages, exit codes, signals."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest
from typer.testing import CliRunner, Result

from manifests.errors import ConfigError
from pipeline.errors import PackError
from tests.trainer.tiny_runs import before_step, newest_checkpoint, own_events
from trainer.cli import app
from trainer.events import read_events
from trainer.run_folder import RunFolder
from trainer.step import TrainStep

SHORT = ["--model", "small", "--set", "loader.batch_size=8", "--set", "run.num_threads=1"]

PATIENCE_S = 120.0


@pytest.fixture
def workspace(tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with one pack, current."""
    home = tmp_path / "my home"  # a command that is printed must be one that can be pasted
    shutil.copytree(tiny_pack, home / "packs" / "nih-32-raw")
    monkeypatch.setenv("CXR_HOME", str(home))
    return home


def cxr_train(*arguments: str) -> Result:
    """Run the command line in this process; what it raises is raised here."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_the_short_way_makes_numbered_runs_of_the_only_pack(workspace: Path) -> None:
    for number in ("001", "002"):
        result = cxr_train(*SHORT, "--epochs", "1")
        run = workspace / "runs" / f"nih-32-raw-nvum-small-{number}"
        assert (result.exit_code, run.is_dir()) == (0, True)
        assert f"report: {run / 'report.html'}" in result.stdout
        assert (run / "report.html").is_file()
        assert f"next: cxr-train evaluate --run {shlex.quote(str(run))}\n" in result.stdout
    assert cxr_train(*SHORT, "--epochs", "1", "--loss", "bce").exit_code == 0
    assert cxr_train(*SHORT, "--epochs", "1", "--loss", "bce", "--set", "ema.enabled=on").exit_code == 0
    names = sorted(path.name for path in (workspace / "runs").iterdir())
    assert names[:2] == ["nih-32-raw-bce-ema-small-001", "nih-32-raw-bce-small-001"]


def test_every_option_reaches_the_configuration(workspace: Path, tmp_path: Path) -> None:
    pack, out = workspace / "packs" / "nih-32-raw", tmp_path / "deep" / "run"
    arguments = [
        "--loader",
        "reference",
        "--pack",
        str(pack),
        "--label-space",
        "nih14",
        "--model",
        "small",
        "--loss",
        "bce",
    ]
    result = cxr_train(*arguments, "--epochs", "1", "--recipe", "small-cpu", "--set", "run.seed=3", "--out", str(out))
    assert result.exit_code == 0
    config = RunFolder(folder=out).read_config()
    assert (config.loader.backend, config.data.pack, config.data.label_space) == ("reference", str(pack), "nih14")
    assert (config.model.name, config.loss.name, config.run.epochs, config.run.seed) == ("small", "bce", 1, 3)
    assert (config.loader.batch_size, config.schedule.warmup_epochs) == (32, 0.5), "of the recipe"


def test_without_a_pack_the_command_to_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    with pytest.raises(PackError, match="run `cxr-prep pack"):
        cxr_train()


def test_two_packs_are_listed(workspace: Path) -> None:
    shutil.copytree(workspace / "packs" / "nih-32-raw", workspace / "packs" / "nih-32-again")
    with pytest.raises(PackError, match=r"2 packs; choose one with --pack\n(.|\n)*nih-32-again(.|\n)*nih-32-raw"):
        cxr_train()


def test_options_of_training_before_a_subcommand_are_refused(workspace: Path) -> None:
    with pytest.raises(ConfigError, match="--epochs, --set before evaluate: options of training"):
        cxr_train("--set", "run.seed=1", "--epochs", "3", "evaluate", "--run", "nowhere")


def test_an_unknown_subcommand_is_refused(workspace: Path) -> None:
    result = cxr_train("evalute")
    assert result.exit_code == 2
    assert "evalute" in result.output
    assert not (workspace / "runs").exists()


def test_a_mistake_is_one_line_and_exit_code_2(workspace: Path) -> None:
    command = [sys.executable, "-m", "trainer.cli", *SHORT, "--set", "optim.wieght_decay=1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        "error: --set optim.wieght_decay=1: section optim has no key 'wieght_decay'; did you mean weight_decay?"
    )
    assert not (workspace / "runs").exists()


def test_sigterm_writes_a_checkpoint_and_names_the_way_on(workspace: Path) -> None:
    run = workspace / "runs" / "nih-32-raw-nvum-small-001"
    command = [sys.executable, "-m", "trainer.cli", *SHORT, "--epochs", "100000", "--set", "run.log_every_steps=1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    give_up = monotonic() + PATIENCE_S
    while process.poll() is None and monotonic() < give_up:
        if (run / "events.jsonl").exists() and any(event["event"] == "epoch" for event in own_events(run)):
            break
        sleep(0.01)
    process.terminate()
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert f"cxr-train --resume --out {shlex.quote(str(run))}" in stdout
    assert "epoch 1/100000: loss" in stderr, "no terminal: a plain line an epoch"
    *_, last = read_events(run / "events.jsonl")
    assert last["event"] == "stop"
    assert last["signal"] == "SIGTERM"
    assert newest_checkpoint(run)["cursor"]["step"] == last["step"]


def test_resume_auto_starts_goes_on_and_leaves_what_is_finished(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = workspace / "runs" / "job"
    command = [*SHORT, "--epochs", "1", "--out", str(run), "--resume", "auto"]
    with monkeypatch.context() as patched:
        stop = lambda: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        patched.setattr(TrainStep, "__call__", before_step(1, stop, TrainStep.__call__))
        result = cxr_train(*command)
    assert (result.exit_code, result.stdout) == (
        0,
        f"stopped; go on with: cxr-train --resume --out {shlex.quote(str(run))}\n",
    )
    assert cxr_train(*command).exit_code == 0
    events = [event["event"] for event in read_events(run / "events.jsonl") if event["event"] != "warning"]
    assert events == ["start", "stop", "resume", "epoch", "end"]
    before = (run / "events.jsonl").read_bytes()
    assert cxr_train(*command).exit_code == 0
    assert "this run is finished" in caplog.text
    assert (run / "events.jsonl").read_bytes() == before
    with pytest.raises(ConfigError, match=r"run\.epochs=2: the run .* was begun with 1"):
        cxr_train(*command, "--epochs", "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "auto"], "--resume auto needs --out DIR"),
        (["--resume=always"], "--resume=always: expected --resume alone, or --resume auto"),
    ],
)
def test_a_resume_that_makes_no_sense_is_refused(arguments: list[str], message: str, workspace: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        cxr_train(*SHORT, *arguments)
    assert not (workspace / "runs").exists()


def test_resume_finds_the_unfinished_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ctrl_c() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "__call__", before_step(1, ctrl_c, TrainStep.__call__))
        assert cxr_train(*SHORT, "--epochs", "1").exit_code == 128 + signal.SIGINT
    result = cxr_train("--resume")
    run = workspace / "runs" / "nih-32-raw-nvum-small-001"
    assert result.exit_code == 0
    assert f"next: cxr-train evaluate --run {shlex.quote(str(run))}\n" in result.stdout
    assert own_events(run)[-1]["event"] == "end"
    with pytest.raises(ConfigError, match="no unfinished run"):
        cxr_train("--resume")
