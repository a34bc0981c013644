"""What decoding and resizing cost and lose: PNG by our loops and by Pillow, JPEG at fractions of its size.

    python -m tools.bench_sources [--images DIR]

- PNG: inflating, row filters and resizing with libdeflate and the compiled loops, and all of it with Pillow alone;
- JPEG (quality 95, made of the same films): decoded whole, at 1/2, 1/4 and 1/8, then resized so that some pixels are
  left for each of the result: PSNR beside the whole one, of the worst film and the mean of all.

Times are of the processor, the best of a few rounds. Without ``--images`` films are drawn. Rows go to
tools/results/sources.csv.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from pipeline.image_spec import ImageSpec
from pipeline.packing import kernels
from pipeline.packing.resize import Placement, fit, place
from pipeline.packing.sources import png
from tools.benchmark import RESULTS, append_row
from tools.pack_films import QUALITY, draw_films

Item = TypeVar("Item")
SIZES_PX = (256, 512)
REDUCTIONS = (2, 4, 8)
PIXELS_LEFT = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Pixels of the reduced image for each of the result, along an axis."""


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of PNG films; by default some are drawn")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each timing (default 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = arguments.images or draw_films(Path(name) / "films")
        films = [path.read_bytes() for path in sorted(root.glob("*.png"))]
    source = f"{'real' if arguments.images else 'drawn'} films"
    jpegs = [as_jpeg(film) for film in films]
    rows = time_pngs(films, arguments.rounds) + time_jpegs(jpegs, arguments.rounds) + losses(jpegs)
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
        append_row(RESULTS / "sources.csv", {"source": source, "num_images": len(films)} | row)


def as_jpeg(film: bytes) -> bytes:
    """Return a PNG as a gray JPEG."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(film)) as image:
        image.convert("L").save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def best_ms(call: Callable[[Item], object], items: Sequence[Item], rounds: int) -> str:
    """Return the processor's time an item, in ms: the best round of all."""
    times_s = []
    for _ in range(rounds):
        begin_s = time.process_time()
        for item in items:
            call(item)
        times_s.append(time.process_time() - begin_s)
    return f"{1000 * min(times_s) / len(items):.3f}"


def time_pngs(films: Sequence[bytes], rounds: int) -> list[dict[str, object]]:
    """Return rows of what the steps from a PNG to gray pixels take."""
    parts = [(png.read_header(film), png.read_chunks(film)) for film in films]
    whole = [(film[: png.HEADER_BYTES], *part) for film, part in zip(films, parts, strict=True)]
    rows: list[dict[str, object]] = [
        {"what": "png: chunks and checksums", "ms": best_ms(png.read_chunks, films, rounds)},
        {"what": "png: decoded by Pillow", "ms": best_ms(lambda each: png.decode_with_pillow(*each), whole, rounds)},
    ]
    if kernels.library is None:
        return rows
    rows.append(
        {"what": "png: decoded by our loops", "ms": best_ms(lambda part: png.decode_fast(*part), parts, rounds)}
    )
    grays = [gray for part in parts if (gray := png.decode_fast(*part)) is not None]
    images = [Image.fromarray(gray) for gray in grays]
    for size_px in SIZES_PX:
        ours = best_ms(partial(fit_whole, size_px), grays, rounds)
        pillow = best_ms(partial(pillow_resize, size_px), images, rounds)
        rows += [
            {"what": f"resized to {size_px} px by our loops", "ms": ours},
            {"what": f"resized to {size_px} px by Pillow", "ms": pillow},
        ]
    return rows


def whole_of(gray_HW: np.ndarray, height: int, width: int) -> Placement:
    """Return the placement of a whole image, stretched."""
    return place(gray_HW.shape[1], gray_HW.shape[0], ImageSpec(height_px=height, width_px=width))


def fit_whole(size_px: int, gray_HW: np.ndarray) -> np.ndarray:
    """Return an image stretched to a square by our loops."""
    return fit(gray_HW, whole_of(gray_HW, size_px, size_px))


def pillow_resize(size_px: int, image: Image.Image) -> Image.Image:
    """Return an image stretched to a square by Pillow."""
    return image.resize((size_px, size_px), Image.Resampling.BILINEAR)


def reduced(content: bytes, reduction: int) -> np.ndarray:
    """Return a gray JPEG decoded at 1 / reduction of its size."""
    image = JpegImageFile(io.BytesIO(content))
    image.draft("L", (image.width // reduction, image.height // reduction))
    return np.asarray(image)


def time_jpegs(jpegs: Sequence[bytes], rounds: int) -> list[dict[str, object]]:
    """Return rows of what decoding a JPEG takes."""
    return [
        {
            "what": f"jpeg: decoded at 1/{reduction}",
            "ms": best_ms(partial(reduced, reduction=reduction), jpegs, rounds),
        }
        for reduction in (1, *REDUCTIONS)
    ]


def losses(jpegs: Sequence[bytes]) -> list[dict[str, object]]:
    """Return rows of what decoding at a fraction loses."""
    rows: list[dict[str, object]] = []
    fulls = [reduced(content, 1) for content in jpegs]
    for reduction in REDUCTIONS:
        parts = [reduced(content, reduction) for content in jpegs]
        for left in PIXELS_LEFT:
            found_db = []
            for full_HW, part_HW in zip(fulls, parts, strict=True):
                height, width = (round(side / reduction / left) for side in full_HW.shape)
                placement = whole_of(full_HW, height, width)
                found_db.append(psnr_db(fit(part_HW, placement, reduction), fit(full_HW, placement)))
            rows.append(
                {
                    "what": f"jpeg: loss at 1/{reduction}",
                    "pixels_left": left,
                    "worst_db": f"{min(found_db):.1f}",
                    "mean_db": f"{np.mean(found_db):.1f}",
                }
            )
    return rows


def psnr_db(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two 8-bit images; 99 where they are the same."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


if __name__ == "__main__":
    main()
