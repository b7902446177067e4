"""An anisotropy that only the stress shows: is it found, with its axis, and only where it is?"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import GPa
from scipy.spatial.transform import Rotation

from mlip.symmetry import ReportSettings, anisotropy_report, orientations, point_group
from mlip.symmetry.evidence import Products, reorientation_tests, reorientations, stress_residuals
from mlip.symmetry.orientations import evaluator_of, in_laboratory
from mlip.symmetry.parent import FiniteMeasurement

QUICK = ReportSettings(rotations=8, reorientations=1000, resamples=200)
UNIAXIAL = GPa * np.diag([0.06, 0.06, -0.12])  # eV/Å³, along [001] of the laboratory


class Sprung:
    """Springs to ideal sites, their virial, and a stress of the laboratory that neither energy nor forces know of."""

    def __init__(self, stress: np.ndarray | float = 0.0, spring: float = 1.0) -> None:
        self.stress, self.spring = stress * np.ones((3, 3)), spring

    def evaluate(self, structures, properties=()):
        return [self._one(a) for a in structures]

    def _one(self, atoms):
        d = atoms.get_all_distances(vector=True)
        r = np.linalg.norm(d, axis=-1) + np.eye(len(atoms))
        strain = self.spring * (r - 2.5) * (1 - np.eye(len(atoms)))
        pulls = (strain / r)[..., None] * d
        virial = np.einsum("ija,ijb->ab", pulls, d) / 2
        return {
            "energy": 0.25 * float((strain * (r - 2.5)).sum()),
            "forces": pulls.sum(axis=1),
            "stress": virial / atoms.get_volume() + self.stress,
        }


def crystals(number: int, seed: int) -> list[Atoms]:
    """Distorted octahedra in cubic boxes, all in one orientation."""
    rng = np.random.default_rng(seed)
    ideal = np.concatenate([np.zeros((1, 3)), 1.9 * np.eye(3), -1.9 * np.eye(3)])
    found = [ideal + rng.normal(scale=0.15, size=ideal.shape) for _ in range(number)]
    return [Atoms("CO6", positions=x, cell=9 * np.eye(3), pbc=True) for x in found]


def labelled(structures, model, noise: float = 0.1, seed: int = 0, turned: bool = False):
    """With the model's labels, 2 meV/atom, 0.02 eV/Å and ``noise`` (GPa) of noise; turned: in axes of their own."""
    rng = np.random.default_rng(seed)
    out = []
    for atoms, result in zip(structures, model.evaluate(structures), strict=True):
        frame = Rotation.random(rng=rng).as_matrix() if turned else np.eye(3)
        shake = rng.normal(size=(3, 3)) * noise * GPa
        copy = Atoms(atoms.numbers, atoms.positions @ frame.T, cell=atoms.cell.array @ frame.T, pbc=True)
        copy.info["frame"] = frame
        copy.calc = SinglePointCalculator(
            copy,
            energy=result["energy"] + 0.002 * len(atoms) * rng.normal(),
            forces=(result["forces"] + 0.02 * rng.normal(size=(len(atoms), 3))) @ frame.T,
            stress=frame @ (result["stress"] + (shake + shake.T) / 2) @ frame.T,
        )
        out.append(copy)
    return out


def found(report) -> list[str]:
    return [c.name for c in report.parent.irreps if c.found]


@pytest.mark.parametrize("turned", [False, True])
def test_a_stress_along_an_axis_is_found(turned):
    """Eg of the cube, 4/mmm along [001], its amplitude within the interval; no energy, no force."""
    truth = Sprung(UNIAXIAL)
    labels = labelled(crystals(24, seed=1), truth, turned=turned)
    report = anisotropy_report(truth, labels, parent="Oh", settings=QUICK)
    assert found(report) == ["Eg"]
    assert report.p < 0.01
    assert report.retained.symbol == "4/mmm"
    np.testing.assert_allclose(report.retained.axis, [0, 0, 1], atol=1e-9)
    (part,) = (c for c in report.parent.irreps if c.name == "Eg")
    assert part.stress == pytest.approx(np.sqrt((UNIAXIAL**2).mean()) / GPa, rel=1e-6)
    assert part.energy < 1e-6
    np.testing.assert_allclose(report.parent.forbidden["model"].mean, UNIAXIAL / GPa, atol=1e-9)
    labels_say = report.parent.forbidden["labels"]
    assert np.abs(labels_say.mean - UNIAXIAL / GPa).max() < 4 * labels_say.error.max()
    assert "stress (GPa)" in report.table()[0]


@pytest.mark.parametrize(("direction", "symbol"), [([1, 0, 0], "4/mmm"), ([1, 1, 1], "-3m"), ([1, 1, 0], "mmm")])
def test_other_axes(direction, symbol):
    axis = np.array(direction) / np.linalg.norm(direction)
    truth = Sprung(0.15 * GPa * (np.outer(axis, axis) - np.eye(3) / 3))
    report = anisotropy_report(truth, labelled(crystals(24, seed=2), truth), parent="Oh", settings=QUICK)
    assert report.retained.symbol == symbol
    assert report.p < 0.01


