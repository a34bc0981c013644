"""What the demo compares, as the TOML of `cxr-train compare`; the settings that all methods share are in demo.toml."""

import json
from pathlib import Path

from trainer.compare.presets import ABLATION
from trainer.recipe_text import settings_lines
from trainer.sections import Values

RECIPE = Path(__file__).with_name("demo.toml")
"""Settings of every training."""

MIN_POSITIVES = 20
"""Findings with fewer positives among the clean test labels are in no mean: their AUROC is mostly chance."""

NUM_LAB_IMAGES = 1000
"""Training images on which each epoch tells how many wrong labels are learned by heart."""

BASELINE = "BCE + EMA"

METHODS: dict[str, Values] = {
    name: ABLATION[name] for name in ("BCE", BASELINE, "NVUM elementwise", "NVUM inner product")
}
"""Name -> settings in which the methods differ."""

CLEAN = "BCE + EMA, clean labels"
"""The bound that no method on noisy labels can be expected to pass; trained only where it is asked for."""


def comparison_toml(*, out: Path, pack: Path, clean: Path, seed: int, num_epochs: int, clean_reference: bool) -> str:
    """Return the comparison of the demo.

    Args:
        out: folder of the comparison.
        pack: the pack with the noisy labels.
        clean: manifest of the clean labels: those of the test, and of the curves of what is learned by heart.
        seed: of all trainings.
        num_epochs: of each.
        clean_reference: whether a model is trained on the clean labels too.
    """
    # As one types it in the project's root, where the command that is shown can be typed again.
    recipe = RECIPE.relative_to(Path.cwd()) if RECIPE.is_relative_to(Path.cwd()) else RECIPE
    lines = ["[compare]", f"out = {_text(out)}", f"seeds = [{seed}]", f"baseline = {_text(BASELINE)}"]
    lines += [f"reference = {_text(CLEAN)}"] if clean_reference else []
    lines += [f"min_positives = {MIN_POSITIVES}", "", "[base]", f"recipe = {_text(recipe)}", "[base.run]"]
    lines += [f"epochs = {num_epochs}", "[base.lab]", f"clean_labels = {_text(clean)}"]
    lines += [f"num_images = {NUM_LAB_IMAGES}", "", "[[data]]", 'name = "films"', f"pack = {_text(pack)}", ""]
    lines += ["[[test]]", 'name = "clean labels"', f"labels = {_text(clean)}", ""]
    for name, settings in METHODS.items():
        lines += _method(name, settings)
    if clean_reference:
        lines += _method(CLEAN, METHODS[BASELINE], f"labels = {_text(clean)}")
    return "\n".join(lines)


def _method(name: str, settings: Values, *others: str) -> list[str]:
    tables = [line.replace("[", "[method.", 1) if line.startswith("[") else line for line in settings_lines(settings)]
    return ["[[method]]", f"name = {_text(name)}", *others, *tables]


def _text(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)
