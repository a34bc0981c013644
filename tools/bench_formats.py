"""What the formats cost: images a second that are written, bytes an image, and what JPEG loses.

    python -m tools.bench_formats [--images DIR] [--sizes 256,1024] [--encoders]

The same gray films, already decoded and resized, are written by one process with checksums, as `cxr-prep pack` does:

- ``raw``, ``tar png``, ``tar jpg q85`` to ``q98``: the shards;
- ``beton gray``, ``beton rgb``: the parts, and the one file that they are joined into;
- ``ffcv gray``, ``ffcv rgb``: FFCV's own DatasetWriter with one worker (its bytes are the same only then), without
  checksums; in a process that is ended if it hangs, whose start and imports do not count.

With ``--encoders`` encoders of single images take their place, those of `tar` and what else Pillow offers.

JPEGs are decoded again by Pillow: PSNR beside the pixels that went in, of the worst film and the mean of all. Without
``--images`` films are drawn. One row a contender and size goes to tools/results/formats.csv.
"""

import argparse
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.beton import BetonLayout
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack_format import PackFormat
from pipeline.packing.checksums import HashingSink
from pipeline.packing.decoded import DecodedImage
from pipeline.packing.formats import FORMATS
from pipeline.packing.png_encode import encode_png
from pipeline.packing.shard_format import ShardLayout
from tools.benchmark import RESULTS, append_row, summarise
from tools.ffcv_writer import write_with_ffcv
from tools.pack_films import draw_films

QUALITIES = (85, 90, 95, 98)
PNG_LEVELS = (1, 3, 6, 9)
Z_RLE = 3
"""zlib's strategy that looks for nothing but runs."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way to write films into a folder, which returns how long it took."""

    name: str
    run: Callable[[np.ndarray, Path], float]


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of PNG films; by default some are drawn")
    parser.add_argument("--num-images", type=int, default=256, help="images a run (default 256)")
    parser.add_argument("--sizes", default="256,512,1024", help="sizes in px (default 256,512,1024)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each contender (default 5)")
    parser.add_argument("--encoders", action="store_true", help="compare encoders of single images instead")
    arguments = parser.parse_args()
    compared = encoders() if arguments.encoders else contenders()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = arguments.images or draw_films(folder / "films", arguments.num_images)
        source = f"{'real' if arguments.images else 'drawn'} films"
        for size_px in map(int, arguments.sizes.split(",")):
            films_NSS = read_films(root, arguments.num_images, size_px)
            measure(compared, films_NSS, folder, arguments.runs, source)


def read_films(root: Path, num_images: int, size_px: int) -> np.ndarray:
    """Return films, uint8 [num_images, size_px, size_px]; those of the folder again and again."""
    films = []
    for path in sorted(root.glob("*.png"))[:num_images]:
        with Image.open(path) as image:
            films.append(np.asarray(image.convert("L").resize((size_px, size_px), Image.Resampling.BILINEAR)))
    return np.stack([films[i % len(films)] for i in range(num_images)])


def contenders() -> list[Contender]:
    """Return all of them."""
    jpgs = [
        Contender(name=f"tar jpg q{quality}", run=writing("tar", Encoding(quality=quality))) for quality in QUALITIES
    ]
    return [
        Contender(name="raw", run=writing("raw", Encoding())),
        *jpgs,
        Contender(name="tar png", run=writing("tar", Encoding(image="png"))),
        Contender(name="beton gray", run=writing("beton", Encoding())),
        Contender(name="ffcv gray", run=writing_with_ffcv(colour=False)),
        Contender(name="beton rgb", run=writing("beton", Encoding(colour="rgb"))),
        Contender(name="ffcv rgb", run=writing_with_ffcv(colour=True)),
    ]


def writing(pack_format: PackFormat, encoding: Encoding) -> Callable[[np.ndarray, Path], float]:
    """Return a contender's `run` for a format of ours."""
    shard_format = FORMATS[pack_format]

    def run(films_NSS: np.ndarray, folder: Path) -> float:
        spec = ImageSpec.square(films_NSS.shape[1])
        step = shard_format.samples_per_shard(len(films_NSS), spec, encoding)
        begin_s = time.perf_counter()
        parts = []
        for number, first in enumerate(range(0, len(films_NSS), step)):
            films_nSS = films_NSS[first : first + step]
            layout = ShardLayout(spec=spec, encoding=encoding, num_samples=len(films_nSS))
            parts.append(folder / shard_format.file_name(number))
            with parts[-1].open("wb") as file:
                writer = shard_format.writer(HashingSink(file), layout, first)
                for index, film_SS in enumerate(films_nSS, start=first):
                    writer.add(index, DecodedImage(pixels_HW=film_SS), None)
                for suffix, content in writer.close().items():
                    parts[-1].with_suffix(suffix).write_bytes(content)
        if shard_format.joined is not None:
            whole = ShardLayout(spec=spec, encoding=encoding, num_samples=len(films_NSS))
            with (folder / shard_format.joined.file_name).open("wb") as file:
                shard_format.joined.join(parts, HashingSink(file), whole)
            for part in parts:
                part.unlink()
        return time.perf_counter() - begin_s

    return run


