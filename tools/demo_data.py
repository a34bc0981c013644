"""Draw a small release in the exact layout of the ChestX-ray14 download, with noisy labels and the clean ones aside.

    python -m tools.demo_data --out demo-data --num-images 5000

writes::

    demo-data/
      release/                   what a user would download
        Data_Entry_2017_v2020.csv  noisy labels
        train_val_list.txt, test_list.txt
        images_001/images/*.png, images_002/images/*.png, ...
      clean/                     the truth: the same label file without noise, and the lists; no images

The same arguments give the same pixels and labels, whatever the number of workers.
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from manifests.errors import ConfigError
from pipeline.console import err, out, progress_bar, run_command_line
from tools.demo_anatomy import draw_anatomy, draw_exposure, reshaped
from tools.demo_film import Canvas, develop, draw_chest
from tools.demo_findings import paint
from tools.demo_labels import FINDINGS, Film, LabelNoise, draw_cohort, finding_labels, with_noise

LABEL_FILE = "Data_Entry_2017_v2020.csv"
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
"""Byte for byte the first line of the released file; the commas in brackets are its own."""

ORIGINALS = ((2500, 2048, 0.168), (2992, 2991, 0.143), (2048, 2500, 0.171), (3056, 2544, 0.139), (1024, 1024, 0.194308))
"""Width, height and pixel spacing that the label file tells of the originals."""

IMAGES_PER_FOLDER = 2000
RGBA_SHARE = 0.005
"""A few PNGs are RGBA, as in the release (519 of 112,120)."""

CHUNK = 50
"""Films that a worker draws before it reports."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release that was drawn."""

    folder: Path
    """What a user would download."""

    clean: Path
    """Folder of the clean labels."""

    films: tuple[Film, ...]
    """Images in the order of the label file."""

    clean_NC: NDArray[np.bool_]
    """What is drawn, bool [N, C] in the order of `FINDINGS`."""

    noisy_NC: NDArray[np.bool_]
    """What the label file says."""

    def path_of(self, row: int) -> Path:
        """Return the file of an image, by its row in the label file."""
        return self.folder / f"images_{row // IMAGES_PER_FOLDER + 1:03d}" / "images" / self.films[row].image_id


