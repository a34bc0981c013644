"""A comparison's TOML: what it plans, and what it refuses with the place and the repair."""

from pathlib import Path

import pytest

from manifests.errors import ConfigError
from trainer.compare.plan import Plan, slug
from trainer.compare.plan_file import PLANS, read_plan
from trainer.compare.presets import PRESETS
from trainer.config import TrainConfig
from trainer.recipe import read_recipe
from trainer.recipe_text import recipe_text
from trainer.sections import Values, build

METHODS = """
[[method]]
name = "BCE"
[method.loss]
name = "bce"

[[method]]
name = "NVUM"
[method.optim]
lr = 0.3
"""


@pytest.fixture
def plan_of(tmp_path: Path):  # type: ignore[no-untyped-def]
    def read(text: str, *, compare: str = 'out = "out"', methods: str = METHODS) -> Plan:
        file = tmp_path / "plan.toml"
        file.write_text(f"[compare]\n{compare}\n{text}\n{methods}")
        return read_plan(str(file))

    return read


def test_every_data_set_method_and_seed_once_and_seed_by_seed(plan_of) -> None:  # type: ignore[no-untyped-def]
    plan = plan_of('[[data]]\nname = "NIH"\n[[data]]\nname = "CheXpert"', compare='out = "out"\nseeds = [3, 1]')
    runs = list(plan.runs())
    assert [run.name for run in runs[:4]] == [
        "nih-bce-seed-3", "nih-nvum-seed-3", "chexpert-bce-seed-3", "chexpert-nvum-seed-3",
    ]  # fmt: skip
    assert len({run.name for run in runs}) == len(runs) == 8
    assert {run.seed: run.settings["run"]["seed"] for run in runs} == {3: 3, 1: 1}
    assert plan.baseline == "BCE"
    assert runs[0].folder == Path("out/runs/nih-bce-seed-3")


def test_a_later_layer_wins(plan_of) -> None:  # type: ignore[no-untyped-def]
    plan = plan_of(
        """
        [base]
        recipe = "small-cpu"
        [base.optim]
        lr = 0.1
        [base.augment]
        recipe = "nih"
        [[data]]
        name = "a"
        pack = "A"
        labels = "clean.parquet"
        label_space = "nih14"
        [data.loader]
        batch_size = 7
        """
    )
    bce, nvum = (run.settings for run in list(plan.runs())[:2])
    assert (bce["optim"]["lr"], nvum["optim"]["lr"]) == (0.1, 0.3)
    assert bce["loader"]["batch_size"] == 7  # small-cpu has 32
    assert bce["run"]["epochs"] == read_recipe(Path("trainer/recipes/small-cpu.toml"))["run"]["epochs"]
    assert bce["data"] == {"pack": "A", "labels": "clean.parquet", "label_space": "nih14"}
    assert bce["augment"]["crop_scale"] == (0.2, 1.0)  # spelt out, in place of the recipe's


def test_a_preset_is_its_methods_and_one_of_them_may_be_replaced(plan_of) -> None:  # type: ignore[no-untyped-def]
    plan = plan_of(
        "", methods='[[method]]\npreset = "ablation"\n[[method]]\nname = "GCE"\n[method.loss]\nname = "gce"\n'
    )
    assert [method.name for method in plan.methods] == list(PRESETS["ablation"])
    assert len(plan.methods) == 10
    assert plan.methods[-1].settings == {"loss": {"name": "gce"}}


@pytest.mark.parametrize("name", sorted(PRESETS["ablation"]))
def test_every_method_of_the_ablation_is_a_configuration_and_says_whether_it_has_a_teacher(name: str) -> None:
    settings = PRESETS["ablation"][name]
    config = build(TrainConfig, settings, source=name)
    assert config.ema.enabled == ("on" if "EMA" in name or ("NVUM" in name and "teacher" not in name) else "off")


