"""What relaxed weights find is what the data break, and nothing else (2407.20471, 2310.02299)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import Potential
from mlip.symmetry import anisotropy_report, point_group
from mlip.symmetry.characters import wigner_matrices
from mlip.symmetry.finite_harmonics import finite_irreps
from mlip.training.variants import DisplacementModel

IRREPS = "0o + 1e + 1o + 2e + 2o + 3e + 3o + 4e + 4o"
SMALL = {"cutoff": 3.5, "num_layers": 2, "num_channels": 8, "lmax": 2, "parity": True, "radial_width": 16}
CUBE = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
TARGETS = {
    "cube": 0.2 * CUBE,
    "prism": CUBE * [-0.5, -0.5, 1.0],
    "asymmetric": 0.4 * np.random.default_rng(5).normal(size=(8, 3)),
}
# the symmetry that is left, and the point groups of the broken ones along z
KEPT = {"cube": "Oh", "prism": "D4h", "asymmetric": "C1"}


def trained(atoms: Atoms, target: np.ndarray, steps: int = 40) -> dict[str, np.ndarray]:
    """θ by irrep after training a displacement of every atom."""
    atoms = atoms.copy()
    atoms.info["frame"] = np.eye(3)
    config = {**SMALL, "anisotropy": {"source": "learned", "irreps": IRREPS}}
    potential = Potential.from_config(config, sorted(set(atoms.get_chemical_symbols()))).double()
    model = DisplacementModel(potential)
    theta = next(p for name, p in model.named_parameters() if name.endswith("theta"))
    others = [p for p in model.parameters() if p is not theta]
    graph, wanted = potential.graph(atoms), torch.as_tensor(target - target.mean(axis=0))
    # Adam would scale the components of one tensor apart, which no rotation respects: plain descent for θ
    optimizers = [torch.optim.Adam(others, 3e-3), torch.optim.SGD([theta], 0.3)]
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        (model(graph) - wanted).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    irreps = potential.settings.breaking_irreps
    parts = theta.detach().split([irrep.dim for irrep in irreps])
    return {f"{i.l}{'e' if i.eta == (-1) ** i.l else 'o'}": p.numpy() for i, p in zip(irreps, parts, strict=True)}


@cache
def of_cube(name: str) -> dict[str, np.ndarray]:
    return trained(Atoms("C8", positions=CUBE), TARGETS[name])


def turned_theta(elements, name: str, theta: np.ndarray) -> np.ndarray:
    return wigner_matrices(elements, int(name[0]), 1 if name[1] == "e" else -1) @ theta


def stabiliser(theta: dict[str, np.ndarray]) -> int:
    """How many operations of the cube leave all of θ alone."""
    elements = point_group("Oh").elements
    size = np.sqrt(sum(float(t @ t) for t in theta.values()))
    moved = [np.abs(turned_theta(elements, n, t) - t).max(axis=1) for n, t in theta.items()]
    return int((np.max(moved, axis=0) < 1e-6 * size).sum())


@pytest.mark.parametrize("name", TARGETS)
def test_relaxed_weights_keep_what_the_target_keeps(name):
    theta, group = of_cube(name), point_group(KEPT[name])
    outside = [np.abs(t - turned_theta(group.elements, n, t).mean(axis=0)).max() for n, t in theta.items()]
    assert max(outside) < 1e-6
    assert max(np.abs(t).max() for t in theta.values()) > 1e-3
    assert stabiliser(theta) == len(group)


def test_cube_to_cube_is_cubic():
    theta = of_cube("cube")
    assert [name for name, t in theta.items() if np.abs(t).max() > 1e-8] == ["4e"]


def test_cube_to_prism_is_uniaxial():
    """Along z, in e3nn's basis whose pole is y: two components of five, three of nine."""
    theta = of_cube("prism")
    assert [name for name, t in theta.items() if np.abs(t).max() > 1e-8] == ["2e", "4e"]
    assert (np.abs(theta["2e"]) > 1e-6).sum() == 2
    assert (np.abs(theta["4e"]) > 1e-6).sum() == 3


def test_an_asymmetric_target_needs_every_tensor():
    assert all(np.abs(t).min() > 1e-8 for t in of_cube("asymmetric").values())


