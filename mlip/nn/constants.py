"""Constants of the rotation group as buffers that never lose digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from e3nn import o3
from torch import Tensor, nn


class Constants(nn.Module):
    """Buffers that follow the module's device and dtype, each time converted from a float64 original.

    A model built in float32 and moved to float64 would otherwise keep constants with seven digits.
    """

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        self._originals = {name: tensor.to(torch.float64) for name, tensor in tensors.items()}
        for name, tensor in self._originals.items():
            self.register_buffer(name, tensor.to(torch.get_default_dtype()), persistent=False)

    def __getattr__(self, name: str) -> Tensor:
        """A constant by its name."""
        return cast("Tensor", super().__getattr__(name))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        for name, original in self._originals.items():
            moved = self._buffers[name]
            if moved is not None:
                self._buffers[name] = original.to(device=moved.device, dtype=moved.dtype)
        return self


class Float64Buffers(nn.Module):
    """Numbers of the model file that stay in float64 whatever the precision of the network."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.to(torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        kept = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None:
                self._buffers[name] = buffer.to(device=moved.device)
        return self

    def assign(self, name: str, value: Tensor) -> None:
        """Give one of them other values."""
        cast("Tensor", getattr(self, name)).copy_(value)

    def forward(self, name: str, like: Tensor) -> Tensor:
        """One of them, in the precision of ``like``."""
        return cast("Tensor", getattr(self, name)).to(like.dtype)


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> Tensor:
    """Wigner 3j symbols of the real basis, (2·l1+1, 2·l2+1, 2·l3+1), float64, from e3nn."""
    return o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
