"""Functions of structures that know the laboratory, with a spectrum that is known exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from e3nn import o3
from scipy.spatial.transform import Rotation


class Planted:
    """Pairs, and Σ_i b·t(p_i) for tensors t of chosen (l, p) made of each atom's surroundings.

    Args:
        tensors: (l, parity) → components b, e3nn's order, laboratory axes.
        isotropic: Strength of the pair energy.
    """

    def __init__(self, tensors: dict[tuple[int, int], np.ndarray] | None = None, isotropic: float = 1.0) -> None:
        self.tensors = {k: torch.as_tensor(b) for k, b in (tensors or {}).items()}
        self.isotropic = isotropic

    def evaluate(self, structures: Sequence[Atoms], properties: Sequence[str] = ()) -> list[dict]:
        return [r for k in range(0, len(structures), 256) for r in self._batch(structures[k : k + 256])]

    def _batch(self, structures):
        x = torch.tensor(np.array([a.positions for a in structures]), requires_grad=True)
        energy = self.isotropic * self._pairs(x, self._charges(structures)).sum(-1)
        for (l, p), b in self.tensors.items():
            energy = energy + self.components(x, structures, l, p) @ b
        (gradient,) = torch.autograd.grad(energy.sum(), x)
        energies = energy.detach().numpy()
        return [{"energy": float(e), "forces": -g.numpy()} for e, g in zip(energies, gradient, strict=True)]

    def components(self, x, structures, l, p):
        """(structures, 2l+1): the tensor that b is contracted with; E(S) = b·D(S) t."""
        one, two, three = (self._polar(x, self._charges(structures), width) for width in (1.5, 2.5, 4.0))
        t = o3.spherical_harmonics(l, one, normalize=False, normalization="component")
        if p != (-1) ** l:
            t = t * (one * torch.linalg.cross(two, three)).sum(-1, keepdim=True)
        return t.sum(1)

    def rms(self, structures, l, p):
        """Exact rms over structures and orientations, eV/atom: |b||t|/√(2l+1)."""
        x = torch.tensor(np.array([a.positions for a in structures]))
        t = self.components(x, structures, l, p).norm(dim=-1) / len(structures[0])
        return float((t.square().mean() / (2 * l + 1)).sqrt() * self.tensors[l, p].norm())

    @staticmethod
    def _charges(structures):
        return torch.tensor(np.array([a.numbers for a in structures]) - 9.5)

    @staticmethod
    def _distances(x):
        d = x[:, None] - x[:, :, None]
        return d, (d.square().sum(-1) + torch.eye(x.shape[1])).sqrt()

    def _pairs(self, x, q):
        _, r = self._distances(x)
        off = 1 - torch.eye(x.shape[1])
        return 0.05 * (((1 - torch.exp(1.6 - r)) ** 2 - 1) * off * (1 + 0.1 * q[:, None] * q[:, :, None])).sum(-1)

    def _polar(self, x, q, width):
        d, r = self._distances(x)
        sums = (torch.exp(-((r / width) ** 2))[..., None] * q[:, None, :, None] * d).sum(2)
        return sums / (1 + sums.square().sum(-1, keepdim=True)).sqrt()


class AsCalculator(Calculator):
    """Any of these as an ASE calculator, one structure at a time."""

    implemented_properties = ("energy", "forces")

    def __init__(self, model):
        super().__init__()
        self.model = model

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = dict(self.model.evaluate([self.atoms])[0])


def uniaxial(l: int, p: int, axis) -> np.ndarray:
    """Y_l of an axis, as a unit tensor; for unnatural parity it is the pseudo-tensor of the same components."""
    y = o3.spherical_harmonics(l, torch.as_tensor(np.asarray(axis, dtype=float)), normalize=True).double()
    return (y / y.norm()).numpy()


def clusters(number: int, seed: int, atoms: int = 5) -> list[Atoms]:
    """Random clusters of carbon and oxygen, in random orientations by construction."""
    rng = np.random.default_rng(seed)
    found: list[Atoms] = []
    while len(found) < number:
        x = rng.normal(scale=1.3, size=(atoms, 3))
        r = np.linalg.norm(x[:, None] - x[None], axis=-1) + 9 * np.eye(atoms)
        if r.min() > 1.0:
            found.append(Atoms("C3O2", positions=x))
    return found


def scaled(tensors, structures, meV: float) -> Planted:
    """A planted model whose components each have this rms, meV/atom."""
    unit = Planted(tensors)
    return Planted({k: b * meV / 1000 / unit.rms(structures, *k) for k, b in tensors.items()})


def labelled(structures, model, noise: float = 0.0, force_noise: float = 0.0, seed: int = 0, turned=False):
    """Structures with the model's labels and Gaussian noise (eV/atom, eV/Å); turned: in axes of their own."""
    rng = np.random.default_rng(seed)
    out = []
    for atoms, result in zip(structures, model.evaluate(structures), strict=True):
        frame = Rotation.random(rng=rng).as_matrix() if turned else np.eye(3)
        energy = result["energy"] + noise * len(atoms) * rng.normal()
        forces = result["forces"] + force_noise * rng.normal(size=(len(atoms), 3))
        copy = Atoms(
            atoms.numbers, positions=atoms.positions @ frame.T, cell=atoms.cell.array @ frame.T, pbc=atoms.pbc
        )
        copy.info["frame"] = frame
        copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces @ frame.T)
        out.append(copy)
    return out
