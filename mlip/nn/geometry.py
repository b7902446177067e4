"""Everything about the edges that the layers share: lengths, envelope, radial basis, frames, Wigner blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlip.nn.constants import Constants, clebsch_gordan
from mlip.nn.layout import degree_of_rows, flat_index, frame_rows, phase_folded


@dataclass(frozen=True)
class EdgeGeometry:
    """What the layers need to know about the edges.

    Attributes:
        length: (E, 1), Å.
        direction: (E, 3), unit vectors from target to source.
        envelope: (E, 1), 1 at zero distance, 0 with three derivatives at the cutoff.
        basis: (E, num_radial), radial functions without the envelope.
        harmonics: (E, L, D), the m = 0 rows of the rotation to the edge frame; None for lmax 0.
        to_frame: (E, R, D), rotation to the edge frame, rows m-major; None when no layer needs it.
        pseudo_to_frame: (E, R', D + 1), the same for pseudo features, phase folded in; None without them.
    """

    length: Tensor
    direction: Tensor
    envelope: Tensor
    basis: Tensor
    harmonics: Tensor | None
    to_frame: Tensor | None
    pseudo_to_frame: Tensor | None


def envelope(x: Tensor) -> Tensor:
    """u⁴(1 + 4x + 10x² + 20x³ + 35x⁴) with u = 1 − x: three continuous derivatives at x = 1, none lost at 0.

    The factored form has no cancellation near the cutoff, where forces and Hessians feel it.
    """
    u = 1 - x
    return (u * u).square() * (1 + x * (4 + x * (10 + x * (20 + x * 35))))


class RadialBasis(nn.Module):
    """Bessel functions sin(kπr/r_c)/r (Gasteiger et al., 2003.03123), scaled to rms ≈ 1 near r_c/2."""

    def __init__(self, num_radial: int, cutoff: float) -> None:
        super().__init__()
        waves = torch.arange(1, num_radial + 1, dtype=torch.float64) * math.pi / cutoff
        self.constants = Constants(waves=waves)
        self.scale = math.sqrt(2 * cutoff) / 2

    def forward(self, length: Tensor) -> Tensor:
        """(E, 1) → (E, num_radial)."""
        return torch.sin(length * self.constants.waves) * (self.scale / length)


class WignerBlocks(nn.Module):
    """Rotations D¹…Dᴸ that carry an edge's direction onto +y, e3nn's polar axis.

    The frame is the shortest rotation of n onto +y where n_y ≥ 0, and elsewhere that of the edge turned by π
    about x: a hard switch between two smooth charts, without a singular point. Which one is used changes the
    frame by a rotation about the axis, which the energy does not see. Higher degrees follow by Clebsch–Gordan
    recursion, polynomial in the 3×3 matrix:  Dˡ = (2l+1) C(l−1,1,l) Dˡ⁻¹ ⊗ R C(l−1,1,l).
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        couplings = {f"coupling{l}": self._coupling(l) for l in range(2, lmax + 1)}
        self.constants = Constants(flip=torch.tensor([0.0, 1.0, 1.0]), **couplings)

    @staticmethod
    def _coupling(l: int) -> Tensor:
        c = clebsch_gordan(l - 1, 1, l)
        return (2 * l + 1) * torch.einsum("ija,kmb->ikjmab", c, c).reshape((2 * l - 1) ** 2 * 9, -1)

    def forward(self, direction: Tensor) -> Tensor:
        """(E, 3) unit vectors → (E, Σ(2l+1)² + 2): D¹…Dᴸ flattened, then a zero and a one."""
        blocks = [self._rotation(direction)]
        for l in range(2, self.lmax + 1):
            product = (blocks[-1].unsqueeze(2) * blocks[0].unsqueeze(1)).flatten(1)
            blocks.append(product @ getattr(self.constants, f"coupling{l}"))
        zero = torch.zeros_like(direction[:, :1])
        return torch.cat([*blocks, zero, zero + 1], 1)

    @staticmethod
    def _rotation(direction: Tensor) -> Tensor:
        """R with R·n = +y, flattened; rows and columns in e3nn's order (x, y, z) = (−1, 0, +1)."""
        x, y, z = direction.unbind(1)
        sign = torch.where(y >= 0, 1.0, -1.0).to(direction.dtype)
        y, z = y * sign, z * sign  # the edge turned by π about x, where it pointed down
        inverse = 1 / (1 + y)
        xz = -x * z * inverse
        row_x = [1 - x * x * inverse, -x * sign, xz * sign]
        row_y = [x, y * sign, z * sign]
        row_z = [xz, -z * sign, (1 - z * z * inverse) * sign]
        return torch.stack([*row_x, *row_y, *row_z], 1)


class Harmonics(nn.Module):
    """Only the m = 0 rows of the Wigner blocks, that is spherical harmonics of unit norm: enough for two layers."""

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        # Yˡ = a_l C(l−1,1,l) Yˡ⁻¹ ⊗ n with a_l such that Yˡ(+y) is the unit vector of m = 0.
        couplings = {}
        for l in range(2, lmax + 1):
            c = clebsch_gordan(l - 1, 1, l)
            couplings[f"coupling{l}"] = (c / c[l - 1, 1, l]).reshape(-1, 2 * l + 1)
        degrees = torch.arange(1, lmax + 1).unsqueeze(1)
        self.constants = Constants(own=(degree_of_rows(lmax) + 1 == degrees).double(), **couplings)

    def forward(self, direction: Tensor) -> Tensor:
        """(E, 3) unit vectors → (E, L, (L+1)²−1), one degree a row."""
        rows = [direction]
        for l in range(2, self.lmax + 1):
            product = (rows[-1].unsqueeze(2) * direction.unsqueeze(1)).flatten(1)
            rows.append(product @ getattr(self.constants, f"coupling{l}"))
        return torch.cat(rows, 1).unsqueeze(1) * self.constants.own


class Geometry(nn.Module):
    """Edge vectors → ``EdgeGeometry``, once per forward.

    Args:
        lmax: Highest degree.
        cutoff: Å.
        num_radial: Radial functions.
        frames: Whether any layer rotates tensors into the edge frame.
        pseudo: Whether any layer has pseudo features.
        mmax: Highest order m that is carried in the edge frame; all unless given.
    """

    def __init__(
        self, lmax: int, cutoff: float, num_radial: int, *, frames: bool, pseudo: bool, mmax: int | None = None
    ) -> None:
        super().__init__()
        self.lmax, self.cutoff = lmax, cutoff
        self.radial_basis = RadialBasis(num_radial, cutoff)
        self.frames = EdgeFrames(lmax, pseudo=pseudo, mmax=mmax) if frames and lmax > 0 else None
        self.harmonics = Harmonics(lmax) if not frames and lmax > 0 else None

    def forward(self, edge_vectors: Tensor) -> EdgeGeometry:
        """(E, 3) Å → the geometry of the edges."""
        length = edge_vectors.square().sum(1, keepdim=True).sqrt()
        direction = edge_vectors / length
        harmonics = to_frame = pseudo = None
        if self.frames is not None:
            to_frame, pseudo = self.frames(direction)
            harmonics = to_frame.split([self.lmax, to_frame.shape[1] - self.lmax], 1)[0]
        elif self.harmonics is not None:
            harmonics = self.harmonics(direction)
        return EdgeGeometry(
            length=length,
            direction=direction,
            envelope=envelope(length / self.cutoff),
            basis=self.radial_basis(length),
            harmonics=harmonics,
            to_frame=to_frame,
            pseudo_to_frame=pseudo,
        )


class EdgeFrames(nn.Module):
    """Block-diagonal rotations to the edge frame, rows m-major, assembled from the Wigner blocks."""

    def __init__(self, lmax: int, *, pseudo: bool, mmax: int | None = None) -> None:
        super().__init__()
        self.blocks = WignerBlocks(lmax)
        highest = lmax if mmax is None else mmax
        rows = frame_rows(lmax, 1, highest)
        self.register_buffer("index", flat_index(lmax, rows, 1), persistent=False)
        self.shape = (len(rows), (lmax + 1) ** 2 - 1)
        self.pseudo = pseudo
        folded, signs = phase_folded(frame_rows(lmax, 0, highest))
        self.register_buffer("pseudo_index", flat_index(lmax, folded, 0), persistent=False)
        self.constants = Constants(signs=signs.view(1, -1, 1))
        self.pseudo_shape = (len(folded), (lmax + 1) ** 2)

    def forward(self, direction: Tensor) -> tuple[Tensor, Tensor | None]:
        """(E, 3) unit vectors → rotations of natural and of pseudo features."""
        flat = self.blocks(direction)
        to_frame = flat.index_select(1, self.index).unflatten(1, self.shape)
        if not self.pseudo:
            return to_frame, None
        pseudo = flat.index_select(1, self.pseudo_index).unflatten(1, self.pseudo_shape)
        return to_frame, pseudo * self.constants.signs
