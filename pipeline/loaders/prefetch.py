"""Work done ahead of its consumer by threads, handed over in order."""

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_JOIN_TIMEOUT_S = 60.0


class Prefetcher(Generic[Item, Result]):
    """Iterator over ``work(item)`` for each of `items`, in their order, computed in background threads.

    At most `depth` results are finished or in the making ahead of the consumer. An exception in `items` or `work` is
    raised where its result would have come, with the traceback of the thread; then the pass is over.
    """

    def __init__(
        self, work: Callable[[Item], Result], items: Iterator[Item], *, num_threads: int, depth: int, name: str
    ) -> None:
        self._work = work
        self._items = items
        self._depth = max(depth, num_threads)
        lock = threading.Lock()
        self._room = threading.Condition(lock)  # the consumer took a result, or the pass is over
        self._ready = threading.Condition(lock)  # a result is there, or no more will come
        self._results: dict[int, Result | BaseException] = {}
        self._num_taken = 0  # items that threads have taken
        self._num_given = 0  # results that the consumer has taken
        self._exhausted = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result:
        with self._ready:
            while self._num_given not in self._results:
                if self._exhausted and self._num_given == self._num_taken:
                    raise StopIteration
                if self._closed:
                    raise RuntimeError("the loader was closed in the middle of a pass")
                self._ready.wait()
            result = self._results.pop(self._num_given)
            self._num_given += 1
            self._room.notify()
        if isinstance(result, BaseException):
            self.close()
            raise result
        return result

    def close(self) -> None:
        """Let the threads finish what they are at, drop their results, and wait until they are gone."""
        with self._room:
            self._closed = True
            self._room.notify_all()
            self._ready.notify_all()
        if sys.is_finalizing():
            return  # the interpreter has ended its daemon threads already; joining one would wait for ever
        for thread in self._threads:
            thread.join(_JOIN_TIMEOUT_S)
            if thread.is_alive():
                raise RuntimeError(f"the loader thread {thread.name} did not end within {_JOIN_TIMEOUT_S:.0f} s")
        self._results.clear()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            number, item = taken
            result: Result | BaseException
            try:
                result = self._work(item)
            except BaseException as error:  # noqa: BLE001 - carried to the consumer, which raises it
                result = error
            with self._ready:
                self._results[number] = result
                if number == self._num_given:
                    self._ready.notify()

    def _take(self) -> tuple[int, Item] | None:
        """Return the next item and its number, or None when there is no more to do."""
        with self._room:
            while not (self._closed or self._exhausted) and self._num_taken - self._num_given >= self._depth:
                self._room.wait()
            if self._closed or self._exhausted:
                return None
            try:
                item = next(self._items)
            except BaseException as error:  # noqa: BLE001 - carried to the consumer, which raises it
                self._exhausted = True
                if not isinstance(error, StopIteration):
                    self._results[self._num_taken] = error
                    self._num_taken += 1
                self._room.notify_all()
                self._ready.notify_all()
                return None
            number = self._num_taken
            self._num_taken += 1
            return number, item
