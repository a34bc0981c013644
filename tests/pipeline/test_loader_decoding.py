"""`dali` decodes what Pillow decodes: JPEG within a stated bound, PNG to the bit, of 16 bits the high eight."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.encoding import Encoding
from pipeline.pack import Pack
from tests.loader_cases import Case, opened
from tests.pack_writer import write_pack

MAX_DIFFERENCE = 2
"""Gray levels between two JPEG decoders, at most. On the CPU, where both are libjpeg-turbo, it is 0."""

MEAN_DIFFERENCE = 0.1

on_every_device = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
            ],
        ),
    ],
)


def films(num_images: int, height_px: int, width_px: int, *, maximum: int = 255) -> np.ndarray:
    """Return smooth images with grain, as films are: [N, H, W]."""
    random = np.random.default_rng(num_images)
    y_H1, x_1W = np.arange(height_px)[:, None], np.arange(width_px)[None, :]
    shape = (height_px, width_px)
    images = [
        0.5 + 0.3 * np.sin(x_1W / 31 + n) + 0.15 * np.cos(y_H1 / (17 + n)) + random.normal(0, 0.02, shape)
        for n in range(num_images)
    ]
    dtype = np.uint8 if maximum == 255 else np.uint16
    return (np.clip(images, 0, 1) * maximum).astype(dtype)


def differences(pack: Pack, device: str) -> tuple[int, float]:
    """Return the greatest and the mean difference between dali and the reference, in gray levels."""
    greatest, means = 0, []
    packs = {pack.format: pack}
    with (
        opened(packs, Case("dali", "tar"), batch_size=7, device=device) as dali,
        opened(packs, Case("reference", "tar"), batch_size=7) as reference,
    ):
        for found, expected in zip(dali.train_batches(0), reference.train_batches(0), strict=True):
            assert found.batch.sample_index_B.tolist() == expected.batch.sample_index_B.tolist()
            difference = (found.batch.images_B1HW.cpu().int() - expected.batch.images_B1HW.int()).abs()
            greatest = max(greatest, int(difference.max()))
            means.append(float(difference.float().mean()))
    return greatest, max(means)


def assert_close(pack: Pack, device: str) -> None:
    """Assert that the JPEGs of a pack are decoded within the bound, on the CPU to the bit."""
    greatest, mean = differences(pack, device)
    assert greatest <= (0 if device == "cpu" else MAX_DIFFERENCE)
    assert mean <= (0 if device == "cpu" else MEAN_DIFFERENCE)


@on_every_device
@pytest.mark.parametrize("quality", [75, 95])
def test_jpegs_are_decoded_as_by_the_reference(quality: int, device: str, tmp_path: Path) -> None:
    images_NHW = films(20, 120, 161)  # no multiples of a JPEG's blocks
    pack = write_pack(tmp_path, images_NHW, pack_format="tar", encoding=Encoding(quality=quality))
    assert_close(pack, device)


@on_every_device
@pytest.mark.parametrize("maximum", [255, 65535])
def test_pngs_are_decoded_to_the_bit(maximum: int, device: str, tmp_path: Path) -> None:
    images_NHW = films(12, 33, 47, maximum=maximum)
    pack = write_pack(tmp_path, images_NHW, pack_format="tar", encoding=Encoding(image="png"))
    assert differences(pack, device) == (0, 0.0)
    expected_NHW = images_NHW if maximum == 255 else images_NHW >> 8
    with opened({"tar": pack}, Case("dali", "tar"), device=device) as loader:
        for step in loader.train_batches(0):
            np.testing.assert_array_equal(
                step.batch.images_B1HW[:, 0].cpu().numpy(), expected_NHW[step.batch.sample_index_B.cpu().numpy()]
            )


@on_every_device
def test_real_films_are_decoded_as_by_the_reference(device: str, real_data: Path, tmp_path: Path) -> None:
    paths = sorted((real_data / "nih").rglob("*.png"))
    paths = paths[:: len(paths) // 40]
    assert len(paths) >= 40
    images = [Image.open(path).convert("L").resize((256, 256)) for path in paths]
    images_NHW = np.stack([np.asarray(image) for image in images])
    assert_close(write_pack(tmp_path, images_NHW, pack_format="tar"), device)


def test_a_kept_batch_outlives_the_loader(tmp_path: Path) -> None:
    """Its memory is DALI's own on the CPU, without a copy: it must stay when the pipeline is gone."""
    images_NHW = films(30, 40, 40)
    pack = write_pack(tmp_path, images_NHW, pack_format="tar", encoding=Encoding(image="png"))
    with opened({"tar": pack}, Case("dali", "tar")) as loader:
        kept = [step.batch for epoch in range(5) for step in loader.train_batches(epoch)]
    del loader
    for images_B1HW, sample_index_B in kept:
        np.testing.assert_array_equal(images_B1HW[:, 0].numpy(), images_NHW[sample_index_B.numpy()])