def write_release(
    out_dir: Path,
    *,
    num_images: int,
    size_px: int = 128,
    floor: float = 0.04,
    noise: LabelNoise | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Release:
    """Draw and write a release; see the module for what becomes of `out_dir`.

    Raises:
        ConfigError: `out_dir` is not empty, or an argument cannot work.
    """
    if size_px < 32:
        raise ConfigError(f"--size={size_px}: expected at least 32 pixels; findings vanish in smaller films")
    films, clean_NC = draw_cohort(num_images=num_images, floor=floor, seed=seed)
    noisy_NC = with_noise(clean_NC, noise or LabelNoise(), seed=seed)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise ConfigError(f"{out_dir}: there already, and not empty; choose another --out or delete it")
    release = Release(
        folder=out_dir / "release", clean=out_dir / "clean", films=tuple(films), clean_NC=clean_NC, noisy_NC=noisy_NC
    )
    _write_tables(release.clean, films, clean_NC)
    _write_images(release, size_px=size_px, seed=seed, workers=workers or os.cpu_count() or 1)
    # Last, so that a release that was interrupted is not taken for a whole one.
    _write_tables(release.folder, films, noisy_NC)
    return release


def draw_film(film: Film, findings: Sequence[str], *, size_px: int, seed: int) -> NDArray[np.uint8]:
    """Return the pixels of one film, uint8 [S, S]: a pure function of its arguments."""
    anatomy = draw_anatomy(np.random.default_rng((seed, 4, film.patient)), is_female=film.is_female)
    rng = np.random.default_rng((seed, 5, film.patient, film.follow_up))
    exposure = draw_exposure(rng, is_ap=film.is_ap)
    canvas = Canvas(reshaped(anatomy, rng, findings), exposure, rng, size_px)
    draw_chest(canvas)
    paint(canvas, findings)
    return develop(canvas)


def _write_tables(folder: Path, films: Sequence[Film], present_NC: NDArray[np.bool_]) -> None:
    """Write the label file and the two lists, whose last lines have no newline, as in the release."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [HEADER]
    for film, present_C in zip(films, present_NC, strict=True):
        width, height, spacing = ORIGINALS[film.patient % len(ORIGINALS)]
        rows.append(
            f"{film.image_id},{finding_labels(present_C)},{film.follow_up},{film.patient},{film.age_years},"
            f"{'F' if film.is_female else 'M'},{'AP' if film.is_ap else 'PA'},{width},{height},{spacing},{spacing}"
        )
    for name, is_test in (("train_val_list.txt", False), ("test_list.txt", True)):
        (folder / name).write_text("\n".join(film.image_id for film in films if film.is_test == is_test))
    (folder / LABEL_FILE).write_text("\n".join(rows) + "\n")


def _write_images(release: Release, *, size_px: int, seed: int, workers: int) -> None:
    jobs = []
    for position, (film, present_C) in enumerate(zip(release.films, release.clean_NC, strict=True)):
        path = release.path_of(position)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = tuple(name for name, there in zip(FINDINGS, present_C, strict=True) if there)
        jobs.append((path, film, names))
    chunks = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
    with progress_bar("films") as progress:
        task = progress.add_task("drawing", total=len(jobs))
        for num_done in _drawn(chunks, partial(_draw_chunk, size_px=size_px, seed=seed), min(workers, len(chunks))):
            progress.advance(task, num_done)


Job = tuple[Path, Film, tuple[str, ...]]


def _drawn(chunks: Sequence[list[Job]], draw: "partial[int]", workers: int) -> Iterator[int]:
    """Yield the number of films of each chunk that is done; in this process where one worker is asked for."""
    if workers == 1:
        yield from map(draw, chunks)
        return
    # A fresh process instead of a fork: the caller may have threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(draw, chunks)


def _draw_chunk(jobs: Sequence[Job], *, size_px: int, seed: int) -> int:
    for path, film, findings in jobs:
        image = Image.fromarray(draw_film(film, findings, size_px=size_px, seed=seed))
        if np.random.default_rng((seed, 6, film.patient, film.follow_up)).random() < RGBA_SHARE:
            image = image.convert("RGBA")
        image.save(path, compress_level=1)
    return len(jobs)


def command(
    out_dir: Annotated[Path, typer.Option("--out", help="New folder for the release and the clean labels.")],
    num_images: Annotated[int, typer.Option(help="Images to draw.")] = 5000,
    size: Annotated[int, typer.Option(help="Side of an image in pixels.")] = 128,
    floor: Annotated[
        float, typer.Option(help="Least share of images with a finding; 0: exactly the NIH's shares.")
    ] = 0.04,
    ppv: Annotated[float, typer.Option(help="Share of the labels 'present' that are right.")] = 0.5,
    sensitivity: Annotated[float, typer.Option(help="Share of what is present that is labelled so.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Another seed, other patients.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
) -> None:
    """Draw a release in the layout of ChestX-ray14, with noisy labels and the clean ones aside."""
    noise = LabelNoise(ppv=ppv, sensitivity=sensitivity)
    release = write_release(
        out_dir, num_images=num_images, size_px=size, floor=floor, noise=noise, seed=seed, workers=workers
    )
    right = (release.clean_NC & release.noisy_NC).sum()
    out.print(
        f"{release.folder}: {len(release.films):,} images of {release.films[-1].patient:,} patients; of the labels "
        f"'present' {right / max(release.noisy_NC.sum(), 1):.1%} are right, and "
        f"{right / max(release.clean_NC.sum(), 1):.1%} of what is drawn is labelled"
    )
    err.print(f"clean labels: {release.clean}")


def main() -> None:
    """Run the command."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    run_command_line(app)


if __name__ == "__main__":
    main()
