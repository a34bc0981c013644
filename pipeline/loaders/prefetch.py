"""Work done ahead of its consumer by threads, handed over in order."""

import sys
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_JOIN_TIMEOUT_S = 60.0


class Prefetcher(Generic[Item, Result]):
    """Iterator over ``work(item)`` for each of `items`, in their order, computed in background threads.

    ::

        items    0 1 2 3 4 5 6 ...          2 threads, depth 4: before result 0 is given, items 0..3 are handed out;
        thread 0 0   2   4   6              each result that the consumer takes lets one more item go
        thread 1   1   3   5

    Item n goes to thread n mod num_threads and the consumer asks the threads in turn: no lock, no counting, nothing to
    sort; an item and a result cost one `SimpleQueue` each. An exception in `items` or `work` is raised where its result
    would have come, with the traceback of the thread; then the pass is over.

    One thread consumes and closes. No item may be None, which tells a thread to end.
    """

    def __init__(
        self, work: Callable[[Item], Result], items: Iterator[Item], *, num_threads: int, depth: int, name: str
    ) -> None:
        self._work = work
        self._items = items
        self._error_of_items: BaseException | None = None
        self._exhausted = False
        self._closed = False
        self._num_asked = 0
        self._num_given = 0
        self._tasks: list[SimpleQueue[Item | None]] = [SimpleQueue() for _ in range(num_threads)]
        self._results: list[SimpleQueue[Result | _Failure]] = [SimpleQueue() for _ in range(num_threads)]
        self._threads = [
            Thread(target=self._run, args=lane, name=f"{name}-{number}", daemon=True)
            for number, lane in enumerate(zip(self._tasks, self._results, strict=True))
        ]
        for thread in self._threads:
            thread.start()
        for _ in range(max(depth, num_threads)):
            self._ask()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result:
        if self._exhausted and self._num_given == self._num_asked:
            self.close()
            if self._error_of_items is not None:
                raise self._error_of_items
            raise StopIteration
        if self._closed:
            raise RuntimeError("the loader was closed in the middle of a pass")
        result = self._results[self._num_given % len(self._threads)].get()
        self._num_given += 1
        if isinstance(result, _Failure):
            self.close()
            raise result.error
        self._ask()
        return result

    def close(self) -> None:
        """Let the threads finish what they are at, drop their results, and wait until they are gone."""
        self._closed = True
        for tasks in self._tasks:
            tasks.put(None)
        if sys.is_finalizing():
            return  # the interpreter has ended its daemon threads already; to join one could wait for ever
        for thread in self._threads:
            thread.join(_JOIN_TIMEOUT_S)
            if thread.is_alive():
                raise RuntimeError(f"the loader thread {thread.name} did not end within {_JOIN_TIMEOUT_S:.0f} s")
        for results in self._results:
            while not results.empty():
                results.get()

    def _ask(self) -> None:
        """Hand the next item to its thread."""
        if self._exhausted:
            return
        try:
            item = next(self._items)
        except StopIteration:
            self._exhausted = True
        except Exception as error:  # noqa: BLE001 - raised when the results before it are given
            self._exhausted = True
            self._error_of_items = error
        else:
            self._tasks[self._num_asked % len(self._tasks)].put(item)
            self._num_asked += 1

    def _run(self, tasks: "SimpleQueue[Item | None]", results: "SimpleQueue[Result | _Failure]") -> None:
        while (item := tasks.get()) is not None and not self._closed:
            try:
                result = self._work(item)
            except BaseException as error:  # noqa: BLE001 - carried to the consumer, which raises it
                results.put(_Failure(error))
                return
            results.put(result)
            del item, result  # a thread that waits holds on to no batch


class _Failure:
    """An exception on its way to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
