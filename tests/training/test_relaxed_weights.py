"""What relaxed weights find is what the data break, and nothing else (2407.20471, 2310.02299)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import Potential
from mlip.graph import AtomicGraph, batch_graphs
from mlip.symmetry import ReportSettings, anisotropy_report, point_group
from mlip.symmetry.characters import irrep_name, wigner_matrices
from mlip.symmetry.finite_harmonics import finite_irreps
from mlip.training.variants import DisplacementModel

# 0e is what the strict weights do; 0o acts through pseudo features alone, which two layers do not have
IRREPS = "1e + 1o + 2e + 2o + 3e + 3o + 4e + 4o"
# lmax 4: b of degree 4 reaches a displacement directly, 4 ⊗ l → 1 with l = 3 (4e) and l = 4 (4o)
NETWORK = {"cutoff": 3.5, "num_layers": 2, "num_channels": 4, "lmax": 4, "radial_width": 16}
CUBE = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
TARGETS = {
    "cube": 0.2 * CUBE,
    "prism": CUBE * [-0.5, -0.5, 1.0],
    "asymmetric": 0.4 * np.random.default_rng(5).normal(size=(8, 3)),
}
# the symmetry that is left, and how many components of θ it lets be other than zero: all of those, and no others
KEPT = {"cube": "Oh", "prism": "D4h", "asymmetric": "C1"}
COMPONENTS = {"cube": {"4e": 2}, "prism": {"2e": 2, "4e": 3}}
Steps = Callable[[torch.nn.Parameter], torch.optim.Optimizer]


def descent(theta: torch.nn.Parameter, rate: float = 0.3) -> torch.optim.Optimizer:
    """Adam would scale the components of one tensor apart, which no rotation respects: plain descent for θ."""
    return torch.optim.SGD([theta], rate)


class Training:
    """A displacement of every atom learnt by strict and relaxed weights together.

    Attributes:
        theta: θ by irrep, in float64.
        loss: Mean square error at the end, Å².
    """

    def __init__(self, atoms: Atoms, target: np.ndarray, irreps: str = IRREPS) -> None:
        self.atoms = atoms.copy()
        self.atoms.info["frame"] = np.eye(3)
        config = {**NETWORK, "anisotropy": {"source": "learned", "irreps": irreps}}
        self.potential = Potential.from_config(config, sorted(set(atoms.get_chemical_symbols()))).double()
        self.wanted = torch.as_tensor(target - target.mean(axis=0))

    def run(self, steps: int = 40, *, rate: float = 3e-3, of_theta: Steps = descent) -> Training:
        """Take steps; the strict weights by Adam."""
        model = DisplacementModel(self.potential)
        parameter = self.potential.network.port.theta
        others = [p for p in model.parameters() if p is not parameter]
        optimizers = [torch.optim.Adam(others, rate), of_theta(parameter)]
        graph = self.potential.graph(self.atoms)
        for _ in range(steps):
            for optimizer in optimizers:
                optimizer.zero_grad()
            (model(graph) - self.wanted).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
        self.loss = float((model(graph) - self.wanted).detach().square().mean())
        irreps = self.potential.settings.breaking_irreps
        parts = parameter.detach().split([irrep.dim for irrep in irreps])
        names = [irrep_name(i.l, i.eta * (-1) ** i.l) for i in irreps]
        self.theta = {name: part.numpy() for name, part in zip(names, parts, strict=True)}
        return self


@cache
def of_cube(name: str) -> Training:
    return Training(Atoms("C8", positions=CUBE), TARGETS[name]).run()


def turns_of(elements: np.ndarray, name: str) -> np.ndarray:
    return wigner_matrices(elements, int(name[0]), 1 if name[1] == "e" else -1)


def stabiliser(theta: dict[str, np.ndarray]) -> int:
    """How many operations of the cube leave all of θ alone."""
    elements = point_group("Oh").elements
    size = np.sqrt(sum(float(t @ t) for t in theta.values()))
    moved = [np.abs(turns_of(elements, n) @ t - t).max(axis=1) for n, t in theta.items()]
    return int((np.max(moved, axis=0) < 1e-6 * size).sum())


def outside(theta: dict[str, np.ndarray], group: str) -> float:
    """The largest component of θ that is not invariant under a group: 1 − Σ_g D(g) / |G|."""
    elements = point_group(group).elements
    return max(float(np.abs(t - (turns_of(elements, n) @ t).mean(axis=0)).max()) for n, t in theta.items())


@pytest.mark.parametrize("name", TARGETS)
def test_relaxed_weights_keep_what_the_target_keeps(name):
    """Cube → cube: the cubic direction of 4e. Prism: uniaxial along z, in e3nn's basis whose pole is y."""
    theta = of_cube(name).theta
    assert outside(theta, KEPT[name]) < 1e-12
    assert stabiliser(theta) == len(point_group(KEPT[name]))
    found = {n: int((np.abs(t) > 1e-12).sum()) for n, t in theta.items() if np.abs(t).max() > 1e-12}
    assert found == COMPONENTS.get(name, found)
    assert max(np.abs(t).max() for t in theta.values()) > 1e-3
    assert all(np.abs(theta[n]).max() > 1e-3 for n in COMPONENTS.get(name, {}))


