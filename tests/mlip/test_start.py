"""Random weights start small: forces are a fraction of the data's, for every preset."""

from __future__ import annotations

import pytest
from ase.build import molecule

from mlip import Potential
from mlip.derivatives import evaluate
from mlip.potential import Normalization
from mlip.settings import PRESETS


@pytest.mark.parametrize(("architecture", "preset"), [(a, p) for a, presets in PRESETS.items() for p in presets])
def test_forces_of_a_new_potential(architecture, preset):
    """Between 0.02 and 0.5 of the energy scale over 1 Å: neither dead nor exploding."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    settings, species = {"architecture": architecture, "preset": preset}, ["H", "C", "O"]
    graph = Potential.from_config(settings, species).graph(atoms)
    normalization = Normalization(avg_num_neighbors=graph.num_edges / graph.num_atoms)
    forces = evaluate(Potential.from_config(settings, species, normalization), graph).forces
    assert 0.02 < float(forces.square().mean().sqrt()) < 0.5
