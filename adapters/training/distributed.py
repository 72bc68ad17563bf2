"""What the processes that train one model do together; :mod:`adapters.training.processes` starts them."""

import gc
import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STARTED_BY = "CASCADEBENCH_STARTED_BY"
"""Environment variable of a process that is one of several: the id of the one that started it."""
RENDEZVOUS_FOLDER = "CASCADEBENCH_RENDEZVOUS_FOLDER"
"""Environment variable: the folder in which such processes find each other and report how they ended."""


def is_one_of_several() -> bool:
    """Whether another process started this one to train a part of every step."""
    return STARTED_BY in os.environ


def place_in_group() -> tuple[int, int]:
    """Rank of this process and the number of processes; 0 and 1 if it is alone, whatever a cluster has set."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if is_one_of_several() else (0, 1)


def start_process_group(device: str) -> torch.device:
    """Join the group if this process is one of several; return its device."""
    if not is_one_of_several():
        return torch.device(device, 0) if device == "cuda" else torch.device("cpu")
    rank, number = place_in_group()
    if device == "cuda":
        torch.cuda.set_device(rank)
    # A file and no port: another training on this machine cannot take it in the meantime.
    meeting = (Path(os.environ[RENDEZVOUS_FOLDER]) / "group").as_uri()
    backend = "nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=number)
    return torch.device(device, rank) if device == "cuda" else torch.device("cpu")


def any_process(said: bool, device: torch.device) -> bool:
    """Whether any process of the group says so; all of them must ask in the same step."""
    if not torch.distributed.is_initialized():
        return said
    answer = torch.tensor(int(said), device=device)
    torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MAX)
    return bool(answer)


def of_every_process(rows: Sequence[Sequence[int]], device: torch.device) -> Sequence[Sequence[int]]:
    """Rows of whole numbers of all processes of the group, by rank; every process must have as many."""
    if not torch.distributed.is_initialized():
        return rows
    own = torch.tensor(rows, dtype=torch.int64, device=device)
    every = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(every, own)
    return torch.cat(every).tolist()


def mean_over_processes(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mean of scalars over the group, which every process gets; all of them must have the same names."""
    if not torch.distributed.is_initialized():
        return values
    together = torch.stack(list(values.values()))
    torch.distributed.all_reduce(together)
    return dict(zip(values, together / torch.distributed.get_world_size(), strict=True))


def distributed_model(
    model: nn.Module, device: torch.device, wrapper: type[DistributedDataParallel] = DistributedDataParallel
) -> nn.Module:
    """Wrap a model so that the group's processes share its gradients; a process alone gets the model itself."""
    if not torch.distributed.is_initialized():
        return model
    return wrapper(model, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False)


def wait_for_every_process() -> None:
    """Stand here until all processes of the group do."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def stop_process_group() -> None:
    """Leave the group, if there is one."""
    if torch.distributed.is_initialized():
        gc.collect()  # a distributed model in a circle of references holds the group's threads beyond the group's end
        torch.distributed.destroy_process_group()
