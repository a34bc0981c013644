"""What a packing process runs: `python -m pipeline.packing.worker DESCRIPTOR`; imports nothing heavier than Pillow.

It takes `ShardTask`s from the connection whose file descriptor is its argument, one at a time, and answers with
`ImagesDone` while it works and with a `WrittenShard` or a `Failure` at the end. It leaves when the connection ends,
so that no process survives a parent that was killed.
"""

import sys
import time
import traceback
from multiprocessing.connection import Connection

from pipeline.packing.shard import Failure, ImagesDone, RejectedImage, ShardTask, write_shard

REPORT_EVERY_S = 0.1


class ImageCount:
    """Tells the parent how many images are done, at most every `REPORT_EVERY_S`."""

    def __init__(self, connection: "Connection[object, object]") -> None:
        self.connection = connection
        self.count = 0
        self.rejected: list[tuple[int, str]] = []
        self.reported_s = time.monotonic()

    def add_one(self, rejected: RejectedImage | None) -> None:
        """Count an image."""
        self.count += 1
        if rejected is not None:
            self.rejected.append((rejected.sample_index, rejected.reason))
        if time.monotonic() - self.reported_s >= REPORT_EVERY_S:
            self.report()

    def report(self) -> None:
        """Send what was counted since the last report."""
        self.connection.send(ImagesDone(count=self.count, rejected=tuple(self.rejected)))
        self.count, self.rejected, self.reported_s = 0, [], time.monotonic()


def serve(connection: "Connection[object, object]") -> None:
    """Pack shards until the connection ends.

    Raises:
        EOFError, ConnectionError: the parent is gone.
    """
    while True:
        task = connection.recv()
        assert isinstance(task, ShardTask)
        images = ImageCount(connection)
        try:
            written = write_shard(task, images.add_one)
        except ConnectionError:
            raise
        except OSError as error:
            plain = OSError(error.errno, error.strerror, error.filename and str(error.filename))
            connection.send(Failure(error=plain, trace=traceback.format_exc()))
        except Exception:
            connection.send(Failure(error=None, trace=traceback.format_exc()))
            raise
        else:
            images.report()
            connection.send(written)


def main() -> None:
    """Serve the parent on the other end of the descriptor."""
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):
        sys.exit(0)


if __name__ == "__main__":
    main()
