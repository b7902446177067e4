"""The checks pass what obeys physics and catch what does not."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from mlip.errors import InputError
from mlip.md import check
from mlip.md.probes import line_scan, repulsion_hole


@pytest.fixture
def failed(sw, altered, silicon8):
    """Names of the checks that a defect fails."""

    def run(defect, atoms=silicon8, **settings):
        result = check(altered(sw, defect), atoms, **{"nve_steps": 0, **settings})
        return {row.name for row in result.checks if not row.passed}

    return run


def test_a_sound_potential_passes(silicon8, sw):
    result = check(sw, silicon8, nve_steps=100)
    assert result.passed
    assert len(result.checks) == 21
    assert result.skipped == {}
    assert all(row.passed for row in result.warnings)
    assert silicon8.calc is None


def test_a_molecule_passes_without_stress_and_hessian():
    result = check(EMT(), molecule("H2O"), nve_steps=50)
    assert result.passed
    assert set(result.skipped) == {"stress", "Hessian"}
    assert set(result.pair_curves) == {"H–H", "H–O", "O–O"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_our_own_model_passes_in_both_precisions(silicon8, small_potential, dtype):
    from mlip import MLIPCalculator

    result = check(MLIPCalculator(small_potential, dtype=dtype), silicon8, nve_steps=20)
    assert result.precision == dtype
    assert [row.name for row in result.checks if not row.passed] == []


def test_a_model_is_checked_without_a_structure(small_calculator):
    result = check(small_calculator, nve_steps=0)
    assert result.passed
    assert set(result.atoms.get_chemical_symbols()) == {"Si"}


def test_without_a_structure_other_calculators_cannot_be_checked():
    with pytest.raises(InputError, match="structure"):
        check(EMT())


# -- defects ----------------------------------------------------------------------------------------------


def test_wrong_forces_are_caught(failed):
    def stronger(atoms, results):
        return {**results, "forces": 1.2 * results["forces"]}

    assert "forces = −dE/dx" in failed(stronger)


def test_a_flipped_stress_is_caught(failed):
    def flipped(atoms, results):
        return {**results, "stress": -results["stress"]} if atoms.pbc.all() else results

    assert failed(flipped) == {"stress = dE/dε/V"}


def test_a_stress_in_another_unit_is_caught(failed):
    def kilobar(atoms, results):
        return {**results, "stress": 1602.1766 * results["stress"]} if atoms.pbc.all() else results

    assert "stress = dE/dε/V" in failed(kilobar)


def test_nonconservative_forces_are_caught(failed):
    """A curl: covariant under rotation, periodic, and no gradient of anything."""

    def curl(atoms, results):
        f = results["forces"]
        return {**results, "forces": f + 1e-3 * np.cross(f, np.roll(f, 1, axis=0))}

    assert "forces = −dE/dx" in failed(curl)


def test_a_slight_anisotropy_is_caught(failed):
    """1e-3 of the forces, derived from an energy that knows the laboratory's x axis."""

    def lopsided(atoms, results):
        vectors = atoms.get_all_distances(mic=True, vector=True)[..., 0]
        length = atoms.get_all_distances(mic=True)
        near = (length < 2.6) & (length > 0)
        results["energy"] += 1e-3 * (vectors**2)[near].sum() / 2
        results["forces"] += 2e-3 * np.where(near, vectors, 0).sum(axis=1)[:, None] * [1, 0, 0]
        return results

    found = failed(lopsided)
    assert "energy under rotation" in found
    assert "forces and stress under rotation" in found
    assert "energy under inversion" not in found


def test_a_handed_energy_is_caught_by_mirrors_alone(failed):
    """A pseudoscalar of the four nearest neighbours is invariant under rotations and changes sign in a mirror."""

    def handed(atoms, results):
        if len(atoms) < 4:
            return results
        v = atoms.get_all_distances(mic=True, vector=True)
        length = atoms.get_all_distances(mic=True)
        order = np.argsort(length, axis=1)[:, 1:4]
        triples = np.array([np.linalg.det(v[i, j]) for i, j in enumerate(order)])
        results["energy"] += 1e-3 * triples.sum()
        return results

    found = failed(handed)
    assert {"energy under inversion", "energy under mirror"} <= found
    assert "energy under rotation" not in found


def test_noise_is_caught(failed):
    rng = np.random.default_rng(0)

    def noisy(atoms, results):
        return {**results, "forces": results["forces"] + 1e-6 * rng.normal(size=(len(atoms), 3))}

    assert "second evaluation equals the first" in failed(noisy)


def test_memory_of_the_previous_structure_is_caught(failed):
    seen = []

    def remembering(atoms, results):
        seen.append(atoms.get_positions().sum())
        shift = 0.0 if len(seen) < 2 else 1e-6 * seen[-2]
        return {**results, "energy": results["energy"] + shift}

    assert "second evaluation equals the first" in failed(remembering)