@pytest.mark.parametrize("file", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_comparisons_are_found_by_name_and_every_run_is_a_configuration(file: Path) -> None:
    plan = read_plan(file.stem)
    for run in plan.runs():
        build(TrainConfig, run.settings, source=run.name)


@pytest.mark.parametrize(
    ("text", "compare", "methods", "message"),
    [
        ("[[dta]]\nname = 'x'", "out = 'o'", METHODS, "no section 'dta'; did you mean data"),
        ("", "out = 'o'\nseed = [1]", METHODS, "section compare has no key 'seed'; did you mean seeds"),
        ("", "seeds = [1]", METHODS, "compare.out=''"),
        ("", "out = 'o'\nseeds = [1, 1]", METHODS, "each of them once"),
        ("", "out = 'o'\nseeds = []", METHODS, "at least one"),
        ("", "out = 'o'\nseeds = 3", METHODS, "expected a list of which each item is a whole number"),
        ("", "out = 'o'\nbootstrap = 5", METHODS, "at least 100"),
        ("", "out = 'o'\ncheckpoints = ['first']", METHODS, "one of best, last"),
        ("", "out = 'o'\nbaseline = 'BCD'", METHODS, "no such method; did you mean BCE"),
        ("", "out = 'o'\nreference = 'BCE'", METHODS, "is the baseline"),
        ("[base.run]\nseed = 4", "out = 'o'", METHODS, r"\[base\] sets run.seed"),
        ("[base.optim]\nlearning = 4", "out = 'o'", METHODS, r"\[base\]: section optim has no key 'learning'"),
        ("[base]\nrecipe = 'small'", "out = 'o'", METHODS, "no such recipe; did you mean small-cpu"),
        ("[data]\nname = 'x'", "out = 'o'", METHODS, r"write \[\[data\]\] above"),
        ("[[data]]\npack = 'x'", "out = 'o'", METHODS, r"\[\[data\]\] number 1: expected a name"),
        ("[[data]]\nname = 'a'\n[[data]]\nname = 'A'", "out = 'o'", METHODS, "one name as a folder"),
        ("[[test]]\nsplit = 'tests'", "out = 'o'", METHODS, r"\[\[test\]\] number 1.*did you mean test\?"),
        ("[[test]]\nname = 'x'\n[[test]]\nname = 'y'", "out = 'o'", METHODS, "tells evaluations apart"),
        ("", "out = 'o'", "", "no method"),
        ("", "out = 'o'", METHODS + METHODS, "one name as a folder"),
        ("", "out = 'o'", "[[method]]\npreset = 'all'", "no preset 'all'"),
        ("", "out = 'o'", "[[method]]\npreset = 'ablation'\nname = 'x'", "and nothing else"),
        ("", "out = 'o'", "[[method]]\nname = '!'", "with letters or digits"),
        ("[[method]", "out = 'o'", "", "not TOML"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_place(  # type: ignore[no-untyped-def]
    plan_of, text: str, compare: str, methods: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(text, compare=compare, methods=methods)


def test_a_name_that_is_no_file_and_no_comparison() -> None:
    with pytest.raises(ConfigError, match="no such file and no such comparison"):
        read_plan("nothing-of-the-kind")


def test_slugs() -> None:
    assert slug("BCE + EMA, clean labels") == "bce-ema-clean-labels"


def test_the_recipe_of_a_run_reads_back_as_its_settings(tmp_path: Path) -> None:
    settings: Values = {
        "loss": {"reg_weight": 1e-7, "name": "bce"},
        "augment": {"crop_scale": (0.2, 1.0)},
        "data": {"pack": 'a "ü" \\ b', "labels": None},
        "loader": {"verify": False},
    }
    file = tmp_path / "recipe.toml"
    file.write_text(recipe_text(settings, "of a test\nof two lines"), encoding="utf-8")
    found = build(TrainConfig, read_recipe(file), source="recipe")
    assert (found.loss.reg_weight, found.loss.name, found.augment.crop_scale) == (1e-7, "bce", (0.2, 1.0))
    assert (found.data.pack, found.data.labels, found.loader.verify) == ('a "ü" \\ b', None, False)
