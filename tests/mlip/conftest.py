"""The table of architectures, and small structures on which every error shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlip import MLIPCalculator, Potential
from mlip.derivatives import evaluate
from mlip.exchange import Exchange
from mlip.nn.features import EdgeContext
from mlip.nn.geometry import Geometry
from mlip.potential import Normalization

# Every physics test runs over these: a new architecture or option is one more line.
VARIANTS: dict[str, Any] = {
    "nequip-linear": {"architecture": "nequip", "mixing": "linear", "parity": False},
    "nequip-linear-parity": {"architecture": "nequip", "mixing": "linear", "parity": True},
    "nequip-depthwise": {"architecture": "nequip", "mixing": "depthwise", "parity": False},
    "nequip-depthwise-parity": {"architecture": "nequip", "mixing": "depthwise", "parity": True},
    "equiformer": pytest.param({"architecture": "equiformer", "parity": False}, marks=pytest.mark.slow),
    "equiformer-parity": {"architecture": "equiformer", "parity": True},
}
SMALL = {"cutoff": 4.0, "num_layers": 4, "num_channels": 3, "lmax": 2, "num_radial": 5, "radial_width": 12}
# What normalises needs more channels: the rms of three may come close to zero by chance and is then steep anywhere.
# Three layers of attention and the edge-degree embedding reach as far as four convolutions.
OWN: dict[str, dict[str, Any]] = {
    "equiformer": {"num_layers": 3, "num_channels": 8, "num_heads": 2, "attention_channels": 8}
}
E0 = {"Si": -4.0, "O": -1.5, "Ba": -3.0}
NEIGHBORS = 2.0  # fewer than there are: messages grow, so that every layer weighs in the energy


def skip_what_an_architecture_lacks(settings: dict[str, Any]) -> None:
    """Tests ask every architecture for the same options; some do not exist, and a settings test says so."""
    if settings.get("architecture") == "equiformer":
        for name, value in (("norm", False), ("max_filter_degree", 6)):
            if settings.get(name) == value and isinstance(settings[name], type(value)):
                pytest.skip(f"an equiformer has no {name}: {value}")


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def variant(request) -> dict[str, Any]:
    """Settings of one architecture."""
    return request.param


@pytest.fixture(params=range(5), ids="lmax{}".format)
def lmax(request) -> int:
    return request.param


@pytest.fixture(scope="session")
def potential_for() -> Callable[..., Potential]:
    """A small float64 potential whose largest force on the given structure is 1 eV/Å.

    Every weight is moved off its start value, because biases that start at zero would hide errors.
    """

    def make(atoms: Atoms, dtype: torch.dtype = torch.float64, **settings: Any) -> Potential:
        skip_what_an_architecture_lacks(settings)
        species = sorted(set(atoms.get_chemical_symbols()))
        normalization = Normalization(
            avg_num_neighbors=NEIGHBORS, energy_scale=1 / largest(atoms, species, settings), e0=E0
        )
        return build(species, settings, normalization).to(dtype)

    def largest(atoms: Atoms, species: list[str], settings: dict[str, Any]) -> float:
        potential = build(species, settings | {"zbl": False}, Normalization(NEIGHBORS))
        return float(evaluate(potential, potential.graph(atoms)).forces.abs().max())

    def build(species: list[str], settings: dict[str, Any], normalization: Normalization) -> Potential:
        own = OWN.get(settings.get("architecture", "nequip"), {})
        potential = Potential.from_config(SMALL | own | settings, species, normalization)
        rng = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in potential.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
        return potential.double()

    return make


@pytest.fixture(scope="session")
def calculator_for(potential_for) -> Callable[..., MLIPCalculator]:
    """The calculator of ``potential_for``."""

    def make(atoms: Atoms, **settings: Any) -> MLIPCalculator:
        return MLIPCalculator(potential_for(atoms, **settings))

    return make


@pytest.fixture
def cluster() -> Atoms:
    """Five atoms without any symmetry."""
    positions = [[0.0, 0.0, 0.0], [1.6, 0.3, -0.2], [-0.7, 1.5, 0.4], [0.4, -0.9, 1.4], [1.1, 1.7, 1.6]]
    return Atoms("SiOSiOO", positions=positions)


@pytest.fixture
def triclinic() -> Atoms:
    """Three atoms in a triclinic cell smaller than the cutoff: atoms neighbour their own images."""
    cell = [[3.1, 0.2, -0.1], [0.7, 3.4, 0.3], [-0.4, 0.5, 3.8]]
    scaled = [[0.02, 0.05, -0.03], [0.47, 0.55, 0.41], [0.61, 0.02, 0.52]]
    return Atoms("SiOO", scaled_positions=scaled, cell=cell, pbc=True)


@pytest.fixture
def star() -> Atoms:
    """Bonds along ±x, ±y, ±z and within the coordinate planes, exactly."""
    positions = [
        [0, 0, 0], [1.7, 0, 0], [-1.8, 0, 0], [0, 1.9, 0], [0, -1.6, 0], [0, 0, 1.75], [0, 0, -1.85],
        [1.3, 1.1, 0], [0, -1.2, 1.4], [-1.5, 0, 1.2],
    ]  # fmt: skip
    return Atoms("SiOOOOSiOOSiO", positions=np.array(positions, dtype=float))


@pytest.fixture(params=["rocksalt", "diamond", "perovskite"])
def symmetric_crystal(request) -> Atoms:
    """A crystal at rest by symmetry, where every l = 1 and l = 2 feature vanishes at some or all sites."""
    if request.param == "rocksalt":
        return bulk("SiO", "rocksalt", a=4.6)
    if request.param == "diamond":
        return bulk("Si", "diamond", a=5.43)
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("BaSiO3", scaled_positions=scaled, cell=3.9 * np.eye(3), pbc=True)


@pytest.fixture(scope="session")
def edge_context() -> Callable[..., EdgeContext]:
    """Edge vectors, an exchange and radial features → what the mixing layers are handed."""

    def make(vectors: torch.Tensor, exchange: Exchange, radial: torch.Tensor, lmax: int) -> EdgeContext:
        geometry = Geometry(lmax, 4.0, 5, frames=True, pseudo=True).double()(vectors)
        weight = geometry.envelope * 0.3

        def back(matrix: torch.Tensor | None) -> torch.Tensor | None:
            return None if matrix is None else (matrix * weight.unsqueeze(1)).transpose(1, 2)

        return EdgeContext(
            geometry=geometry,
            radial=radial,
            weight=weight,
            harmonics_back=back(geometry.harmonics),
            from_frame=back(geometry.to_frame),
            pseudo_from_frame=back(geometry.pseudo_to_frame),
            species=torch.zeros(exchange.num_nodes, dtype=torch.int64),
            one_hot=torch.ones(exchange.num_nodes, 1, 1, dtype=torch.float64),
            structure=torch.zeros(exchange.num_nodes, dtype=torch.int64),
            exchange=exchange,
        )

    return make


@pytest.fixture
def e3nn_float64():
    """e3nn builds its constants in the default dtype: let that be float64 while the oracle is at work."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
