"""The port: a symmetry-breaking tensor b that acts on the features of the nodes, x ← x + W(b ⊗ x).

With b turned along, the network stays equivariant: f(gx, gb) = g f(x, b). Relaxed weights (2407.20471) are a b that
is learnt, an external field is a b that is known, domain variants (2402.02681) are a b drawn from a finite set. It
acts at the nodes, never in the edge frame, where a weight that mixes orders m would make the energy depend on the
arbitrary roll about the edge.

At the start θ = 0 with W random (``learned``), or W = 0 with b given: the strict network either way, to the bit, and
its gradient by what is zero does not vanish.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from mlip.errors import InputError
from mlip.nn.constants import Constants, clebsch_gordan
from mlip.nn.features import Features, present
from mlip.nn.linear import Linear
from mlip.settings import Irrep, ModelSettings

_SEED = 7_368_787  # of the port's own generator: the other weights are drawn as if there were no port
_SMOOTH = 1e-3  # of |θ| at zero


@dataclass(frozen=True)
class Breaking:
    """The tensor b, and which one each node feels.

    Attributes:
        tensor: (K, D), components of all irreps in the order of the settings, e3nn's within each.
        of_node: (N,), the row that belongs to each node; None where there is one row for all.
    """

    tensor: Tensor
    of_node: Tensor | None = None


@dataclass(frozen=True)
class Block:
    """One block of a node's features: degrees lmin … lmax of one natural parity η (+1 natural, −1 pseudo)."""

    name: str
    lmin: int
    lmax: int
    eta: int
    channels: int

    @property
    def degrees(self) -> range:
        """The degrees."""
        return range(self.lmin, self.lmax + 1)

    @property
    def dim(self) -> int:
        """Components of all degrees."""
        return (self.lmax + 1) ** 2 - self.lmin**2

    def rows(self, l: int) -> slice:
        """Where the components of a degree stand."""
        return slice(l * l - self.lmin**2, (l + 1) ** 2 - self.lmin**2)

    def of(self, features: Features) -> Tensor | None:
        """(N, components, channels) of a node's features; None where they have no such block."""
        found: Tensor | None = getattr(features, self.name)
        return found.unsqueeze(1) if found is not None and self.name == "scalars" else found


def feature_blocks(lmax: int, scalars: int, tensors: int, pseudo: int) -> list[Block]:
    """The blocks that features consist of."""
    blocks = [Block("scalars", 0, 0, 1, scalars), Block("tensors", 1, lmax, 1, tensors)]
    return blocks + ([Block("pseudo", 0, lmax, -1, pseudo)] if pseudo else [])


class Coupling(nn.Module):
    """All paths b_lb ⊗ x_l1 → y_l2 between two blocks of features, as one matrix that is linear in b.

    A path exists where |lb − l1| ≤ l2 ≤ lb + l1 and parities multiply: η₂ = η_b η₁ (−1)^(lb + l1 + l2).

    Attributes:
        paths: How many lead to each degree of the second block.
    """

    def __init__(self, irreps: tuple[Irrep, ...], first: Block, second: Block) -> None:
        super().__init__()
        self.irreps, self.first, self.second = irreps, first, second
        tables = [self._tables(l) for l in second.degrees]
        self.paths = [len(some) for some in tables]
        self.sizes = [n * (2 * l + 1) for n, l in zip(self.paths, second.degrees, strict=True)]
        self.constants = Constants(table=torch.cat([t for some in tables for t in some])) if any(self.paths) else None

    @property
    def name(self) -> str:
        """What state dictionaries call it."""
        return f"{self.first.name}_to_{self.second.name}"

    def _tables(self, l2: int) -> list[Tensor]:
        """One (2·l2+1, components of the first block, D) for each path to a degree."""
        tables, start, dim = [], 0, sum(irrep.dim for irrep in self.irreps)
        for irrep in self.irreps:
            for l1 in self.first.degrees:
                if self._allowed(irrep, l1, l2):
                    table = torch.zeros(2 * l2 + 1, self.first.dim, dim, dtype=torch.float64)
                    constants = clebsch_gordan(irrep.l, l1, l2).permute(2, 1, 0) * math.sqrt(2 * l2 + 1)
                    table[:, self.first.rows(l1), start : start + irrep.dim] = constants
                    tables.append(table)
            start += irrep.dim
        return tables

    def couples(self, irrep: Irrep) -> bool:
        """Whether any path leads through this irrep."""
        return any(self._allowed(irrep, l1, l2) for l1 in self.first.degrees for l2 in self.second.degrees)

    def _allowed(self, irrep: Irrep, l1: int, l2: int) -> bool:
        sign = irrep.eta * self.first.eta * self.second.eta * (-1) ** (irrep.l + l1 + l2)
        return abs(irrep.l - l1) <= l2 <= irrep.l + l1 and sign == 1

    def matrix(self, b: Tensor) -> Tensor:
        """(K, D) → B(b), (K, rows, components of the first block)."""
        if self.constants is None:
            raise RuntimeError("there is no path between these blocks")
        return torch.tensordot(b, self.constants.table, dims=([1], [2]))


