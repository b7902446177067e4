"""Physics of the embedded silicon set: what a potential trained on it may rely on."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from mlip.datasets import silicon


@pytest.fixture(scope="module")
def frames() -> dict[str, list[Atoms]]:
    return {split: read(silicon.path(split), index=":") for split in silicon.SPLITS}


@pytest.fixture(scope="module")
def every(frames) -> list[Atoms]:
    return [atoms for images in frames.values() for atoms in images]


def strained(atoms: Atoms) -> bool:
    return atoms.info["config_type"] in ("strain", "strained_rattle")


def test_there_are_enough_frames_of_every_kind(frames, every):
    assert len(every) >= 120
    assert len(frames["train"]) >= 90
    assert {a.info["config_type"] for a in every} == {
        "strain", "rattle", "soft", "strained_rattle", "hot", "large",
    }  # fmt: skip
    assert {len(a) for a in every} == {2, 8, 16, 64}
    for split in ("validation", "test"):
        assert {a.info["config_type"] for a in frames[split]} >= {"strain", "rattle", "soft", "hot"}


def test_the_set_is_small():
    assert sum(file.stat().st_size for file in silicon.FOLDER.iterdir() if file.is_file()) < 1_000_000


def test_no_kind_of_frame_is_in_two_splits(frames):
    kinds = {}
    for split, images in frames.items():
        for atoms in images:
            info = atoms.info
            kind = (info["config_type"], info.get("temperature"))
            kind += (info["amplitude"],) if "temperature" not in info else ()
            if info["config_type"] == "strain":
                kind = (info["config_type"], tuple(np.round(atoms.cell.array.ravel(), 5)))
            kinds.setdefault(kind, set()).add(split)
    assert all(len(splits) == 1 for splits in kinds.values())
    names = [a.info["name"] for images in frames.values() for a in images]
    assert len(set(names)) == len(names)


def test_no_net_force(every):
    for atoms in every:
        np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0.0, atol=1e-5 * len(atoms))


def test_stress_is_symmetric_and_small_near_the_relaxed_crystal(every):
    for atoms in every:
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose(stress, stress.T, atol=1e-12)
        if not strained(atoms) and atoms.info["amplitude"] <= 0.1:
            assert abs(np.trace(stress) / 3) < 0.02


def test_the_stress_has_the_sign_of_the_strain(every):
    volume = silicon.primitive_cell().get_volume() / 2
    for atoms in every:
        change = atoms.get_volume() / len(atoms) / volume - 1
        if atoms.info["config_type"] == "strain" and abs(change) > 0.005:
            assert np.sign(np.trace(atoms.get_stress(voigt=False))) == np.sign(change)


def test_energies_per_atom_are_those_of_one_crystal(frames, every):
    ground = min(a.get_potential_energy() / len(a) for a in frames["train"])
    perfect = [a for a in frames["train"] if a.info["name"].startswith("strain_primitive2_0.00_0")]
    assert len(perfect) == 1
    assert perfect[0].get_potential_energy() / 2 == pytest.approx(ground, abs=1e-6)
    for atoms in every:
        assert (
            0.0
            <= atoms.get_potential_energy() / len(atoms) - ground
            < (2.0 if atoms.info["amplitude"] > 0.1 else 0.4)
        )


def test_energy_and_stress_belong_together(frames):
    """E(V) of the perfect crystal is the integral of the mean stress, within 0.2 meV/atom."""
    perfect = [
        atoms
        for atoms in frames["train"]
        if atoms.info["config_type"] == "strain"
        and np.allclose(atoms.get_stress(voigt=False), np.eye(3) * atoms.get_stress()[0], atol=1e-5)
    ]
    assert len(perfect) == 7
    volumes = np.array([a.get_volume() / 2 for a in perfect])
    energies = np.array([a.get_potential_energy() / 2 for a in perfect])
    stresses = [a.get_stress()[:3].mean() for a in perfect]
    integral = np.polynomial.Polynomial.fit(volumes, stresses, 4).integ()
    difference = energies - integral(volumes)
    assert np.ptp(difference) < 2e-4


def test_small_displacements_cost_the_harmonic_energy(every):
    """E - E0 = -F.u / 2 for a harmonic crystal, whichever cell it is computed in."""
    ground = min(a.get_potential_energy() / len(a) for a in every)
    reference = silicon.primitive_cell()
    for atoms in every:
        if atoms.info["config_type"] not in ("rattle", "soft") or atoms.info["amplitude"] > 0.011:
            continue
        # Displacements from the nearest site, counted from the first atom's, without a common shift.
        inverse = np.linalg.inv(reference.cell.array)
        sites = []
        for basis in reference.positions:
            fractions = (atoms.positions - basis) @ inverse
            sites.append((fractions - np.rint(fractions)) @ reference.cell.array)
        distances = np.linalg.norm(sites, axis=-1)
        moved = np.array(sites)[distances.argmin(axis=0), np.arange(len(atoms))]
        energy = atoms.get_potential_energy() - len(atoms) * ground
        harmonic = -0.5 * np.sum(moved * atoms.get_forces())
        assert energy == pytest.approx(harmonic, rel=0.05, abs=1e-4)


def test_dfpt_modes_at_gamma():
    reference = silicon.dfpt_reference()
    gamma = np.flatnonzero(np.abs(reference.q_points).sum(axis=1) == 0)
    assert len(gamma) == 1
    frequencies = reference.frequencies[gamma[0]]
    np.testing.assert_allclose(frequencies[:3], 0.0, atol=0.2)
    assert frequencies[3:].min() > 15.2
    assert frequencies[3:].max() < 15.7
    assert np.ptp(frequencies[3:]) < 1e-3
    np.testing.assert_allclose(reference.bands.frequencies[0, 0, :3], 0.0, atol=1e-2)


def test_dfpt_mesh_is_complete_and_bands_pass_through_it():
    reference = silicon.dfpt_reference()
    assert reference.q_points.shape == (8, 3)
    assert reference.frequencies.shape == (8, 6)
    assert reference.weights.sum() == 64
    fractions = 4 * reference.q_points
    np.testing.assert_allclose(fractions, np.rint(fractions), atol=1e-6)
    bands = reference.bands
    metric = np.linalg.inv(reference.cell)
    for q, frequencies in zip(reference.q_points, reference.frequencies, strict=True):
        for k, interpolated in zip(bands.q_points.reshape(-1, 3), bands.frequencies.reshape(-1, 6), strict=True):
            difference = metric @ (q - k - np.rint(q - k))
            if np.linalg.norm(difference) < 1e-5 and np.any(q):
                np.testing.assert_allclose(interpolated, frequencies, atol=0.05)


def test_paths():
    with pytest.raises(ValueError, match="no split 'training'"):
        silicon.path("training")


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Atoms, Atoms]]:
    return silicon.honest_and_broken()


def test_broken_frames_are_honest_geometries(pairs):
    assert len({broken.info["name"] for _, broken in pairs}) == len(pairs) == 98
    for honest, broken in pairs:
        assert (honest.symbols == broken.symbols).all()
        np.testing.assert_array_equal(honest.positions, broken.positions)
        np.testing.assert_array_equal(honest.cell.array, broken.cell.array)


def test_the_thinned_mesh_changes_the_labels_by_a_small_measured_amount(pairs):
    """The energy per atom shifts by nearly the same everywhere; what is left, and the forces, are small, not zero."""
    energy = np.array([(b.get_potential_energy() - h.get_potential_energy()) / len(h) for h, b in pairs])
    force = np.concatenate([(b.get_forces() - h.get_forces()).ravel() for h, b in pairs])
    stress = np.array([b.get_stress(voigt=False) - h.get_stress(voigt=False) for h, b in pairs])
    assert 1e-5 < np.std(energy) < 0.05
    assert 1e-3 < np.sqrt(np.mean(force**2)) < 0.2
    # Along [001] the crystal is not what it is along [100] and [010] any more.
    split = np.abs(stress[:, 2, 2] - (stress[:, 0, 0] + stress[:, 1, 1]) / 2)
    across = np.abs(stress[:, 0, 0] - stress[:, 1, 1])
    assert np.median(split) > 3 * np.median(across)


def test_net_force_vanishes_on_the_thinned_mesh_too(pairs):
    for _, broken in pairs:
        np.testing.assert_allclose(broken.get_forces().sum(axis=0), 0.0, atol=1e-5 * len(broken))
