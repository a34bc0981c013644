"""Memory for batches that is used again, but only when nobody can see it any more."""

import weakref
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class BufferPool:
    """Buffers of one shape, lent as views; a buffer comes back when its view dies.

    `torch.from_numpy` keeps the view alive as long as any tensor shares its memory. So a steady loop goes round in a
    few buffers (no page is touched for the first time: 16 MiB of fresh memory costs as much as gathering it),
    while a consumer that keeps its batches simply makes the pool grow.
    """

    def __init__(self, new: Callable[[], Pixels], *, keep: int) -> None:
        """Make buffers with `new` where none is free; at most `keep` free ones are held."""
        self._new = new
        self._free: deque[Pixels] = deque(maxlen=keep)

    def lend(self, num_rows: int) -> Pixels:
        """Return a view of the first `num_rows` rows of a buffer that nobody else sees."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = self._new()
        # Whoever wraps the view must wrap this very array: numpy lets a view of a view hold on to the buffer alone.
        view = buffer[:num_rows]
        # append of a deque is atomic, so the view may die in any thread.
        weakref.finalize(view, self._free.append, buffer).atexit = False
        return view
