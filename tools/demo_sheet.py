"""One page of drawn films with their captions: what the demo trains on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from manifests.findings import NO_FINDING
from tools.demo_data import Release
from tools.demo_labels import FINDINGS

COLUMNS = 5
CAPTION_PX = 16


def write_sheet(path: Path, release: Release) -> None:
    """Write an image of one film for each finding, and one without any, each with its true and its noisy labels.

    Films that show one finding alone are preferred; a finding that no film shows has no place.
    """
    chosen: list[tuple[str, int]] = []
    alone_N = release.clean_NC.sum(axis=1)
    for column, name in [(None, NO_FINDING), *enumerate(FINDINGS)]:
        shows_N = alone_N == 0 if column is None else release.clean_NC[:, column]
        rows = np.flatnonzero(shows_N)
        if len(rows):
            chosen.append((name, int(rows[np.argmin(alone_N[rows])])))
    films = [np.asarray(Image.open(release.path_of(row)).convert("L")) for _, row in chosen]
    captions = [name.replace("_", " ") for name, _ in chosen]
    labels = [_noisy_names(release.noisy_NC[row]) for _, row in chosen]
    _grid(films, captions, labels).save(path)


def _noisy_names(noisy_C: NDArray[np.bool_]) -> str:
    names = [name.replace("_", " ") for name, there in zip(FINDINGS, noisy_C, strict=True) if there]
    return f"labelled: {', '.join(names) or 'No Finding'}"


def _grid(films: Sequence[NDArray[np.uint8]], captions: Sequence[str], labels: Sequence[str]) -> Image.Image:
    size = max(256, films[0].shape[0])
    rows = -(-len(films) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * size, rows * (size + 2 * CAPTION_PX)), 0)
    draw = ImageDraw.Draw(sheet)
    for position, (film, caption, label) in enumerate(zip(films, captions, labels, strict=True)):
        row, column = divmod(position, COLUMNS)
        left, top = column * size, row * (size + 2 * CAPTION_PX)
        sheet.paste(Image.fromarray(film).resize((size, size), Image.Resampling.BICUBIC), (left, top))
        draw.text((left + 6, top + size + 2), caption, fill=255)
        draw.text((left + 6, top + size + CAPTION_PX), label, fill=150)
    return sheet