def test_a_dependence_on_the_order_of_atoms_is_caught(failed):
    def ordered(atoms, results):
        return {**results, "energy": results["energy"] + 1e-4 * atoms.get_distance(0, 1, mic=True)}

    assert "energy under permutation" in failed(ordered)


def test_a_dependence_on_the_origin_is_caught(failed):
    def pinned(atoms, results):
        return {**results, "energy": results["energy"] + 1e-5 * atoms.get_positions()[0, 0] ** 2}

    assert "energy under translation" in failed(pinned)


def test_an_energy_that_is_not_extensive_is_caught(failed):
    def offset(atoms, results):
        return {**results, "energy": results["energy"] + 0.01}

    assert failed(offset) == {"energy of two cells"}


def test_a_sharp_cutoff_is_caught(failed):
    """A tail that is cut at 4.5 Å by 1 meV."""

    def cut(atoms, results):
        from matscipy.neighbours import neighbour_list

        r = neighbour_list("d", atoms, 4.5)
        results["energy"] += 0.5e-3 * len(r)
        return results

    assert "jump of the energy on a stretch" in failed(cut)


def test_a_kink_in_the_energy_is_caught_in_the_forces(failed):
    """The forces jump by 20 meV/Å where a neighbour passes 4.5 Å, while the energy is continuous."""

    def kinked(atoms, results):
        from matscipy.neighbours import neighbour_list

        i, r, d = neighbour_list("idD", atoms, 4.5)
        results["energy"] += 0.01 * (4.5 - r).sum()
        pull = np.zeros((len(atoms), 3))
        np.add.at(pull, i, -0.02 * d / r[:, None])
        results["forces"] += pull
        return results

    found = failed(kinked)
    assert "jump of the forces on a stretch" in found
    assert "jump of the energy on a stretch" not in found


def test_drift_is_caught(silicon8, sw, altered):
    def heating(atoms, results):
        return {**results, "forces": results["forces"] + 0.02 * atoms.get_velocities()}

    result = check(altered(sw, heating), silicon8, nve_steps=300)
    assert "significant drift of the conserved quantity" in {row.name for row in result.checks if not row.passed}


def test_a_wrong_hessian_is_caught(silicon8, sw):
    class Wrong(type(sw)):
        def get_hessian(self, atoms, **kwargs):
            hessian = super().get_hessian(atoms, format="sparse").toarray()
            hessian[0, 4] += 0.1
            return hessian

    sw.__class__ = Wrong
    result = check(sw, silicon8, nve_steps=0)
    assert {row.name for row in result.checks if not row.passed} == {"Hessian symmetric", "Hessian = −dF/dx"}


def verdict(figure) -> str:
    return figure.get_suptitle()


def test_a_hole_at_short_distance_is_a_warning_and_no_failure(silicon8, sw, altered):
    def hole(atoms, results):
        if len(atoms) == 2:
            r = atoms.get_distance(0, 1)
            results["energy"] -= 500 * np.exp(-((r - 0.8) ** 2) / 0.01)
        return results

    result = check(altered(sw, hole), silicon8, nve_steps=0)
    assert result.passed
    assert [row.passed for row in result.warnings] == [False]
    assert verdict(result.plot()).endswith("all checks passed, 1 warning")


def test_holes_are_measured():
    r = np.linspace(0.6, 4, 100)
    assert repulsion_hole((14, 14), r, 1 / r**12) == 0
    assert repulsion_hole((14, 14), r, -1 / r**12) == pytest.approx(0.6**-12, rel=0.01)


def test_a_steep_but_smooth_curve_is_no_jump(silicon8, sw):
    atoms = silicon8.copy()
    atoms.calc = sw
    pull = np.zeros((8, 3))
    pull[0, 0] = 2.5
    _, energy, force = line_scan(atoms, lambda t: atoms.positions + (t - 0.5) * pull)
    assert energy < 1e-3
    assert force < 1


def test_the_figure_shows_every_check(sw, tmp_path):
    result = check(sw, bulk("Si", a=5.43095), nve_steps=20)
    figure = result.plot()
    figure.savefig(tmp_path / "check.png")
    assert (tmp_path / "check.png").stat().st_size > 20_000
    labels = [text.get_text() for text in figure.subfigs[0].axes[0].get_yticklabels()]
    assert labels == [row.name for row in [*result.checks, *result.warnings]]
    assert verdict(figure).endswith("all checks passed")


def test_a_crystal_of_one_atom_is_checked_in_several_cells():
    """Alone it feels no force and has no Hessian but zero, of which nothing can be said."""
    result = check(EMT(), bulk("Cu"), nve_steps=20)
    assert len(result.atoms) == 8
    assert [row.name for row in result.checks if not np.isfinite(row.value)] == []
    assert result.passed
