"""Two processes meet through a file, without a port, and sum a tensor with gloo."""

import multiprocessing
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist


def run_rank(rank: int, meeting_file: str) -> None:
    """Add this rank's tensor to the other's and check the sum."""
    dist.init_process_group("gloo", init_method=f"file://{meeting_file}", rank=rank, world_size=2)
    x = torch.tensor([1.0, 10.0]) * (rank + 1)
    dist.all_reduce(x)
    assert x.tolist() == [3.0, 30.0]
    dist.destroy_process_group()


if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ranks = [spawn.Process(target=run_rank, args=(rank, str(Path(folder) / "meeting"))) for rank in range(2)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
