"""Exporting a run's model: its weights, programs that are held to give the same, a card and a description."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from manifests.atomic import fsync_directory, write_bytes_atomically
from manifests.errors import ConfigError
from trainer.export.card import model_card
from trainer.export.from_run import evaluations_of, model_of_run
from trainer.export.graph import graph_of
from trainer.export.image_model import ImageModel
from trainer.export.probes import largest_difference, probe_images, tells_nothing
from trainer.export.programs import require_onnx, write_program
from trainer.export.training_data import trained_on
from trainer.export.weights_file import SUFFIX, WEIGHTS_FILE, read_weights, write_weights
from trainer.report.record import RunRecord, read_record
from trainer.report.summary import method_phrase
from trainer.run_folder import RunFolder

FORMATS = ("safetensors", "pt2", "onnx")
CONFIG_FILE, CARD_FILE = "config.json", "model_card.md"


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is exported, and as what."""

    run: Path
    """Folder of the run."""

    checkpoint: str = "best"
    """`best`, `last`, or the path of a checkpoint of the run."""

    out: Path | None = None
    """Folder to make, or a .safetensors file; None: `export` in the run's folder."""

    formats: tuple[str, ...] = ("safetensors",)
    """Keys of `FORMATS`; the weights are written in any case."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            hint = "; torch deprecates TorchScript, take pt2" if unknown[0] == "torchscript" else ""
            raise ConfigError(f"--format {unknown[0]}: expected {', '.join(FORMATS)}{hint}")
        if self.is_file and set(self.formats) - {"safetensors"}:
            raise ConfigError(f"--out {self.out}: a file holds the weights only; name a folder for other formats")

    @property
    def is_file(self) -> bool:
        """Whether one file is written, and no folder."""
        return self.out is not None and self.out.suffix == SUFFIX

    @property
    def target(self) -> Path:
        """The file or folder."""
        return self.out if self.out is not None else self.run / "export"


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written."""

    files: tuple[Path, ...]
    """All of it."""

    differences: Mapping[str, float]
    """File of a program -> largest difference of a probability to the run's own model."""

    notes: tuple[str, ...] = ()
    """What a user of the files must know."""


def export(config: ExportConfig) -> ExportReport:
    """Write a run's model, whole or not at all.

    Weights are read back and compared bit by bit; a program is run on images of the run's pack, and refused where a
    probability differs by more than `LARGEST_DIFFERENCE`.

    Raises:
        ConfigError: no such run or checkpoint, something is there already, or a program that differs.
        MissingBackendError: the extra `onnx` is not installed.
        PackError: programs are asked for and the pack that they are compared on is gone.
    """
    if "onnx" in config.formats:
        require_onnx()
    target = config.target
    if target.exists():
        raise ConfigError(f"{target}: exists already; choose another --out, or delete it to export again")
    model = model_of_run(config.run, checkpoint=config.checkpoint)
    try:
        if config.is_file:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_weights(target, model)
            return ExportReport(files=(target,), differences={})
        with _whole_folder(target) as folder:
            differences, notes = _write_folder(folder, config, model, read_record(config.run))
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written ({error})") from error
    return ExportReport(files=tuple(sorted(target.iterdir())), differences=differences, notes=tuple(notes))


def _write_folder(
    folder: Path, config: ExportConfig, model: ImageModel, record: RunRecord
) -> tuple[dict[str, float], list[str]]:
    """Write everything into `folder`; return the programs' differences, and notes."""
    description = model.description
    _write_weights(folder / WEIGHTS_FILE, model)
    programs = [folder / f"model.{name}" for name in FORMATS if name in config.formats and name != "safetensors"]
    differences, notes = _write_programs(programs, config.run, model) if programs else ({}, [])
    evaluations = evaluations_of(record, description.checkpoint, description.step)
    if not evaluations:
        notes.append(
            f"the {description.checkpoint} checkpoint was not evaluated, so the model card has no numbers: run "
            "`cxr-train evaluate` first"
        )
    training = RunFolder(folder=config.run).read_config()
    card = model_card(
        description,
        trained_on(training, description),
        evaluations,
        method=method_phrase(record),
        num_parameters=sum(parameter.numel() for parameter in model.module.parameters()),
        differences=differences,
    )
    write_bytes_atomically(folder / CARD_FILE, card.encode())
    files = {path.name: _about(path, differences) for path in sorted(folder.iterdir())}
    content = description.as_values() | {"torch": torch.__version__, "files": files}
    write_bytes_atomically(folder / CONFIG_FILE, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return differences, notes


def _write_programs(files: Sequence[Path], run: Path, model: ImageModel) -> tuple[dict[str, float], list[str]]:
    """Write a program a file, each compared with the model; return the differences, and notes."""
    graph, probes_B1HW = graph_of(model), probe_images(run)
    in_float32 = replace(model, description=replace(model.description, precision="fp32"))
    expected_BC = in_float32.probs(probes_B1HW)
    differences = {}
    for file in files:
        program = write_program(file, graph, probes_B1HW[:2], model.description)
        # All at once and the first alone: the number of images is open.
        found = [program(probes_B1HW), program(probes_B1HW[:1])]
        differences[file.name] = largest_difference(found, [expected_BC, expected_BC[:1]], file)
    if tells_nothing(expected_BC):
        return differences, [
            f"every probability on {len(probes_B1HW)} images of the pack is exactly 0 or 1: the model is hardly "
            "trained, and comparing programs with it tells nothing"
        ]
    return differences, []


def _write_weights(path: Path, model: ImageModel) -> None:
    """Write the weights, and read them back."""
    state = model.module.state_dict()
    write_weights(path, state, model.description)
    again, description = read_weights(path)
    same = again.keys() == state.keys() and all(torch.equal(again[name], value) for name, value in state.items())
    if not same or description != model.description:
        raise ConfigError(f"{path}: what was written is not what is read back; is the disk damaged?")


def _about(path: Path, differences: Mapping[str, float]) -> dict[str, object]:
    content = path.read_bytes()
    about: dict[str, object] = {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if path.name in differences:
        about["largest_difference"] = differences[path.name]
    return about


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `target` when the block ends without an error, and is gone otherwise."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(target)
        fsync_directory(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
