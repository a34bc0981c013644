"""Copies to memory of a GPU that is torch's own, beside whatever the GPU computes."""

from contextlib import AbstractContextManager

import torch

from pipeline.batch import Batch


class DeviceStream:
    """A CUDA stream of its own for batches on their way to one GPU.

    They come from pinned buffers, or from memory of the GPU that another library lends. The loader's thread waits for
    its copy, off the GIL and without spinning, while other threads gather. So a batch that is handed over lies on the
    device whole, and what it was copied from may be used again at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def current(self) -> AbstractContextManager[object]:
        """Return the context in which the calling thread works on this stream, for what comes before `send`."""
        return torch.cuda.stream(self._stream)

    def send(self, batch: Batch) -> Batch:
        """Return `batch` on the device, complete; called by the loader's threads."""
        with torch.cuda.stream(self._stream):
            sent = Batch(*(tensor.to(self._device, non_blocking=True, copy=True) for tensor in batch))
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record(self._stream)
        done.synchronize()
        return sent

    def hand_over(self, batch: Batch) -> None:
        """Tell the allocator that the caller's current stream uses `batch`; called by the consumer's thread.

        The memory belongs to the copying stream: without this it could be written again as soon as Python drops the
        batch, while kernels that read it are still waiting in the caller's stream.
        """
        stream = torch.cuda.current_stream(self._device)
        for tensor in batch:
            tensor.record_stream(stream)
