"""A contact sheet: random samples of a pack with their labels, for a person to look at."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from manifests.atomic import write_bytes_atomically
from manifests.table import ManifestTable, labels_NC
from pipeline.beton import read_beton
from pipeline.errors import PackError
from pipeline.pack import Pack
from pipeline.tar_index import read_tar_index

NUM_SAMPLES = 64
NUM_COLUMNS = 8
TILE_PX = 200
GAP_PX = 10
FONT_PX = 13
LINE_PX = 16
LINES_OF_FINDINGS = 3
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BACKGROUND, INK, FAINT = 255, 0, 90


def write_contact_sheet(pack: Pack, path: Path, *, seed: int) -> int:
    """Draw random samples that have pixels, with what the manifest says below each, as a PNG; return how many.

    The same pack and seed give the same samples.

    Raises:
        PackError: a shard is damaged, the file cannot be written, or something else than a PNG is there already.
    """
    refuse_other_files(path)
    table = pack.manifest()
    indices = chosen(pack, seed)
    images = list(images_of(pack, indices))
    font = ImageFont.load_default(FONT_PX)
    rows = -(-len(indices) // NUM_COLUMNS)
    step_x, step_y = TILE_PX + GAP_PX, TILE_PX + (2 + LINES_OF_FINDINGS) * LINE_PX + GAP_PX
    top = 2 * GAP_PX + LINE_PX
    sheet = Image.new("L", (NUM_COLUMNS * step_x + GAP_PX, top + rows * step_y), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    title = (
        f"{pack.dataset}, {pack.format}, {pack.spec.size} px: {len(indices)} of {pack.num_samples:,} samples, "
        f"seed {seed}, identity {pack.identity[:12]}"
    )
    draw.text((GAP_PX, GAP_PX), title, INK, font)
    for place, (index, image) in enumerate(zip(indices, images, strict=True)):
        left, upper = GAP_PX + place % NUM_COLUMNS * step_x, top + place // NUM_COLUMNS * step_y
        if image is None:
            draw.text((left, upper), "does not decode", INK, font)
        else:
            image = fitted_image(image)
            sheet.paste(image, (left + (TILE_PX - image.width) // 2, upper + (TILE_PX - image.height) // 2))
        for line, text in enumerate(caption(table, index, font)):
            ink = INK if line == 0 or line > 1 else FAINT
            draw.text((left, upper + TILE_PX + 2 + line * LINE_PX), text, ink, font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    try:
        write_bytes_atomically(path, buffer.getvalue())
    except OSError as error:
        raise PackError(f"{path}: cannot be written ({error.strerror}); name another file") from error
    return len(indices)


def refuse_other_files(path: Path) -> None:
    """Refuse a path at which something is that no contact sheet was: a pack.json, a shard, a label file.

    Raises:
        PackError: the name does not end in .png, or what is there is no PNG.
    """
    if path.suffix.lower() != ".png":
        raise PackError(f"{path}: a contact sheet is a PNG; name a file that ends in .png")
    try:
        with path.open("rb") as file:
            start = file.read(len(PNG_SIGNATURE))
    except OSError:  # nothing there, or nothing that can be read: writing says why it fails
        return
    if start != PNG_SIGNATURE:
        raise PackError(f"{path}: exists and is not a PNG; name another file")


def fitted_image(image: Image.Image) -> Image.Image:
    """Return an image as it is drawn: large ones made smaller, small ones enlarged by a whole number, without blur."""
    times = TILE_PX // max(image.size)
    if times:
        return image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
    image.thumbnail((TILE_PX, TILE_PX), Image.Resampling.BILINEAR)
    return image


def chosen(pack: Pack, seed: int) -> list[int]:
    """Return the sample_index values of the sheet, ascending: random ones of those that have pixels."""
    present = np.setdiff1d(np.arange(pack.num_samples), np.array(pack.rejected, np.int64))
    drawn = np.random.default_rng(seed).choice(present, min(NUM_SAMPLES, len(present)), replace=False)
    return sorted(drawn.tolist())


def images_of(pack: Pack, indices: list[int]) -> Iterator[Image.Image | None]:
    """Yield the images of some samples, whose numbers ascend; None where one does not decode.

    Raises:
        PackError: a shard or an index is damaged.
    """
    if pack.format == "tar":
        index = read_tar_index(pack)
        for sample_index in indices:
            with index.files[index.shard_N[sample_index]].open("rb") as file:
                file.seek(int(index.offset_N[sample_index]))
                yield decoded(file.read(int(index.num_bytes_N[sample_index])))
        return
    if pack.format == "beton":
        (shard,) = pack.shards
        beton = read_beton(pack.shard_path(shard), pack.spec, pack.encoding, shard.num_samples)
        with pack.shard_path(shard).open("rb") as file:
            for sample_index in indices:
                file.seek(beton.image_offset(sample_index))
                pixels = np.frombuffer(file.read(beton.image_bytes), np.uint8)
                gray_HW = pixels.reshape(pack.height_px, pack.width_px, -1)[..., 0]  # channels of RGB are all the same
                yield Image.fromarray(gray_HW.copy())
        return
    for shard in pack.shards:
        images_nHW = np.load(pack.shard_path(shard), mmap_mode="r")
        for sample_index in indices:
            if 0 <= sample_index - shard.first_index < shard.num_samples:
                yield Image.fromarray(np.array(images_nHW[sample_index - shard.first_index]))


def decoded(content: bytes) -> Image.Image | None:
    """Return a JPEG or PNG as 8-bit gray, of 16 bits the high eight; None if it is neither."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            pixels_HW = np.asarray(image)
    except Exception:  # noqa: BLE001 - damaged bytes make a decoder raise what it likes
        return None
    return Image.fromarray(pixels_HW if pixels_HW.dtype == np.uint8 else (pixels_HW >> 8).astype(np.uint8))


