"""A run that several processes ("ranks") share: how a process finds the others, and what they tell each other.

Rank 0 is the process that writes: journal, checkpoints, lease. The others compute the same steps on their own rows.
torchrun, srun and mmctl itself (start_ranks.py) start the ranks as `mmctl exec RUN_DIR`.
"""

from __future__ import annotations

import gc
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from mmctl import ops
from mmctl.errors import Stopped, Superseded, TrainingFailed, UserError
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder.record import read_record
from mmctl.runs.open import open_run
from mmctl.training import checkpoint
from mmctl.training.loop import train

TIMEOUT = timedelta(minutes=10)
"""A rank that waits longer for another one gives up."""
PORTS = range(20_000, 30_000)
"""Of these, the number of the Slurm job and step choose the port."""


class Place(NamedTuple):
    """Where a process stands among those that share a run."""

    rank: int
    world: int
    local: int  # number on its machine
    local_world: int  # ranks on its machine


def place_of(env: Mapping[str, str]) -> Place | None:
    """The place that torchrun, mmctl or srun gave to this process; None if it is the only one."""
    if "RANK" in env and "WORLD_SIZE" in env:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    elif "SLURM_STEP_NUM_TASKS" in env:  # of srun; SLURM_NTASKS stands in the batch script too, which is one process
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "")
    else:
        return None
    try:
        rank, world, local = (int(env[name]) for name in names[:3])
        local_world = int(env.get(names[3], 1 if names[0] == "SLURM_PROCID" else world))
    except (KeyError, ValueError):
        raise UserError(
            f"the environment variables {', '.join(filter(None, names))} must be whole numbers: start the processes "
            "with `mmctl run --gpus N`, torchrun or srun, or unset them."
        ) from None
    return Place(rank, world, local, local_world) if world > 1 else None


def meeting_point(env: Mapping[str, str]) -> dict[str, str]:
    """MASTER_ADDR and MASTER_PORT of a Slurm step: the machine of rank 0, and a port from the number of the job."""
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", env.get("SLURM_STEP_NODELIST", ""))
    name = (first[1] + (first[2] or "")) if first else ""
    try:
        socket.getaddrinfo(name, None)
    except OSError:  # the name of a node need not be one that the network knows
        name = env.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")
    number = 7 * int(env.get("SLURM_JOB_ID", "0")) + int(env.get("SLURM_STEP_ID", "0"))
    return {"MASTER_ADDR": name, "MASTER_PORT": str(PORTS[number % len(PORTS)])}


@contextmanager
def joined(place: Place) -> Iterator[None]:
    """In the block, this process and the others can exchange tensors; all must come, within ten minutes."""
    for name, value in meeting_point(os.environ).items():
        os.environ.setdefault(name, value)
    os.environ |= {"RANK": str(place.rank), "WORLD_SIZE": str(place.world)}
    os.environ["LOCAL_WORLD_SIZE"] = str(place.local_world)
    use_gpu(place)
    try:
        # Flags are tensors on the CPU, also where the images are on GPUs.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError, OSError) as error:
        raise TrainingFailed(f"the {place.world} processes of the run did not find each other: {error}") from None
    try:
        yield
    except Superseded:
        raise
    except Stopped:
        leave_together()
        raise
    leave_together()


def leave_together() -> None:
    """Leave the group when all are done. What still refers to it goes first: gloo could end the process otherwise."""
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def use_gpu(place: Place) -> None:
    """Make the GPU of this process its current one: the only one that it sees, or that of its local number."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus > 1 and place.local >= gpus:
        raise UserError(f"{place.local_world} processes on this machine, but torch finds {gpus} GPUs: start fewer.")
    if gpus:
        torch.cuda.set_device(place.local if gpus > 1 else 0)


def check_shared(recipe: Recipe, world: int) -> None:
    """Raise UserError if several processes cannot share this run."""
    train = recipe.settings.train
    views = getattr(recipe.resolved.parts["method", None].component, "views", {"u": ()})
    for key, batch in (("batch", train.batch), ("unlabeled_batch", train.unlabeled_batch if "u" in views else 0)):
        if batch % world:
            raise UserError(
                f"train.{key} = {batch} ({recipe.origin(('train', key))}): batch sizes are those of all processes "
                f"together, and {world} processes cannot share {batch} images equally: use a multiple of {world}, or "
                "another number of processes."
            )
    if train.compile:
        raise UserError(
            "train.compile = true: compiled networks cannot take batch norm statistics over several processes; set "
            "train.compile = false."
        )


def agreed(stop: Callable[[], bool]) -> Callable[[], bool]:
    """The same question, answered for all ranks: true as soon as it is true on one. All must ask equally often."""
    if ops.world_size() == 1:
        return stop
    return lambda: bool(ops.all_reduce_sum(torch.tensor(int(stop()))))


def from_rank_0(number: int) -> int:
    """The number that rank 0 gives."""
    return int(ops.all_reduce_sum(torch.tensor(number if ops.rank() == 0 else 0)))


def lost(error: BaseException, folder: Path) -> TrainingFailed | None:
    """TrainingFailed if the error means that another rank has ended or cannot be reached, else None."""
    if ops.world_size() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
        return None
    return TrainingFailed(
        f"{folder.name}: another process of this run ended or cannot be reached. `mmctl resume {folder.name}` "
        "continues from the newest checkpoint."
    )


def follow(folder: Path, stop: Callable[[], bool], accept_changes: bool = False) -> bool:
    """Train as a rank above 0, which writes nothing, from the step that rank 0 says; whether it ended by a signal."""
    stop = agreed(stop)
    step = from_rank_0(0)
    saved = checkpoint.read(checkpoint.folder_of(folder, step)) if step else None
    training = open_run(folder, read_record(folder), saved, accept_changes).training
    if stop():
        return True
    for _ in train(training, stop):
        pass
    collapsed = training.collapsed and training.settings.train.on_collapse == "stop"
    return training.evaluation_stopped or (training.step < training.steps and not collapsed)
