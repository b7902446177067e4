"""How atoms move in a phonon: the waves must obey the equation of motion of the supercell, in every file we write."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import phonopy
import pytest
from ase import Atoms
from ase.build import make_supercell
from ase.units import _c

from mlip import MLIPCalculator, Potential
from mlip.md import phonons
from mlip.md.dynamical import frequencies_thz
from mlip.md.modes import repetitions, thinned
from mlip.md.phonon_page import page

CELLS = np.array([[a, b, c] for a in range(2) for b in range(2) for c in range(2)])


@pytest.fixture(scope="module")
def model():
    """Two species of very different masses, random weights."""
    settings = {"architecture": "nequip", "cutoff": 3.5, "num_layers": 2, "num_channels": 4, "lmax": 1, "seed": 3}
    return MLIPCalculator(Potential.from_config(settings, species=["C", "Pb"]), dtype="float64")


@pytest.fixture(scope="module")
def result(model):
    """No symmetry at all, so that neither a conjugated phase nor a lost mass can hide; one atom outside the cell."""
    atoms = Atoms(
        "CPbC",
        scaled_positions=[[0.05, 0.1, 0.0], [0.45, 1.62, 0.3], [0.7, 0.2, 0.61]],
        cell=[[3.4, 0.1, 0.2], [0.5, 3.6, -0.2], [0.1, 0.4, 3.8]],
        pbc=True,
    )
    path = "GAMMA 0.5,0,0 | 0.5,0.5,0 0,0.5,0.5 0.5,0.5,0.5"
    return phonons(atoms, model, relax_first=None, snap=False, path=path, points=12, supercell=2, dos_mesh=[2, 2, 2])


@pytest.fixture(scope="module")
def hessian(result, model):
    """(8, n, 3, 8, n, 3) eV/Å² of a 2 × 2 × 2 block, cells in the order of `CELLS`."""
    atoms = result.cell.atoms
    n = len(atoms)
    positions = (atoms.get_positions()[None] + (CELLS @ atoms.cell.array)[:, None]).reshape(-1, 3)
    block = Atoms(np.tile(atoms.numbers, 8), positions, cell=2 * atoms.cell.array, pbc=True)
    return model.get_hessian(block).reshape(8, n, 3, 8, n, 3)


def residual(hessian, masses, frequency, u):
    """|H u − m ω² u| / |H u| with ω² in eV/Å²/amu; an imaginary frequency is negative."""
    unit = frequencies_thz(np.array([1.0]))[0]
    square = np.sign(frequency) * (frequency / unit) ** 2
    force = np.einsum("ljambk,mbk->lja", hessian, u)
    return np.abs(force - masses[None, :, None] * square * u).max() / np.abs(force).max()


def commensurate(modes):
    return [i for i, q in enumerate(modes.q) if np.allclose(2 * q, np.rint(2 * q)) and not np.allclose(q, 0)]


@pytest.mark.parametrize("phase", [0.0, 0.9])
def test_the_waves_obey_the_equation_of_motion(result, hessian, phase):
    modes, masses = result.modes(), result.cell.atoms.get_masses()
    points = commensurate(modes)
    assert len(points) >= 4
    for i in points:
        for branch, frequency in enumerate(modes.frequencies[i]):
            u = modes.displacements(i, branch, CELLS, phase)
            if np.abs(u).max() > 1e-3:  # a standing wave is zero twice a period
                assert residual(hessian, masses, frequency, u) < 1e-7


@pytest.mark.parametrize("defect", ["no mass", "no phase", "conjugate"])
def test_a_wrong_convention_would_be_seen(result, hessian, defect):
    modes, atoms = result.modes(), result.cell.atoms
    i = next(i for i in commensurate(modes) if np.count_nonzero(modes.q[i]) == 3)
    v = modes.patterns[i, 4]
    phase = np.exp(2j * np.pi * atoms.get_scaled_positions(wrap=False) @ modes.q[i])[:, None]
    wrong = {"no mass": v * np.sqrt(atoms.get_masses())[:, None], "no phase": v / phase, "conjugate": v / phase**2}
    u = np.real(np.exp(2j * np.pi * CELLS @ modes.q[i])[:, None, None] * wrong[defect])
    assert residual(hessian, atoms.get_masses(), modes.frequencies[i, 4], u) > 1e-2


def test_the_wave_travels_along_q(result):
    """One cell further along a wave vector the same motion comes later."""
    modes = result.modes()
    i = next(i for i, q in enumerate(modes.q) if 0.05 < q[0] < 0.45 and q[1] == 0)
    here = modes.displacements(i, 0, np.zeros((1, 3)), 0.3)
    there = modes.displacements(i, 0, np.array([[1, 0, 0]]), 0.3 + 2 * np.pi * modes.q[i, 0])
    assert there == pytest.approx(here, abs=1e-12)


def test_the_pages_own_data_obey_it(result, hessian):
    """Decoded from the file, to the rounding of 16-bit integers."""
    data = json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page(result, result.modes()), re.S)[1]
    )
    whole = np.frombuffer(base64.b64decode(data["modes"]["patterns"]), "<i2") * data["modes"]["scale"]
    atoms, q = result.cell.atoms, np.array(data["q"])[data["modes"]["index"]]
    v = whole.reshape(len(q), 3 * len(atoms), len(atoms), 3, 2)
    assert np.array([a["fraction"] for a in data["atoms"]]) @ np.array(data["lattice"]) == pytest.approx(
        atoms.positions
    )
    check_file(q, v[..., 0] + 1j * v[..., 1], np.array(data["frequencies"])[data["modes"]["index"]], hessian, atoms)


def check_file(q, v, frequencies, hessian, atoms):
    found = 0
    for i, point in enumerate(q):
        if not np.allclose(2 * point, np.rint(2 * point)) or np.allclose(point, 0):
            continue
        turn = np.exp(2j * np.pi * CELLS @ point)[:, None, None]
        for branch in range(v.shape[1]):
            u = np.real(turn * v[i, branch])
            found += 1
            # soft modes magnify rounding: the force of a stiffer mode that was mixed in
            weight = max(1.0, frequencies.max() ** 2 / frequencies[i, branch] ** 2)
            assert residual(hessian, atoms.get_masses(), frequencies[i, branch], u) < 1e-3 * weight
    assert found >= 30


def test_the_websites_file_obeys_it_and_has_its_structure(result, hessian, tmp_path):
    data = json.loads(result.to_website(tmp_path / "site.json").read_text())
    atoms, bands = result.cell.atoms, result.bands
    n, points = len(atoms), len(data["qpoints"])
    assert set(data) == {
        "name", "natoms", "lattice", "atom_types", "atom_numbers", "formula", "repetitions", "atom_pos_car",
        "atom_pos_red", "highsym_qpts", "qpoints", "distances", "eigenvalues", "vectors", "line_breaks",
    }  # fmt: skip
    assert np.shape(data["vectors"]) == (points, 3 * n, n, 3, 2)
    assert np.shape(data["eigenvalues"]) == (points, 3 * n)
    assert data["natoms"] == n
    assert data["atom_types"] == ["C", "Pb", "C"]
    assert data["atom_numbers"] == [6, 82, 6]
    assert np.array(data["atom_pos_red"]) @ data["lattice"] == pytest.approx(np.array(data["atom_pos_car"]))
    assert all(isinstance(x, int) and x > 0 for x in data["repetitions"])
    # the site adds no phase of its own and knows no mass: u = Re[v exp(2πi q·l)]
    v = np.array(data["vectors"])
    frequencies = np.array(data["eigenvalues"]) * _c * 1e-10
    assert frequencies == pytest.approx(bands.frequencies, abs=1e-4)
    check_file(np.array(data["qpoints"]), v[..., 0] + 1j * v[..., 1], frequencies, hessian, atoms)


def test_the_websites_labels_and_breaks(silicon_phonons, tmp_path):
    """Breaks cover every q point once; labels are found by distance, so both sides of a jump read alike."""
    data = json.loads(silicon_phonons.to_website(tmp_path / "site.json").read_text())
    assert [i for first, stop in data["line_breaks"] for i in range(first, stop)] == list(range(len(data["qpoints"])))
    names = {}
    for index, label in data["highsym_qpts"]:
        assert names.setdefault(data["distances"][index], label) == label
    assert list(names.values()) == ["Γ", "X", "U|K", "Γ", "L", "W", "X"]
    assert data["distances"] == sorted(data["distances"])


def test_phonopy_agrees_on_the_modes(result, tmp_path):
    """phonopy's own modulation of a supercell, of the file we wrote, is our wave but for its phase and size."""
    phonon = phonopy.load(result.to_phonopy(tmp_path / "phonopy.yaml"))
    modes = result.modes()
    i = next(i for i in commensurate(modes) if np.count_nonzero(modes.q[i]) == 3)
    made = phonon.run_modulations([2, 2, 2], [(modes.q[i], 3, 1.0, 0.0)])
    theirs = np.array(made.modulations[0])
    atoms, cells = result.cell.atoms, made.supercell.scaled_positions @ (2 * np.eye(3))
    ours = []
    for s in cells:
        gap = s - atoms.get_scaled_positions(wrap=False)
        j = int(np.abs(gap - np.rint(gap)).max(axis=1).argmin())
        ours.append(np.exp(2j * np.pi * np.rint(gap[j]) @ modes.q[i]) * modes.patterns[i, 3, j])
    overlap = np.abs(np.vdot(np.array(ours), theirs))
    assert overlap == pytest.approx(np.linalg.norm(ours) * np.linalg.norm(theirs), rel=1e-6)


