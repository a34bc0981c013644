"""A DALI pipeline that decodes what it is handed, batch by batch, to gray images in torch's memory."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from nvidia.dali import Pipeline, fn, types

from pipeline.image_spec import ImageSpec
from pipeline.loaders.encoded import File


class Files(NamedTuple):
    """What is decoded together."""

    files: list[File]
    """The bytes of each image, at least one; nothing copies them, so they must live until the images have come back."""

    sample_index_G: npt.NDArray[np.int64]
    """int64 [G], which travels through the pipeline beside its image."""


class Images(NamedTuple):
    """What came of it."""

    images_G1HW: torch.Tensor
    """uint8 on the pipeline's device: on the CPU memory of its own, on a GPU DALI's until the next batch is due."""

    sample_index_G: npt.NDArray[np.int64]
    """int64 [G], as it came out."""


class DecodeError(Exception):
    """A batch could not be decoded: one of its images is damaged, of another size, or DALI itself failed."""


class DecodingPipeline:
    """Built once, run once an epoch; DALI works on `depth` batches ahead, in threads of its own, off the GIL.

    On a GPU the decoder is `mixed`: the headers are read on the CPU, the rest is the GPU's, by its JPEG engine where it
    has one.
    """

    def __init__(
        self, spec: ImageSpec, *, max_batch_size: int, num_threads: int, depth: int, device: torch.device
    ) -> None:
        self._spec = spec
        self._batches: Iterator[Files] = iter(())
        self._error_of_batches: Exception | None = None
        self._broken = False
        self.device = device
        device_id = None
        if device.type == "cuda":
            with torch.cuda.device(device):  # "cuda" alone has no number
                device_id = torch.cuda.current_device()
        self._pipeline = Pipeline(
            batch_size=max_batch_size,
            num_threads=num_threads,
            device_id=device_id,
            prefetch_queue_depth=depth,
            exec_dynamic=True,  # outputs are not written again while somebody holds them
        )
        with self._pipeline:
            files, index = fn.external_source(
                source=self._next_batch,
                num_outputs=2,
                dtype=[types.UINT8, types.INT64],
                ndim=[1, 0],
                no_copy=True,
            )
            images = fn.decoders.image(
                files,
                device="cpu" if device_id is None else "mixed",
                output_type=types.GRAY,
                dtype=types.UINT16 if spec.bits == 16 else types.UINT8,
            )
            self._pipeline.set_outputs(images, index)
        self._pipeline.build()

    def run(self, batches: Iterator[Files]) -> Generator[Images, None, None]:
        """Yield the images of each batch, in order; closing the iterator empties the pipeline for the next run.

        Raises:
            DecodeError: a batch could not be decoded; the pipeline is of no use afterwards.
            Exception: whatever `batches` raises, after the images of the batches before it.
        """
        self._batches, self._error_of_batches = batches, None
        try:
            self._schedule()
            while (outputs := self._outputs()) is not None:
                images, index = outputs
                yield Images(self._checked(images), np.array(index.as_tensor()))
                del images, index, outputs
                self._pipeline.release_outputs()
                self._schedule()
            if self._error_of_batches is not None:
                raise self._error_of_batches
        finally:
            self._batches = iter(())
            self._empty()

    def close(self) -> None:
        """Let go of DALI's threads and buffers; no run may be open."""
        self._broken = True
        del self._pipeline

    def _next_batch(self) -> Files:
        try:
            return next(self._batches)
        except StopIteration:
            raise
        except Exception as error:  # it would end the pipeline, and with it the batches that are in it
            self._error_of_batches = error
            raise StopIteration from error

    def _schedule(self) -> None:
        with self._errors_explained():
            self._pipeline.schedule_run()

    def _outputs(self) -> tuple[Any, Any] | None:
        """Return the oldest batch in the pipeline; None when it is empty and nothing will come any more."""
        with self._errors_explained():
            try:
                images, index = self._pipeline.share_outputs()
            except StopIteration:
                return None
            return images, index

    def _empty(self) -> None:
        """Throw away what is in the pipeline and make it ready for another run."""
        with suppress(DecodeError):
            if not self._broken:
                self._pipeline.release_outputs()
                self._schedule()
                while self._outputs() is not None:
                    self._pipeline.release_outputs()
                    self._schedule()
                self._pipeline.reset()

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self._broken = True
            # Ten lines, of which those after "encountered:" say what happened.
            raise DecodeError(str(error).rpartition("encountered:")[2].strip().partition("\n")[0]) from error

    def _checked(self, images: Any) -> torch.Tensor:
        """Return DALI's batch of [H, W, 1] as uint8 [G, 1, H, W], of 16 bits the high eight."""
        spec = self._spec
        expected = [spec.height_px, spec.width_px, 1]
        if not images.is_dense_tensor() or list(images.shape()[0]) != expected:
            raise DecodeError(f"an image has another size than {spec.height_px} x {spec.width_px} px")
        images_GHW1 = torch.utils.dlpack.from_dlpack(images.as_tensor())
        if spec.bits == 16:
            images_GHW1 = images_GHW1.view(torch.uint8)[..., 1:].contiguous()
        return images_GHW1.view(-1, 1, spec.height_px, spec.width_px)