def writing_with_ffcv(*, colour: bool) -> Callable[[np.ndarray, Path], float]:
    """Return a contender's `run` for FFCV's own writer."""

    def run(films_NSS: np.ndarray, folder: Path) -> float:
        size_px = films_NSS.shape[1]
        layout = BetonLayout(
            num_samples=len(films_NSS), height_px=size_px, width_px=size_px, num_channels=3 if colour else 1
        )
        arrays = folder / "films.npz"
        images = np.repeat(films_NSS[..., None], 3, axis=3) if colour else films_NSS
        np.savez(arrays, images=images, targets=np.zeros((len(images), 0), np.float32))
        elapsed_s = write_with_ffcv(arrays, folder / "peer.beton", page_bytes=layout.page_bytes)
        arrays.unlink()
        return elapsed_s

    return run


def encoders() -> list[Contender]:
    """Return ways to encode that a `tar` could be written with: ours for PNG, and options of Pillow's."""
    pngs = {f"pillow png level {level}": pillow("PNG", compress_level=level) for level in PNG_LEVELS}
    chosen = {
        "png": encode_png,
        **pngs,
        "pillow png Z_RLE": pillow("PNG", compress_type=Z_RLE),
        "jpg q95": pillow("JPEG", quality=95),
        "jpg q95 optimize": pillow("JPEG", quality=95, optimize=True),
    }
    return [Contender(name=name, run=encoding_with(encode)) for name, encode in chosen.items()]


def pillow(image_format: str, **options: int) -> Callable[[np.ndarray], bytes]:
    """Return Pillow's encoder with these options."""

    def encode(film_SS: np.ndarray) -> bytes:
        content = io.BytesIO()
        Image.fromarray(film_SS).save(content, image_format, **options)
        return content.getvalue()

    return encode


def encoding_with(encode: Callable[[np.ndarray], bytes]) -> Callable[[np.ndarray, Path], float]:
    """Return a contender's `run` that only encodes."""

    def run(films_NSS: np.ndarray, folder: Path) -> float:
        begin_s = time.perf_counter()
        encoded = [encode(film_SS) for film_SS in films_NSS]
        elapsed_s = time.perf_counter() - begin_s
        (folder / "images").write_bytes(b"".join(encoded))
        return elapsed_s

    return run


def measure(compared: Sequence[Contender], films_NSS: np.ndarray, folder: Path, runs: int, source: str) -> None:
    """Let the contenders take turns, print and append what they came to; the first round does not count."""
    times_s: dict[str, list[float]] = {contender.name: [] for contender in compared}
    sizes: dict[str, float] = {}
    losses_db: dict[str, tuple[float, float]] = {}
    for round_number in range(runs + 1):
        for contender in compared:
            with tempfile.TemporaryDirectory(dir=folder) as name:
                elapsed_s = contender.run(films_NSS, Path(name))
                if round_number:
                    times_s[contender.name].append(elapsed_s)
                    continue
                sizes[contender.name] = sum(path.stat().st_size for path in Path(name).iterdir()) / len(films_NSS)
                if contender.name.startswith("tar jpg"):
                    losses_db[contender.name] = psnr_db(films_NSS, sorted(Path(name).glob("*.tar")))
    size_px = films_NSS.shape[1]
    for name, all_s in times_s.items():
        rate = summarise([len(films_NSS) / one_s for one_s in all_s])
        worst_db, mean_db = losses_db.get(name, (None, None))
        loss = "" if mean_db is None else f", PSNR {mean_db:.1f} dB, worst {worst_db:.1f}"
        print(f"{size_px:5} px  {name:18} {rate.median:8.0f} images/s, {sizes[name]:9.0f} bytes an image{loss}")
        append_row(
            RESULTS / "formats.csv",
            {
                "pillow": metadata.version("pillow"),
                "ffcv": metadata.version("ffcv"),
                "contender": name,
                "source": source,
                "size_px": size_px,
                "num_images": len(films_NSS),
                "runs": len(all_s),
                "images_per_s": f"{rate.median:.0f}",
                "images_per_s_min": f"{rate.min:.0f}",
                "images_per_s_max": f"{rate.max:.0f}",
                "bytes_per_image": f"{sizes[name]:.0f}",
                "psnr_db_mean": "" if mean_db is None else f"{mean_db:.2f}",
                "psnr_db_min": "" if worst_db is None else f"{worst_db:.2f}",
            },
        )


def psnr_db(films_NSS: np.ndarray, tars: Sequence[Path]) -> tuple[float, float]:
    """Return the worst and the mean PSNR of the JPEGs in these shards beside the films that went in."""
    found = []
    for tar in tars:
        with tarfile.open(tar) as archive:
            for member in archive:
                if member.name.endswith(".jpg"):
                    with Image.open(archive.extractfile(member)) as image:  # type: ignore[arg-type]
                        difference_SS = np.asarray(image, np.float64) - films_NSS[int(member.name[:9])]
                    found.append(10 * np.log10(255**2 / np.mean(difference_SS**2)))
    return float(np.min(found)), float(np.mean(found))


if __name__ == "__main__":
    main()
