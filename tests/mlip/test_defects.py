"""Tests of the tests: each injected defect is caught by the check that is there for it, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from mlip import InputError, MLIPCalculator
from mlip.nn import geometry
from mlip.testing import (
    check_calculator,
    check_cutoff,
    check_forces,
    check_hessian,
    check_operation,
    check_repeatability,
    check_rotation,
    check_stress,
    check_torque,
    forces_of,
)

FORCES, STRESS, HESSIAN = "forces = −dE/dx", "stress = dE/dε/V", "Hessian = −dF/dx"
ROTATION, INVERSION, SUPERCELL = "symmetry under rotation", "symmetry under inversion", "supercell"
CUTOFF, NET_FORCE, TORQUE = "smoothness at the cutoff", "net force", "torque"


class Altered(Calculator):
    """A calculator whose results pass through a function on their way out."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, inner: MLIPCalculator, alter: Callable[[Atoms, dict[str, Any]], None]) -> None:
        super().__init__()
        self.inner, self.alter = inner, alter

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)):
        super().calculate(atoms, properties, system_changes)
        self.inner.get_potential_energy(self.atoms)
        self.results = {k: np.copy(v) for k, v in self.inner.results.items() if k in self.implemented_properties}
        self.alter(self.atoms, self.results)


def scale(name: str, factor: float) -> Callable[[Atoms, dict[str, Any]], None]:
    def alter(_atoms, results):
        if name in results:
            results[name] *= factor

    return alter


def add_nonconservative(_atoms, results):
    """A part F·|F| that is equivariant and sums to zero, but is no gradient."""
    forces = results["forces"]
    extra = 1e-3 * forces * np.linalg.norm(forces, axis=1, keepdims=True)
    results["forces"] = forces + extra - extra.mean(0)


def add_energy(term: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Atoms, dict[str, Any]], None]:
    """An extra energy of a molecule, forces included."""

    def alter(atoms, results):
        positions = torch.tensor(atoms.positions, requires_grad=True)
        energy = term(positions - positions.mean(0))
        results["energy"] += float(energy.detach())
        results["forces"] -= torch.autograd.grad(energy, positions)[0].numpy()

    return alter


def pseudoscalar(arms: torch.Tensor) -> torch.Tensor:
    """A determinant of moments: the same under rotation, permutation and translation, opposite under inversion."""
    squares = arms.square().sum(1, keepdim=True)
    return 1e-3 * torch.linalg.det(torch.stack([(arms * squares**k).sum(0) for k in (1, 2, 3)]))


def anisotropy(arms: torch.Tensor) -> torch.Tensor:
    """A thousandth of an energy that knows the laboratory's z axis, at any distance."""
    return 1e-3 * (arms[:, 2] ** 2).sum()


def drop_self_images(calculator: MLIPCalculator) -> None:
    pairs = calculator.neighbors.pairs

    def without_images(atoms):
        source, target, shifts = pairs(atoms)
        kept = source != target
        return source[kept], target[kept], shifts[kept]

    calculator.neighbors.pairs = without_images


def failed(calculator: Calculator, atoms: Atoms, cutoff: float | None = None) -> set[str]:
    return {check.name for check in check_calculator(calculator, atoms, cutoff) if not check.passed}


@pytest.mark.parametrize(("structure", "alter", "caught"), [
    ("triclinic", lambda _a, _r: None, set()),
    ("cluster", lambda _a, _r: None, set()),
    ("triclinic", scale("stress", -1), {STRESS}),
    ("triclinic", scale("stress", 7), {STRESS}),
    ("triclinic", scale("stress", 1 + 1e-5), {STRESS}),
    ("triclinic", scale("forces", 1.2), {FORCES}),
    ("cluster", scale("forces", 1 + 1e-5), {FORCES}),
    ("triclinic", add_nonconservative, {FORCES}),
    ("cluster", add_nonconservative, {FORCES, TORQUE}),
    ("cluster", add_energy(pseudoscalar), {INVERSION}),
    ("cluster", add_energy(anisotropy), {ROTATION, TORQUE, CUTOFF}),
], ids=[
    "healthy crystal", "healthy molecule", "stress sign", "stress × 7", "stress + 1e-5", "forces × 1.2",
    "forces + 1e-5", "non-conservative crystal", "non-conservative molecule", "pseudoscalar", "anisotropy",
])  # fmt: skip
def test_each_defect_is_caught(request, calculator_for, structure, alter, caught):
    atoms = request.getfixturevalue(structure)
    calculator = calculator_for(atoms)
    assert failed(Altered(calculator, alter), atoms, calculator.potential.cutoff) == caught