class PathMix(nn.Module):
    """W of one coupling at one place: products of all paths → the second block, a channel matrix per degree."""

    def __init__(self, coupling: Coupling, rng: torch.Generator, *, zero: bool) -> None:
        super().__init__()
        self.degrees, self.paths, self.sizes = list(coupling.second.degrees), coupling.paths, coupling.sizes
        self.channels = coupling.second.channels
        inputs = coupling.first.channels
        found = {str(l): n * inputs for l, n in zip(self.degrees, self.paths, strict=True) if n}
        self.linear = nn.ModuleDict({l: Linear(n, self.channels, rng) for l, n in found.items()})
        for parameter in self.parameters() if zero else ():
            nn.init.zeros_(parameter)

    def forward(self, products: Tensor) -> Tensor:
        """(N, rows, channels in) → (N, components, channels out)."""
        parts = zip(self.degrees, self.paths, products.split(self.sizes, 1), strict=True)
        return torch.cat([self._degree(l, paths, part) for l, paths, part in parts], 1)

    def _degree(self, l: int, paths: int, part: Tensor) -> Tensor:
        if not paths:
            return part.new_zeros(part.shape[0], 2 * l + 1, self.channels)
        mixed: Tensor = self.linear[str(l)](part.unflatten(1, (paths, 2 * l + 1)).transpose(1, 2).flatten(2))
        return mixed


class Port(nn.Module):
    """The residuals of all places in a network, and θ where it is learnt.

    Args:
        settings: What the network is; it has a section ``anisotropy``.
        pseudo: Pseudo channels of the features at each place.

    Attributes:
        theta: (D,), in the laboratory's axes; None where b is given.
        strength: Factor on θ: 1, but for a training that anneals it to zero.

    Raises:
        InputError: An irrep that no path leads through, so that nothing would depend on it.
    """

    couplings: nn.ModuleDict
    places: nn.ModuleDict

    def __init__(self, settings: ModelSettings, pseudo: list[int]) -> None:
        super().__init__()
        if settings.anisotropy is None:
            raise RuntimeError("a port needs the settings of one")
        anisotropy, (scalars, tensors) = settings.anisotropy, settings.num_channels
        self.irreps, self.strength = settings.breaking_irreps, 1.0
        learned = anisotropy.source == "learned"
        rng = torch.Generator().manual_seed(settings.seed + _SEED)
        blocks = feature_blocks(settings.lmax, scalars, tensors, max(pseudo))
        pairs = [Coupling(self.irreps, first, second) for first in blocks for second in blocks]
        self.couplings = nn.ModuleDict({c.name: c for c in pairs if any(c.paths)})
        self.places, used = nn.ModuleDict(), []
        for place in range(len(pseudo)) if anisotropy.layers is None else anisotropy.layers:
            mine = [c for c in pairs if any(c.paths) and (pseudo[place] or "pseudo" not in c.name)]
            used += mine
            self.places[str(place)] = nn.ModuleDict({c.name: PathMix(c, rng, zero=not learned) for c in mine})
        _refuse_the_unheard(settings, used)
        self.theta = nn.Parameter(torch.zeros(self.dim, dtype=torch.float32)) if learned else None

    @property
    def dim(self) -> int:
        """Components of b."""
        return sum(irrep.dim for irrep in self.irreps)

    def _coupling(self, name: str) -> Coupling:
        return cast("Coupling", self.couplings[name])

    def matrices(self, breaking: Breaking) -> dict[str, Tensor]:
        """B(b) of each coupling, for each node or for all alike: computed once, used at every place."""
        found = {name: self._coupling(name).matrix(breaking.tensor) for name in self.couplings}
        if breaking.of_node is None:
            return found
        return {name: matrix.index_select(0, breaking.of_node) for name, matrix in found.items()}

    def forward(self, place: int, features: Features, matrices: dict[str, Tensor]) -> Features:
        """The features x + W(B(b) x) at one place; x itself where there is no port."""
        if str(place) not in self.places:
            return features
        changed = {name: getattr(features, name) for name in ("scalars", "tensors", "pseudo")}
        for name, mix in cast("nn.ModuleDict", self.places[str(place)]).items():
            coupling = self._coupling(name)
            x = coupling.first.of(features)
            change = mix(torch.matmul(matrices[name], present(x)))
            target = coupling.second.name
            changed[target] = changed[target] + (change.squeeze(1) if target == "scalars" else change)
        return replace(features, **changed)

    def sizes(self) -> Tensor:
        """(irreps,): |θ_l| of each irrep, rounded off at zero so that its gradient is continuous there."""
        if self.theta is None:
            raise RuntimeError("b is given: there is no θ")
        parts = self.theta.split([irrep.dim for irrep in self.irreps])
        return torch.stack([torch.sqrt(part.square().sum() + _SMOOTH**2) - _SMOOTH for part in parts])


def _refuse_the_unheard(settings: ModelSettings, couplings: list[Coupling]) -> None:
    """Every irrep must act on features that the network has.

    What is not of natural parity turns natural features into pseudo ones, or natural ones of degrees with l + l₁ + l₂
    odd, for which lmax may be too small.
    """
    for irrep in settings.breaking_irreps:
        if not any(coupling.couples(irrep) for coupling in couplings):
            raise InputError(
                f"no feature of this network feels {irrep.name}: it would do nothing",
                key="anisotropy.irreps",
                mend=_mend_of_the_unheard(settings, irrep),
            )


def _mend_of_the_unheard(settings: ModelSettings, irrep: Irrep) -> str:
    layers = {"nequip": 4, "equiformer": 3}[settings.architecture]
    mend = f"pseudo features: parity: true, num_layers: {layers} or more and anisotropy.layers: null"
    return mend if irrep.l == 0 else f"lmax: {irrep.l // 2 + 1}, or {mend}"


def make_port(settings: ModelSettings, pseudo: list[int]) -> Port | None:
    """The port of the settings, or None."""
    return None if settings.anisotropy is None else Port(settings, pseudo)
