"""Distorted phases against a model whose minima are known on paper, and against what DFT says of perovskites."""

from __future__ import annotations

import json
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
import spglib
from ase.neighborlist import neighbor_list

from mlip.errors import InputError
from mlip.md import SearchSettings, find_distortions
from mlip.md.distortion_result import committee_energies, undecided
from mlip.md.probes import force_error
from mlip.md.symmetric_cell import SymmetricCell, relax_symmetric
from mlip.symmetry import SupercellGroup, domain_variants


def search(model, supercell=2, **settings):
    return find_distortions(model.crystal(), model, supercell=supercell, settings=SearchSettings(**settings))


def by_symbol(result):
    return {d.label: d for d in result.phases}


def test_the_model_has_the_forces_of_its_energy(landau):
    atoms = landau(k_b=-0.1).crystal() * (2, 2, 2)
    atoms.positions += np.random.default_rng(0).normal(scale=0.1, size=(16, 3))
    atoms.calc = landau(k_b=-0.1)
    assert force_error(atoms, 5e-3) < 1e-6


@pytest.mark.parametrize("c", [2.0, 30.0])
def test_minima_on_paper(landau, c):
    """−a²/4b along [001], −a²/2(b+c) along [110], −3a²/4(b+2c) along [111]; which one is lowest depends on c/b."""
    a, b = 1.0, 10.0
    result = search(landau(a=a, b=b, c=c), fmax=1e-5)
    found = by_symbol(result)
    energies = {"P4mm": -(a**2) / (4 * b), "Amm2": -(a**2) / (2 * (b + c)), "R3m": -3 * a**2 / (4 * (b + 2 * c))}
    lowest = min(energies, key=energies.get)
    assert result.ground_state.label == lowest
    assert not result.ground_state.imaginary
    for symbol in {lowest, *(s for s in ("P4mm", "R3m") if s in found)}:
        assert np.isclose(found[symbol].relative, energies[symbol], atol=1e-6)
    assert {"P4mm": 6, "Amm2": 12, "R3m": 8}[lowest] == result.ground_state.variants
    # The amplitude: d = uB − uA with the centre of mass of the patterns at rest.
    d2 = {"P4mm": a / b, "R3m": 3 * a / (b + 2 * c)}[lowest]
    assert np.isclose(sum(v**2 for v in result.ground_state.amplitudes.values()), d2 / 2, rtol=1e-3)


def test_accepted_phases_are_lower_and_say_what_is_left(landau):
    result = search(soft_at_r(landau))
    assert result.untried == 0
    assert result.accepted
    for phase in result.accepted:
        assert phase.relative < 0
        assert all(mode.frequency < 0 and mode.name for mode in phase.imaginary)
    minima = [d for d in result.phases if not d.imaginary]
    assert result.ground_state in minima


def test_no_phase_is_equivalent_to_another(landau):
    """No two phases have the same distances around every atom."""
    phases = search(two_soft_points(landau), max_candidates=12).phases
    prints = [fingerprint(d.atoms) for d in phases]
    for i, one in enumerate(prints):
        for k, other in enumerate(prints[:i]):
            same = len(one) == len(other) and np.abs(one - other).max() < 1e-2
            assert not same, (phases[i].number, phases[k].number)


def fingerprint(atoms):
    """Sorted distances below 6.5 Å of all pairs, per atom of an 8-fold primitive cell."""
    kinds, distances = neighbor_list("id", atoms, 6.5)
    heavy = atoms.numbers[kinds] == 55
    repeats = 16 // len(atoms)
    return np.concatenate([np.sort(np.tile(distances[heavy == flag], repeats)) for flag in (True, False)])


def soft_at_r(landau):
    """Soft at R alone."""
    return landau(a=-0.45, b=10.0, c=2.0, k_b=-0.05)


def two_soft_points(landau):
    """Soft at R and M only: −a + 12 k and −a + 8 k, with a, k < 0."""
    return landau(a=-0.35, b=10.0, c=2.0, k_b=-0.05)


def test_antiparallel_order_doubles_the_cell(landau):
    """With k_b < 0 the softest mode is at R, where all six neighbours are opposite: energy −(a + 12|k_b|)²/4b.

    There d = u_B, as the A around it feel opposite pulls and stay.
    """
    a, b, k = -0.45, 10.0, -0.05
    result = search(landau(a=a, b=b, c=30.0, k_b=k))
    lowest = result.ground_state
    assert next(iter(lowest.amplitudes)).startswith("R")
    assert np.isclose(lowest.relative, -((a + 12 * abs(k)) ** 2) / (4 * b), atol=1e-6)
    assert len(lowest.atoms) == 4
    assert lowest.translations == 2
    assert not lowest.imaginary


def test_variants_agree_with_those_of_the_structures(landau):
    """The numbers from the subgroup and from the relaxed CIF-like structure alone."""
    result = search(soft_at_r(landau))
    for phase in result.accepted[:4]:
        found = domain_variants(result.parent.atoms, phase.atoms, symprec=2e-3)
        assert found.child == phase.space_group
        assert (len(found.orientations), len(found.translations)) == (phase.orientations, phase.translations)


def test_space_groups_are_those_of_the_subgroups(landau):
    for phase in search(two_soft_points(landau), max_candidates=6).phases:
        a = phase.atoms
        dataset = spglib.get_symmetry_dataset((a.cell.array, a.get_scaled_positions(), a.numbers), symprec=2e-3)
        primitive = len(dataset.rotations) * 16 // len(a)
        assert primitive == phase.order


