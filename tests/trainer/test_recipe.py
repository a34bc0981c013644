"""Options win over --set, which wins over the recipe, which wins over the defaults."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given as given_by_hypothesis
from hypothesis import strategies as st

from manifests.errors import ConfigError
from pipeline.augment import AugmentConfig
from trainer.config import TrainConfig
from trainer.recipe import RECIPES, find_recipe, given, parse_assignment, read_recipe
from trainer.sections import Values, build


def resolved(
    recipe: Path | str | None = None, assignments: tuple[str, ...] = (), options: dict[str, Values] | None = None
) -> TrainConfig:
    asked = given(recipe=None if recipe is None else str(recipe), assignments=assignments, options=options or {})
    return build(TrainConfig, asked, source="test")


def test_the_later_layer_wins(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[run]\nepochs = 5\nseed = 5\nlog_every_steps = 5\n[optim]\nlr = 0.5\n")
    option: dict[str, Values] = {"--epochs": {"run": {"epochs": 7}}}
    config = resolved(recipe, ("run.epochs=6", "run.seed=6"), option)
    assert (config.run.epochs, config.run.seed, config.run.log_every_steps) == (7, 6, 5)
    assert config.optim.lr == 0.5
    assert config.run.num_threads == TrainConfig().run.num_threads


def test_an_augmentation_recipe_stands_for_its_values_and_others_come_on_top(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[augment]\nrotation_degrees = 5.0\nrecipe = "chexpert"\n')
    assert resolved(recipe).augment == replace(AugmentConfig.chexpert(), rotation_degrees=5.0)
    assert resolved(recipe, ("augment.recipe=none",)).augment == AugmentConfig.none()
    assert resolved(recipe, ("augment.recipe=nih", "augment.translation=0.5")).augment == AugmentConfig(translation=0.5)


@pytest.mark.parametrize("text", ["[augment]\nrecipe = 3\n", '[augment]\nrecipe = "nhi"\n'])
def test_an_augmentation_recipe_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.toml: augment: recipe = .*, expected one of: none, nih, chexpert"):
        resolved(recipe)


def test_of_two_assignments_the_last_wins() -> None:
    assert resolved(assignments=("run.seed=1", "run.seed=2")).run.seed == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-4", 1e-4),
        ("true", True),
        ("[0.9, 0.99]", [0.9, 0.99]),
        ('"bce"', "bce"),
        ("bce", "bce"),
        ("none", "none"),
        ("/a/b.pth", "/a/b.pth"),
        ("a=b", "a=b"),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_a_value_is_toml_or_else_a_bare_word(text: str, value: object) -> None:
    assert parse_assignment(f"section.key={text}") == {"section": {"key": value}}


@given_by_hypothesis(st.text())
def test_any_text_is_a_value_and_never_more_than_one(text: str) -> None:
    assert list(parse_assignment(f"section.key={text}")["section"]) == ["key"]


@pytest.mark.parametrize("assignment", ["reg_weight=0.5", "loss.reg_weight", "=1", ".key=1", "section.=1", ""])
def test_an_assignment_of_another_form_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section.key=value, as in --set loss.reg_weight=0.5"):
        parse_assignment(assignment)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"assignments": ("los.reg_weight=1",)}, "--set los.reg_weight=1: no section 'los'; did you mean loss?"),
        ({"assignments": ("loss.reg_wieght=1",)}, "has no key 'reg_wieght'; did you mean reg_weight?"),
        ({"assignments": ("optim.lr=fast",)}, "optim.lr: found 'fast' (a string), expected a number"),
        ({"options": {"--epochs": {"run": {"epochs": "ten"}}}}, "--epochs: run.epochs: found 'ten'"),
        (
            {"recipe": "nvum-nhi"},
            "no such file and no such recipe; did you mean nvum-nih? (there are: nvum-cxp, nvum-nih, ",
        ),
    ],
)
def test_an_error_names_its_source(asked: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolved(**asked)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_recipe_that_is_not_toml_is_refused_with_the_place(tmp_path: Path) -> None:
    recipe = tmp_path / "broken.toml"
    recipe.write_text("[run]\nepochs = = 3\n")
    with pytest.raises(ConfigError, match=r"broken.toml: not TOML: .*line 2"):
        read_recipe(recipe)


def test_an_error_in_a_recipe_names_its_file(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[run]\nepoch = 3\n")
    with pytest.raises(ConfigError, match=r"mine.toml: section run has no key 'epoch'; did you mean epochs\?"):
        resolved(recipe)


SHIPPED = sorted(path.stem for path in RECIPES.glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_resolves_by_name_and_says_command_hardware_and_result(name: str) -> None:
    resolved(name)
    header = [line for line in find_recipe(name).read_text().splitlines() if line.startswith("#")]
    for word in ("command", "hardware", "expected"):
        assert any(line.startswith(f"# {word} ") for line in header), word
    assert any(f"--recipe {name}" in line for line in header)


def test_the_authors_settings_for_nih() -> None:
    config = resolved("nvum-nih")
    assert (config.model.name, config.model.pretrained, config.model.input_size_px) == ("densenet121", "imagenet", 512)
    assert (config.loader.batch_size, config.run.epochs) == (16, 30)
    assert (config.optim.name, config.optim.lr, config.optim.betas, config.optim.eps) == (
        "adam",
        0.05,
        (0.9, 0.99),
        0.1,
    )
    assert (config.schedule.name, config.schedule.milestones, config.schedule.gamma) == ("step", (0.7, 0.9), 0.1)
    assert (config.augment.crop_scale, config.augment.flip_probability) == ((0.2, 1.0), 0.5)
    assert (config.loss.memory_decay, config.loss.prior_temperature, config.ema.decay) == (0.9, 1.0, 0.99)
    assert config.step.precision == "fp16"


def test_the_authors_settings_for_chexpert() -> None:
    config = resolved("nvum-cxp")
    assert config.data.label_space == "nvum-cxp"
    assert (config.model.input_size_px, config.loader.batch_size, config.run.epochs) == (224, 64, 40)
    assert (config.optim.lr, config.augment.rotation_degrees, config.augment.translation) == (1e-4, 10.0, 0.1)
