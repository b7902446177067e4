"""Labels of BaTiO3 in a field: their units and the order of their indices, from relations among them."""

from __future__ import annotations

import numpy as np
import pytest

from mlip.datasets import read_frames

EPSILON_0 = 0.0055263494  # e/(V Å)


@pytest.fixture(scope="module")
def frames(data_file):
    return list(read_frames(data_file("batio3_field/BaTiO3_59.xyz")))


def neighbours(frames):
    """(model, label) of the change of the dipole between frames no atom of which moved by more than 0.3 Å."""
    cell = frames[0].atoms.cell.array
    pairs = []
    for k, one in enumerate(frames):
        for two in frames[:k]:
            moved = one.atoms.get_scaled_positions() - two.atoms.get_scaled_positions()
            moved = (moved - np.rint(moved)) @ cell
            if np.abs(moved).max() < 0.3:
                charges = (one.response("born_charges") + two.response("born_charges")) / 2
                expected = np.einsum("nab,nb->a", charges, moved)
                error = one.response("polarization") - two.response("polarization") - expected
                pairs.append((expected, expected + error - np.rint(error @ np.linalg.inv(cell)) @ cell))
    return np.array(pairs)


def test_dipole_field_and_polarizability_share_their_units(frames):
    """Charges are ∂F/∂ε, dipoles are the file's: ΔP = Σ Z Δx holds if dipoles are in e Å and ε was in V/Å.

    The polarizability is ∂P/∂ε of the same runs, so in e Å²/V.
    """
    expected, found = neighbours(frames).transpose(1, 0, 2)
    assert len(expected) >= 15
    slope = float((expected * found).sum() / (expected**2).sum())
    assert slope == pytest.approx(1.0, abs=0.02)
    assert np.sqrt(((found - expected) ** 2).mean()) < 0.02 * np.sqrt((expected**2).mean())


def test_charges_keep_the_sum_rule(frames):
    assert max(np.abs(f.response("born_charges").sum(axis=0)).max() for f in frames) < 1e-3


def test_the_dielectric_constant_of_one_k_point_is_too_small(frames):
    """No factor is missing (docs/units.md): so small is the answer of the Berry phase at a single k point."""
    mean = np.mean([f.response("polarizability") for f in frames], axis=0)
    dielectric = 1 + np.diag(mean) / (EPSILON_0 * frames[0].atoms.get_volume())
    assert dielectric == pytest.approx([4.63, 4.64, 4.34], abs=0.01)
