"""A configuration that cannot work is refused where it is made, naming the option that repairs it."""

import ast
import inspect
import json
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from manifests.errors import ConfigError
from trainer.config import TrainConfig
from trainer.sections import as_values, build


def built(**sections: dict[str, Any]) -> TrainConfig:
    return build(TrainConfig, sections, source="test")


def test_the_defaults_are_nvum_on_nih() -> None:
    config = built()
    assert (config.data.label_space, config.model.name, config.loss.name) == ("nvum-nih", "densenet121", "nvum")
    assert config.has_teacher


@pytest.mark.parametrize(
    ("loss", "enabled", "has_teacher"),
    [
        ("nvum", "auto", True),
        ("nvum", "on", True),
        ("nvum", "off", False),
        ("bce", "auto", False),
        ("bce", "on", True),
        ("bce", "off", False),
    ],
)
def test_the_teacher_has_its_own_switch(loss: str, enabled: str, has_teacher: bool) -> None:
    assert built(loss={"name": loss}, ema={"enabled": enabled}).has_teacher is has_teacher


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"run": {"epochs": 0}}, "run.epochs=0: expected 1 or more"),
        ({"run": {"seed": -1}}, "run.seed=-1: expected 0 to 2^32 - 1"),
        ({"run": {"num_threads": -1}}, "run.num_threads=-1"),
        ({"run": {"log_every_steps": 0}}, "run.log_every_steps=0: expected 1 or more"),
        ({"run": {"checkpoint_every_steps": -1}}, "run.checkpoint_every_steps=-1"),
        ({"run": {"checkpoint_every_minutes": float("inf")}}, "run.checkpoint_every_minutes=inf"),
        ({"step": {"clip_norm": float("nan")}}, "step.clip_norm=nan: expected 0 or more"),
        ({"step": {"precision": "fp8"}}, "step.precision: found 'fp8'"),
        ({"model": {"input_size_px": -1}}, "model.input_size_px=-1"),
        (
            {"model": {"name": "small", "pretrained": "imagenet"}},
            "use --model densenet121, or --set model.pretrained=none",
        ),
        ({"schedule": {"warmup_epochs": 5.0}, "run": {"epochs": 5}}, "lower it or train for more epochs"),
        ({"loss": {"reg_weight": -1.0}}, "loss.reg_weight=-1.0: expected 0 or more"),
        ({"loss": {"name": "nvmu"}}, "did you mean nvum?"),
        ({"data": {"batch_size": 64}}, "section data has no key 'batch_size'; did you mean loader.batch_size?"),
        ({"loader": {"sampler": "balanced"}}, "never by resampling"),
    ],
)
def test_what_cannot_work_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        built(**sections)
    assert message in str(error.value)


def test_every_section_is_frozen_and_keyword_only() -> None:
    config = TrainConfig()
    for section in fields(config):
        value: Any = getattr(config, section.name)
        assert type(value).__dataclass_params__.frozen, section.name
        assert all(field.kw_only for field in fields(value)), section.name


def test_every_key_says_what_it_means() -> None:
    """A string stands under each field of each section, in the module that the section is in."""
    undocumented = []
    for section, kind in get_type_hints(TrainConfig).items():
        for owner in kind.__mro__[:-1]:
            (node,) = ast.parse(inspect.getsource(owner)).body
            assert isinstance(node, ast.ClassDef)
            for field, below in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign):
                    is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                    if not is_text:
                        undocumented.append(f"{section}.{ast.unparse(field.target)}")
    assert undocumented == []


def test_a_configuration_survives_its_way_through_json() -> None:
    config = built(augment={"crop_scale": [0.5, 1.0]}, optim={"betas": [0.9, 0.99]}, model={"pretrained": "weights.pt"})
    assert build(TrainConfig, json.loads(json.dumps(as_values(config))), source="test") == config
