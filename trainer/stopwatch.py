"""How fast training runs and how much of the time it waits for data."""

from collections.abc import Generator, Iterable
from time import perf_counter
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Pace(NamedTuple):
    """Speed since the stopwatch was started; a number that there is no time for is NaN."""

    elapsed_s: float
    images_per_s: float
    data_wait_fraction: float


class Stopwatch:
    """Time and images since `start`, and the share of the time spent waiting for the next batch.

    On a GPU the host runs ahead of the device; the waits count all the same, since a host that waits falls behind.
    """

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin again at nothing."""
        self._started_s = perf_counter()
        self._waited_s = 0.0
        self._num_images = 0

    def add(self, *, num_images: int, waited_s: float) -> None:
        """Count a step's images, and the seconds that were waited for them."""
        self._num_images += num_images
        self._waited_s += waited_s

    def read(self) -> Pace:
        """Return the pace since the start."""
        elapsed_s = perf_counter() - self._started_s
        seconds = elapsed_s or float("nan")
        return Pace(elapsed_s, self._num_images / seconds, self._waited_s / seconds)


def with_waits(steps: Iterable[T]) -> Generator[tuple[T, float]]:
    """Yield each step with the seconds that getting it took."""
    iterator = iter(steps)
    while True:
        begun_s = perf_counter()
        try:
            step = next(iterator)
        except StopIteration:
            return
        yield step, perf_counter() - begun_s
