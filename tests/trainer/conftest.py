"""A tiny pack that every test of training shares."""

from pathlib import Path

import pytest

from tests.factories import make_pack


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a raw pack of 64 images of 32 px: about 30 train, 14 valid, 14 test in the label space nvum-nih."""
    return make_pack(tmp_path_factory.mktemp("tiny"), num_images=64, size_px=32).folder