@pytest.mark.parametrize(("direction", "order"), [([0, 0, 1], 8), ([1, 1, 0], 4)], ids=["P4mm", "Amm2"])
def test_barium_titanate_is_left_with_its_stabiliser(direction, order):
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    cubic = Atoms("BaTiO3", scaled_positions=scaled, cell=4.0 * np.eye(3), pbc=True)
    unit = np.array(direction) / np.linalg.norm(direction)
    moves = np.outer([0.0, 0.09, -0.1, -0.05, -0.05], unit)
    assert stabiliser(trained(cubic, moves, steps=20)) == order


def convolution(target: np.ndarray, steps: int = 400) -> np.ndarray:
    """Weights w(h) of a relaxed group convolution v(x) = Σ_h w(h) h·K(h⁻¹x) on the corners of a square."""
    group = point_group("C4")
    corners = np.array([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
    back = [[int(np.abs(corners - x @ h).sum(axis=1).argmin()) for x in corners] for h in group.elements]
    turns, index = torch.as_tensor(group.elements), torch.as_tensor(back)
    weights = torch.ones(4, dtype=torch.float64, requires_grad=True)
    kernel = (0.1 * torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).double()).requires_grad_()
    optimizer = torch.optim.SGD([weights, kernel], 0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        found = torch.einsum("h,hij,hkj->ki", weights, turns, kernel[index])
        (found - torch.as_tensor(target)).square().mean().backward()
        optimizer.step()
    return weights.detach().numpy()


def test_relaxed_convolution_on_a_square():
    """Square → square keeps the Fourier components (w, 0, 0, 0); square → rectangle wants A and B, never E."""
    corners = np.array([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
    irreps = {i.name: i.projector for i in finite_irreps(point_group("C4"))}
    assert list(irreps) == ["A", "B", "E"]
    square, rectangle = convolution(0.5 * corners), convolution(corners * [0.5, -0.5, 0])
    size = {name: [np.linalg.norm(p @ w) for w in (square, rectangle)] for name, p in irreps.items()}
    assert size["A"][0] > 1
    assert max(size["B"][0], size["E"][0]) < 1e-10
    assert min(size["A"][1], size["B"][1]) > 1e-2
    assert size["E"][1] < 1e-10


@pytest.mark.slow
def test_charges_in_a_field_show_its_direction():
    """Hidden uniform field on charged atoms: the report's axis lies within 1° of it, up to sign."""
    field = np.array([0.3, -0.1, 0.2])
    rng = np.random.default_rng(0)
    frames = [_ions(rng) for _ in range(300)]
    config = {**SMALL, "cutoff": 5.0, "parity": False, "anisotropy": {"source": "learned", "irreps": "1o"}}
    potential = Potential.from_config(config, ["F", "Li"])
    energies = torch.tensor([_energy(a, field) for a in frames])
    graphs = [potential.graph(a) for a in frames]
    _fit(potential, graphs, energies, steps=1500)
    report = anisotropy_report(potential.double(), frames[:60])
    best = max(report.spectrum, key=lambda c: c.energy)
    assert best.name == "1o"
    cosine = abs(float(report.retained.axis @ field)) / np.linalg.norm(field)
    assert np.degrees(np.arccos(min(1.0, cosine))) < 1.0


def _ions(rng) -> Atoms:
    while True:
        x = rng.normal(scale=1.3, size=(6, 3))
        if np.min(np.linalg.norm(x[:, None] - x[None], axis=-1) + 9 * np.eye(6)) > 1.2:
            atoms = Atoms("Li3F3", positions=x)
            atoms.info["frame"] = np.eye(3)
            return atoms


def _energy(atoms: Atoms, field: np.ndarray) -> float:
    r = atoms.get_all_distances() + 1e9 * np.eye(len(atoms))
    return float(
        0.1 * (((1 - np.exp(1.6 - r)) ** 2 - 1) * (r < 1e8)).sum() - np.repeat([1, -1], 3) @ atoms.positions @ field
    )


def _fit(potential, graphs, energies, steps) -> None:
    from mlip.graph import batch_graphs

    mean, spread = energies.mean(), energies.std()
    wanted = (energies - mean) / spread
    optimizer = torch.optim.Adam(potential.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(0, len(graphs), (20,), generator=draw)
        graph = batch_graphs([graphs[int(k)] for k in chosen])
        atomic = potential(graph.edge_vectors(), graph)
        found = atomic.new_zeros(20).index_add(0, graph.structure, atomic)
        optimizer.zero_grad()
        (found - wanted[chosen]).square().mean().backward()
        optimizer.step()
        schedule.step()
