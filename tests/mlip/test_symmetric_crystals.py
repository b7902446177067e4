"""Crystals at rest by symmetry, where all l > 0 features vanish: their curvature must be that of a smooth function.

A norm over l > 0 alone has curvature 2/ε there: analytic phonons and those of finite displacements then have
nothing in common, while random cells show nothing.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import MLIPCalculator
from mlip.nn.features import Features
from mlip.nn.node import RMSNorm
from mlip.testing import forces_of

DISPLACEMENT = 0.01


def disagreement(calculator: MLIPCalculator, crystal: Atoms) -> float:
    """Largest difference between H and displacements of 0.01 Å, relative to max|H|, over the columns of each atom."""
    atoms = crystal.repeat(2)
    worst, largest = 0.0, 0.0
    for atom in range(len(crystal)):
        direction = np.zeros((len(atoms), 3))
        direction[atom] = (1, 0, 0)
        exact = calculator.get_hessian_vector_product(atoms, direction)
        displaced = [atoms.copy(), atoms.copy()]
        for sign, image in zip((1, -1), displaced, strict=True):
            image.positions += sign * DISPLACEMENT * direction
        plus, minus = (forces_of(calculator, image) for image in displaced)
        worst = max(worst, float(np.abs(exact + (plus - minus) / (2 * DISPLACEMENT)).max()))
        largest = max(largest, float(np.abs(exact).max()))
    return worst / largest


@pytest.fixture
def calculator_at_rest(calculator_for):
    """Scaled on a displaced copy, because the crystal itself feels no force.

    Sixteen channels: the rms of a few may come close to zero by chance, and a norm is then steep anywhere.
    """

    def make(crystal: Atoms, **settings) -> MLIPCalculator:
        rattled = crystal.repeat(2)
        rattled.rattle(0.1, seed=2)
        return calculator_for(rattled, cutoff=4.2, num_channels=16, **settings)

    return make


@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
def test_displacements_agree_with_the_limit(calculator_at_rest, variant, symmetric_crystal, tolerances, norm):
    calculator = calculator_at_rest(symmetric_crystal, norm=norm, **variant)
    assert np.abs(forces_of(calculator, symmetric_crystal)).max() < tolerances.symmetry
    assert disagreement(calculator, symmetric_crystal) < tolerances.displacement


def separable(self, features: Features) -> Features:
    """The published norm: scalars apart, one rms over l > 0 alone."""
    scale = torch.rsqrt(features.scalars.square().mean(1, keepdim=True) + 1e-5)
    if features.tensors is None:
        return Features(features.scalars * scale)
    inverse = torch.rsqrt(features.tensors.square().mean((1, 2), keepdim=True) + 1e-5)
    return Features(features.scalars * scale, features.tensors * inverse, features.pseudo)


def test_a_norm_over_tensors_alone_is_noticed(monkeypatch, calculator_at_rest, symmetric_crystal, tolerances):
    """A test of the test."""
    monkeypatch.setattr(RMSNorm, "forward", separable)
    calculator = calculator_at_rest(symmetric_crystal, norm=True)
    assert disagreement(calculator, symmetric_crystal) > 3 * tolerances.displacement
