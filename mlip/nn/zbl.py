"""Ziegler–Biersack–Littmark repulsion: what keeps nuclei apart where no training data reach."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor, nn

from mlip.nn.closest_approach import ClosestApproach
from mlip.nn.constants import Constants

# e²/4πε₀ in eV·Å and the universal screening function; J. F. Ziegler, J. P. Biersack, U. Littmark (1985).
_COULOMB = 14.399645478425668
_BOHR = 0.529177210903
_AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
_DECAYS = (3.19980, 0.94229, 0.40290, 0.20162)


class ZBL(nn.Module):
    """Screened nuclear repulsion, switched off with three continuous derivatives at the sum of covalent radii.

    Closer than the training data come it is whole.

    The network learns what is left: training labels need no change, because energy, forces and every higher
    derivative of the potential already contain this term.

    Args:
        species: Chemical symbols in the order of the potential.
    """

    def __init__(self, species: Sequence[str]) -> None:
        super().__init__()
        numbers = torch.tensor([atomic_numbers[s] for s in species], dtype=torch.float64)
        radii = torch.tensor([covalent_radii[atomic_numbers[s]] for s in species], dtype=torch.float64)
        powers = numbers**0.23
        self.constants = Constants(
            charge=_COULOMB * numbers[:, None] * numbers[None],
            screening=0.8854 * _BOHR / (powers[:, None] + powers[None]),
            reach=radii[:, None] + radii[None],
            amplitudes=torch.tensor(_AMPLITUDES),
            decays=torch.tensor(_DECAYS),
        )

    def forward(
        self, edge_vectors: Tensor, source: Tensor, target: Tensor, approach: ClosestApproach | None = None
    ) -> Tensor:
        """Half of each pair's energy, eV.

        Args:
            edge_vectors: (E, 3), Å.
            source: (E,), species of the sources.
            target: (E,), species of the targets.
            approach: Where no training data reach the repulsion is not switched off; None: switched off everywhere.
        """
        c = self.constants
        length = edge_vectors.square().sum(1).sqrt()
        scaled = length / c.screening[source, target]
        screened = (c.amplitudes * torch.exp(-c.decays * scaled.unsqueeze(1))).sum(1)
        u = (1 - length / c.reach[source, target]).clamp(min=0)  # u⁴ leaves three derivatives continuous
        switch = u.square().square()
        if approach is not None:
            switch = switch + (1 - switch) * approach.unseen(length, source, target)
        return 0.5 * c.charge[source, target] / length * screened * switch
