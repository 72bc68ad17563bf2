"""Several processes that train one model: started by ``torchrun``, which sets RANK, LOCAL_RANK and WORLD_SIZE."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import torch
import torch.distributed


def launch_processes(number: int, argv: Sequence[str]) -> NoReturn:
    """Replace this process by ``torchrun`` with `number` processes of the same command."""
    # After "--" the launcher takes no option for its own: it would read our --run as the start of one of its names.
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}", "-m", "--", "adapters"]
    os.execv(sys.executable, [sys.executable, *launcher, *argv])


def start_process_group(device: str) -> torch.device:
    """Join the group when ``torchrun`` started this process; return the device of this process."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    if world_size > 1:
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    return torch.device(device, local_rank) if device == "cuda" else torch.device("cpu")


def any_process(said: bool, device: torch.device) -> bool:
    """Whether any process of the group says so; all of them must ask in the same step."""
    if not torch.distributed.is_initialized():
        return said
    answer = torch.tensor(int(said), device=device)
    torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MAX)
    return bool(answer)


def stop_process_group() -> None:
    """Leave the group, if there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
