"""What a node or a message consists of."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mlip.exchange import Exchange
from mlip.nn.geometry import EdgeGeometry


@dataclass(frozen=True)
class Features:
    """Features by natural parity η = p·(−1)^l.

    Attributes:
        scalars: (N, C0), natural, l = 0.
        tensors: (N, (L+1)²−1, C1), natural, l = 1…L in e3nn's order; None where there are none.
        pseudo: (N, (L+1)², P), pseudo (η = −), l = 0…L; None where there are none.
    """

    scalars: Tensor
    tensors: Tensor | None = None
    pseudo: Tensor | None = None


def added(first: Features, second: Features) -> Features:
    """The sum; what only one of them has is taken as it is."""
    return Features(
        first.scalars + second.scalars,
        _added(first.tensors, second.tensors),
        _added(first.pseudo, second.pseudo),
    )


def _added(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def present(tensor: Tensor | None) -> Tensor:
    """What a layer was built to expect.

    Raises:
        RuntimeError: It is not there: the layers of the network do not fit together.
    """
    if tensor is None:
        raise RuntimeError("a layer expects features that the one before it does not make")
    return tensor


@dataclass(frozen=True)
class EdgeContext:
    """What all layers of one forward share.

    Attributes:
        geometry: Lengths, envelope, harmonics, frames.
        radial: (E, radial_width), hidden radial features, which know the species of both ends.
        weight: (E, 1), envelope over √⟨neighbours⟩, folded into the way back.
        harmonics_back: (E, D, L), weighted harmonics, from m = 0 to the lab frame; None for lmax 0.
        from_frame: (E, D, R), weighted, from the edge frame to the lab frame; None when not needed.
        pseudo_from_frame: (E, D + 1, R'), the same for pseudo features.
        species: (N,), of the nodes.
        one_hot: (N, S, 1), species of the nodes.
        structure: (N,), the structure each node belongs to, of a lone atom its own.
        exchange: How features travel.
    """

    geometry: EdgeGeometry
    radial: Tensor
    weight: Tensor
    harmonics_back: Tensor | None
    from_frame: Tensor | None
    pseudo_from_frame: Tensor | None
    species: Tensor
    one_hot: Tensor
    structure: Tensor
    exchange: Exchange


class EdgeMix(nn.Module):
    """Base of the layers that turn node features into summed messages.

    Attributes:
        out_scalars: Scalar channels of the messages.
    """

    out_scalars: int
