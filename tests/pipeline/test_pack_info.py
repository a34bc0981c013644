"""`cxr-prep info`: what it says of a pack, and the contact sheet."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from pipeline.encoding import Encoding
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack
from pipeline.packing.config import PackConfig
from pipeline.packing.contact_sheet import (
    GAP_PX,
    LINE_PX,
    LINES_OF_FINDINGS,
    TILE_PX,
    caption,
    chosen,
    fitted,
    wrapped,
    write_contact_sheet,
)
from pipeline.packing.packer import pack_manifest
from tests.factories import image_names, image_pixels, make_manifest, make_release
from tests.pipeline.test_pack_cli import run

NUM_IMAGES = 70
SIZE_PX = 24
REJECTED = (2, 66)

OPTIONS: list[dict[str, object]] = [
    {"format": "raw"},
    {"format": "tar", "encoding": Encoding(image="png", targets="nih14")},
    {"format": "tar", "encoding": Encoding(image="png"), "spec": ImageSpec(height_px=24, width_px=24, bits=16)},
    {"format": "beton"},
    {"format": "beton", "encoding": Encoding(colour="rgb")},
]


@pytest.fixture(scope="module", params=OPTIONS, ids=str)
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("info")
    root = make_release(folder, num_images=NUM_IMAGES, size_px=SIZE_PX)
    manifest = make_manifest(folder, num_images=NUM_IMAGES)
    (root / "images" / image_names(NUM_IMAGES)[REJECTED[0]]).write_bytes(b"")
    (root / "images" / image_names(NUM_IMAGES)[REJECTED[1]]).unlink()
    config = PackConfig(**({"spec": ImageSpec.square(SIZE_PX)} | request.param))
    return pack_manifest(manifest, root=root, out=folder / "pack", config=config).pack


def test_info_says_what_a_person_wants_to_know(packed: Pack) -> None:
    printed = run("info", packed.folder)
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines())
    assert lines["samples"] == "70 (train 36, valid 18, test 16)"
    assert lines["rejected"] == "2: empty file 1, missing file 1; see rejected.parquet"
    assert lines["images"].startswith("24 px, stretched to it; pixels by rule ")
    assert lines["format"].startswith(f"{packed.format}: ")
    assert "kB an image" in lines["size"]
    if packed.encoding.colour == "gray":
        loader = {"raw": "", "tar": " --loader dali", "beton": " --loader ffcv"}[packed.format]
        assert f"cxr-train{loader} --pack {packed.folder}" in lines["next"]
    else:
        assert "read it with FFCV; cxr-train reads gray betons" in lines["next"]
    assert ("targets" in lines) == bool(packed.target_names)


def test_the_sheet_shows_the_samples_that_it_names(packed: Pack, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    printed = run("info", packed.folder, "--contact-sheet", path, "--seed", "3")
    assert f"sheet     {path}: 64 samples, seed 3" in printed
    indices = chosen(packed, 3)
    assert len(set(indices)) == 64
    assert not set(indices) & set(REJECTED)
    with Image.open(path) as image:
        sheet = np.asarray(image)
    expected = image_pixels(NUM_IMAGES, SIZE_PX)
    top = 2 * GAP_PX + LINE_PX
    step_y = TILE_PX + (2 + LINES_OF_FINDINGS) * LINE_PX + GAP_PX
    times = TILE_PX // SIZE_PX  # small images are enlarged, so that a person can see them
    drawn_px = times * SIZE_PX
    margin = (TILE_PX - drawn_px) // 2
    for place in (0, 7, 8, 63):
        upper = top + place // 8 * step_y + margin
        left = GAP_PX + place % 8 * (TILE_PX + GAP_PX) + margin
        enlarged = expected[indices[place]].repeat(times, 0).repeat(times, 1)
        np.testing.assert_array_equal(sheet[upper:, left:][:drawn_px, :drawn_px], enlarged)


def test_the_sheet_is_a_function_of_pack_and_seed(packed: Pack, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write_contact_sheet(packed, path, seed=seed)
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()


def test_captions_tell_number_film_and_findings(packed: Pack) -> None:
    font = ImageFont.load_default(13)
    assert caption(packed.manifest(), 0, font) == ["0: 00000001_000.png", "PA, F, 20 y, train", "No Finding"]
    two = caption(packed.manifest(), 2, font)
    assert two[:2] == ["2: 00000002_000.png", "PA, F, 22 y, valid"]
    assert len(two[2].split(", ")) == 2


def test_captions_fit() -> None:
    font = ImageFont.load_default(13)
    words = ["Pleural_Thickening", "Enlarged Cardiomediastinum", "Costophrenic Angle Blunting", "Mass", "Nodule", "ILD"]
    lines = wrapped(words, font)
    assert len(lines) == LINES_OF_FINDINGS
    assert lines[-1].endswith("+3")
    assert all(font.getlength(line) <= TILE_PX for line in [*lines, fitted("x" * 99, font)])


def test_a_sheet_that_cannot_be_written_is_said(packed: Pack, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"cannot be written .No such file.*name another file"):
        write_contact_sheet(packed, tmp_path / "absent" / "sheet.png", seed=0)


def test_a_sheet_takes_the_place_of_a_sheet_and_of_nothing_else(packed: Pack, tmp_path: Path) -> None:
    document = packed.folder / "pack.json"
    before = document.read_bytes()
    with pytest.raises(PackError, match=r"pack.json: a contact sheet is a PNG; name a file that ends in .png"):
        write_contact_sheet(packed, document, seed=0)
    assert document.read_bytes() == before
    other = tmp_path / "labels.png"
    other.write_bytes(b"Image Index,Finding Labels")
    with pytest.raises(PackError, match="exists and is not a PNG; name another file"):
        write_contact_sheet(packed, other, seed=0)
    assert other.read_bytes() == b"Image Index,Finding Labels"
    sheet = tmp_path / "sheet.png"
    assert [write_contact_sheet(packed, sheet, seed=seed) for seed in (0, 1)] == [64, 64]
