"""Domains that know their own atoms and ghosts alone: together they are the whole, message by message.

Each domain is a thread with what LAMMPS's ML-IAP would hand it; exchanges are meetings of all threads.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import InputError, MLIPCalculator, Potential
from mlip.ghosts import GhostExchange
from mlip.graph import neighbor_pairs
from mlip.mliap import MLIAPPotential, write_mliap

SAME = 1e-10


class World:
    """Where domains meet: each lays down its rows, all wait, each takes what it needs."""

    def __init__(self, size):
        self.barrier = threading.Barrier(size, timeout=60)
        self.rows = [None] * size

    def meet(self, rank, rows):
        self.rows[rank] = rows
        self.barrier.wait()
        everything = list(self.rows)
        self.barrier.wait()
        return everything


class Domain:
    """One domain's atoms, ghosts and pairs, with the methods and names of LAMMPS's ML-IAP data."""

    def __init__(self, world, rank, atoms, owners, species, cutoff):
        self.world, self.rank = world, rank
        self.own = np.flatnonzero(owners == rank)
        source, target, shifts = neighbor_pairs(atoms, cutoff)
        mine = owners[target] == rank
        local = {int(atom): k for k, atom in enumerate(self.own)}
        ghosts: dict[tuple[int, ...], int] = {}
        self.nlocal = len(self.own)
        place = []
        for j, shift in zip(source[mine], shifts[mine], strict=True):
            inside = int(j) in local and not shift.any()
            key = (int(j), *map(int, shift))
            place.append(local[int(j)] if inside else self.nlocal + ghosts.setdefault(key, len(ghosts)))
        self.ghosts = np.array([key[0] for key in ghosts], dtype=int)  # the atom each ghost is a copy of
        self.ntotal = self.nlocal + len(ghosts)
        self.pair_i = np.array([local[int(i)] for i in target[mine]])
        self.pair_j = np.array(place)
        vectors = atoms.positions[source] + shifts @ atoms.cell.array - atoms.positions[target]
        self.rij = vectors[mine]
        symbols = np.array(atoms.get_chemical_symbols())
        self.elems = np.array([species.index(s) for s in [*symbols[self.own], *symbols[self.ghosts]]])
        self.eatoms = np.zeros(self.nlocal)
        self.energy = 0.0
        self.forces = np.zeros((len(atoms), 3))
        self.owners, self.row_of = (
            owners,
            {int(a): k for r in set(owners) for k, a in enumerate(np.flatnonzero(owners == r))},
        )

    def forward_exchange(self, source, target, width):
        assert source.shape == target.shape == (self.ntotal, width)
        everyone = self.world.meet(self.rank, source.detach().clone())
        target[: self.nlocal] = source[: self.nlocal]
        for k, atom in enumerate(self.ghosts):
            target[self.nlocal + k] = everyone[self.owners[atom]][self.row_of[int(atom)]]

    def reverse_exchange(self, source, target, width):
        assert source.shape == target.shape == (self.ntotal, width)
        sent = [(int(atom), source[self.nlocal + k].detach().clone()) for k, atom in enumerate(self.ghosts)]
        everyone = self.world.meet(self.rank, sent)
        target[: self.nlocal] = source[: self.nlocal]
        for rows in everyone:
            for atom, row in rows:
                if self.owners[atom] == self.rank:
                    target[self.row_of[atom]] += row

    def update_pair_forces(self, fij):
        owner_of = np.concatenate([self.own, self.ghosts])
        np.add.at(self.forces, owner_of[self.pair_i], fij)
        np.add.at(self.forces, owner_of[self.pair_j], -fij)


@pytest.fixture(scope="module")
def crystal():
    """Ten atoms, longer than the cutoff along x alone: neighbours wrap around in every direction."""
    rng = np.random.default_rng(3)
    scaled = np.array([[x, y, y] for x in np.arange(5) / 5 for y in (0.1, 0.6)]) + 0.03 * rng.standard_normal((10, 3))
    return Atoms(
        "SiOOSiOSiOSiOO", scaled_positions=scaled, cell=[[9.5, 0, 0], [0.4, 3.8, 0], [0.2, -0.3, 4.1]], pbc=True
    )


def in_domains(potential, atoms, owners):
    """Energy and forces (N, 3), each domain in its thread."""
    world = World(owners.max() + 1)
    species = list(potential.species)
    domains = [Domain(world, r, atoms, owners, species, potential.cutoff) for r in range(owners.max() + 1)]
    with ThreadPoolExecutor(len(domains)) as threads:
        list(threads.map(MLIAPPotential(potential).compute_forces, domains))
    energies = np.zeros(len(atoms))
    for domain in domains:
        energies[domain.own] = domain.eatoms
    assert sum(domain.energy for domain in domains) == pytest.approx(energies.sum(), rel=1e-13)
    return energies, sum(domain.forces for domain in domains)


@pytest.mark.parametrize("cut", ["halves", "thirds", "scattered", "one"])
def test_split_domains_give_the_energies_and_forces_of_the_whole(potential_for, variant, crystal, cut):
    potential = potential_for(crystal, **variant)
    x = crystal.get_scaled_positions()[:, 0]
    owners = {
        "halves": (x > 0.5).astype(int),
        "thirds": (3 * x).astype(int),
        "scattered": np.arange(len(crystal)) % 2,
        "one": np.zeros(len(crystal), dtype=int),
    }[cut]
    energies, forces = in_domains(potential, crystal, owners)
    whole = MLIPCalculator(potential)
    expected = whole.get_forces(crystal)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(energies, whole.get_property("energies", crystal), atol=SAME)
    np.testing.assert_allclose(forces, expected, atol=SAME)


def test_without_the_way_back_of_gradients_forces_are_wrong(potential_for, crystal, monkeypatch):
    """The defect that this test is there to catch: energies right, forces of a truncated derivative."""
    potential = potential_for(crystal, mixing="linear", parity=False)
    owners = (crystal.get_scaled_positions()[:, 0] > 0.5).astype(int)
    monkeypatch.setattr(Domain, "reverse_exchange", lambda self, source, target, width: None)
    energies, forces = in_domains(potential, crystal, owners)
    whole = MLIPCalculator(potential)
    np.testing.assert_allclose(energies, whole.get_property("energies", crystal), atol=SAME)
    assert np.abs(forces - whole.get_forces(crystal)).max() > 1e-4


def test_ghosts_have_no_gradient_of_their_own():
    class Still:
        nlocal, ntotal = 2, 3

        def forward_exchange(self, source, target, width):
            target[2] = source[0]

        def reverse_exchange(self, source, target, width):
            target[0] += source[2]

    nodes = torch.arange(8, dtype=torch.float64).view(4, 2).requires_grad_(True)
    exchange = GhostExchange(torch.tensor([2, 1, 3]), torch.tensor([0, 0, 1]), 4, Still())
    sent = exchange.gather(nodes)
    assert torch.equal(sent, nodes.detach()[[0, 1, 3]])
    sent.sum().backward()
    assert nodes.grad.tolist() == [[1, 1], [1, 1], [0, 0], [1, 1]]


def test_what_lammps_reads(potential_for, crystal, tmp_path):
    potential = potential_for(crystal, mixing="linear", parity=False)
    potential.save(tmp_path / "model.mlip")
    write_mliap(tmp_path / "model.mlip", tmp_path / "model.pt")
    unified = torch.load(tmp_path / "model.pt", weights_only=False)  # as LAMMPS does
    assert unified.element_types == ["O", "Si"]
    assert 2 * unified.rcutfac == potential.cutoff
    direct = Potential.from_config({"forces": "direct"}, ["Si"])
    with pytest.raises(InputError, match="direct"):
        MLIAPPotential(direct)
