"""Images that have no pixels: always a `Rejection` with its reason, never another error, a warning or a hang."""

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing import pixels
from pipeline.packing.pixels import read_image
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources.limits import MAX_PIXELS
from tests.png_writer import SIGNATURE, chunk, encode_png, header

FILM = (np.add.outer(np.arange(40), np.arange(30)) + np.arange(30) % 7).astype(np.uint8)


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(FILM).save(buffer, kind, **options)
    return buffer.getvalue()


PNG, JPEG = encoded("PNG"), encoded("JPEG", quality=90)


def decode(content: bytes, size_px: int) -> np.ndarray:
    return pixels.decode(content, ImageSpec.square(size_px)).pixels_HW


def rejection(content: bytes) -> Rejection:
    with pytest.raises(Rejection) as caught:
        decode(content, 16)
    return caught.value


@given(length=st.integers(0, len(PNG) - 1))
def test_every_cut_of_a_png_is_rejected(length: int) -> None:
    assert rejection(PNG[:length]).reason in (Reason.CORRUPT, Reason.EMPTY_FILE, Reason.NOT_AN_IMAGE)


@given(length=st.integers(0, len(JPEG) - 1))
def test_every_cut_of_a_jpeg_is_rejected(length: int) -> None:
    assert rejection(JPEG[:length]).reason in (Reason.CORRUPT, Reason.EMPTY_FILE, Reason.NOT_AN_IMAGE)


@given(position=st.integers(0, len(PNG) - 1), change=st.integers(1, 255))
def test_every_changed_byte_of_a_png_is_rejected(position: int, change: int) -> None:
    damaged = bytearray(PNG)
    damaged[position] ^= change
    rejection(bytes(damaged))


@given(changes=st.lists(st.tuples(st.integers(0, len(JPEG) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_jpeg_is_pixels_or_a_rejection(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(JPEG)
    for position, value in changes:
        damaged[position] = value
    try:
        assert decode(bytes(damaged), 16).shape == (16, 16)
    except Rejection as caught:
        assert " at 0x" not in caught.detail  # noqa: PT017 - an address would change from run to run


@given(content=st.binary(max_size=200), signature=st.sampled_from([b"", SIGNATURE, b"\xff\xd8\xff\xe0"]))
def test_random_bytes_are_rejected(content: bytes, signature: bytes) -> None:
    rejection(signature + content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file: 0 bytes"),
        (
            b"<!DOCTYPE html><html>",
            "not an image: none of PNG, JPEG, JPEG 2000, DICOM, TIFF; begins with b'<!DOC",
        ),
        (encoded("GIF"), "not an image: none of PNG, JPEG, JPEG 2000, DICOM, TIFF; begins with b'GIF87a"),
        (SIGNATURE + header(0, 5) + chunk(b"IEND", b""), "zero size: 0 x 5 px"),
        (SIGNATURE + header(40_000, 40_000) + chunk(b"IEND", b""), "too large: 40000 x 40000 px"),
        (SIGNATURE + header(5, 5) + chunk(b"IEND", b""), "corrupt: cannot load this image"),
        (SIGNATURE + chunk(b"IDAT", bytes(20)), "corrupt: the PNG has no header"),
        (encode_png(np.full((4, 4, 1), 7)), "constant: every pixel is 7"),
        (encode_png(np.full((4, 4, 1), 7), bit_depth=16), "constant: every pixel is 0"),
        (encode_png(np.arange(48).reshape(4, 4, 3), bit_depth=16, colour_type=2), "unsupported: 16-bit RGB"),
    ],
)
def test_message_says_what_was_found(content: bytes, message: str) -> None:
    assert str(rejection(content)).startswith(message)


@given(value=st.integers(0, 255), shape=st.tuples(st.integers(1, 90), st.integers(1, 90)), size_px=st.integers(1, 70))
def test_one_value_stays_one_value(value: int, shape: tuple[int, int], size_px: int) -> None:
    content = encode_png(np.full((*shape, 1), value))
    with pytest.raises(Rejection, match=f"constant: every pixel is {value}"):
        decode(content, size_px)


def test_film_that_shrinks_to_one_value_is_kept() -> None:
    checkered = np.indices((64, 64)).sum(0) % 2 * 2
    np.testing.assert_array_equal(decode(encode_png(checkered[..., None]), 1), [[1]])


def test_animated_png_is_rejected() -> None:
    content = encoded("PNG", save_all=True, append_images=[Image.fromarray(FILM[::-1])])
    assert rejection(content).reason == Reason.ANIMATED


def test_cmyk_jpeg_is_rejected() -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(buffer, "JPEG")
    assert str(rejection(buffer.getvalue())) == "unsupported: JPEG of 4 colour components"


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_decompression_bomb_costs_no_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"bomb.{kind}"
    if kind == "png":
        path.write_bytes(SIGNATURE + header(40_000, 40_000) + chunk(b"IDAT", bytes(1000)) + chunk(b"IEND", b""))
    else:
        Image.new("L", (8, 8)).save(path)
        content = path.read_bytes()
        frame = content.index(b"\xff\xc0")
        size = (40_000).to_bytes(2, "big")
        path.write_bytes(content[: frame + 5] + size + size + content[frame + 9 :])
    tracemalloc.start()
    with pytest.raises(Rejection, match="too large: 40000 x 40000 px"):
        read_image(path, ImageSpec.square(64))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < MAX_PIXELS / 100


def test_missing_file_and_folder_are_rejected(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path, message in ((tmp_path / "absent.png", "such"), (tmp_path, "regular"), (pipe, "regular")):
        with pytest.raises(Rejection, match=f"missing file: no {message} file"):
            read_image(path, ImageSpec.square(16))


def test_unreadable_file_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/secret/place.png")

    (tmp_path / "film.png").write_bytes(PNG)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(Rejection) as caught:
        read_image(tmp_path / "film.png", ImageSpec.square(16))
    assert str(caught.value) == "unreadable file: Permission denied"  # without the folder: packs name no absolute path


def test_too_many_bytes_are_rejected_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film.png").write_bytes(PNG)
    monkeypatch.setattr("pipeline.packing.pixels.MAX_FILE_BYTES", len(PNG) - 1)
    with pytest.raises(Rejection, match=f"too large: {len(PNG)} bytes"):
        read_image(tmp_path / "film.png", ImageSpec.square(16))
