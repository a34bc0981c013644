"""FFCV writes gray images and their index into a beton and its Loader reads them back in the order it is given."""

import tempfile
from pathlib import Path

import numpy as np
from ffcv.fields import IntField, NDArrayField
from ffcv.fields.decoders import IntDecoder, NDArrayDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter

SIZE_PX = 4
images_NHW = np.random.default_rng(0).integers(0, 256, size=(5, SIZE_PX, SIZE_PX), dtype=np.uint8)


class Images:
    """What the writer takes: something with a length and items."""

    def __len__(self) -> int:
        return len(images_NHW)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return images_NHW[index], index


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "tiny.beton"
    fields = {"image": NDArrayField(np.dtype(np.uint8), (SIZE_PX, SIZE_PX)), "index": IntField()}
    DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(Images())
    order = [3, 1, 4, 0, 2]
    loader = Loader(
        str(path),
        batch_size=len(order),
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        indices=order,
        pipelines={"image": [NDArrayDecoder(), ToTensor()], "index": [IntDecoder(), ToTensor()]},
    )
    ((images_BHW, index_B1),) = list(loader)
    assert index_B1.flatten().tolist() == order
    np.testing.assert_array_equal(images_BHW.numpy(), images_NHW[order])
