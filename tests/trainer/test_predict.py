"""`cxr-train predict`: pixels and probabilities of a pack to the bit, and no file that is dropped in silence."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from manifests.errors import ConfigError
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.loaders.reference import SampleReader
from pipeline.pack_format import PackFormat
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from pipeline.packing.pixels import read_image
from pipeline.packing.shard import PackedShard
from tests.dicom_writer import make_dataset, to_bytes
from tests.factories import image_names, make_manifest, make_release
from trainer.cli import app
from trainer.evaluation import operating
from trainer.evaluation.predictions import read_predictions
from trainer.export.description import Thresholds
from trainer.export.export import ExportConfig, export
from trainer.export.from_run import model_of_run
from trainer.predict import decode
from trainer.predict.decode import decoded_chunks
from trainer.predict.image_files import named_files
from trainer.predict.predict import PredictConfig, predict
from trainer.predict.table import with_calls
from trainer.preprocessing import Preprocessing

RNG = np.random.default_rng(0)


def films(folder: Path) -> dict[str, Path]:
    """A film of every kind that is read; their name -> file."""
    folder.mkdir()
    gray = RNG.integers(0, 256, (60, 52), dtype=np.uint8)
    deep = RNG.integers(0, 65_536, (60, 52)).astype(np.uint16)
    rgba = Image.fromarray(RNG.integers(0, 256, (60, 52, 4), dtype=np.uint8))
    large = Image.fromarray(np.kron(gray, np.ones((8, 8), np.uint8)))
    saved = {
        "gray.png": Image.fromarray(gray),
        "rgba.png": rgba,
        "deep.png": Image.fromarray(deep),
        "large.jpg": large,
        "colour.jpeg": rgba.convert("RGB"),
        "film.tif": Image.fromarray(gray),
        "film.jp2": Image.fromarray(gray),
    }
    for name, image in saved.items():
        image.save(folder / name)
    dataset = make_dataset(deep >> 4, bits=12, PhotometricInterpretation="MONOCHROME1")
    (folder / "dicom").write_bytes(to_bytes(dataset))
    return {path.name: path for path in sorted(folder.iterdir())}


def run_command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        if isinstance(result.exception, ConfigError):
            return 2, str(result.exception)
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize(
    ("pack_format", "encoding", "bits"),
    [
        ("raw", Encoding(), 8),
        ("tar", Encoding(quality=80), 8),
        ("tar", Encoding(image="png"), 16),
        ("beton", Encoding(), 8),
    ],
)
def test_pixels_are_those_of_a_pack(
    tmp_path: Path, pack_format: PackFormat, encoding: Encoding, bits: int, num_workers: int
) -> None:
    root, manifest = make_release(tmp_path, num_images=16, size_px=48), make_manifest(tmp_path, num_images=16)
    files = [root / "images" / name for name in image_names(16)]
    files[6].write_bytes(files[6].read_bytes()[:200])
    spec = ImageSpec(height_px=40, width_px=32, resize="pad", bits=bits)  # type: ignore[arg-type]
    config = PackConfig(format=pack_format, spec=spec, encoding=encoding)
    pack = pack_manifest(manifest, root=root, out=tmp_path / "pack", config=config).pack
    assert pack.rejected == (6,)
    samples, seen = SampleReader(pack), []
    for chunk in decoded_chunks(files, Preprocessing.of_pack(pack), chunk_size=5, num_workers=num_workers):
        assert chunk.num_files == len(chunk.position_n) + len(chunk.rejected)
        assert [image.sample_index for image in chunk.rejected] == [6] * (6 in range(*_span(chunk)))
        for position, pixels_HW in zip(chunk.position_n.tolist(), chunk.images_nHW, strict=True):
            assert np.array_equal(pixels_HW, samples.read(position))
            seen.append(position)
    assert sorted(seen) == [number for number in range(16) if number != 6]


def _span(chunk: decode.Chunk) -> tuple[int, int]:
    positions = [*chunk.position_n.tolist(), *(image.sample_index for image in chunk.rejected)]
    return min(positions), max(positions) + 1


def test_every_kind_of_film_is_decoded_as_packing_does(tmp_path: Path) -> None:
    files = films(tmp_path / "films")
    spec = ImageSpec.square(32)
    chunks = decoded_chunks(list(files.values()), Preprocessing(spec=spec, pixel_rule="2"), chunk_size=3, num_workers=1)
    found = {int(p): pixels for chunk in chunks for p, pixels in zip(chunk.position_n, chunk.images_nHW, strict=True)}
    for position, path in enumerate(files.values()):
        assert np.array_equal(found[position], read_image(path, spec).pixels_HW), path.name


def test_an_iterator_that_is_closed_leaves_no_process_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    files = [path for path in films(tmp_path / "films").values() if path.suffix == ".png"] * 8
    chunks = decoded_chunks(
        files, Preprocessing(spec=ImageSpec.square(32), pixel_rule="2"), chunk_size=2, num_workers=2
    )
    before = _children()  # of other tests: a resource tracker, for example
    next(chunks)
    assert list((tmp_path / "temporary").iterdir())
    assert len(_children() - before) == 2
    chunks.close()
    assert list((tmp_path / "temporary").iterdir()) == []
    assert _children() <= before


def _children() -> set[str]:
    """Return the processes that any thread of this one has started and not yet waited for."""
    return {
        pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text(encoding="ascii").split()
    }


def test_a_temporary_folder_that_is_full_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> Iterator[PackedShard]:
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(decode, "pack_shards", full)
    chunks = decoded_chunks(
        [tmp_path], Preprocessing(spec=ImageSpec.square(8), pixel_rule="2"), chunk_size=1, num_workers=1
    )
    with pytest.raises(ConfigError, match=r"No space left.*TMPDIR"):
        next(chunks)


@pytest.mark.parametrize("workers", [1, 2])
def test_probabilities_are_those_of_evaluate_to_the_bit(
    evaluated_run: Path, tiny_pack: Path, tmp_path: Path, workers: int
) -> None:
    release = tiny_pack.parent
    code, _ = run_command(
        "--run", evaluated_run, "--manifest", release / "nih.parquet", "--root", release / "release", "--split", "test",
        "--out", tmp_path / "found.parquet", "--batch-size", 8, "--workers", workers,
    )  # fmt: skip
    assert code == 0
    table = pq.read_table(tmp_path / "found.parquet")
    expected = read_predictions(evaluated_run / "predictions-nih-test.parquet")
    assert table.column_names == ["path", "dataset", "image_id", *expected.findings]
    assert table["image_id"].to_pylist() == expected.image_id_n
    found_nC = np.stack([table[name].to_numpy() for name in expected.findings], axis=1)
    assert found_nC.dtype == np.float32
    assert np.array_equal(found_nC, expected.probs_nC)


def test_an_exported_model_gives_the_same_bits_and_csv_loses_none(evaluated_run: Path, tmp_path: Path) -> None:
    export(ExportConfig(run=evaluated_run, out=tmp_path / "exported"))
    files = films(tmp_path / "films")
    for model, out in ((evaluated_run, "run.parquet"), (tmp_path / "exported", "exported.csv")):
        code, _ = run_command("--run", model, tmp_path / "films", "--out", tmp_path / out)
        assert code == 0
    of_run = pq.read_table(tmp_path / "run.parquet")
    of_exported = pyarrow.csv.read_csv(tmp_path / "exported.csv")
    assert of_run["path"].to_pylist() == of_exported["path"].to_pylist() == [str(path) for path in files.values()]
    for name in of_run.column_names[1:]:
        assert np.array_equal(of_run[name].to_numpy(), of_exported[name].to_numpy().astype(np.float32))


def test_what_cannot_be_read_is_listed_with_its_reason(evaluated_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    files = films(folder)
    (folder / "broken.png").write_bytes(files["gray.png"].read_bytes()[:300])
    (folder / "empty.dcm").touch()
    (folder / "notes.txt").write_text("no film")
    (folder / ".hidden").write_text("not asked for")
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(folder / "blank.png")
    out = tmp_path / "found.csv"
    code, text = run_command("--run", evaluated_run, folder, "--out", out)
    assert code == 0
    assert "8 of 12 images" in text
    assert pyarrow.csv.read_csv(out)["path"].to_pylist() == [str(path) for path in files.values()]
    rejected = pyarrow.csv.read_csv(tmp_path / "found.rejected.csv").to_pylist()
    reasons = {Path(row["path"]).name: row["reason"] for row in rejected}
    assert reasons == {
        "blank.png": "constant",
        "broken.png": "corrupt",
        "empty.dcm": "empty_file",
        "notes.txt": "not_an_image",
    }
    assert all(row["detail"] for row in rejected)
    assert [row["path"] for row in rejected] == sorted(row["path"] for row in rejected)

    assert run_command("--run", evaluated_run, folder, "--out", out, "--strict")[0] == 1
    code, text = run_command("--run", evaluated_run, folder / "notes.txt", folder / "broken.png", "--out", out)
    assert code == 1
    assert "0 of 2 images" in text
    assert pyarrow.csv.read_csv(out).num_rows == 0
    assert run_command("--run", evaluated_run, files["gray.png"], "--out", out, "--strict")[0] == 0
    assert not (tmp_path / "found.rejected.csv").exists()


def test_a_missing_file_of_a_manifest_is_listed(evaluated_run: Path, tmp_path: Path) -> None:
    root, manifest = make_release(tmp_path, num_images=8), make_manifest(tmp_path, num_images=8)
    (root / "images" / image_names(8)[3]).unlink()
    out = tmp_path / "found.parquet"
    code, text = run_command("--run", evaluated_run, "--manifest", manifest, "--root", root, "--out", out)
    assert code == 0
    assert "missing file 1" in text
    rejected = pyarrow.csv.read_csv(tmp_path / "found.rejected.csv").to_pylist()
    assert [(row["dataset"], row["image_id"], row["reason"]) for row in rejected] == [
        ("nih", image_names(8)[3], "missing_file")
    ]
    assert pq.read_table(out)["image_id"].to_pylist() == [name for name in image_names(8) if name != image_names(8)[3]]


def test_each_file_once_in_the_order_of_its_first_naming(tmp_path: Path) -> None:
    files = films(tmp_path / "films")
    (tmp_path / "films" / "again").symlink_to(tmp_path / "films")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "films" / "below").symlink_to(tmp_path / "elsewhere")
    Image.fromarray(RNG.integers(0, 256, (9, 9), dtype=np.uint8)).save(tmp_path / "elsewhere" / "one.png")
    found = named_files([files["rgba.png"], tmp_path / "films", files["gray.png"]])
    below = tmp_path / "films" / "below" / "one.png"
    assert [found.files[0], *sorted(found.files[1:])] == [
        files["rgba.png"], *sorted([below, *(path for name, path in files.items() if name != "rgba.png")]),
    ]  # fmt: skip
    assert found.num_repeated == 2


def test_a_name_that_is_no_text_is_written_as_its_bytes(evaluated_run: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"f\xfflm.png")
    Image.fromarray(RNG.integers(0, 256, (40, 40), dtype=np.uint8)).save(path)
    predict(PredictConfig(model=evaluated_run, out=tmp_path / "found.csv"), named_files([path]))
    assert pyarrow.csv.read_csv(tmp_path / "found.csv")["path"].to_pylist() == [str(tmp_path / "f\\xfflm.png")]


def test_thresholds_say_what_is_called_present(
    evaluated_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "FEWEST_TO_CHOOSE", 1)  # the tiny pack has few positives
    films(tmp_path / "films")
    out = tmp_path / "found.parquet"
    assert run_command("--run", evaluated_run, tmp_path / "films", "--out", out, "--thresholds")[0] == 0
    table = pq.read_table(out)
    about = model_of_run(evaluated_run).description
    assert about.thresholds is not None
    on_validation = read_predictions(evaluated_run / "predictions-nih-valid.parquet")
    assert about.thresholds.num_images == len(on_validation.sample_index_n)
    assert sum(value is not None for value in about.thresholds.values.values()) >= 5
    for finding in about.findings:
        threshold, called = about.thresholds.values[finding], table[f"called_{finding}"].to_pylist()
        expected = [None] * len(called) if threshold is None else [p >= threshold for p in table[finding].to_pylist()]
        assert called == expected
        if threshold is not None:  # one of the probabilities on validation
            assert threshold in on_validation.probs_nC[:, about.findings.index(finding)].astype(np.float64)


def test_calls_follow_the_thresholds() -> None:
    table = pa.table({"path": ["a", "b"], "Mass": pa.array([0.25, 0.75], pa.float32()), "Hernia": pa.array([0.1, 0.2])})
    called = with_calls(table, ["Mass", "Hernia"], Thresholds(rule="youden", num_images=9, values={"Mass": 0.75}))
    assert called["called_Mass"].to_pylist() == [False, True]
    assert called["called_Hernia"].to_pylist() == [None, None]


def test_mistakes_are_refused_before_any_image_is_read(evaluated_run: Path, tiny_pack: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    film = next(iter(films(tmp_path / "films").values()))
    manifest = tiny_pack.parent / "nih.parquet"
    of_run = ("--run", evaluated_run)
    for arguments, words in (
        (of_run, "no images: name files"),
        ((*of_run, tmp_path / "nowhere.png", tmp_path / "nor here"), "no such file or folder"),
        ((*of_run, tmp_path / "empty"), "no file in it"),
        ((*of_run, film, "--out", tmp_path / "found.txt"), "ends in .csv or .parquet"),
        ((*of_run, film, "--out", film / "found.csv"), "cannot be written"),
        ((*of_run, film, "--manifest", manifest), "both name images"),
        ((*of_run, film, "--split", "test"), "belongs to --manifest"),
        ((*of_run, "--manifest", manifest, "--out", manifest), "the manifest itself"),
        (("--run", tmp_path / "empty", film), "neither a run nor an exported model"),
        (("--run", tmp_path / "nowhere", film), "no such file or folder"),
        (("--run", tiny_pack, film), "neither a run nor an exported model"),
        ((*of_run, film, "--device", "abacus"), "expected auto, cpu"),
    ):
        out = () if "--out" in arguments else ("--out", tmp_path / "found.csv")
        code, text = run_command(*arguments, *out)
        assert (code, words in text) == (2, True), (words, text)
    assert not (tmp_path / "found.csv").exists()


def test_an_exported_model_has_one_state_and_maybe_no_thresholds(evaluated_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    export(ExportConfig(run=evaluated_run, checkpoint="last", out=file))  # only the best one was evaluated
    film = next(iter(films(tmp_path / "films").values()))
    out = ("--out", tmp_path / "found.csv")
    assert run_command("--run", file, film, *out)[0] == 0
    code, text = run_command("--run", file, film, *out, "--thresholds")
    assert (code, "none were chosen" in text) == (2, True)
    code, text = run_command("--run", file, film, *out, "--checkpoint", "last")
    assert (code, "one state only" in text) == (2, True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_a_gpu_gives_the_probabilities_of_the_cpu(evaluated_run: Path, tmp_path: Path) -> None:
    files = named_files([films(tmp_path / "films")["gray.png"], tmp_path / "films"])
    found = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.parquet"
        predict(PredictConfig(model=evaluated_run, out=out, device=device), files)
        table = pq.read_table(out)
        found[device] = np.stack([column.to_numpy() for column in table.columns[1:]])
    assert np.abs(found["cuda"] - found["cpu"]).max() < 2e-3  # convolutions on a GPU may use TF32
