"""Potentials of known physics for the tests of this room."""

from __future__ import annotations

import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from matscipy.calculators.manybody import Manybody, StillingerWeber
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si

A0 = 5.43095  # Å, where Stillinger–Weber silicon has no stress


def stillinger_weber():
    return Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))


@pytest.fixture
def sw():
    return stillinger_weber()


@pytest.fixture
def new_sw():
    """A factory, for tests that need a fresh calculator."""
    return stillinger_weber


@pytest.fixture
def silicon():
    return bulk("Si", a=A0)


@pytest.fixture
def silicon8():
    return bulk("Si", a=A0, cubic=True)


class Springs(Calculator):
    """Every atom tethered to where it was first seen, relative to the centroid; stiffness in eV/Å²."""

    implemented_properties = ("energy", "forces")

    def __init__(self, stiffness):
        super().__init__()
        self.stiffness, self.sites = stiffness, None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.sites = self.atoms.get_positions() if self.sites is None else self.sites
        u = self.atoms.get_positions() - self.sites
        u -= u.mean(axis=0)
        self.results = {"energy": 0.5 * self.stiffness * float((u**2).sum()), "forces": -self.stiffness * u}


@pytest.fixture
def new_springs():
    return Springs


class Altered(Calculator):
    """Another calculator with a defect put in: a function of (atoms, results) that returns new results."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, inner, defect):
        super().__init__()
        self.inner, self.defect = inner, defect

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        copy = self.atoms.copy()
        copy.calc = self.inner
        results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces().copy()}
        if copy.pbc.all():
            results["stress"] = copy.get_stress().copy()
        self.results = self.defect(self.atoms, results)
        self.results["free_energy"] = self.results["energy"]


@pytest.fixture
def altered():
    return Altered


@pytest.fixture
def small_potential():
    """A random-weights potential for silicon, float64."""
    mlip = pytest.importorskip("mlip")
    settings = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 2, "num_channels": 8, "lmax": 2, "seed": 1}
    return mlip.Potential.from_config(settings, species=["Si"])


@pytest.fixture
def small_calculator(small_potential):
    from mlip import MLIPCalculator

    return MLIPCalculator(small_potential, dtype="float64")


@pytest.fixture(scope="session")
def quick():
    """Settings that keep a calculation short."""
    return {"points": 30, "dos_mesh": [6, 6, 6], "supercell": 3}


@pytest.fixture(scope="session")
def silicon_phonons(quick):
    """Made once: a result is frozen."""
    from mlip.md import phonons

    return phonons(bulk("Si", a=A0), stillinger_weber(), method="hessian", **quick)