def test_steps_that_no_rotation_respects_break_what_the_target_keeps():
    """The defect that the projection must find: Adam gives every component of θ a step of the same size."""
    theta = (
        Training(Atoms("C8", positions=CUBE), TARGETS["prism"])
        .run(10, of_theta=lambda p: torch.optim.Adam([p]))
        .theta
    )
    assert outside(theta, "D4h") > 1e-4
    assert stabiliser(theta) < len(point_group("D4h"))


def test_cube_to_cube_needs_no_relaxed_weights():
    """Moves along the diagonals are equivariant: a strict network learns them, and θ(4e) above is a choice."""
    strict = Training(Atoms("C8", positions=CUBE), TARGETS["cube"])
    strict.run(40, rate=1e-2, of_theta=lambda p: descent(p, 0.0))
    assert all((t == 0).all() for t in strict.theta.values())
    assert strict.loss < 0.05 * float(strict.wanted.square().mean())


def test_an_asymmetric_target_needs_every_tensor_that_corners_can_show():
    """To first order b moves the corners by the irreps of Oh in their 24 displacements: not A1u, not A2g."""
    elements = point_group("Oh").elements
    stay = [(np.abs(CUBE @ g.T - CUBE).max(axis=1) < 1e-9).sum() for g in elements]
    moves = np.array(stay) * np.trace(elements, axis1=1, axis2=2)
    hidden = []
    for irrep in finite_irreps(point_group("Oh")):
        shown = round(float((irrep.characters * moves).mean()))
        hidden += [] if shown else [irrep.name]
        sizes = _parts(of_cube("asymmetric").theta, irrep.characters)
        assert all(size > 1e-6 if shown else size < 1e-12 for size in sizes.values()), (irrep.name, sizes)
    assert sorted(hidden) == ["A1u", "A2g"]


def _parts(theta: dict[str, np.ndarray], characters: np.ndarray) -> dict[str, float]:
    """|P θ| with P = d/|G| Σ_g χ(g) D(g), for the tensors that contain an irrep of Oh."""
    elements = point_group("Oh").elements
    mean = {n: np.einsum("g,gij->ij", characters, turns_of(elements, n)) / len(elements) for n in theta}
    return {n: characters.max() * float(np.linalg.norm(p @ theta[n])) for n, p in mean.items() if np.trace(p) > 1e-6}


def dimers() -> tuple[Atoms, np.ndarray]:
    """Far apart, dimers along the three ⟨100⟩ and the four ⟨111⟩; those along ⟨100⟩ shall stretch by 0.4 Å."""
    axes = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    moves = np.array([0.2] * 3 + [0.0] * 4)[:, None] * axes
    places = 20.0 * np.outer(np.arange(7), [1, 0, 0])
    return Atoms("C14", positions=np.concatenate([places + axes, places - axes])), np.concatenate([moves, -moves])