def test_degree_two_over_all_rotations():
    """The same in random orientations of the crystals: 2e of O(3), and no other."""
    rng = np.random.default_rng(3)
    structures = crystals(40, seed=3)
    for atoms in structures:
        turn = Rotation.random(rng=rng).as_matrix()
        atoms.set_cell(atoms.cell.array @ turn.T, scale_atoms=True)
    truth = Sprung(UNIAXIAL)
    report = anisotropy_report(truth, labelled(structures, truth), settings=QUICK)
    assert not report.aligned
    assert [c.name for c in report.spectrum if c.found] == ["2e"]
    (part,) = (c for c in report.spectrum if c.name == "2e")
    # an estimate from 640 random orientations, with their sampling error
    assert part.stress == pytest.approx(np.sqrt((UNIAXIAL**2).mean()) / GPa, rel=0.05)
    assert report.p < 0.01


def test_honest_labels_speak_against_a_model_that_has_it():
    honest = labelled(crystals(24, seed=4), Sprung())
    report = anisotropy_report(Sprung(UNIAXIAL), honest, parent="Oh", settings=QUICK)
    assert report.p > 0.05
    assert report.retained.symbol == "m-3m"


def test_a_stress_that_turns_with_its_structure_is_no_anisotropy():
    report = anisotropy_report(Sprung(), labelled(crystals(8, seed=5), Sprung()), parent="Oh", settings=QUICK)
    assert max(c.stress for c in report.spectrum) < 1e-9
    assert "strict" in report.verdict


@pytest.mark.parametrize(
    "wrong",
    [
        lambda stresses, turns: (turns @ np.array(stresses) @ np.swapaxes(turns, 1, 2)).reshape(-1, 9),
        lambda stresses, turns: np.array(stresses).reshape(-1, 9),
    ],
    ids=["the other way", "not at all"],
)
def test_stresses_turned_wrongly_are_noticed(wrong, monkeypatch):
    """The defect: a strict model would depend on orientation, and a planted stress would have another group."""
    monkeypatch.setattr(orientations, "_turned_back", wrong)
    strict = anisotropy_report(Sprung(), labelled(crystals(24, seed=1), Sprung()), parent="Oh", settings=QUICK)
    assert max(c.stress for c in strict.parent.irreps) > 0.01
    truth = Sprung(UNIAXIAL)
    planted = anisotropy_report(truth, labelled(crystals(24, seed=1), truth), parent="Oh", settings=QUICK)
    assert found(planted) != ["Eg"] or planted.retained.symbol != "4/mmm"


def test_without_stress_labels_or_volume_nothing_is_said_of_stress():
    structures = crystals(6, seed=6)
    labels = labelled(structures, Sprung(UNIAXIAL))
    for atoms in labels:
        del atoms.calc.results["stress"]
    report = anisotropy_report(Sprung(UNIAXIAL), labels, parent="Oh", settings=QUICK)
    assert set(report.parent.forbidden) == {"model"}
    for atoms in structures:
        atoms.pbc = False
    report = anisotropy_report(Sprung(), structures, parent="Oh", settings=QUICK)
    assert report.spectrum[0].stress is None
    assert report.parent.forbidden == {}


def test_only_the_pressure_is_taken_off():
    """The mean stress of all frames is the signal; their mean pressure is the model's affair."""
    strict = np.random.default_rng(0).normal(size=(5, 9))
    shift = 0.3 * np.eye(3) + UNIAXIAL
    left = stress_residuals(strict + shift.ravel(), list(strict), ["Si"] * 5)
    np.testing.assert_allclose(left, np.tile(UNIAXIAL.ravel(), (5, 1)), atol=1e-12)


@cache
def spurious() -> FiniteMeasurement:
    """A model with a stress of its own, and labels without any."""
    lab = in_laboratory(labelled(crystals(24, seed=7), Sprung(spring=1.1)))
    return FiniteMeasurement.of(lab, evaluator_of(Sprung(UNIAXIAL)), point_group("Oh"))


def test_the_test_rejects_at_its_level():
    """500 sets of the same crystals, each turned by an operation of the cube at random: 5 ± 2 % are called broken."""
    measured, rng, size = spurious(), np.random.default_rng(8), 48
    whole = np.eye(size) - 1 / size
    parts = [p for kind in measured.kinds.values() for p in kind.products(whole, range(size))]
    assert len(parts) == 3
    draws = {size: reorientations(rng, 500, 24, size)}
    rejected = 0
    for _ in range(500):
        chosen = rng.integers(0, size, size=24)
        null = [Products(p.other[np.arange(24), chosen], p.other, p.squares) for p in parts]
        rejected += reorientation_tests({"": null}, draws)[""].p < 0.05
    assert 0.03 <= rejected / 500 <= 0.07


def test_labels_speak_where_the_model_missed_what_they_break():
    """The model found a little of another axis; the labels' own mean stress is beyond doubt."""
    missed = Sprung(0.02 * GPa * (np.ones((3, 3)) - np.eye(3)), spring=1.05)
    report = anisotropy_report(missed, labelled(crystals(24, seed=9), Sprung(UNIAXIAL)), parent="Oh", settings=QUICK)
    assert report.p < 0.01
    assert report.retained.symbol != "m-3m"
