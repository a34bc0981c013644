"""DICOM sources: what gray a stored value becomes, every transfer syntax, and what is refused."""

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom.uid as uid
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence

from pipeline.image_spec import ImageSpec
from pipeline.packing.pixels import decode
from pipeline.packing.rejection import Reason, Rejection
from pipeline.packing.sources import guarded
from pipeline.packing.sources.readers import require_readers
from tests.dicom_writer import compressed_by_gdcm, encapsulated, make_dataset, to_bytes
from tests.pipeline.test_pixels import naive_luma
from tests.pipeline.test_sources_jpeg import film

STORED = (film(40, 30).astype(np.uint16) << 4) + np.arange(30, dtype=np.uint16) % 16
RGB = np.stack([film(40, 30, seed=seed) for seed in range(3)], 2)
SPEC = ImageSpec(height_px=40, width_px=30)


def shown(dataset: Dataset, bits: int = 8) -> np.ndarray:
    spec = ImageSpec(height_px=dataset.Rows, width_px=dataset.Columns, bits=bits)  # type: ignore[arg-type]
    return decode(to_bytes(dataset), spec).pixels_HW


def stretched_to(values: np.ndarray, top: int = 255) -> np.ndarray:
    """Lowest value 0, highest `top`, in float64."""
    low, high = float(values.min()), float(values.max())
    stretched: np.ndarray = (values.astype(np.float64) - low) * top / (high - low)
    return stretched