@pytest.mark.parametrize("irreps", ["4e", "1e + 1o + 2e + 2o + 3e + 3o + 4o"], ids=["4e", "all_but_4e"])
def test_a_cubic_anisotropy_needs_4e(irreps):
    """A strict network stretches all dimers alike, 3/7 of 0.2 Å at best; of l ≤ 4 only 4e tells ⟨100⟩ from ⟨111⟩."""
    atoms, moves = dimers()
    floor = float((moves**2).mean()) * 4 / 7
    found = Training(atoms, moves, irreps).run(60, rate=1e-2, of_theta=lambda p: descent(p, 5.0))
    if irreps == "4e":
        assert found.loss < 0.1 * floor
        assert outside(found.theta, "Oh") < 1e-12
        assert np.abs(found.theta["4e"]).max() > 0.1
    else:
        assert found.loss >= floor * (1 - 1e-9)
        assert max(np.abs(t).max() for t in found.theta.values()) < 1e-12


@pytest.mark.parametrize(("direction", "order"), [([0, 0, 1], 8), ([1, 1, 0], 4)], ids=["P4mm", "Amm2"])
def test_barium_titanate_is_left_with_its_stabiliser(direction, order):
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    cubic = Atoms("BaTiO3", scaled_positions=scaled, cell=4.0 * np.eye(3), pbc=True)
    unit = np.array(direction) / np.linalg.norm(direction)
    moves = np.outer([0.0, 0.09, -0.1, -0.05, -0.05], unit)
    theta = Training(cubic, moves).run(20).theta
    assert np.sqrt(sum(float(t @ t) for t in theta.values())) > 1e-4
    assert stabiliser(theta) == order


def convolution(target: np.ndarray, steps: int = 150) -> np.ndarray:
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


SMALL = {"cutoff": 8.0, "num_layers": 2, "num_channels": 8, "lmax": 2, "parity": False, "radial_width": 16}
FIELD = np.array([0.3, -0.1, 0.2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_charges_in_a_field_show_its_direction(seed):
    """Hidden uniform field on charged atoms: the report's axis lies within 1° of it, up to sign.

    Every pair lies within the cutoff: the dipole is a sum over pairs, and whatever of it the network cannot express
    turns θ by its chance correlation with the directions across the field (2° … 5° with a cutoff of 5 Å).
    """
    rng = np.random.default_rng(seed)
    frames = [_ions(rng) for _ in range(600)]
    config = {**SMALL, "seed": seed, "anisotropy": {"source": "learned", "irreps": "1o"}}
    potential = Potential.from_config(config, ["F", "Li"])
    energies = torch.tensor([_energy(a) for a in frames])
    _fit(potential, [potential.graph(a) for a in frames], energies, seed)
    report = anisotropy_report(potential.double(), frames[:60], settings=ReportSettings(rotations=32))
    best = max(report.spectrum, key=lambda c: c.energy)
    assert best.name == "1o"
    cosine = abs(float(report.retained.axis @ FIELD)) / np.linalg.norm(FIELD)
    assert np.degrees(np.arccos(min(1.0, cosine))) < 1.0


def _ions(rng: np.random.Generator) -> Atoms:
    """Two of each charge, no two closer than 1.2 Å."""
    while True:
        x = rng.normal(scale=1.1, size=(4, 3))
        if np.min(np.linalg.norm(x[:, None] - x[None], axis=-1) + 9 * np.eye(4)) > 1.2:
            return Atoms("Li2F2", positions=x, info={"frame": np.eye(3)})


def _energy(atoms: Atoms) -> float:
    """Morse pairs, and charges ±1 e in the field."""
    r = atoms.get_all_distances() + 1e9 * np.eye(len(atoms))
    pairs = 0.1 * (((1 - np.exp(1.6 - r)) ** 2 - 1) * (r < 1e8)).sum()
    return float(pairs - np.repeat([1, -1], 2) @ atoms.positions @ FIELD)


def _fit(potential: Potential, graphs: list[AtomicGraph], energies: torch.Tensor, seed: int) -> None:
    steps, batch = 1000, 40
    wanted = (energies - energies.mean()) / energies.std()
    optimizer = torch.optim.Adam(potential.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(0, len(graphs), (batch,), generator=draw)
        graph = batch_graphs([graphs[int(k)] for k in chosen])
        atomic = potential(graph.edge_vectors(), graph)
        found = atomic.new_zeros(batch).index_add(0, graph.structure, atomic)
        optimizer.zero_grad()
        (found - wanted[chosen]).square().mean().backward()
        optimizer.step()
        schedule.step()
