"""How close the network may see two atoms: what keeps it from answering where no training data reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor, nn

from mlip.nn.constants import Constants

# Fractions of the smallest distance in the training data. The first is where a calculator starts to warn.
_UNTOUCHED, _CONSTANT = 0.95, 0.75
_WIDTH = _UNTOUCHED - _CONSTANT


class ClosestApproach(nn.Module):
    """Edges as the network sees them: as they are, but never much shorter than the data it was trained on.

    With d the smallest distance of a pair of species in the training data, r̃(r) = r from 0.95 d on, and constant,
    0.85 d, below 0.75 d; four derivatives are continuous in between. A network extrapolates to any value there, and
    has drawn atoms together by keV; r̃ leaves it no say, so that nuclear repulsion, which sees r itself, decides.

    Args:
        species: Chemical symbols in the order of the potential.
        min_distance: d by pair, Å, ``{"O-Si": 1.6}``, symbols in alphabetical order. A pair that the data lack gets
            the sum of its covalent radii.
    """

    def __init__(self, species: Sequence[str], min_distance: Mapping[str, float]) -> None:
        super().__init__()
        rows = [[_distance(a, b, min_distance) for b in species] for a in species]
        self.constants = Constants(min_distance=torch.tensor(rows, dtype=torch.float64))

    def forward(self, edge_vectors: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """(E, 3), Å, and the species of both ends (E,) → (E, 3), the same directions with lengths r̃.

        r̃ = max(r, 0.95 d) − w (½ − s(t)), w = 0.2 d, t = (r − 0.75 d)/w in [0, 1], where s′ is the smooth step.
        What is added to r is exactly zero from 0.95 d on, in value and derivatives.
        """
        length = edge_vectors.square().sum(1).sqrt()
        shortest, t = self._place(length, source, target)
        area = t.square().square() * t * (7 + t * (-14 + t * (10 - 2.5 * t)))
        longer = (_UNTOUCHED * shortest - length).clamp(min=0) - _WIDTH * shortest * (0.5 - area)
        return edge_vectors + edge_vectors * (longer / length).unsqueeze(1)

    def unseen(self, length: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """(E,) lengths, Å → (E,): 0 from 0.95 d on, 1 below 0.75 d, three continuous derivatives in between."""
        t = self._place(length, source, target)[1]
        return 1 - t.square().square() * (35 + t * (-84 + t * (70 - 20 * t)))

    def _place(self, length: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The d of each edge, and where the edge is between 0.75 d (0) and 0.95 d (1)."""
        shortest = self.constants.min_distance[source, target]
        return shortest, ((length / shortest - _CONSTANT) / _WIDTH).clamp(0, 1)


def _distance(a: str, b: str, min_distance: Mapping[str, float]) -> float:
    known = min_distance.get("-".join(sorted((a, b))))
    return sum(covalent_radii[atomic_numbers[s]] for s in (a, b)) if known is None else known