def windowed(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """The LINEAR function as DICOM PS3.3 C.11.2.1.2.1 writes it down, pixel by pixel, to 0..255."""
    out = np.empty(values.shape)
    for position, value in np.ndenumerate(values.astype(np.float64)):
        if value <= centre - 0.5 - (width - 1) / 2:
            out[position] = 0
        elif value > centre - 0.5 + (width - 1) / 2:
            out[position] = 255
        else:
            out[position] = ((value - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return out


def rejection(content: bytes) -> Rejection:
    with pytest.raises(Rejection) as caught:
        decode(content, SPEC)
    return caught.value


@pytest.mark.parametrize("bits", [8, 16])
def test_without_a_window_the_range_is_shown(bits: int) -> None:
    expected = stretched_to(STORED, (1 << bits) - 1)
    assert np.abs(shown(make_dataset(STORED, bits=12), bits) - expected).max() <= 0.5


def test_monochrome1_is_inverted() -> None:
    plain, inverted = (
        shown(make_dataset(STORED, bits=12, PhotometricInterpretation=f"MONOCHROME{number}")) for number in (2, 1)
    )
    assert np.abs(255 - plain.astype(int) - inverted).max() <= 1


@pytest.mark.parametrize("width", [1, 2, 700.5, 5000])
def test_first_window_is_shown(width: float) -> None:
    dataset = make_dataset(STORED, bits=12, WindowCenter=[2000, 9], WindowWidth=[width, 9])
    assert np.abs(shown(dataset) - windowed(STORED, 2000, width)).max() <= 0.5 + 1e-6


def test_window_counts_in_rescaled_values() -> None:
    dataset = make_dataset(STORED, bits=12, RescaleSlope=-0.5, RescaleIntercept=1000, WindowCenter=200, WindowWidth=900)
    assert np.abs(shown(dataset) - windowed(STORED * -0.5 + 1000, 200, 900)).max() <= 0.5 + 1e-6


def test_exact_and_sigmoid_windows() -> None:
    values = STORED.astype(np.float64)
    exact = make_dataset(STORED, WindowCenter=2000, WindowWidth=900, VOILUTFunction="LINEAR_EXACT")
    assert np.abs(shown(exact) - ((values - 2000) / 900 + 0.5).clip(0, 1) * 255).max() <= 0.5 + 1e-6
    sigmoid = make_dataset(STORED, WindowCenter=2000, WindowWidth=900, VOILUTFunction="SIGMOID")
    assert np.abs(shown(sigmoid) - 255 / (1 + np.exp(-4 * (values - 2000) / 900))).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("width", [0, -5])
def test_a_window_that_makes_no_sense_counts_as_none(width: int) -> None:
    dataset = make_dataset(STORED, WindowCenter=2000, WindowWidth=width)
    np.testing.assert_array_equal(shown(dataset), shown(make_dataset(STORED)))


def table(entries: np.ndarray, begin: int, depth: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65_536, begin, depth]
    item.LUTData = entries.astype(np.uint16).tobytes()
    item["LUTData"].VR = "OW"
    return Sequence([item])


def test_tables_of_values_and_of_what_is_shown() -> None:
    square = np.arange(4096.0) ** 2 // 4096
    modality = make_dataset(STORED, bits=12, ModalityLUTSequence=table(square, 0, 12))
    assert np.abs(shown(modality) - stretched_to(square[STORED])).max() <= 0.5
    shows = make_dataset(
        STORED, bits=12, VOILUTSequence=table(square, 0, 12), WindowCenter=5, WindowWidth=5
    )  # the table comes before the window
    assert np.abs(shown(shows) - square[STORED] * 255 / 4095).max() <= 0.5
    later = make_dataset(STORED, bits=12, VOILUTSequence=table(square[:1000], 1500, 12))  # flat beyond its ends
    assert np.abs(shown(later) - square[(STORED.astype(int) - 1500).clip(0, 999)] * 255 / 4095).max() <= 0.5


def test_bits_beside_the_stored_ones_are_ignored() -> None:
    overlaid = (STORED << 2) | np.uint16(0x4000) * (np.arange(30, dtype=np.uint16) % 4) | np.uint16(1)
    dataset = make_dataset(overlaid, BitsStored=12, HighBit=13)
    np.testing.assert_array_equal(shown(dataset), shown(make_dataset(STORED, bits=12)))


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values(bits: int) -> None:
    signed = STORED.astype(np.int16) - 2048
    dataset = make_dataset(signed, bits=bits, WindowCenter=-100, WindowWidth=2000)
    assert np.abs(shown(dataset) - windowed(signed, -100, 2000)).max() <= 0.5 + 1e-6


def test_padding_is_not_counted_into_the_range() -> None:
    padded = STORED.copy()
    padded[:, :5], padded[:, 5:8] = 65_000, 64_990
    dataset = make_dataset(padded, PixelPaddingValue=65_000, PixelPaddingRangeLimit=64_990)
    found = shown(dataset)
    assert np.abs(found[:, 8:] - stretched_to(STORED[:, 8:])).max() <= 0.5
    assert (found[:, :8] == 255).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_8_bits(photometric: str) -> None:
    gray = film(40, 30)
    expected = stretched_to(gray) if photometric == "MONOCHROME2" else 255 - stretched_to(gray)
    assert np.abs(shown(make_dataset(gray, PhotometricInterpretation=photometric)) - expected).max() <= 0.5


def test_colour_is_luma() -> None:
    np.testing.assert_array_equal(shown(make_dataset(RGB)), naive_luma(RGB))
    planes = make_dataset(RGB, PlanarConfiguration=1, PixelData=RGB.transpose(2, 0, 1).tobytes())
    np.testing.assert_array_equal(shown(planes), naive_luma(RGB))


@pytest.mark.parametrize("syntax", [uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.RLELossless])
def test_lossless_syntaxes_keep_every_pixel(syntax: uid.UID, tmp_path: Path) -> None:
    dataset = make_dataset(STORED, bits=12, WindowCenter=2000, WindowWidth=900)
    content = compressed_by_gdcm(dataset, syntax, tmp_path)
    np.testing.assert_array_equal(decode(content, SPEC).pixels_HW, shown(dataset))


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_uncompressed_syntaxes(syntax: uid.UID) -> None:
    dataset, plain = make_dataset(STORED, bits=12), shown(make_dataset(STORED, bits=12))
    if syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = STORED.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(to_bytes(dataset, syntax), SPEC).pixels_HW, plain)


def test_jpeg_2000_and_jpeg() -> None:
    buffer = io.BytesIO()
    Image.fromarray(STORED << 4).save(buffer, "JPEG2000", no_jp2=True)  # Pillow writes 16 bits
    dataset = make_dataset(STORED << 4)
    np.testing.assert_array_equal(
        decode(encapsulated(make_dataset(STORED << 4), buffer.getvalue(), uid.JPEG2000Lossless), SPEC).pixels_HW,
        shown(dataset),
    )
    buffer = io.BytesIO()
    Image.fromarray(film(40, 30)).save(buffer, "JPEG", quality=95)
    with Image.open(buffer) as image:
        gray = np.asarray(image)
    found = decode(encapsulated(make_dataset(gray), buffer.getvalue(), uid.JPEGBaseline8Bit), SPEC).pixels_HW
    assert np.abs(found - stretched_to(gray)).max() <= 0.5


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb_dcmtk_+eb+cr.dcm"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
    ],
)
def test_pydicom_s_own_files_have_the_same_pixels_in_every_syntax(name: str, same_as: str) -> None:
    found, expected = (
        decode(Path(str(get_testdata_file(file))).read_bytes(), ImageSpec.square(64)).pixels_HW
        for file in (name, same_as)
    )
    # the colours of the two RGB files were rounded by whoever wrote them
    assert np.abs(found.astype(int) - expected).max() <= (1 if name == "SC_rgb_rle.dcm" else 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_truncated.dcm", "corrupt: the pixels of the DICOM file are cut short"),
        ("JPGExtended.dcm", "unsupported: DICOM of JPEG with 12 bits"),
        ("image_dfl.dcm", "unsupported: DICOM whose dataset is deflated"),
        ("examples_palette.dcm", "unsupported: DICOM of 1 samples PALETTE COLOR"),
        ("SC_rgb_rle_2frame.dcm", "animated: DICOM of 2 frames"),
        ("SC_rgb_rle_16bit.dcm", "unsupported: DICOM of 16 bits RGB"),
        ("rtdose_1frame.dcm", "unsupported: DICOM of 32 bits MONOCHROME2"),
        ("liver_1frame.dcm", "unsupported: DICOM of 1 bits MONOCHROME2"),
        ("reportsi.dcm", "not an image: DICOM without an image"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "too large: 3722445056 x 1024 px"),
    ],
)
def test_pydicom_s_own_files_that_are_refused(name: str, message: str) -> None:
    assert str(rejection(Path(str(get_testdata_file(name))).read_bytes())).startswith(message)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": 40_000, "Columns": 40_000}, Reason.TOO_LARGE),
        ({"Rows": 0}, Reason.ZERO_SIZE),
        ({"Rows": 41}, Reason.CORRUPT),
        ({"NumberOfFrames": 7}, Reason.ANIMATED),
        ({"PixelData": None}, Reason.CORRUPT),
        ({"PhotometricInterpretation": None}, Reason.CORRUPT),
        ({"HighBit": 40}, Reason.CORRUPT),
        ({"RescaleSlope": float("inf"), "RescaleIntercept": 0}, Reason.CORRUPT),
        ({"WindowCenter": -9000, "WindowWidth": 10}, Reason.CONSTANT),
    ],
)
def test_what_makes_no_sense_is_refused(elements: dict[str, object], reason: Reason) -> None:
    assert rejection(to_bytes(make_dataset(STORED, bits=12, **elements))).reason == reason


