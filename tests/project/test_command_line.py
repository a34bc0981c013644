"""The command lines are frozen: a new option, a new name or a new command changes this file, on purpose."""

import subprocess
import sys

import pytest
import typer

import pipeline.cli
import trainer.cli

CXR_PREP = {
    "": [],
    "build-manifest": [
        "--dataset", "--root", "--out", "--images", "--allow-missing-images", "--seed", "--valid-fraction",
        "--preset", "--option",
    ],
    "merge": ["FILE FILE...", "--out"],
    "inject-noise": [
        "MANIFEST", "--out", "--sensitivity", "--ppv", "--finding", "--co-occurrence", "--patient-correlation",
        "--split", "--seed",
    ],
    "stats": ["FILE", "--json", "--against-expert", "--html"],
    "pack": [
        "--manifest", "--root", "--split", "--format", "--size", "--resize", "--bits", "--exact", "--image",
        "--quality", "--colour", "--with-targets", "--max-rejects", "--out", "--workers", "--engine", "--resume",
        "--verify", "--shard-range", "--finish",
    ],
    "verify": ["DIR", "--decode"],
    "info": ["DIR", "--contact-sheet", "--seed"],
    "datasets": ["NAME"],
    "label-space": [],
    "label-space list": [],
    "label-space show": ["NAME", "--dataset"],
}  # fmt: skip

CXR_TRAIN = {
    "": [
        "--loader", "--pack", "--labels", "--label-space", "--model", "--loss", "--epochs", "--recipe", "--no-verify",
        "--on-corrupt", "--set", "--resume", "--out", "--dry-run",
    ],
    "evaluate": [
        "--run", "--pack", "--split", "--labels", "--expert", "--checkpoint", "--loader", "--batch-size", "--device",
        "--bootstrap", "--resampling", "--against", "--min-positives", "--sensitivity", "--specificity",
    ],
    "compare": ["FILE|NAME", "--out", "--jobs", "--restart", "--dry-run", "--report-only"],
    "suspects": ["--run", "--top", "--finding", "--clean", "--source", "--device"],
    "export": ["--run", "--out", "--format", "--checkpoint"],
    "predict": [
        "IMAGES", "--run", "--manifest", "--root", "--split", "--out", "--thresholds", "--strict", "--checkpoint",
        "--batch-size", "--workers", "--device",
    ],
    "profile": [
        "--loader", "--pack", "--label-space", "--model", "--loss", "--epochs", "--recipe", "--set", "--max-seconds",
        "--json", "--html", "--compare", "--tolerance",
    ],
}  # fmt: skip


def parameters(app: typer.Typer) -> dict[str, list[str]]:
    """Command -> its options and arguments in their order; the bare command under the empty name."""
    group = typer.main.get_command(app)
    commands = {"": group, **getattr(group, "commands", {})}
    for name, command in [*commands.items()]:
        if name:
            commands |= {f"{name} {inner}": found for inner, found in getattr(command, "commands", {}).items()}
    return {
        name: [_shown(parameter) for parameter in command.params if "--help" not in parameter.opts]
        for name, command in commands.items()
    }


def _shown(parameter: object) -> str:
    """An option by its names, an argument by its metavar."""
    opts: list[str] = getattr(parameter, "opts", [])
    if opts and opts[0].startswith("-"):
        return "/".join(opts)
    return str(getattr(parameter, "metavar", "")).strip("[]")


def test_cxr_prep_has_these_commands_and_options() -> None:
    assert parameters(pipeline.cli.app) == CXR_PREP


def test_cxr_train_has_these_commands_and_options() -> None:
    assert parameters(trainer.cli.app) == CXR_TRAIN


@pytest.mark.parametrize("module", ["pipeline.cli", "trainer.cli"])
def test_help_needs_none_of_the_heavy_packages(module: str) -> None:
    heavy = "{'torch', 'polars', 'pyarrow', 'numpy', 'PIL', 'matplotlib', 'sklearn'}"
    program = f"import sys, {module}; print(sorted({heavy} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "examples"),
    [
        ("pipeline.cli", ["cxr-prep build-manifest --dataset nih --root DIR", "cxr-prep pack"]),
        (
            "trainer.cli",
            ["cxr-train --recipe nvum-nih", "--set optim.lr=1e-4", "cxr-train --resume", "cxr-train evaluate"],
        ),
    ],
)
def test_help_teaches_by_examples(module: str, examples: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200", "TERM": "dumb"},
    )
    for example in examples:
        assert example in result.stdout
