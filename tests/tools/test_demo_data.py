"""The drawn release is what it says: the NIH's layout, the asked noise, the same for the same seed, and visible."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manifests.errors import ConfigError
from manifests.findings import NO_FINDING
from tools.demo_data import HEADER, LABEL_FILE, Release, draw_film, write_release
from tools.demo_labels import (
    FINDINGS,
    NIH_IMAGES,
    NIH_POSITIVES,
    Film,
    LabelNoise,
    draw_cohort,
    finding_labels,
    prevalence_C,
    with_noise,
)
from tools.demo_sheet import write_sheet

NIH_HEADER = (
    b"Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    b"OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return write_release(tmp_path_factory.mktemp("demo") / "out", num_images=120, size_px=48, seed=3, workers=1)


def rows_of(folder: Path) -> list[list[str]]:
    with (folder / LABEL_FILE).open(newline="") as file:
        return list(csv.reader(file))


def test_layout_is_that_of_the_download(release: Release) -> None:
    assert (release.folder / LABEL_FILE).read_bytes().startswith(NIH_HEADER)
    assert NIH_HEADER.decode().strip() == HEADER
    header, *rows = rows_of(release.folder)
    # The commas within the brackets of the header make eleven columns of it, as many as a row has.
    assert len(header) == 11
    assert {len(row) for row in rows} == {11}
    for row, film in zip(rows, release.films, strict=True):
        image_id, _, follow_up, patient, age, sex, view, *_ = row
        assert image_id == f"{int(patient):08d}_{int(follow_up):03d}.png" == film.image_id
        assert 0 < int(age) < 120
        assert sex in "MF"
        assert view in {"AP", "PA"}
    images = {path.name: path for path in release.folder.glob("images_*/images/*.png")}
    assert images.keys() == {row[0] for row in rows}
    for path in images.values():
        with Image.open(path) as image:
            assert image.size == (48, 48)
            assert image.mode in {"L", "RGBA"}


def test_lists_part_the_patients_and_end_without_a_newline(release: Release) -> None:
    texts = [(release.folder / name).read_text() for name in ("train_val_list.txt", "test_list.txt")]
    assert not any(text.endswith("\n") for text in texts)
    train, test = (text.split("\n") for text in texts)
    assert sorted(train + test) == sorted(film.image_id for film in release.films)
    assert not {name[:8] for name in train} & {name[:8] for name in test}
    for name in ("train_val_list.txt", "test_list.txt"):
        assert (release.clean / name).read_bytes() == (release.folder / name).read_bytes()


def test_clean_labels_are_the_same_rows_without_noise(release: Release) -> None:
    noisy, clean = rows_of(release.folder), rows_of(release.clean)
    assert [row[:1] + row[2:] for row in noisy] == [row[:1] + row[2:] for row in clean]
    for folder, present_NC in ((release.folder, release.noisy_NC), (release.clean, release.clean_NC)):
        for row, present_C in zip(rows_of(folder)[1:], present_NC, strict=True):
            names = row[1].split("|")
            assert (names == [NO_FINDING]) == (not present_C.any())
            assert names == [NO_FINDING] or set(names) == {n for n, p in zip(FINDINGS, present_C, strict=True) if p}


@pytest.mark.parametrize(("ppv", "sensitivity"), [(0.5, 0.5), (0.8, 0.3), (1.0, 1.0)])
def test_noise_has_the_asked_rates(ppv: float, sensitivity: float) -> None:
    _, clean_NC = draw_cohort(num_images=40_000, floor=0.04, seed=1)
    noisy_NC = with_noise(clean_NC, LabelNoise(ppv=ppv, sensitivity=sensitivity), seed=1)
    for column in range(len(FINDINGS)):
        clean, noisy = clean_NC[:, column], noisy_NC[:, column]
        right = (clean & noisy).sum()
        for share, of, asked in (
            (right / noisy.sum(), noisy.sum(), ppv),
            (right / clean.sum(), clean.sum(), sensitivity),
        ):
            assert abs(share - asked) <= 4.5 * np.sqrt(asked * (1 - asked) / of) + 1e-9


def test_noise_does_not_depend_on_the_image_but_by_its_label() -> None:
    """Wrong labels fall on every negative alike, whatever else is on it."""
    _, clean_NC = draw_cohort(num_images=40_000, floor=0.04, seed=2)
    noisy_NC = with_noise(clean_NC, LabelNoise(), seed=2)
    healthy = ~clean_NC.any(axis=1)
    for column in range(len(FINDINGS)):
        negative = ~clean_NC[:, column]
        rates = [noisy_NC[negative & group, column].mean() for group in (healthy, ~healthy)]
        spread = np.sqrt(rates[0] * (1 / (negative & healthy).sum() + 1 / (negative & ~healthy).sum()))
        assert abs(rates[0] - rates[1]) < 4.5 * spread


def test_prevalences_are_the_nihs_with_a_floor() -> None:
    assert prevalence_C(0.0).tolist() == [NIH_POSITIVES[name] / NIH_IMAGES for name in FINDINGS]
    _, clean_NC = draw_cohort(num_images=60_000, floor=0.04, seed=4)
    expected_C = prevalence_C(0.04)
    assert expected_C.min() == 0.04
    # Films of a patient share their findings, so that the spread is wider than that of independent films.
    assert np.abs(clean_NC.mean(axis=0) / expected_C - 1).max() < 0.2
    assert 0.4 < (~clean_NC.any(axis=1)).mean() < 0.6


@settings(max_examples=25, deadline=None)
@given(num_images=st.integers(20, 400), seed=st.integers(0, 10**6))
def test_every_cohort_has_patients_on_both_sides(num_images: int, seed: int) -> None:
    films, clean_NC = draw_cohort(num_images=num_images, floor=0.04, seed=seed)
    assert len(films) == len(clean_NC) == num_images
    assert len({film.image_id for film in films}) == num_images
    assert {film.is_test for film in films} == {False, True}
    for patient in {film.patient for film in films}:
        assert len({film.is_test for film in films if film.patient == patient}) == 1


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(release: Release, tmp_path: Path) -> None:
    again = write_release(tmp_path / "out", num_images=120, size_px=48, seed=3, workers=2)
    files = sorted(
        path.relative_to(release.folder.parent) for path in release.folder.parent.rglob("*") if path.is_file()
    )
    assert files == sorted(
        path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    for file in files:
        assert (release.folder.parent / file).read_bytes() == (tmp_path / "out" / file).read_bytes(), file
    other = draw_film(release.films[0], (), size_px=48, seed=4)
    assert not np.array_equal(other, draw_film(release.films[0], (), size_px=48, seed=3))
    assert again.films == release.films


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_leaves_a_mark_on_the_film(finding: str) -> None:
    """The mark is compared with the grain: the mean over films of the largest change of a 4 x 4 block."""
    changes = []
    for patient in range(1, 7):
        film = Film(patient=patient, follow_up=0, age_years=50, is_female=False, is_ap=False, is_test=False)
        with_it, without = (
            draw_film(film, names, size_px=64, seed=0).astype(float).reshape(16, 4, 16, 4).mean(axis=(1, 3))
            for names in ((finding,), ())
        )
        changes.append(np.abs(with_it - without).max())
    assert np.median(changes) > 12


def test_films_of_a_patient_are_alike_and_of_two_patients_are_not() -> None:
    def film(patient: int, follow_up: int) -> np.ndarray:
        told = Film(patient=patient, follow_up=follow_up, age_years=50, is_female=False, is_ap=False, is_test=False)
        pixels = draw_film(told, (), size_px=64, seed=0).astype(float)
        return np.asarray((pixels - pixels.mean()) / pixels.std())

    within = [np.mean(film(p, 0) * film(p, 1)) for p in range(1, 13)]
    between = [np.mean(film(p, 0) * film(p + 1, 1)) for p in range(1, 13)]
    assert np.mean(within) > np.mean(between)


def test_the_sheet_shows_the_release(release: Release, tmp_path: Path) -> None:
    write_sheet(tmp_path / "films.png", release)
    with Image.open(tmp_path / "films.png") as sheet:
        assert sheet.width == 5 * 256
        assert np.asarray(sheet).std() > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 5}, "num-images=5"),
        ({"size_px": 8}, "size=8"),
        ({"floor": 0.9}, "floor=0.9"),
        ({"floor": -0.1}, "floor=-0.1"),
    ],
)
def test_arguments_that_cannot_work_are_refused(tmp_path: Path, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_release(tmp_path / "out", **({"num_images": 40, "size_px": 48} | arguments))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("ppv", "sensitivity"), [(0.0, 0.5), (0.5, 1.5)])
def test_impossible_noise_is_refused(ppv: float, sensitivity: float) -> None:
    with pytest.raises(ConfigError, match="expected a share"):
        LabelNoise(ppv=ppv, sensitivity=sensitivity)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        write_release(tmp_path, num_images=40, size_px=48)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_film_without_findings_is_labelled_no_finding() -> None:
    assert finding_labels(np.zeros(len(FINDINGS), dtype=bool)) == NO_FINDING
