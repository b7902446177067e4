"""The O(3)-equivariant linear map of edge features in the edge frame: one channel-mixing matrix per order m.

In the edge frame such a map couples m with m only (eSCN, 2302.03655). Natural and pseudo features are typed: real
weights keep η, imaginary ones change it; with the phase of pseudo features folded into their rotation both are
blocks of one ordinary matrix. Pseudo rows of m = 0 therefore come out only where some came in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlip.nn.layout import signed_sizes
from mlip.nn.linear import Linear

_HALF = 1 / math.sqrt(2)


@dataclass(frozen=True)
class FrameRows:
    """Features of the edges in their frames, degrees side by side.

    Attributes:
        scalars: (E, C0).
        natural: (E, rows·C1) for m = 0, +1, −1, +2 …
        pseudo: (E, rows·P) for m = +1, −1, +2 …, phase folded in; empty without pseudo features.
        pseudo_zero: (E, (L+1)·P), pseudo features of m = 0; None where there are none.
    """

    scalars: Tensor
    natural: tuple[Tensor, ...] = ()
    pseudo: tuple[Tensor, ...] = ()
    pseudo_zero: Tensor | None = None


@dataclass(frozen=True)
class FrameChannels:
    """Channels on one side of the map.

    Attributes:
        scalars: Of scalars.
        tensors: Of natural tensors.
        pseudo: Of pseudo features, 0 for none.
        pseudo_zero: Whether pseudo features of m = 0 are there.
    """

    scalars: int
    tensors: int
    pseudo: int = 0
    pseudo_zero: bool = True


class _Scaled:
    """x ↦ x · scales[k]."""

    def __init__(self, scales: Sequence[Tensor] | None) -> None:
        self.scales = scales

    def __call__(self, x: Tensor, k: int) -> Tensor:
        return x if self.scales is None else x * self.scales[k]


class FrameLinear(nn.Module):
    """One matrix per order m.

    Args:
        lmax: Highest degree of what arrives.
        inputs: Channels that arrive.
        outputs: Channels that leave.
        rng: Source of the initial weights.
        mmax: Highest order carried.
        lmax_out: Highest degree of what leaves; that of what arrives unless given.
    """

    def __init__(
        self,
        lmax: int,
        inputs: FrameChannels,
        outputs: FrameChannels,
        rng: torch.Generator,
        *,
        mmax: int,
        lmax_out: int | None = None,
    ) -> None:
        super().__init__()
        lmax_out = lmax if lmax_out is None else lmax_out
        self.inputs, self.outputs, self.orders = inputs, outputs, min(mmax, lmax_out)
        orders = range(1, self.orders + 1)
        widths = [(lmax + 1 - m) * (inputs.tensors + inputs.pseudo) for m in orders]
        self.out_sizes = [[(lmax_out + 1 - m) * c for c in (outputs.tensors, outputs.pseudo)] for m in orders]
        self.zero_sizes = [outputs.scalars, lmax_out * outputs.tensors]
        width = sum(self.zero_sizes)
        gain = _HALF if lmax else 1.0
        self.scalar_mix = Linear(inputs.scalars, width, rng, gain=gain)
        self.zero_mix = Linear(lmax * inputs.tensors, width, rng, gain=gain) if lmax else None
        self.order_mix = nn.ModuleList(Linear(i, sum(o), rng) for i, o in zip(widths, self.out_sizes, strict=True))
        typed = (lmax + 1) * inputs.pseudo if inputs.pseudo_zero and outputs.pseudo else 0
        self.pseudo_mix = Linear(typed, (lmax_out + 1) * outputs.pseudo, rng) if typed else None
        self.scale_sizes = [inputs.scalars, *([lmax * inputs.tensors] if lmax else []), *widths]
        self.scale_sizes += [typed] if typed else []

    @property
    def has_pseudo_zero(self) -> bool:
        """Whether pseudo features of m = 0 leave."""
        return self.pseudo_mix is not None

    def mix(self, rows: FrameRows, scales: Sequence[Tensor] | None = None) -> FrameRows:
        """The map, after a scale on each of its inputs.

        Args:
            rows: What arrives.
            scales: (E, size) for each entry of ``scale_sizes``; none unless given.
        """
        scaled = _Scaled(scales)
        zero = self.scalar_mix(scaled(rows.scalars, 0))
        if self.zero_mix is not None:
            zero = self.zero_mix.add_to(zero, scaled(rows.natural[0], 1))
        scalars, tensors = zero.split(self.zero_sizes, 1)
        signed = [self._mix_signed(k, rows, scaled) for k in range(2 * self.orders)]
        pseudo_zero = None
        if self.pseudo_mix is not None and rows.pseudo_zero is not None:
            pseudo_zero = self.pseudo_mix(scaled(rows.pseudo_zero, -1))
        return FrameRows(
            scalars,
            (tensors, *(part[0] for part in signed)),
            tuple(part[1] for part in signed) if self.outputs.pseudo else (),
            pseudo_zero,
        )

    def _mix_signed(self, k: int, rows: FrameRows, scaled: _Scaled) -> tuple[Tensor, ...]:
        """The k-th of m = +1, −1, +2 …: two matrices instead of one block, torch is fastest in two dimensions."""
        order = k // 2
        both = torch.cat([rows.natural[k + 1], rows.pseudo[k]], 1) if rows.pseudo else rows.natural[k + 1]
        mixed = self.order_mix[order](scaled(both, 2 + order))
        return mixed.split(self.out_sizes[order], 1) if self.outputs.pseudo else (mixed,)


def natural_rows(in_frame: Tensor, lmax: int, mmax: int) -> tuple[Tensor, ...]:
    """(E, R, C), rows m-major → (E, rows·C) for m = 0, +1, −1 and so on."""
    sizes = [rows * in_frame.shape[2] for rows in signed_sizes(lmax, 1, mmax)]
    return in_frame.flatten(1).split(sizes, 1)


def pseudo_rows(in_frame: Tensor, lmax: int, mmax: int) -> tuple[Tensor, ...]:
    """(E, R', C) of pseudo features → (E, rows·C) for m = 0, +1, −1 and so on."""
    sizes = [rows * in_frame.shape[2] for rows in signed_sizes(lmax, 0, mmax)]
    return in_frame.flatten(1).split(sizes, 1)
