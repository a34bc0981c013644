"""From a release to a manifest: matching, what is left out, and the file itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests import build as build_module
from manifests.errors import ConfigError, ManifestError
from manifests.listing import Listing
from tests.manifests.tiny_release import (
    LABELS,
    NAMES,
    ROWS,
    build,
    built,
    row,
    touch_images,
    write_labels,
    write_release,
)

PROJECT = Path(__file__).parents[2]


def test_images_may_lie_in_several_folders(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_labels(root)
    touch_images(root / "images_001" / "images", NAMES[:3])
    touch_images(root / "images_012" / "images", NAMES[3:])
    assert built(root).strings("path") == [
        *(f"images_001/images/{name}" for name in NAMES[:3]),
        *(f"images_012/images/{name}" for name in NAMES[3:]),
    ]


def test_endings_match_in_any_case(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_labels(root, [*ROWS, row("00000005_000.PNG")])
    touch_images(root, [NAMES[0].replace("png", "PNG"), *NAMES[1:], "00000005_000.png"])
    table = built(root)
    assert table.strings("path") == [NAMES[0].replace("png", "PNG"), *NAMES[1:], "00000005_000.png"]
    assert table.strings("image_id") == [*NAMES, "00000005_000.PNG"]


def test_rows_without_a_file_and_files_without_a_row_are_left_out_counted_and_listed(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    (root / "images" / NAMES[1]).unlink()
    touch_images(root / "images", ["00000009_000.png", os.fsdecode(b"\xff.png")])
    touch_images(root, ["00000008_000.png"])
    report = build(root)
    assert report.exclusions == {
        "image_no_expert_saw": 0,
        "row_in_no_official_list": 0,
        "row_without_file": 1,
        "file_without_row": 2,
        "file_name_not_utf8": 1,
    }
    assert report.left_out == report.out.with_name("nih.left-out.csv")
    assert report.left_out.read_text().splitlines() == [
        "reason,image_id,path",
        f"row_without_file,{NAMES[1]},",
        "file_without_row,,00000008_000.png",
        "file_without_row,,images/00000009_000.png",
        "file_name_not_utf8,,images/\\udcff.png",
    ]
    table = built(root)
    assert table.metadata["exclusions"] == report.exclusions
    assert table.strings("image_id") == [name for name in NAMES if name != NAMES[1]]


def test_the_list_of_an_earlier_build_goes_when_nothing_is_left_out(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    (root / "images" / NAMES[1]).unlink()
    stale = build(root).left_out
    assert stale is not None
    touch_images(root / "images")
    assert build(root).left_out is None
    assert not stale.exists()


def test_rows_without_a_file_stay_when_asked_to(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    shutil.rmtree(root / "images")
    touch_images(root / "elsewhere", NAMES[:1])
    report = build(root, allow_missing_images=True)
    table = built(root, allow_missing_images=True)
    assert table.strings("path") == [f"elsewhere/{NAMES[0]}", *(f"images/{name}" for name in NAMES[1:])]
    assert table.metadata["counts"]["rows_kept_without_file"] == len(NAMES) - 1
    assert report.left_out is None
    assert report.notes == ("5 of the rows have no file: they serve statistics, not packs",)


def test_labels_alone_make_a_manifest_when_asked_to(tmp_path: Path) -> None:
    write_labels(tmp_path / "release")
    assert built(tmp_path / "release", allow_missing_images=True).num_rows == len(ROWS)


def test_a_name_in_two_folders_is_refused_unless_one_is_chosen(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    touch_images(root / "images_small", NAMES[:2])
    touch_images(root / "images_small", ["thumbnail.png"])
    with pytest.raises(ManifestError, match=r"2 file names .* --images SUBDIR \(images or images_small\)") as caught:
        build(root)
    assert caught.value.problems[0] == f"images/{NAMES[0]}, images_small/{NAMES[0]}"
    assert built(root, images="images").num_rows == len(NAMES)
    assert built(root, images="images_small").num_rows == 2


def test_names_in_two_folders_that_no_row_asks_for_do_no_harm(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    for folder in ("a", "b"):
        touch_images(root / folder, ["preview.png"])
    assert build(root).exclusions["file_without_row"] == 2


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such folder; give the folder of the NIH ChestX-ray14 download"):
        build(tmp_path / "missing")


def test_a_release_without_images_is_refused(tmp_path: Path) -> None:
    write_labels(tmp_path / "release")
    with pytest.raises(ManifestError, match=r"no image \(\.png\) .* --allow-missing-images"):
        build(tmp_path / "release")


def test_images_of_another_release_are_refused(tmp_path: Path) -> None:
    write_labels(tmp_path / "release")
    touch_images(tmp_path / "release" / "images", ["cat.png"])
    with pytest.raises(ManifestError, match="no label row is left") as caught:
        build(tmp_path / "release")
    assert caught.value.problems == ("label rows without a file: 6", "files without a label row: 1")


def test_an_output_that_cannot_be_written_is_refused_before_anything_is(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a folder"):
        build(root, out=tmp_path)
    with pytest.raises(ConfigError, match="exists and is no Parquet file"):
        build(root, out=root / LABELS)
    with pytest.raises(ConfigError, match=r"/dev/null: exists and is no Parquet file"):
        build(root, out=Path("/dev/null"))
    with pytest.raises(ManifestError, match=r"--out .*cannot be written \(.*(directory|exists)"):
        build(root, out=tmp_path / "file" / "nih.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "release"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)"),
    ],
)
def test_a_failed_write_leaves_the_old_manifest_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    root = write_release(tmp_path / "release")
    out = build(root).out
    before = out.read_bytes()
    (root / "images" / NAMES[0]).unlink()

    def no_space(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", no_space)
    with pytest.raises(ManifestError, match="No space left on device"):
        build(root, seed=1)
    assert out.read_bytes() == before
    assert list(out.parent.iterdir()) == [out]


def test_an_enum_is_written_as_the_text_that_it_stands_for(tmp_path: Path) -> None:
    words = pl.Series("view", ["PA", None, "AP", "PA"])
    for name, frame in {
        "text": words.to_frame(),
        "enum": words.cast(pl.Enum(["AP", "unused", "PA"])).to_frame(),
    }.items():
        build_module.write_manifest(tmp_path / f"{name}.parquet", frame, {})
    text, enum = (tmp_path / f"{name}.parquet" for name in ("text", "enum"))
    assert pl.read_parquet(enum).equals(pl.read_parquet(text))
    assert pl.read_parquet_schema(enum) == {"view": pl.String}
    assert pq.read_table(enum).equals(pq.read_table(text), check_metadata=True)
    assert pq.read_metadata(enum).metadata == pq.read_metadata(text).metadata


def test_same_input_same_bytes_wherever_the_root_lies(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "release", tmp_path / "there" / "deeper" / "other-name"
    one, other = build(write_release(here)), build(write_release(there))
    assert one.out.read_bytes() == other.out.read_bytes()
    assert str(tmp_path).encode() not in one.out.read_bytes()


def test_same_input_same_bytes_for_any_number_of_threads(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_labels(root, [row(f"{patient:08d}_000.png", "Mass|Nodule") for patient in range(1, 3000)])
    written = []
    for threads in ("1", "3"):
        out = tmp_path / f"{threads}.parquet"
        command = [
            *(sys.executable, "-m", "pipeline.cli", "build-manifest", "--dataset", "nih", "--root", str(root)),
            *("--allow-missing-images", "--out", str(out)),
        ]
        environment = os.environ | {"POLARS_MAX_THREADS": threads, "CXR_HOME": str(tmp_path / "home")}
        subprocess.run(command, check=True, cwd=PROJECT, env=environment, capture_output=True)
        written.append(out.read_bytes())
    assert written[0] == written[1]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=st.permutations(range(len(NAMES))), folders=st.permutations(["", "images", "images_001/images"]))
def test_the_order_in_which_folders_list_their_files_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: list[int], folders: list[str]
) -> None:
    root = tmp_path / "release"
    write_labels(root)
    touch_images(root, ["b.png", "a.png"])
    where = dict(zip(NAMES, ["", "", "images", "images", "images_001/images", "images"], strict=True))

    def listing(names: list[str], folders: list[str]) -> Listing:
        images = {folder: [name for name in names if where.get(name, "") == folder] for folder in folders}
        return Listing(images=images, documents={LABELS: [""]})

    def written(found: Listing) -> tuple[bytes, bytes]:
        monkeypatch.setattr(build_module, "list_release", lambda *_, **__: found)
        report = build(root)
        assert report.left_out is not None
        return report.out.read_bytes(), report.left_out.read_bytes()

    sorted_listing = listing([*NAMES, "a.png", "b.png"], ["", "images", "images_001/images"])
    other = listing(["b.png", *(NAMES[place] for place in order), "a.png"], folders)
    assert written(other) == written(sorted_listing)


def test_the_metadata_says_what_the_manifest_was_made_from(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release")
    table = built(root, seed=7, valid_fraction=0.2)
    assert table.metadata["schema_version"] == "1"
    assert table.metadata["split"] == {
        "rule": "official lists, validation by patient",
        "seed": 7,
        "fraction_version": 1,
        "valid_fraction": 0.2,
        "test_fraction": None,
    }
    assert table.metadata["counts"] == {
        "images": 6,
        "patients": 4,
        "label_rows": 6,
        "files": 6,
        "rows_kept_without_file": 0,
        "ages_over_100": 0,
    }
    expected = subprocess.run(
        ["sha256sum", LABELS, "train_val_list.txt", "test_list.txt"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert [f"{source['sha256']}  {source['file']}" for source in table.metadata["sources"]] == expected.splitlines()


def test_the_report_counts_what_the_file_holds(tmp_path: Path) -> None:
    report = build(write_release(tmp_path / "release"), valid_fraction=0)
    assert report.splits == {"train": (4, 3), "valid": (0, 0), "test": (2, 1)}
    assert report.positives["Mass"] == {"train": 0, "valid": 0, "test": 1}
    assert report.positives["Cardiomegaly"] == {"train": 2, "valid": 0, "test": 0}
    table = pq.read_table(report.out).to_pylist()
    assert sum(image["Cardiomegaly"] for image in table) == 2
