"""Strain that makes a phase unstable which phonons in a fixed cell call stable."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mlip.md import SearchSettings, find_distortions
from mlip.md.strain_coupling import strain_coupling

EDGE, SOFT, B, C, COUPLING, STIFF = 4.0, 1.0, 10.0, 8.0, 20.0, 200.0
RENORMALISED = B - 2 * COUPLING**2 / STIFF  # b at vanishing stress: the strain follows d² (Devonshire)


class Ferroelastic(Calculator):
    """One CsCl cell: −a/2 Σd² + b/4 Σd⁴ + c/2 Σ d_i² d_j² − g Σ ε_ii d_i² + ½ C Σ ε_ij²; d: B against A."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        deform = self.atoms.cell.array / EDGE
        gap = np.diff(self.atoms.positions, axis=0)[0] @ np.linalg.inv(deform) - EDGE / 2
        d, strain = gap - EDGE * np.rint(gap / EDGE), deform - np.eye(3)
        square, axial = d**2, np.diag(strain)
        fourth = C / 4 * (square.sum() ** 2 - (square**2).sum()) + B / 4 * (square**2).sum()
        energy = -SOFT / 2 * square.sum() + fourth - COUPLING * axial @ square + STIFF / 2 * (strain**2).sum()
        slope = d * (-SOFT + B * square + C * (square.sum() - square) - 2 * COUPLING * axial)
        by_strain = STIFF * strain - COUPLING * np.diag(square)
        force = np.linalg.inv(deform) @ slope
        stress = full_3x3_to_voigt_6_stress(deform.T @ by_strain / self.atoms.get_volume())
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": np.array([force, -force]),
            "stress": stress,
        }


class Exact(Ferroelastic):
    """The same with its strain derivatives, by differences in what is analytic."""

    def get_strain_derivatives(self, atoms, step=1e-4):
        def strained(strain):
            other = atoms.copy()
            other.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            other.calc = Ferroelastic()
            return other

        mixed, second = np.zeros((2, 3, 3, 3)), np.zeros((3, 3, 3, 3))
        symmetric = {(a, b): np.zeros((3, 3)) for a, b in product(range(3), repeat=2)}
        for (a, b), unit in symmetric.items():
            unit[a, b] += step / 2
            unit[b, a] += step / 2
        for (a, b), e in symmetric.items():
            mixed[:, :, a, b] = (strained(-e).get_forces() - strained(e).get_forces()) / (2 * step)
            for (c, d), f in symmetric.items():
                values = [
                    s * t * strained(s * e + t * f).get_potential_energy() for s, t in product((1, -1), repeat=2)
                ]
                second[a, b, c, d] = sum(values) / (4 * step**2)
        return mixed, second


def crystal():
    return Atoms("CsCl", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=np.eye(3) * EDGE, pbc=True)


@pytest.fixture(scope="module")
def seeing():
    return find_distortions(crystal(), Exact(), supercell=1, settings=SearchSettings(fmax=1e-5))


def energies():
    """Of the relaxed phases, eV: those of the fixed cell with b renormalised."""
    b = RENORMALISED
    return {
        "P4mm": -(SOFT**2) / (4 * b),
        "Amm2": -(SOFT**2) / (2 * (b + C)),
        "R3m": -3 * SOFT**2 / (4 * (b + 2 * C)),
    }


def test_phases_that_only_the_strain_makes_unstable_are_found_out(seeing):
    """c lies between the renormalised b and b: [111] is stable in its cell and a saddle where the cell is free."""
    assert RENORMALISED < C < B
    blind = {d.label: d for d in find_distortions(crystal(), Ferroelastic(), supercell=1).phases}
    found = {d.label: d for d in seeing.phases}
    assert not blind["R3m"].imaginary
    modes = found["R3m"].imaginary
    assert modes
    assert all(mode.strains is not None and mode.line.endswith("with strain") for mode in modes)
    for symbol, energy in energies().items():
        assert np.isclose(found[symbol].relative, energy, atol=1e-5), symbol
    assert seeing.ground_state.label == "P4mm"
    assert not seeing.ground_state.imaginary
    assert any(step.above == found["R3m"].number for step in seeing.edges)
    walks = [scan for scan in seeing.scans if scan.start == found["R3m"].number]
    assert walks  # downhill only where the strain is taken along
    assert all(walk.energies.min() < found["R3m"].energy - 1e-5 for walk in walks)
    assert seeing.untried == 0


def test_the_soft_mode_of_the_free_cell_has_the_curvature_on_paper(seeing):
    """In R3m, d = d₀(1,1,1): the curvature across is 2(b − c)d₀² in the cell and 2(b − 2g²/C − c)d₀² without."""
    free = {d.label: d for d in seeing.phases}["R3m"]
    d2 = SOFT / (RENORMALISED + 2 * C)
    masses = free.atoms.get_masses()
    reduced = masses.prod() / masses.sum()
    curvature = 2 * (RENORMALISED - C) * d2
    assert np.isclose(free.strain[0, 0], COUPLING * d2 / STIFF, rtol=1e-3)
    thz = -np.sqrt(-curvature / reduced) * 15.633302  # √(eV/Å²/amu)/2π in THz (CODATA 2018)
    assert np.isclose(free.imaginary[0].frequency, thz, rtol=0.03)  # the cell's 2 % strain scales d against u
    assert len(free.imaginary[0].basis) == 2


def test_energy_along_a_displacement_and_the_strain_that_follows(small_calculator):
    """E(u, ε(u)) has the curvature Φ − M S⁻¹ Mᵀ; compressed, so that S is positive with random weights."""
    silicon = bulk("Si", a=4.2)
    coupling = strain_coupling(silicon, small_calculator)
    direction = np.random.default_rng(0).normal(size=(2, 3))
    direction -= direction.mean(axis=0)
    strain, step = coupling.strains(direction[None])[0], 1e-3
    assert np.abs(strain).max() > 1e-3

    def energy(k):
        atoms = silicon.copy()
        atoms.set_cell(silicon.cell.array @ (np.eye(3) + k * strain), scale_atoms=True)
        atoms.positions += k * direction
        return small_calculator.get_potential_energy(atoms)

    measured = (-energy(2 * step) + 16 * energy(step) - 30 * energy(0) + 16 * energy(-step) - energy(-2 * step)) / (
        12 * step**2
    )
    root = np.sqrt(np.repeat(silicon.get_masses(), 3))
    gamma = coupling.at_vanishing_stress(small_calculator.get_hessian(silicon) / np.outer(root, root))
    flat = direction.ravel()
    assert measured == pytest.approx(float((root * flat) @ gamma.real @ (root * flat)), rel=1e-4)
