"""A checkpoint is whole, ours, and of the same run, or it is refused in one line."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from manifests.errors import ConfigError
from trainer.checkpoint import (
    FORMAT,
    SCHEMA_VERSION,
    CheckpointFolder,
    Identities,
    identities_as_values,
    read_checkpoint,
    write_checkpoint,
)

OURS = Identities(
    model="small",
    input_size_px=32,
    pack="a" * 64,
    label_space="nvum-nih",
    findings=("Mass", "Hernia"),
    selection="b" * 64,
    prior=(0.1, 0.2),
    order_version=1,
)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.pt"
    write_checkpoint(path, {"student": {"weight": torch.arange(3.0)}, "cursor": {"epoch": 1}})
    content = read_checkpoint(path)
    assert torch.equal(content["student"]["weight"], torch.arange(3.0))
    assert content["cursor"] == {"epoch": 1}
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


class Evil:
    """What a hostile file would run when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable checkpoint"),
        (b"<html>not found</html>", "not a readable checkpoint"),
        ({"weight": torch.zeros(1)}, "not a checkpoint of cxr-train"),
        ([1, 2, 3], "not a checkpoint of cxr-train"),
        (
            {"format": FORMAT, "schema_version": SCHEMA_VERSION + 1},
            "checkpoint of schema version 2, this program reads 1",
        ),
        ({"format": FORMAT, "evil": Evil()}, "not a readable checkpoint"),
    ],
)
def test_a_foreign_file_is_refused_in_one_line(
    content: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "step-00000001.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError) as error:
        read_checkpoint(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value), "torch's advice to run the file's code is not passed on"
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_part_of_a_checkpoint_is_refused(share: float, tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.pt"
    write_checkpoint(path, {"student": {"weight": torch.zeros(1000)}})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ConfigError, match="not a readable checkpoint"):
        read_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"best.pt: no such checkpoint"):
        read_checkpoint(tmp_path / "best.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "densenet121"}, "another model: found densenet121, this run has small"),
        ({"input_size_px": 64}, "another input size px: found 64, this run has 32"),
        ({"pack": "c" * 64}, "another pack: found ccc"),
        ({"label_space": "nih14"}, "another label space: found nih14, this run has nvum-nih"),
        ({"findings": ("Hernia", "Mass")}, "another findings: found ('Hernia', 'Mass')"),
        ({"selection": "c" * 64}, "another selection: found ccc"),
        ({"prior": (0.1, 0.25)}, "another prior: found (0.1, 0.25), this run has (0.1, 0.2)"),
        ({"order_version": 2}, "another order version: found 2, this run has 1"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_naming_what(change: dict[str, Any], message: str) -> None:
    OURS.check(identities_as_values(OURS), Path("a.pt"))
    with pytest.raises(ConfigError) as error:
        OURS.check(identities_as_values(replace(OURS, **change)), Path("a.pt"))
    assert message in str(error.value)
    assert str(error.value).startswith("a.pt: ")
    assert "\n" not in str(error.value)


def test_newest_comes_first_also_beyond_eight_digits(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for name in ("step-00000009.pt", "step-100000000.pt", "step-00000010.pt", "best.pt", "step-12.pt", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in folder.newest_first()] == [
        "step-100000000.pt",
        "step-00000010.pt",
        "step-00000009.pt",
    ]


def test_the_old_goes_only_after_the_new_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        folder.write(step, {"cursor": {"step": step}})

    def full(*arguments: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(ConfigError, match="No space left on device"):
            folder.write(3, {"cursor": {"step": 3}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001.pt", "step-00000002.pt"]
    folder.write(3, {"cursor": {"step": 3}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002.pt", "step-00000003.pt"]
