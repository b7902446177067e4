"""Nonlinearities of blocks of degrees: gates, and a quadratic on the sphere that a grid resolves exactly."""

from __future__ import annotations

import math

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from mlip.nn.constants import Constants
from mlip.nn.frame_linear import FrameRows
from mlip.nn.layout import frame_rows, phase_folded, signed_sizes
from mlip.nn.linear import gate, silu

Row = tuple[int, int]


def sphere_grid(degree: int) -> tuple[Tensor, Tensor]:
    """Points (P, 3) and weights (P,), Σ w = 1, that integrate harmonics up to ``degree`` exactly.

    Gauss–Legendre along the polar axis y, equal steps about it.
    """
    heights, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    steps = degree + 1
    angles = 2 * np.pi * (np.arange(steps) + 0.5) / steps
    radii = np.sqrt(1 - heights**2)
    x, z = (np.outer(radii, f(angles)).ravel() for f in (np.sin, np.cos))
    points = np.stack([x, np.repeat(heights, steps), z], 1)
    return torch.from_numpy(points), torch.from_numpy(np.repeat(weights, steps) / (2 * steps))


def harmonics_on(points: Tensor, rows: list[Row]) -> Tensor:
    """(P, rows), e3nn's harmonics of unit mean square over the sphere."""
    degrees = sorted({l for l, _ in rows})
    values = {l: o3.spherical_harmonics(l, points, normalize=True, normalization="component") for l in degrees}
    return torch.stack([values[l][:, l + m] for l, m in rows], 1)


class SphereSquare(nn.Module):
    """f ↦ (f + f²)/2 of functions on the sphere, and p ↦ p(1 + f)/√2 of pseudo ones, back on their degrees.

    The published activation takes SiLU on a grid, which no grid resolves: rotations then change the energy. A
    product of two functions of degree L has degree 2L, and its projection is exact on a grid of degree 3L.

    Args:
        lmax: Highest degree.
        rows: (l, m) of the natural features, l = 0 first.
        pseudo: (l, m) of the pseudo features; in the edge frame their phase is folded in.
        folded: Whether the phase of pseudo features is folded in.
    """

    def __init__(self, lmax: int, rows: list[Row], pseudo: list[Row], *, folded: bool) -> None:
        super().__init__()
        points, weights = sphere_grid(3 * lmax)
        natural = harmonics_on(points, rows)
        # unit-variance coefficients give fields of unit variance
        scale = 1 / math.sqrt(len(rows))
        tables = {"to_grid": natural * scale, "from_grid": (natural * weights[:, None]).t() / scale}
        if pseudo:
            sources, signs = phase_folded(pseudo) if folded else (pseudo, torch.ones(len(pseudo)))
            table = harmonics_on(points, sources) * signs
            scale = 1 / math.sqrt(len(pseudo))
            tables |= {"pseudo_to_grid": table * scale, "pseudo_from_grid": (table * weights[:, None]).t() / scale}
        self.constants = Constants(**{name: table.contiguous() for name, table in tables.items()})

    def forward(self, natural: Tensor, pseudo: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(E, rows, C) and (E, pseudo rows, C) → the same."""
        c = self.constants
        field = torch.matmul(c.to_grid, natural)
        result = torch.matmul(c.from_grid, (field + field.square()) * 0.5)
        if pseudo is None:
            return result, None
        product = torch.matmul(c.pseudo_to_grid, pseudo) * (1 + field) * math.sqrt(0.5)
        return result, torch.matmul(c.pseudo_from_grid, product)


class FrameGate(nn.Module):
    """Gates in the edge frame: one per degree and channel, the same for all orders m.

    Attributes:
        extra: Scalars that the activation needs.
    """

    def __init__(self, lmax: int, scalars: int, tensors: int, pseudo: int, *, pseudo_zero: bool) -> None:
        super().__init__()
        self.tensors, self.pseudo, self.lowest = tensors, pseudo, 0 if pseudo_zero else 1
        self.gates = [lmax * tensors, (lmax + 1 - self.lowest) * pseudo]
        self.extra = sum(self.gates)
        self.sizes = [scalars, self.extra]

    def forward(self, rows: FrameRows) -> FrameRows:
        """Scalars that hold their own values and the extra ones → the activated rows."""
        scalars, extra = rows.scalars.split(self.sizes, 1)
        natural, pseudo = gate(extra).split(self.gates, 1)
        return FrameRows(
            silu(scalars),
            tuple(x * g for x, g in zip(rows.natural, self._per_order(natural, self.tensors, 1), strict=False)),
            self._pseudo(rows.pseudo, pseudo),
            None if rows.pseudo_zero is None else rows.pseudo_zero * pseudo,
        )

    def _pseudo(self, rows: tuple[Tensor, ...], gates: Tensor) -> tuple[Tensor, ...]:
        if not rows:
            return ()
        _, *orders = self._per_order(gates, self.pseudo, self.lowest)
        return tuple(x * g for x, g in zip(rows, orders, strict=False))

    @staticmethod
    def _per_order(gates: Tensor, channels: int, lowest: int) -> list[Tensor]:
        """Gates of the degrees that m = 0, +1, −1, +2 … have."""
        if not gates.shape[1]:
            return []
        degrees = gates.split(channels, 1)
        highest = len(degrees) - 1 + lowest
        orders = [gates if m <= lowest else torch.cat(degrees[m - lowest :], 1) for m in range(highest + 1)]
        return [orders[0], *(gates for order in orders[1:] for gates in (order, order))]


class FrameSphereSquare(nn.Module):
    """``SphereSquare`` in the edge frame; scalars apart, through SiLU.

    Attributes:
        extra: Scalars that the activation needs: the l = 0 part of the functions.
    """

    def __init__(self, lmax: int, mmax: int, scalars: int, tensors: int, pseudo: int, *, pseudo_zero: bool) -> None:
        super().__init__()
        self.tensors, self.pseudo_zero = tensors, pseudo_zero
        self.extra = tensors if lmax else 0
        self.sizes = [scalars, self.extra]
        rows = [(0, 0), *frame_rows(lmax, 1, mmax)]
        odd = [(l, m) for l, m in frame_rows(lmax, 0, mmax) if m or pseudo_zero] if pseudo else []
        self.parts = [n * tensors for n in [1, *signed_sizes(lmax, 1, mmax)]]
        self.pseudo_parts = [n * pseudo for n in signed_sizes(lmax, 0, mmax)[0 if pseudo_zero else 1 :]]
        self.pseudo = pseudo
        self.product = SphereSquare(lmax, rows, odd, folded=True) if lmax else None

    def forward(self, rows: FrameRows) -> FrameRows:
        """Scalars that hold their own values and the extra ones → the activated rows."""
        scalars, extra = rows.scalars.split(self.sizes, 1)
        if self.product is None:
            return FrameRows(silu(scalars))
        natural = torch.cat([extra, *rows.natural], 1).unflatten(1, (-1, self.tensors))
        odd = rows.pseudo if rows.pseudo_zero is None else (rows.pseudo_zero, *rows.pseudo)
        pseudo = torch.cat(odd, 1).unflatten(1, (-1, self.pseudo)) if odd else None
        natural, pseudo = self.product(natural, pseudo)
        parts = natural.flatten(1).split(self.parts, 1)[1:]
        if pseudo is None:
            return FrameRows(silu(scalars), parts)
        pieces = pseudo.flatten(1).split(self.pseudo_parts, 1)
        if self.pseudo_zero:
            return FrameRows(silu(scalars), parts, pieces[1:], pieces[0])
        return FrameRows(silu(scalars), parts, pieces)