def test_a_stable_crystal_has_no_distortion(landau):
    result = search(landau(a=-1.0))
    assert [d.number for d in result.phases] == [0]
    assert not result.parent.imaginary
    assert "no phase lies below the parent" in result.lines


def test_candidates_that_were_not_tried_are_said(landau):
    result = search(landau(k_b=-0.05), supercell=[2, 1, 1], max_candidates=1)
    assert result.untried > 0
    assert not next(c for c in result.checks if c.name == "candidates not tried").passed


def test_relaxation_keeps_the_symmetry_and_follows_the_gradient(silicon, sw):
    """Strained and displaced silicon within F-43m's subgroup: the energy falls, and returns to the crystal's own."""
    group = SupercellGroup(silicon, np.eye(3, dtype=int))
    cell = SymmetricCell.of(group, np.ones(group.order, dtype=bool))
    assert len(cell.displacements) == 0
    assert len(cell.strains) == 1
    state = relax_symmetric(cell, np.array([0.2]), sw)
    assert state.converged
    assert np.isclose(state.atoms.get_volume(), silicon.get_volume(), rtol=1e-3)


def test_strain_gradient_is_that_of_the_energy(silicon, sw):
    from mlip.md.symmetric_cell import _value

    group = SupercellGroup(silicon, np.diag([1, 1, 2]))
    only = np.zeros(group.order, dtype=bool)
    only[group.identity] = True
    cell = SymmetricCell.of(group, only)
    assert len(cell.strains) == 6
    x = np.random.default_rng(0).normal(scale=0.03, size=len(cell.displacements) + 6)
    system = cell.atoms.copy()
    system.calc = sw
    _, gradient = _value(cell, x, system, with_strain=True)
    for k in range(len(x)):
        step = 1e-4 * np.eye(len(x))[k]
        slope = (
            _value(cell, x + step, system, with_strain=True)[0] - _value(cell, x - step, system, with_strain=True)[0]
        ) / 2e-4
        assert np.isclose(slope, gradient[k], atol=1e-5)


def test_files_and_figures(landau, tmp_path):
    result = search(soft_at_r(landau), max_candidates=3)
    files = result.write(tmp_path / "out")
    cifs = [f for f in files if f.suffix == ".cif"]
    assert len(cifs) == len(result.phases)
    back = ase.io.read(next(f for f in cifs if f.name.startswith(f"{result.ground_state.number:02d}-")))
    assert len(back) == len(result.ground_state.atoms)
    json.dumps([d.to_dict()["relative_meV_per_fu"] for d in result.phases])
    assert len(result.plot().axes) >= 1
    assert result.plot_tree().axes


def test_command(landau, tmp_path, monkeypatch):
    from mlip.__main__ import main

    monkeypatch.chdir(tmp_path)
    ase.io.write("parent.cif", landau().crystal())
    assert main(["symmetry", "distortions", "parent.cif"]) == 2
    (tmp_path / "model_of_landau.py").write_text(
        "from ase.calculators.lj import LennardJones\n\n\ndef make():\n"
        "    return LennardJones(sigma=3.2, epsilon=0.1, rc=7.0, smooth=True)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["symmetry", "distortions", "parent.cif", "--calculator", "model_of_landau:make", "--json", "r.json"]
    code = main([*arguments, "--supercell", "1", "--max-candidates", "2"])
    assert code in (0, 1)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["command"] == "symmetry distortions"
    assert report["results"]["phases"]


def test_a_group_too_large_is_refused(landau):
    with pytest.raises(InputError, match="operations"):
        search(landau(), supercell=8)


def test_variants_command(landau, tmp_path, monkeypatch, capsys):
    from mlip.__main__ import main

    monkeypatch.chdir(tmp_path)
    parent = landau().crystal()
    child = parent.copy()
    child.positions[1, 2] += 0.2
    ase.io.write("parent.cif", parent)
    ase.io.write("child.cif", child)
    assert main(["symmetry", "variants", "parent.cif", "child.cif", "--json", "v.json"]) == 0
    report = json.loads((tmp_path / "v.json").read_text())
    assert report["results"]["domain_states"] == 6
    assert report["results"]["lightest_tensor"]["irrep"] == "1o"
    assert "6 orientation × 1 translation" in capsys.readouterr().out
    assert main(["symmetry", "variants", "child.cif", "parent.cif"]) == 2


def test_a_committee_says_what_it_cannot_order():
    """Members that agree to 1 meV: 5 meV apart is decided, 0.2 meV is not, a common shift does not matter."""
    means = np.array([0.0, -0.020, -0.025, -0.0252])
    signs = np.array([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1], [-1, 1, 1, -1]])
    spread = means[:, None] + 1e-3 * signs + np.array([[0.7, -0.2, 0.4, -0.9]])
    found = [SimpleNamespace(energy=e, number=k) for k, e in enumerate(spread.mean(axis=1))]
    assert undecided(found, spread) == [(3, 2)]
    assert undecided(found, None) == []


def test_energies_of_a_committee_are_those_of_its_members(silicon, small_potential):
    from mlip import MLIPCalculator, Potential

    other = Potential.from_config({**small_potential.settings.model_dump(), "seed": 2}, species=["Si"])
    phase = SimpleNamespace(atoms=silicon)
    found = committee_energies([phase], MLIPCalculator([small_potential, other], dtype="float64"))
    assert found.shape == (1, 2)
    for value, member in zip(found[0], (small_potential, other), strict=True):
        silicon.calc = MLIPCalculator(member, dtype="float64")
        assert np.isclose(2 * value, silicon.get_potential_energy())
    assert committee_energies([phase], MLIPCalculator(small_potential)) is None