def test_dropped_self_images_are_caught(calculator_for, triclinic):
    calculator = calculator_for(triclinic)
    drop_self_images(calculator)
    assert failed(Altered(calculator, lambda _a, _r: None), triclinic) == {SUPERCELL}


def test_a_linear_envelope_is_caught(monkeypatch, calculator_for, cluster):
    monkeypatch.setattr(geometry, "envelope", lambda x: (1 - x).clamp(min=0))
    calculator = calculator_for(cluster)
    assert failed(calculator, cluster, calculator.potential.cutoff) == {CUTOFF}


def test_a_wrong_cutoff_is_caught(calculator_for, cluster):
    """The interaction may neither end before nor reach beyond the radius that is stated."""
    calculator = calculator_for(cluster)
    for cutoff in (3.9, 4.1):
        assert not check_cutoff(calculator, ["Si", "O"], cutoff).passed


def test_a_detached_frame_is_caught(monkeypatch, calculator_for, cluster):
    """Rotations that gradients do not pass through: forces are then not gradients."""
    original = geometry.WignerBlocks.forward
    monkeypatch.setattr(geometry.WignerBlocks, "forward", lambda self, n: original(self, n.detach()))
    assert not check_forces(calculator_for(cluster), cluster).passed


def test_a_clamped_pole_is_caught(monkeypatch, calculator_for, star):
    """Frames that avoid the pole by a clamp are wrong for bonds along the axis, and only there."""
    original = geometry.WignerBlocks.forward

    def clamped(self, direction):
        x, y, z = direction.unbind(1)
        return original(self, torch.stack([x, y.clamp(-0.999, 0.999), z], 1))

    monkeypatch.setattr(geometry.WignerBlocks, "forward", clamped)
    calculator = calculator_for(star)
    assert check_forces(calculator, star).passed  # they are gradients, but of an energy that depends on the axes
    assert not check_rotation(calculator, star).passed


def test_a_wrong_hessian_is_caught(calculator_for, triclinic):
    calculator = calculator_for(triclinic)
    assert check_hessian(calculator, triclinic).passed
    healthy = calculator.get_hessian
    calculator.get_hessian = lambda atoms: (1 + 1e-5) * healthy(atoms)
    assert not check_hessian(calculator, triclinic).passed


def test_a_calculator_with_a_memory_is_caught(calculator_for, triclinic):
    calls = []

    def forget(_atoms, results):
        calls.append(1)
        results["energy"] += 1e-12 * len(calls)

    assert not check_repeatability(Altered(calculator_for(triclinic), forget), triclinic).passed


def test_a_structure_at_rest_is_refused(calculator_for, cluster, triclinic):
    """Relative errors mean nothing where forces vanish: a check that measures nothing must not pass."""
    with pytest.raises(InputError, match="too small to measure"):
        check_forces(calculator_for(cluster), Atoms("Si", cell=20 * np.eye(3), pbc=True))
    with pytest.raises(InputError, match="stress vanishes"):
        check_stress(calculator_for(cluster), Atoms("Si", cell=20 * np.eye(3), pbc=True))
    with pytest.raises(InputError, match="no torque"):
        check_torque(calculator_for(triclinic), triclinic)
    with pytest.raises(InputError, match="not orthogonal"):
        check_operation(calculator_for(triclinic), triclinic, 2 * np.eye(3))


def test_any_ase_calculator_can_be_checked():
    """A cut Lennard-Jones potential: right in everything but the way it ends."""
    atoms = Atoms("Ar5", [[0, 0, 0], [1.2, 0.1, 0], [0, 1.1, 0.3], [-0.4, 0.3, 1.2], [1.1, 1.2, 0.9]])
    calculator = LennardJones(rc=2.5, smooth=False)
    assert np.abs(forces_of(calculator, atoms)).max() > 0.05
    assert failed(calculator, atoms) == set()
    assert not check_cutoff(calculator, ["Ar", "Ar"], 2.5).passed