def caption(table: ManifestTable, index: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Return the lines below an image: number and name, what is known of the film, its findings."""
    row = {name: table.column(name)[index].as_py() for name in ("image_id", "view", "sex", "age_years", "split")}
    age = None if row["age_years"] is None else f"{row['age_years']:.0f} y"
    film = ", ".join(word for word in (row["view"], row["sex"], age, row["split"]) if word)
    lines = wrapped(findings_of(table, index), font)
    return [fitted(f"{index}: {row['image_id']}", font), fitted(film, font), *lines]


def findings_of(table: ManifestTable, index: int) -> list[str]:
    """Return the findings that the source says are present, those it is not certain of with a question mark."""
    one = ManifestTable(table=table.table.slice(index, 1), metadata=table.metadata)
    values_1C, _ = labels_NC(one, table.findings)
    values = dict(zip(table.findings, values_1C[0].tolist(), strict=True))
    return [f"{name}?" if value < 0 else name for name, value in values.items() if value] or [
        "nothing labelled present"
    ]


def wrapped(words: list[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Return a list in lines that fit below an image; what does not fit is counted."""
    lines = [""]
    for number, word in enumerate(words):
        text = f"{lines[-1]}, {word}" if lines[-1] else word
        if font.getlength(text) <= TILE_PX or not lines[-1]:
            lines[-1] = text
        elif len(lines) < LINES_OF_FINDINGS:
            lines[-1] += ","
            lines.append(word)
        else:
            lines[-1] = f"{fitted(lines[-1], font, 30)} +{len(words) - number}"
            break
    return [fitted(line, font) for line in lines]


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, spare_px: int = 0) -> str:
    """Return a text, shortened until it is no wider than an image."""
    if font.getlength(text) <= TILE_PX - spare_px:
        return text
    while text and font.getlength(text + "...") > TILE_PX - spare_px:
        text = text[:-1]
    return text + "..."
