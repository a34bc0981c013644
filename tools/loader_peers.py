"""How others do the job of our loaders: each opened once, then asked for whole epochs.

The job: read, random resized crop (20 to 100 % of the area) to a square, horizontal flip, normalise, batch, with the
index of each image. Everyone does it the way its own documentation shows; none gives each sample exactly once.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pipeline.augment import AugmentConfig, AugmentParams
from pipeline.prepare import IMAGENET_GRAY_MEAN, IMAGENET_GRAY_STD
from pipeline.resample_places import places_B23

Round = Callable[[int], int]
"""Does an epoch, given its number, and returns how many images it gave."""

RECIPE = AugmentConfig.nih()
MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, for colour images."""


class FilesOfAuthors(Dataset[tuple[torch.Tensor, int]]):
    """The way of the authors' code: open a file with Pillow, as RGB, and torchvision's transforms, written out here."""

    def __init__(self, files: Sequence[Path], out_size_px: int) -> None:
        self.files = files
        self.out_size_px = out_size_px

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return an image, float32 [3, h, w], and its index."""
        with Image.open(self.files[index]) as image:
            return augmented(image.convert("RGB"), self.out_size_px), index


def augmented(image: Image.Image, out_size_px: int) -> torch.Tensor:
    """Return what RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize make of an RGB image."""
    width, height = image.size
    left, top, crop_width, crop_height = random_crop(width, height)
    image = image.crop((left, top, left + crop_width, top + crop_height))
    image = image.resize((out_size_px, out_size_px), Image.Resampling.BILINEAR)
    if torch.rand(1).item() < RECIPE.flip_probability:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    means, deviations = (torch.tensor(values)[:, None, None] for values in (MEANS, DEVIATIONS))
    return pixels.sub_(means).div_(deviations)


def random_crop(width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, width and height of a crop as torchvision's RandomResizedCrop draws it."""
    log_ratios = np.log(RECIPE.crop_ratio)
    for _ in range(10):
        area = width * height * torch.empty(1).uniform_(*RECIPE.crop_scale).item()
        ratio = float(np.exp(torch.empty(1).uniform_(*log_ratios).item()))
        crop_width, crop_height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(torch.randint(0, width - crop_width + 1, (1,)).item())
            top = int(torch.randint(0, height - crop_height + 1, (1,)).item())
            return left, top, crop_width, crop_height
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def authors(files: Sequence[Path], out_size_px: int, batch_size: int, num_workers: int) -> Round:
    """Return rounds of the authors' dataset in a DataLoader."""
    loader = DataLoader(
        FilesOfAuthors(files, out_size_px),
        batch_size=batch_size,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=True,
    )
    return rounds(loader)


def webdataset(tars: Sequence[Path], out_size_px: int, batch_size: int, num_workers: int) -> Round:
    """Return rounds of the webdataset package over tar shards in a DataLoader."""
    import webdataset as wds

    def sample(found: dict[str, Any]) -> tuple[torch.Tensor, int]:
        return augmented(found["jpg"].convert("RGB"), out_size_px), int(found["__key__"])

    dataset = wds.WebDataset([str(path) for path in tars], shardshuffle=len(tars)).shuffle(1000)
    dataset = dataset.decode("pil").map(sample).batched(batch_size)
    return rounds(DataLoader(dataset, batch_size=None, num_workers=num_workers, persistent_workers=True))


def ffcv(beton: Path, out_size_px: int, batch_size: int, num_threads: int) -> Round:
    """Return rounds of FFCV's Loader over its colour images with its random resized crop."""
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage

    mean, std = (np.array(values) * 255 for values in (MEANS, DEVIATIONS))
    crop = RandomResizedCropRGBImageDecoder((out_size_px, out_size_px), RECIPE.crop_scale, RECIPE.crop_ratio)
    flip = RandomHorizontalFlip(RECIPE.flip_probability)
    normalise = NormalizeImage(mean, std, np.dtype(np.float32))
    loader = Loader(
        str(beton),
        batch_size=batch_size,
        num_workers=num_threads,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=False,
        pipelines={
            "image": [crop, flip, normalise, ToTensor(), ToTorchImage()],
            "sample_index": [IntDecoder(), ToTensor()],
        },
    )
    return rounds(loader)


def dali_readers(tars: Sequence[Path], out_size_px: int, batch_size: int, num_threads: int, *, device: str) -> Round:
    """Return rounds of DALI's own webdataset reader, decoding only the crop; on the CPU or with a GPU (`mixed`)."""
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

    on_gpu = device == "cuda"

    @pipeline_def(batch_size=batch_size, num_threads=num_threads, device_id=0 if on_gpu else None)  # type: ignore[untyped-decorator]
    def read() -> Any:
        jpegs, sample_index = fn.readers.webdataset(  # type: ignore[misc]
            paths=[str(path) for path in tars],
            index_paths=[str(path.with_suffix(".idx")) for path in tars],
            ext=["jpg", "sample_index"],
            dtypes=[types.UINT8, types.INT64],
            random_shuffle=True,
            pad_last_batch=True,
            name="reader",
        )
        images = fn.decoders.image_random_crop(
            jpegs,
            device="mixed" if on_gpu else "cpu",
            output_type=types.GRAY,
            random_area=list(RECIPE.crop_scale),
            random_aspect_ratio=list(RECIPE.crop_ratio),
        )
        images = fn.resize(images, size=(out_size_px, out_size_px), antialias=False)
        images = fn.crop_mirror_normalize(
            images,
            mirror=fn.random.coin_flip(probability=RECIPE.flip_probability),
            mean=[IMAGENET_GRAY_MEAN * 255],
            std=[IMAGENET_GRAY_STD * 255],
            dtype=types.FLOAT,
            output_layout="CHW",
        )
        return images, sample_index

    iterator = DALIGenericIterator(
        [read()],
        ["images", "sample_index"],
        reader_name="reader",
        last_batch_policy=LastBatchPolicy.PARTIAL,
        auto_reset=True,
    )
    return lambda _: sum(len(batch[0]["images"]) for batch in iterator)


def opencv_prepare(
    images_B1HW: torch.Tensor, params: AugmentParams, out_size_px: int, threads: Executor
) -> torch.Tensor:
    """Return what `prepare_images` does, by OpenCV's `warpAffine`, an image a call: float32 [B, 1, h, w]."""
    import cv2

    places = places_B23(params, height_px=images_B1HW.shape[2], width_px=images_B1HW.shape[3], out_size_px=out_size_px)
    matrices_B23 = 2 * places  # columns and rows are counted from 0 here, in whole pixels
    matrices_B23[:, :, 2] = places[:, :, 2] + places[:, :, :2].sum(axis=2) * (1 - out_size_px)
    images_BHW, out_Bhw = images_B1HW[:, 0].numpy(), np.empty((len(params), out_size_px, out_size_px), np.float32)

    def warp(number: int) -> None:
        out_Bhw[number] = cv2.warpAffine(
            images_BHW[number],
            matrices_B23[number],
            (out_size_px, out_size_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        out_Bhw[number] *= 1 / (255 * IMAGENET_GRAY_STD)
        out_Bhw[number] -= IMAGENET_GRAY_MEAN / IMAGENET_GRAY_STD

    list(threads.map(warp, range(len(params))))
    return torch.from_numpy(out_Bhw)[:, None]


def rounds(loader: Iterable[Any]) -> Round:
    """Return the function that goes once through `loader` and counts its images."""

    def run(_: int) -> int:
        return sum(len(images) for images, *_ in loader)

    return run
