"""The port: a tensor b beside the structure. Without b the strict model; with it every derivative, b turned along."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from e3nn import o3
from scipy.spatial.transform import Rotation

from mlip import InputError, MLIPCalculator, Potential
from mlip.derivatives import evaluate
from mlip.nn.breaking import irrep_matrices, turn_tensor, vector_powers
from mlip.settings import Irrep, model_settings
from mlip.surroundings import frame_matrix, turned
from mlip.testing import (
    check_cutoff,
    check_forces,
    check_hessian,
    check_net_force,
    check_operation,
    check_periodicity,
    check_permutation,
    check_stress,
    check_supercell,
    check_torque,
    check_translation,
    five_point,
    forces_of,
    random_rotation,
    stress_of,
    transformed,
)

ARCHITECTURES = {
    "nequip-parity": {"architecture": "nequip", "parity": True},
    "equiformer-parity": {"architecture": "equiformer", "parity": True, "num_layers": 3},
}
LEARNED = {"anisotropy": {"source": "learned"}}
FIELD = {"anisotropy": {"source": "field"}}
TURN = random_rotation(11) @ np.diag([1.0, 1.0, -1.0])  # improper: a reader that transposes it is caught


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.fixture
def relaxed_for(potential_for, architecture):
    """A calculator with relaxed weights, all of them and θ moved off their start values."""

    def make(atoms: Atoms, frame=TURN, **settings) -> MLIPCalculator:
        placed = atoms.copy()
        placed.info["frame"] = np.eye(3)
        with pytest.warns(UserWarning, match="depends on the orientation"):
            return MLIPCalculator(potential_for(placed, **{**architecture, **LEARNED, **settings}), frame=frame)

    return make


def small(**settings) -> dict:
    common = {"cutoff": 3.6, "num_layers": 4, "num_channels": 8, "radial_width": 12, "lmax": 2, "seed": 3}
    return common | settings


def with_info(atoms: Atoms, **info) -> Atoms:
    copy = atoms.copy()
    copy.info.update(info)
    return copy


# -- the strict model is inside ----------------------------------------------------------------------------


@pytest.mark.parametrize("port", [LEARNED, FIELD, {"anisotropy": {"source": "variants"}}], ids=str)
def test_the_start_is_the_strict_model_to_the_bit(architecture, port, triclinic, cluster):
    strict = Potential.from_config(small(**architecture), ["Si", "O"])
    ported = Potential.from_config(small(**architecture, **port), ["Si", "O"])
    info = {"frame": TURN, "electric_field": [0.3, -0.2, 0.5], "breaking_tensor": [0.1, 0.7, -0.4]}
    for graph in [strict.graph(with_info(atoms, **info)) for atoms in (triclinic, cluster)]:
        before, after = (evaluate(p, graph, stress=True) for p in (strict, ported))
        for name in ("energy", "forces", "stress"):
            assert torch.equal(getattr(before, name), getattr(after, name))


def test_weights_of_a_strict_model_fit_without_a_change(architecture, triclinic, tmp_path):
    strict = Potential.from_config(small(**architecture), ["Si", "O"])
    ported = Potential.from_config(small(**architecture, **LEARNED, seed=8), ["Si", "O"])
    missing = ported.load_state_dict(strict.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("network.port.") for name in missing.missing_keys)
    ported.save(tmp_path / "ported.mlip")
    atoms = with_info(triclinic, frame=TURN)
    (before,), (after,) = strict.evaluate([atoms]), Potential.load(tmp_path / "ported.mlip").evaluate([atoms])
    assert before["energy"] == after["energy"]
    assert np.array_equal(before["forces"], after["forces"])


@pytest.mark.parametrize("source", ["field", "variants"])
def test_a_tensor_of_zero_is_the_strict_model_to_the_bit(architecture, source, potential_for, triclinic, cluster):
    ported = potential_for(triclinic, **architecture, anisotropy={"source": source})
    names = {"field": "electric_field", "variants": "breaking_tensor"}
    for atoms in (triclinic, cluster):
        given = [atoms, *(with_info(atoms, **{names[source]: b}) for b in (np.zeros(3), [0.0, 0.2, 0.1]))]
        silent, zero, acted = (ported.evaluate([image])[0] for image in given)
        assert silent["energy"] == zero["energy"]
        assert np.array_equal(silent["forces"], zero["forces"])
        assert abs(acted["energy"] - zero["energy"]) > 1e-4


def test_theta_has_a_gradient_at_zero_and_none_is_lost(architecture, triclinic):
    """Of every irrep that fewer than two layers of a general structure can couple to."""
    potential = Potential.from_config(small(**architecture, **LEARNED), ["Si", "O"]).double()
    graph = potential.graph(with_info(triclinic, frame=np.eye(3)))
    theta = potential.network.port.theta
    (gradient,) = torch.autograd.grad(potential(graph.edge_vectors(), graph).sum(), theta)
    parts = gradient.split([irrep.dim for irrep in potential.settings.breaking_irreps])
    assert min(float(part.norm()) for part in parts) > 1e-5


def test_weights_of_a_field_have_a_gradient_at_zero(architecture, triclinic):
    potential = Potential.from_config(small(**architecture, **FIELD), ["Si", "O"]).double()
    graph = potential.graph(with_info(triclinic, electric_field=[0.1, 0.2, 0.3]))
    potential(graph.edge_vectors(), graph).sum().backward()
    last = list(potential.network.port.places)[-1]
    gradients = [float(p.grad.abs().max()) for p in potential.network.port.places[last].parameters()]
    assert max(gradients) > 1e-5


# -- joint equivariance and derivatives --------------------------------------------------------------------


def test_every_derivative_and_every_other_symmetry_of_a_relaxed_model(relaxed_for, triclinic, tolerances):
    calculator = relaxed_for(triclinic)
    checks = [
        check_operation(calculator, triclinic, g, tolerances.symmetry) for g in (random_rotation(2), -np.eye(3))
    ]
    others = (check_translation, check_permutation, check_net_force, check_periodicity)
    checks += [check(calculator, triclinic, tolerances.symmetry) for check in others]
    checks.append(check_supercell(calculator, triclinic, tolerances.symmetry, repeats=(2, 1, 1)))
    derivatives = (check_forces, check_stress, check_hessian)
    checks += [check(calculator, triclinic, tolerances.derivative) for check in derivatives]
    checks.append(check_cutoff(calculator, ["Si", "O"], calculator.potential.cutoff))
    assert [c for c in checks if not c.passed] == []


def test_turned_against_its_laboratory_the_energy_changes(relaxed_for, cluster, tolerances):
    calculator = relaxed_for(cluster)
    image = transformed(cluster, random_rotation(4))
    forces = forces_of(calculator, cluster)
    assert np.abs(forces_of(calculator, image) - forces @ random_rotation(4).T).max() > 1e-3
    torque = np.cross(cluster.positions, forces).sum(0)

    def energy(angle: float) -> float:
        turn = Rotation.from_euler("z", angle).as_matrix()
        return calculator.get_potential_energy(transformed(cluster, turn))

    assert torque[2] == pytest.approx(-five_point(energy, 1e-3), rel=tolerances.derivative, abs=1e-7)
    with pytest.raises(InputError, match="torque"):
        check_torque(calculator, cluster)


def test_the_full_stress_is_the_derivative_by_any_change_of_vectors(relaxed_for, triclinic, tolerances):
    calculator = relaxed_for(triclinic)
    full = calculator.get_property("full_stress", triclinic)
    change = np.random.default_rng(0).normal(size=(3, 3))

    def energy(h: float) -> float:
        return calculator.get_potential_energy(transformed(triclinic, np.eye(3) + h * change))

    expected = five_point(energy, 1e-4) / triclinic.get_volume()
    assert np.sum(full * change) == pytest.approx(expected, rel=tolerances.derivative)
    assert np.abs(full - full.T).max() > 1e-4
    np.testing.assert_allclose(stress_of(calculator, triclinic), (full + full.T) / 2, atol=1e-12)


def test_waves_of_a_relaxed_crystal_are_those_of_its_supercell(relaxed_for, triclinic, tolerances):
    """H(q) on the cell against the Hessian of a doubled cell: the port acts within one cell, without a phase."""
    calculator = relaxed_for(triclinic, num_layers=3, cutoff=3.6)
    doubled = triclinic.repeat((2, 1, 1))
    hessian = calculator.get_hessian(doubled).reshape(2, 9, 2, 9)
    masses = np.repeat(triclinic.get_masses(), 3)
    for q, sign in ((0.0, 1), (0.5, -1)):
        block = hessian[0, :, 0] + sign * hessian[0, :, 1]
        expected = np.linalg.eigvalsh(block / np.sqrt(np.outer(masses, masses)))
        found = np.linalg.eigvalsh(calculator.get_dynamical_matrix(triclinic, [q, 0, 0])[0])
        np.testing.assert_allclose(found, expected, atol=tolerances.symmetry * np.abs(expected).max())
    v = np.random.default_rng(1).normal(size=(3, 3))
    product = calculator.get_hessian_vector_product(triclinic, v).ravel()
    np.testing.assert_allclose(product, calculator.get_hessian(triclinic) @ v.ravel(), atol=1e-10)


def test_strain_derivatives_of_a_relaxed_crystal(relaxed_for, triclinic, tolerances):
    calculator = relaxed_for(triclinic)
    mixed, second = calculator.get_strain_derivatives(triclinic)
    rng = np.random.default_rng(3)
    strain = rng.normal(size=(3, 3))
    strain = strain + strain.T

    def along(h: float) -> Atoms:
        return transformed(triclinic, np.eye(3) + h * strain)

    slope = five_point(lambda h: forces_of(calculator, along(h)), 1e-4)
    found = np.einsum("nacd,cd->na", mixed, strain)
    assert np.abs(slope + found).max() < tolerances.derivative * np.abs(found).max()
    curve = five_point(lambda h: five_point(lambda k: calculator.get_potential_energy(along(h + k)), 1e-3), 1e-3)
    assert np.einsum("abcd,ab,cd", second, strain, strain) == pytest.approx(curve, rel=1e-4)


# -- the tensors -------------------------------------------------------------------------------------------


def test_irreps_turn_as_those_of_e3nn(e3nn_float64):
    irreps = [Irrep(0, -1), Irrep(1, 1), Irrep(1, -1), Irrep(2, 1), Irrep(2, -1), Irrep(3, -1), Irrep(4, 1)]
    tensor = torch.randn(sum(i.dim for i in irreps), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turns = torch.tensor(np.array([random_rotation(k) * s for k in range(3) for s in (1, -1)]))
    expected = o3.Irreps("+".join(f"1x{i.name}" for i in irreps)).D_from_matrix(turns) @ tensor
    torch.testing.assert_close(turn_tensor(irreps, turns, tensor), expected, atol=1e-9, rtol=0)


def test_irreps_multiply_as_rotations_do(tolerances):
    first, second = torch.tensor(random_rotation(1))[None], torch.tensor(-random_rotation(2))[None]
    products = zip(*(irrep_matrices(6, g) for g in (first, second, first @ second)), strict=True)
    for a, b, both in products:
        torch.testing.assert_close(a @ b, both, atol=tolerances.exact, rtol=0)


def test_powers_of_a_vector_are_polynomials(tolerances):
    """Degree l (two for 0e): so that a second derivative at zero exists, which |v| Y(v̂) has not."""
    irreps = [Irrep.natural(l) for l in range(5)]
    vector = torch.tensor([[0.3, -0.5, 0.8]], dtype=torch.float64)
    one, two = vector_powers(irreps, vector), vector_powers(irreps, 2 * vector)
    start = 0
    for irrep in irreps:
        part = slice(start, start + irrep.dim)
        torch.testing.assert_close(two[:, part], one[:, part] * 2 ** (irrep.l or 2))
        start += irrep.dim
    turn = torch.tensor(-random_rotation(7))
    torch.testing.assert_close(
        vector_powers(irreps, vector @ turn.T), turn_tensor(irreps, turn[None], one), atol=tolerances.exact, rtol=0
    )


def test_structures_of_several_frames_in_one_batch(relaxed_for, triclinic, cluster):
    calculator = relaxed_for(triclinic, frame=None)
    potential = calculator.potential
    frames = [random_rotation(1), -random_rotation(2), np.eye(3)]
    structures = [with_info(a, frame=f) for a, f in zip((triclinic, cluster, triclinic), frames, strict=True)]
    together = potential.evaluate(structures)
    apart = [potential.evaluate([atoms])[0] for atoms in structures]
    for a, b in zip(together, apart, strict=True):
        assert a["energy"] == pytest.approx(b["energy"], abs=1e-11)
        np.testing.assert_allclose(a["forces"], b["forces"], atol=1e-11)
    assert abs(together[0]["energy"] - together[2]["energy"]) > 1e-3


# -- frames ------------------------------------------------------------------------------------------------


def test_a_relaxed_model_without_a_frame_refuses(relaxed_for, triclinic):
    calculator = relaxed_for(triclinic, frame=None)
    for ask in (calculator.get_potential_energy, calculator.get_hessian, calculator.potential.graph):
        with pytest.raises(InputError, match=r"no frame.*atoms.info\['frame'\].*frame=numpy.eye\(3\)") as raised:
            ask(triclinic)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("form", [np.array(TURN), TURN.ravel(), TURN.tolist(), TURN.ravel().tolist()])
def test_frames_are_read_row_by_row(form):
    """With a matrix that is not symmetric: column by column it would be the inverse turn."""
    np.testing.assert_allclose(frame_matrix(form), TURN, atol=1e-14)
    assert np.abs(frame_matrix(form) - TURN.T).max() > 0.1


@pytest.mark.parametrize("frame", [np.eye(2), [1, 2, 3], 2 * np.eye(3), np.full((3, 3), np.nan), "lab"])
def test_what_is_no_frame_is_refused(frame, triclinic):
    strict = Potential.from_config(small(), ["Si", "O"])
    with pytest.raises(InputError, match="frame"):
        strict.graph(with_info(triclinic, frame=frame))


def test_a_frame_survives_a_file_and_a_pickle(relaxed_for, triclinic, tmp_path):
    calculator = relaxed_for(triclinic, frame=None)
    atoms = with_info(triclinic, frame=TURN)
    energy = calculator.get_potential_energy(atoms)
    write(tmp_path / "one.xyz", atoms)
    text = (tmp_path / "one.xyz").read_text().splitlines()
    plain = " ".join(f"{x:.17g}" for x in TURN.ravel())
    text[1] = f'{text[1].split("frame=")[0]} frame="{plain}" pbc="T T T"'
    (tmp_path / "two.xyz").write_text("\n".join(text) + "\n")
    for path in (tmp_path / "one.xyz", tmp_path / "two.xyz"):
        assert calculator.get_potential_energy(read(path)) == pytest.approx(energy, abs=1e-6)
    with pytest.warns(UserWarning, match="orientation"):
        other = MLIPCalculator(calculator.potential, frame=TURN)
    assert pickle.loads(pickle.dumps(other)).get_potential_energy(triclinic) == pytest.approx(energy, abs=1e-12)


def test_a_changed_frame_is_a_changed_structure(relaxed_for, triclinic):
    atoms = with_info(triclinic, frame=TURN)
    atoms.calc = relaxed_for(triclinic, frame=None)
    before = atoms.get_potential_energy()
    atoms.info["frame"] = np.eye(3)
    assert abs(atoms.get_potential_energy() - before) > 1e-3


def test_axes_are_changed_of_all_that_has_directions(triclinic):
    atoms = with_info(triclinic, frame=TURN, electric_field=[0.1, 0.2, 0.3])
    atoms.set_momenta(np.arange(9.0).reshape(3, 3))
    turn = -random_rotation(3)
    back = turned(turned(atoms, turn), turn.T)
    np.testing.assert_allclose(turned(atoms, turn).info["frame"], turn @ TURN)
    np.testing.assert_allclose(turned(atoms, turn).info["electric_field"], turn @ [0.1, 0.2, 0.3])
    for name in ("positions", "momenta"):
        np.testing.assert_allclose(back.arrays[name], atoms.arrays[name], atol=1e-12)
    np.testing.assert_allclose(back.info["frame"], TURN, atol=1e-12)


def test_the_calculator_says_what_no_longer_holds(relaxed_for, triclinic):
    calculator = relaxed_for(triclinic)
    assert not calculator.rotation_invariant
    said = " ".join(calculator.lost_symmetries)
    for word in ("torque", "not symmetric", "phonons", "sum rules"):
        assert word in said
    strict = MLIPCalculator(Potential.from_config(small(), ["Si", "O"]))
    assert strict.rotation_invariant
    assert strict.lost_symmetries == []
    assert "full_stress" not in strict.implemented_properties


# -- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lmax": 0}, "lmax"),
        ({"num_layers": 1}, "num_layers"),
        ({"anisotropy": {"irreps": "2x"}}, "not an irrep"),
        ({"anisotropy": {"irreps": "2e + 2e"}}, "each once"),
        ({"anisotropy": {"irreps": "0e"}}, "breaks no symmetry"),
        ({"anisotropy": {"irreps": "5o"}, "lmax": 2}, "couple to l ≤ 4"),
        ({"anisotropy": {"layers": 7}}, "no place 7"),
        ({"anisotropy": {"source": "field", "anneal": True}}, "anneal"),
        ({"anisotropy": {"source": "field", "irreps": "1e"}}, "natural parity"),
        ({"anisotropy": {"sauce": "field"}}, "source"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(InputError, match=message):
        model_settings({"num_layers": 3, "anisotropy": {}, **settings})


def test_the_port_acts_where_it_is_told_to(triclinic):
    one = Potential.from_config(small(anisotropy={"layers": [1], "irreps": "2e"}), ["Si", "O"])
    assert list(one.network.port.places) == ["1"]
    assert one.network.port.theta.shape == (5,)
