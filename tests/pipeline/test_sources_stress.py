"""Bad and odd input of every format, with the compiled loops and without: the same pixels or the same rejection."""

import io
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom.uid as uid
import pytest
from PIL import Image

from pipeline.image_spec import ImageSpec
from pipeline.packing import kernels
from pipeline.packing.pixels import decode, read_image
from pipeline.packing.rejection import Reason, Rejection
from tests.dicom_writer import encapsulated, make_dataset, to_bytes
from tests.pipeline.test_sources_jpeg import film
from tests.png_writer import SIGNATURE, chunk, encode_png, header

FILM = film(60, 50)
DEEP = FILM.astype(np.uint16) * 200
SPEC = ImageSpec(height_px=24, width_px=20)
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6


def saved(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def png(colour_type: int, bit_depth: int = 8, *, interlaced: bool = False) -> bytes:
    channels = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}[colour_type]
    pixels = np.random.default_rng(0).integers(0, 1 << bit_depth, (60, 50, channels))
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour_type == PALETTE else b""
    return encode_png(pixels, bit_depth=bit_depth, colour_type=colour_type, interlaced=interlaced, extra_chunks=palette)


FILES: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved(FILM, "PNG"),
    "png 16-bit": lambda: png(GRAY, 16),
    "png 16-bit interlaced": lambda: png(GRAY, 16, interlaced=True),
    "png 1-bit": lambda: png(GRAY, 1),
    "png RGB": lambda: saved(np.stack([FILM, FILM.T.reshape(60, 50), FILM], 2), "PNG"),
    "png RGBA": lambda: png(RGBA),
    "png gray alpha": lambda: png(GRAY_ALPHA),
    "png palette": lambda: png(PALETTE),
    "png interlaced": lambda: png(GRAY, interlaced=True),
    "jpeg": lambda: saved(FILM, "JPEG"),
    "jpeg progressive": lambda: saved(FILM, "JPEG", progressive=True),
    "tiff": lambda: saved(FILM, "TIFF"),
    "tiff lzw 16-bit": lambda: saved(DEEP, "TIFF", compression="tiff_lzw"),
    "jp2": lambda: saved(FILM, "JPEG2000"),
    "j2k 16-bit": lambda: saved(DEEP, "JPEG2000", no_jp2=True),
    "dicom": lambda: to_bytes(make_dataset(DEEP, bits=16)),
    "dicom j2k": lambda: encapsulated(make_dataset(DEEP), saved(DEEP, "JPEG2000", no_jp2=True), uid.JPEG2000Lossless),
    "dicom jpeg": lambda: encapsulated(make_dataset(FILM), saved(FILM, "JPEG"), uid.JPEGBaseline8Bit),
}


def outcome(content: bytes, spec: ImageSpec = SPEC) -> np.ndarray | Reason:
    try:
        return decode(content, spec).pixels_HW
    except Rejection as caught:
        rejection = caught
    assert " at 0x" not in rejection.detail  # an address would change from run to run
    assert "\n" not in rejection.detail
    return rejection.reason


@pytest.mark.parametrize("name", FILES)
def test_whole_files_are_pixels(name: str) -> None:
    assert isinstance(outcome(FILES[name]()), np.ndarray)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_every_tenth_is_rejected(name: str) -> None:
    content = FILES[name]()
    for tenth in range(10):
        reason = outcome(content[: len(content) * tenth // 10])
        assert reason in (Reason.CORRUPT, Reason.EMPTY_FILE, Reason.NOT_AN_IMAGE), f"{tenth} tenths"


@pytest.mark.parametrize("name", FILES)
def test_random_damage_is_pixels_or_a_rejection(name: str) -> None:
    content, rng = FILES[name](), np.random.default_rng(1)
    for _ in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), rng.integers(1, 12))] = rng.integers(0, 256)
        outcome(damaged.tobytes())


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("png")])
def test_png_damaged_within_sound_chunks_has_one_outcome_on_every_machine(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong within the compressed stream, past the checksums, is judged alike by both ways of decoding."""
    content, rng = FILES[name](), np.random.default_rng(2)
    library = kernels.library
    assert library is not None
    begin = content.index(b"IDAT") + 4
    length = int.from_bytes(content[begin - 8 : begin - 4], "big")
    for trial in range(40):
        data = bytearray(content[begin : begin + length])
        if trial:  # the first one is whole
            data[rng.integers(0, length)] ^= int(rng.integers(1, 256))
        damaged = content[: begin - 8] + chunk(b"IDAT", bytes(data)) + content[begin + length + 4 :]
        monkeypatch.setattr(kernels, "library", library)
        with_loops = outcome(damaged)
        monkeypatch.setattr(kernels, "library", None)
        without = outcome(damaged)
        if isinstance(with_loops, Reason) or isinstance(without, Reason):
            assert with_loops is without
        else:
            np.testing.assert_array_equal(with_loops, without)


@pytest.mark.parametrize("extra", [b"", b"more data than rows"])
@pytest.mark.parametrize("missing", [0, 1])
def test_png_with_more_or_fewer_rows_than_it_says(extra: bytes, missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in FILM[: len(FILM) - missing]) + extra
    content = SIGNATURE + header(50, 60) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with_loops = outcome(content)
    monkeypatch.setattr(kernels, "library", None)
    without = outcome(content)
    if isinstance(with_loops, Reason):
        assert with_loops is without
    else:
        np.testing.assert_array_equal(with_loops, without)
    if not missing:
        assert isinstance(with_loops, np.ndarray)


def test_random_bytes_behind_every_signature_are_rejected() -> None:
    rng = np.random.default_rng(3)
    for name in FILES:
        head = FILES[name]()[:132]
        for _ in range(10):
            assert isinstance(outcome(head + rng.bytes(int(rng.integers(0, 3000)))), Reason)
    for _ in range(50):
        assert isinstance(outcome(rng.bytes(500)), Reason)


def test_a_png_that_inflates_to_more_than_its_size_costs_no_more_than_its_size() -> None:
    compressor = zlib.compressobj(9)
    data = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(200)) + compressor.flush()
    content = SIGNATURE + header(50, 60) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    tracemalloc.start()
    assert outcome(content) is Reason.CONSTANT  # its rows are there, and zeros
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10 * len(data)


def test_text_and_profile_bombs_are_not_even_read() -> None:
    bomb = zlib.compress(bytes(100 << 20), 9)
    extra = chunk(b"zTXt", b"Comment\0\0" + bomb) + chunk(b"iCCP", b"profile\0\0" + bomb)
    samples = FILM[..., None]
    np.testing.assert_array_equal(outcome(encode_png(samples, extra_chunks=extra)), outcome(encode_png(samples)))


def test_a_png_of_a_million_empty_chunks_is_rejected_at_once() -> None:
    content = SIGNATURE + header(50, 60) + chunk(b"IDAT", b"") * 300_000
    assert outcome(content) is Reason.CORRUPT


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(FILES["dicom"]())
    found = read_image(path, SPEC).pixels_HW
    np.testing.assert_array_equal(found, outcome(FILES["dicom"]()))
