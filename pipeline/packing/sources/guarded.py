"""Decoders that may crash or never return over a damaged file: they run in a process of their own.

GDCM ends its process with SIGABRT, and the CharLS in it can loop for ever. The process is started when the first such
image comes, is kept for the next ones, limits its own time and memory, and leaves when its parent does; where it died
the image is rejected, and the next image gets a new one.
"""

import atexit
import io
import os
import resource
import signal
import subprocess
import sys
import warnings
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np

from pipeline.packing.rejection import Reason, Rejection

LIMIT_S = 60
"""Time for one image; the slowest that were met took 1 s."""

MEMORY_BYTES = 8 << 30
"""Addresses that the process may have."""

FINE, DAMAGED = "fine", "damaged"
MODULE = "pipeline.packing.sources.guarded"


class Guard:
    """The process, and our end of its pipe."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        module_path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 - an entry is a str
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libraries write about damaged files
                start_new_session=True,  # Ctrl-C is for the parent; this one sees the pipe end
                env=os.environ | {"PYTHONPATH": module_path},
            )
        finally:
            theirs.close()
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the process now."""
        atexit.unregister(self.stop)
        self.connection.close()
        self.process.kill()
        self.process.wait()

    def decode(self, content: bytes) -> np.ndarray:
        """Return the stored samples of a DICOM file with one gray frame, as pydicom and GDCM decode them.

        Raises:
            Rejection: damaged; the process died over it.
        """
        try:
            self.connection.send_bytes(content)
            outcome, value = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            slow = self.process.wait() == -signal.SIGALRM
            self.stop()
            detail = f"not decoded within {LIMIT_S} s" if slow else "its decoder crashed"
            raise Rejection(Reason.CORRUPT, detail) from error
        if outcome != FINE:
            raise Rejection(Reason.CORRUPT, value)
        assert isinstance(value, np.ndarray)
        return value


_guard: Guard | None = None


def decode(content: bytes) -> np.ndarray:
    """Return the stored samples of a compressed DICOM file with one gray frame; see `Guard.decode`.

    Raises:
        Rejection: damaged.
    """
    global _guard
    if _guard is None or _guard.connection.closed:
        _guard = Guard()
    return _guard.decode(content)


def serve(connection: "Connection[object, object]") -> None:
    """Decode what comes until the connection ends; a decode that takes too long ends the process.

    Raises:
        EOFError, ConnectionError: the parent is gone.
    """
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while True:
        content = connection.recv_bytes()
        signal.alarm(LIMIT_S)  # ends the process even within a library's loop
        answer: tuple[str, object]
        try:
            dataset = dcmread(io.BytesIO(content))
            answer = FINE, pixel_array(dataset, decoding_plugin="gdcm", correct_unused_bits=False)
        except Exception as error:  # noqa: BLE001 - a damaged file makes a decoder raise what it likes
            answer = DAMAGED, Rejection.of_damage(error).detail
        signal.alarm(0)
        connection.send(answer)


def lower_limit(kind: int, value: int) -> None:
    """Limit this process to `value`, unless it is limited to less already."""
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or hard > value:
        resource.setrlimit(kind, (value, value))


def main() -> None:
    """Serve the parent on the other end of the descriptor."""
    lower_limit(resource.RLIMIT_AS, MEMORY_BYTES)
    lower_limit(resource.RLIMIT_CORE, 0)
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):
        sys.exit(0)


if __name__ == "__main__":
    main()
