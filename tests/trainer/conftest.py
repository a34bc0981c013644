"""A tiny pack that every test of training shares, and a run on it."""

from pathlib import Path

import pytest

from tests.factories import make_pack
from tests.trainer.tiny_runs import BCE_EMA, settings
from trainer import launch
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.evaluate import EvaluateConfig, evaluate


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a raw pack of 64 images of 32 px: about 30 train, 14 valid, 14 test in the label space nvum-nih."""
    return make_pack(tmp_path_factory.mktemp("tiny"), num_images=64, size_px=32).folder


@pytest.fixture(scope="session")
def evaluated_run(tiny_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of one epoch with a teacher, evaluated on every test image of `tiny_pack`; not to be changed."""
    given = settings(tiny_pack, BCE_EMA, data={"label_space": "nih14"}, run={"epochs": 1})
    run = launch.train(given, out=tmp_path_factory.mktemp("evaluated") / "run").run
    evaluate(EvaluateConfig(run=run, bootstrap=BootstrapConfig(draws=100)))
    return run