# -- which modes are kept, and the block they are shown in ------------------------------------------------


@pytest.mark.parametrize("most", [1, 8, 12, 20, 1000])
def test_thinning_keeps_the_special_points_and_the_budget(silicon_phonons, most):
    path = silicon_phonons.bands.path
    index = thinned(path, most)
    ends = {i for first, stop in path.segments for i in (first, stop - 1)}
    assert ends <= set(index.tolist())
    assert len(index) <= max(most, len(ends)) + len(path.segments)
    assert len(index) == len(path.q) or most < len(path.q)


@pytest.mark.parametrize(
    ("q", "multiple"),
    [
        ((0, 0, 0), (1, 1, 1)),
        ((0.5, 0, 0.5), (2, 1, 2)),
        ((1 / 3, 1 / 3, 0), (3, 3, 1)),
        ((0.25, 0.125, 0), (4, 8, 1)),
    ],
)
def test_the_wave_fits_into_its_block(silicon, q, multiple):
    cells = repetitions(np.array(q), silicon)
    assert all(n % m == 0 for n, m in zip(cells, multiple, strict=True))
    assert np.prod(cells) * len(silicon) <= 400
    assert np.exp(2j * np.pi * np.array(q) * cells) == pytest.approx(np.ones(3))


def test_a_large_cell_is_shown_once_and_a_long_wave_is_seen(silicon):
    large = make_supercell(silicon, 5 * np.eye(3))
    assert repetitions(np.zeros(3), large) == (1, 1, 1)
    assert repetitions(np.array([0.137, 0, 0]), silicon)[0] == 7
