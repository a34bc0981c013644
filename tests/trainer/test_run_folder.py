"""A run's folder appears whole, is found again, and belongs to one process at a time."""

import json
from pathlib import Path

import pytest

from manifests.errors import ConfigError
from manifests.workspace import Workspace
from trainer.config import TrainConfig
from trainer.events import EventLog
from trainer.run_folder import RunFolder, next_run_name, only_unfinished


def test_a_new_run_has_its_configuration(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs" / "one", TrainConfig())
    assert run.read_config() == TrainConfig()
    assert sorted(path.name for path in run.folder.iterdir()) == ["checkpoints", "config.json", "events.jsonl"]
    assert [path.name for path in run.folder.parent.iterdir()] == ["one"]


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "one", TrainConfig())
    with pytest.raises(ConfigError, match="exists already"):
        RunFolder.create(tmp_path / "one", TrainConfig())
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_names_count_on_from_the_highest(tmp_path: Path) -> None:
    assert next_run_name(tmp_path / "runs", "nih-nvum") == "nih-nvum-001"
    for name in ("nih-nvum-001", "nih-nvum-009", "nih-bce-020", "nih-nvum-x", "nih-nvum-ema-033"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert next_run_name(tmp_path / "runs", "nih-nvum") == "nih-nvum-010"


def finish(run: RunFolder) -> None:
    with EventLog(run.events_file) as log:
        log.write("end")


def test_the_only_unfinished_run_is_found(tmp_path: Path) -> None:
    workspace = Workspace(home=tmp_path)
    with pytest.raises(ConfigError, match="no unfinished run"):
        only_unfinished(workspace)
    one, two = (RunFolder.create(workspace.runs / name, TrainConfig()) for name in ("one", "two"))
    (workspace.runs / ".three.partial").mkdir()
    (workspace.runs / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"2 unfinished runs; choose one with --out:\n  .*one\n  .*two"):
        only_unfinished(workspace)
    finish(one)
    assert only_unfinished(workspace) == two
    finish(two)
    with pytest.raises(ConfigError, match="no unfinished run"):
        only_unfinished(workspace)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "one", TrainConfig())
    with run.lock(), pytest.raises(ConfigError, match="another process is training in this run"), run.lock():
        pass
    with run.lock():
        pass


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_broken_configuration_is_named(text: str, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "one", TrainConfig())
    run.config_file.write_text(text)
    with pytest.raises(ConfigError, match=r"config.json"):
        run.read_config()


def test_a_configuration_of_another_version_is_named(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "one", TrainConfig())
    values = json.loads(run.config_file.read_text())
    values["run"]["epoch"] = 3
    run.config_file.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"config.json: section run has no key 'epoch'; did you mean epochs\?"):
        run.read_config()
