"""One process or several (``torchrun``): exact sums over processes, whatever the sizes of their batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mlip.errors import InputError


class Group(Protocol):
    """The processes that train together."""

    rank: int
    size: int

    def share(self, indices: list[int]) -> list[int]:
        """This process's part of a batch."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums of plain numbers over the processes."""

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace each gradient, and return the loss, by the sum over the processes."""

    def broadcast(self, value: float) -> float:
        """The first process's number."""


class OneProcess:
    """A single process: every sum is the value itself."""

    rank = 0
    size = 1

    def share(self, indices: list[int]) -> list[int]:
        """All of the batch."""
        return indices

    def sum(self, values: Sequence[float]) -> list[float]:
        """The values."""
        return list(values)

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:  # noqa: ARG002
        """The loss; gradients stay as they are."""
        return loss

    def broadcast(self, value: float) -> float:
        """The value."""
        return value


class ProcessGroup:
    """Several processes, joined by torch.distributed."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self._device = dist.get_rank(), dist.get_world_size(), device

    def share(self, indices: list[int]) -> list[int]:
        """Every size-th frame; empty for the last processes when the batch is smaller than the group."""
        return indices[self.rank :: self.size]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums in float64."""
        vector = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        dist.all_reduce(vector)
        return vector.tolist()

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """One all-reduce of all gradients and the loss.

        A parameter that has a gradient in no process keeps none, so that the optimiser leaves it alone as it
        would in a single process.
        """
        present = self.sum([float(p.grad is not None) for p in parameters])
        parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([*(part.detach().double().flatten() for part in parts), loss.detach().reshape(1)])
        dist.all_reduce(flat)
        values = flat[:-1].split([p.numel() for p in parameters])
        for parameter, value, there in zip(parameters, values, present, strict=True):
            parameter.grad = value.view_as(parameter).to(parameter.dtype) if there else None
        return flat[-1]

    def broadcast(self, value: float) -> float:
        """The first process's number."""
        vector = torch.tensor([value], dtype=torch.float64, device=self._device)
        dist.broadcast(vector, src=0)
        return float(vector)


def choose_device(name: str) -> torch.device:
    """The device of the settings; 'auto' is a GPU when there is one, each process its own.

    Raises:
        InputError: A GPU was asked for and there is none.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(f"there is no device '{name}' here", key="training.device", mend="use cpu or auto")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", local) if name in {"auto", "cuda"} else torch.device(name)


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """The group that ``torchrun`` describes in the environment; one process without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield OneProcess()
        return
    backend = "gloo" if device.type == "cpu" else "nccl"
    dist.init_process_group(backend, timeout=timedelta(hours=2))
    try:
        yield ProcessGroup(device)
    finally:
        dist.destroy_process_group()
