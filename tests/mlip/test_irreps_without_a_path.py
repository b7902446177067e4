"""An irrep that no feature feels is refused when the model is made, and no irrep that one feels is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import InputError, Potential
from mlip.nn import anisotropy
from mlip.settings import Irrep

CHEAP = {"cutoff": 4.0, "num_channels": 4, "num_radial": 4, "radial_width": 8}
NETWORKS = {
    "nequip lmax 1": {"num_layers": 2, "lmax": 1},
    "nequip lmax 2": {"num_layers": 3, "lmax": 2, "parity": True},
    "nequip pseudo": {"num_layers": 4, "lmax": 2, "parity": True},
    "equiformer lmax 1": {"architecture": "equiformer", "num_layers": 2, "lmax": 1, "parity": True},
    "equiformer pseudo": {"architecture": "equiformer", "num_layers": 3, "lmax": 2, "parity": True},
}
# by |l₁ − l₂| ≤ l ≤ l₁ + l₂ and (−1)^(l + l₁ + l₂) = η, degrees of natural features up to lmax
UNHEARD = {
    "nequip lmax 1": {"0o", "2o"},
    "nequip lmax 2": {"0o", "4o"},
    "nequip pseudo": set(),
    "equiformer lmax 1": {"0o", "2o"},
    "equiformer pseudo": set(),
}


def irreps(lmax: int) -> list[str]:
    """All that the settings let pass; 0e belongs to the weights."""
    return [Irrep(l, p).name for l in range(2 * lmax + 1) for p in (1, -1) if (l, p) != (0, 1)]


def model(network: str, names: list[str]) -> Potential:
    settings = {**CHEAP, **NETWORKS[network], "anisotropy": {"source": "learned", "irreps": "+".join(names)}}
    potential = Potential.from_config(settings, ["C", "H", "N", "O", "F"]).double()
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    return potential


def sensitivity(potential: Potential) -> dict[str, float]:
    """|∂E/∂θ| of each irrep, on a structure without any symmetry."""
    positions = [(0, 0, 0), (1.2, 0.1, 0.2), (-0.3, 1.4, 0.1), (0.4, -0.2, 1.7), (1.5, 1.3, 0.8)]
    atoms = Atoms("CHNOF", positions=positions, info={"frame": np.eye(3)})
    graph = potential.graph(atoms)
    theta = potential.network.port.theta
    (slope,) = torch.autograd.grad(potential(graph.edge_vectors(), graph).sum(), theta)
    known = potential.settings.breaking_irreps
    parts = slope.split([irrep.dim for irrep in known])
    return {irrep.name: float(part.norm()) for irrep, part in zip(known, parts, strict=True)}


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_taken_is_felt(network):
    names = [name for name in irreps(NETWORKS[network]["lmax"]) if name not in UNHEARD[network]]
    found = sensitivity(model(network, names))
    assert min(found.values()) > 1e-9 * max(found.values()), found


@pytest.mark.parametrize("network", [name for name, dead in UNHEARD.items() if dead])
def test_what_is_refused_would_do_nothing(network, monkeypatch):
    for name in UNHEARD[network]:
        with pytest.raises(InputError, match=f"feels {name}.*parity: true") as found:
            model(network, ["1o", name])
        assert "\n" not in str(found.value)
        assert ("lmax" in str(found.value)) == (name != "0o")
    monkeypatch.setattr(anisotropy, "_refuse_the_unheard", lambda settings, used: None)
    felt = sensitivity(model(network, ["1o", *UNHEARD[network]]))
    assert felt.pop("1o") > 0
    assert set(felt.values()) == {0.0}


def test_the_mend_mends():
    """2o at lmax 1 → lmax 2; a place of the port without pseudo features → any place."""
    enough = {**NETWORKS, "wider": {"num_layers": 2, "lmax": 2}}
    settings = {**CHEAP, **enough["wider"], "anisotropy": {"irreps": "2o"}}
    Potential.from_config(settings, ["C"])
    settings = {**CHEAP, **NETWORKS["nequip pseudo"]}
    with pytest.raises(InputError, match="layers: null"):
        Potential.from_config({**settings, "anisotropy": {"irreps": "0o", "layers": [0]}}, ["C"])
    Potential.from_config({**settings, "anisotropy": {"irreps": "0o"}}, ["C"])
