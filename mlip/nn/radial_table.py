"""Radial networks with frozen weights as tables: splines of the distance, one per pair of species.

What a radial network yields depends on the distance and on two species alone. With weights that no longer change it
is cheaper to look it up: splines of degree five, four times continuously differentiable, so that forces stay the
gradients of the energy. Meant for float32, whose rounding is far above the error of the splines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor, nn

from mlip.errors import InputError
from mlip.nn.geometry import EdgeGeometry

CELLS = 768
_DEGREE = 5
_MARGIN = 12  # cells beyond both ends, where the end conditions of the interpolation fade


@dataclass(frozen=True)
class Address:
    """Where in the tables each edge is to look.

    Attributes:
        rows: (E, 6), rows of every table: the powers of one cell.
        weights: (E, 6), powers of the position in that cell.
    """

    rows: Tensor
    weights: Tensor


class Addressing(nn.Module):
    """Distances and species of both ends → ``Address``; stands where the radial embedding stood.

    A cell holds the Taylor polynomial about its centre: in float32 the sum of B-splines would lose the digits of the
    derivative.

    Args:
        cutoff: Å.
        num_species: Species the potential knows.
    """

    powers: Tensor

    def __init__(self, cutoff: float, num_species: int) -> None:
        super().__init__()
        self.num_species, self.step = num_species, cutoff / CELLS
        self.register_buffer("powers", torch.arange(_DEGREE + 1), persistent=False)

    @property
    def rows(self) -> int:
        """Rows of a table for each pair of species."""
        return (CELLS + 1) * (_DEGREE + 1)

    @property
    def nodes(self) -> Tensor:
        """(n,), Å, float64: the borders of the cells, where the functions are sampled; some are negative."""
        return (torch.arange(-_MARGIN, CELLS + _MARGIN + 1, dtype=torch.float64) - 0.5) * self.step

    @property
    def centres(self) -> Tensor:
        """(CELLS + 1,), Å, float64, of the cells; that of the last is the cutoff."""
        return torch.arange(CELLS + 1, dtype=torch.float64) * self.step

    def coefficients(self, samples: Tensor) -> Tensor:
        """(n, …) values at the nodes → (CELLS + 1, 6, …), the polynomial of each cell in units of its width."""
        spline = make_interp_spline(self.nodes.numpy(), samples.numpy(), k=_DEGREE)
        powers = [spline(self.centres.numpy(), nu=p) * self.step**p / math.factorial(p) for p in range(_DEGREE + 1)]
        return torch.from_numpy(np.stack(powers, 1))

    def forward(self, geometry: EdgeGeometry, source: Tensor, target: Tensor) -> Address:
        """The edges and the species of both ends (E,) → where to look."""
        return self.address(geometry.length, source, target)

    def address(self, length: Tensor, source: Tensor, target: Tensor) -> Address:
        """Lengths (E, 1), Å, and the species of both ends (E,) → where to look."""
        position = length.double() / self.step
        cell = position.detach().round()
        u = (position - cell).to(length.dtype)
        square = u.square()
        weights = torch.cat([torch.ones_like(u), u, square, u * square, square.square(), u * square.square()], 1)
        first = (source * self.num_species + target) * self.rows + cell.squeeze(1).long() * (_DEGREE + 1)
        return Address(first.unsqueeze(1) + self.powers, weights)


class Table(nn.Module):
    """Columns of a radial network from a table.

    Args:
        coefficients: (pairs·cells·6, F).
        split: Columns (E, F) → what the network hands to its layer.
    """

    coefficients: Tensor

    def __init__(self, coefficients: Tensor, split: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.register_buffer("coefficients", coefficients, persistent=False)
        self.split = split

    def forward(self, address: Address) -> Any:
        """Splines at the addresses, in the shape of the network's own result."""
        return self.split(self.columns(address))

    def columns(self, address: Address) -> Tensor:
        """(E, F), splines at the addresses."""
        return nn.functional.embedding_bag(
            address.rows, self.coefficients, mode="sum", per_sample_weights=address.weights
        )

    def _save_to_state_dict(self, *_: Any, **__: Any) -> None:
        raise InputError(
            "a potential with tables has lost the weights of its radial networks", mend="use the original"
        )
