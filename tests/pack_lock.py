"""Another process that holds shards of a pack, as one that packs them would; for tests of the lock."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.packing.partial import PartialPack

HOLDS = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(descriptor, fcntl.LOCK_EX, int(sys.argv[3]), int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(partial: PartialPack, numbers: range) -> Iterator[None]:
    """Lock the shards `numbers` in another process while the block runs."""
    command = [sys.executable, "-c", HOLDS, str(partial.lock_file), str(numbers.start), str(len(numbers))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate()
