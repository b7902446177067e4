"""Leaving the training data: said once, with numbers."""

from __future__ import annotations

import re
import warnings

import pytest

from mlip import MLIPCalculator
from mlip.ranges import describe_structure
from mlip.testing import energy_of


@pytest.fixture
def calculator(potential_for, triclinic):
    potential = potential_for(triclinic)
    seen = describe_structure(triclinic, potential.graph(triclinic), potential.species)
    energy = energy_of(MLIPCalculator(potential), triclinic) / len(triclinic)
    potential.metadata["ranges"] = {
        "min_distance": seen["min_distance"],
        "neighbors": seen["neighbors"],
        "volume_per_atom": [0.9 * seen["volume"], 1.1 * seen["volume"]],
        "energy_per_atom": [energy - 1, energy + 1],
    }
    return MLIPCalculator(potential)


def test_training_data_raise_no_warning(calculator, triclinic):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        energy_of(calculator, triclinic)
    assert calculator.range_violations(triclinic) == []


def test_a_warning_comes_once_with_its_numbers(calculator, triclinic):
    squeezed = triclinic.copy()
    squeezed.set_cell(0.8 * squeezed.cell.array, scale_atoms=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        energy_of(calculator, squeezed)
        squeezed.positions[0, 0] += 0.01
        energy_of(calculator, squeezed)
    (message,) = [str(warning.message) for warning in caught]
    assert re.fullmatch(r"outside the training data: .*Å³ per atom \(trained on 1[0-9.]+ … 1[0-9.]+\).*", message)


@pytest.mark.filterwarnings("ignore:outside the training data")
def test_each_range_is_named(calculator, triclinic):
    squeezed = triclinic.copy()
    squeezed.set_cell(0.8 * squeezed.cell.array, scale_atoms=True)
    found = "; ".join(calculator.range_violations(squeezed))
    for phrase in ("O-Si distance", "O-O distance", "neighbours", "Å³ per atom"):
        assert phrase in found
    expanded = triclinic.copy()
    expanded.set_cell(1.5 * expanded.cell.array, scale_atoms=True)
    found = "; ".join(calculator.range_violations(expanded))
    assert "distance" not in found  # longer bonds are not a collision
    assert "neighbours" in found


def test_without_ranges_nothing_is_said(calculator_for, triclinic):
    calculator = calculator_for(triclinic)
    assert calculator.range_violations(triclinic.repeat(2)) == []


@pytest.mark.filterwarnings("ignore:outside the training data")
def test_a_molecule_has_no_volume(calculator, cluster):
    assert "Å³" not in "; ".join(calculator.range_violations(cluster))