def test_a_frame_of_another_size_never_reaches_a_decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guarded, "decode", lambda content: pytest.fail("decoded"))
    for syntax in (uid.JPEGLosslessSV1, uid.JPEGLSLossless):
        content = compressed_by_gdcm(make_dataset(STORED, bits=12), syntax, tmp_path)
        rows = content.index(b"\x28\0\x10\0US\x02\0") + 8
        bomb = content[:rows] + (9000).to_bytes(2, "little") + content[rows + 2 :]
        assert str(rejection(bomb)) == "corrupt: a frame of 30 x 40 px in a DICOM image of 30 x 9000"


def test_run_lengths_that_are_longer_than_their_pixels_are_refused() -> None:
    content = encapsulated(make_dataset(STORED, bits=12), bytes(1_000_000), uid.RLELossless)
    assert "bytes of run lengths" in str(rejection(content))


def test_a_decoder_that_dies_or_spins_costs_one_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = compressed_by_gdcm(make_dataset(STORED, bits=12), uid.JPEGLosslessSV1, tmp_path)
    begin = good.index(b"\xff\xda") + 40
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(12):
        damaged = bytearray(good)
        damaged[begin + rng.integers(0, 400)] ^= 0xFF
        damaged[begin + rng.integers(0, 400) : begin + 500] = b"\xff\xc4" * 50
        try:
            decode(bytes(damaged), SPEC)
        except Rejection as caught:
            outcomes.add(caught.reason)
    assert outcomes == {Reason.CORRUPT}
    assert decode(good, SPEC).pixels_HW.shape == (40, 30)

    assert guarded._guard is not None
    guarded._guard.process.kill()
    assert str(rejection(good)) == "corrupt: its decoder crashed"
    assert decode(good, SPEC).pixels_HW.shape == (40, 30)


def test_a_jpeg_that_is_none_is_rejected_in_the_same_words_each_time() -> None:
    buffer = io.BytesIO()
    Image.fromarray(film(40, 30)).save(buffer, "JPEG")
    frame = buffer.getvalue()
    broken = frame[: frame.index(b"\xff\xc0") + 30] + bytes(400)  # past the header that was looked at
    words = {str(rejection(encapsulated(make_dataset(film(40, 30)), broken, uid.JPEGBaseline8Bit))) for _ in range(2)}
    assert len(words) == 1


def test_the_decoder_s_process_leaves_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(compressed_by_gdcm(make_dataset(STORED, bits=12), uid.JPEGLosslessSV1, tmp_path))
    code = (
        "import os, signal; from pathlib import Path; from pipeline.packing.sources import guarded; "
        f"guarded.decode(Path({str(path)!r}).read_bytes()); print(guarded._guard.process.pid, flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    process = Path("/proc") / done.stdout.strip()
    for _ in range(1000):
        if not process.exists() or "\nState:\tZ" in (process / "status").read_text():
            return
        time.sleep(0.01)
    pytest.fail("the decoder's process is still there")


def test_dicom_files_without_pydicom_are_an_error_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    require_readers(["a.png", "b.dcm"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    require_readers(["a.png"])
    with pytest.raises(Exception, match=r'b\.DCM: DICOM files need pydicom.*pip install "cxr-nvum\[dicom\]"'):
        require_readers(["a.png", "b.DCM"])


def test_missing_gdcm_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = compressed_by_gdcm(make_dataset(STORED, bits=12), uid.JPEGLosslessSV1, tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'install GDCM: pip install "cxr-nvum[dicom]"' in str(rejection(content))
