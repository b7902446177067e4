"""The loss: a list of terms, each a sum over labels and a count, so that batches and processes add up exactly.

A term is weight × Σ w_f φ(prediction − label) / count, with φ the norm, w_f the weight of the frame a label
belongs to, and the count that of the labels present (not of their weights: a frame of weight 2 counts as if it
were there twice, and nothing is divided out again).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mlip.datasets.frame import RESPONSE
from mlip.response import modulo_quantum
from mlip.settings import AnisotropySettings
from mlip.training.data import Batch
from mlip.training.settings import LossTermSettings
from mlip.training.task_settings import DensSettings


@dataclass(frozen=True)
class Prediction:
    """What the loss compares with the labels.

    Attributes:
        energy: (B,), eV.
        forces: (N, 3), eV/Å.
        stress: (B, 3, 3), eV/Å³; None where no label asks for it.
        noise: (N, 3), displacements in units of σ; None where no atom was moved.
        anisotropy: (irreps,), the size of θ in each irrep; None outside training, or where nothing is learnt.
        polarization: (B, 3), dipole of the molecule or cell, e Å; None, as the next two, where no label asks for it.
        born_charges: (N, 3, 3), e.
        polarizability: (B, 3, 3), e Å²/V.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor | None
    noise: Tensor | None = None
    anisotropy: Tensor | None = None
    polarization: Tensor | None = None
    born_charges: Tensor | None = None
    polarizability: Tensor | None = None


@dataclass(frozen=True)
class Residual:
    """Errors on the labels that exist.

    Attributes:
        values: (n, c), prediction − label, float64, one row per frame or atom; 0 where there is no label.
        weights: (n, 1), the weight of each row's frame.
        count: Number of components that have a label.
    """

    values: Tensor
    weights: Tensor
    count: int


def residual(target: str, prediction: Prediction, batch: Batch, *, per_atom: bool = True) -> Residual:
    """Errors of one target, masked where the label is missing.

    Energies are divided by the number of atoms when ``per_atom``; a lone atom's is so left as it is.
    """
    if target == "energy":
        error = prediction.energy.double() - batch.energy
        values = error / batch.num_atoms if per_atom else error
        return _masked(values.unsqueeze(1), batch.has_energy, batch.weight, batch.labels["energy"])
    if target == "forces":
        error = prediction.forces.double() - batch.forces
        weights = batch.weight.index_select(0, batch.graph.structure)
        return _masked(error, batch.has_forces, weights, batch.labels["forces"])
    if target == "stress" and prediction.stress is not None:
        error = (prediction.stress.double() - batch.stress).flatten(1)
        return _masked(error, batch.has_stress, batch.weight, batch.labels["stress"])
    if target in RESPONSE:
        return _response_residual(target, prediction, batch)
    raise ValueError(f"no prediction for target {target!r}")


def _response_residual(target: str, prediction: Prediction, batch: Batch) -> Residual:
    """Errors of a derivative by the field; dipoles of cells up to e times their periods."""
    found: Tensor | None = getattr(prediction, target)
    if found is None:
        raise ValueError(f"no prediction for target {target!r}")
    error = found.double() - getattr(batch, target)
    weights = batch.weight
    if target == "polarization":
        error = modulo_quantum(error, batch.graph.cells.double())
    if target == "born_charges":
        weights = weights.index_select(0, batch.graph.structure)
    return _masked(error.flatten(1), getattr(batch, f"has_{target}"), weights, batch.labels[target])


def _masked(values: Tensor, mask: Tensor, weights: Tensor, rows: int) -> Residual:
    kept = torch.where(mask.unsqueeze(1), values, torch.zeros_like(values))
    return Residual(kept, weights.unsqueeze(1), rows * values.shape[1])


def mse(error: Tensor, _: float) -> Tensor:
    """Squares of the components."""
    return error.square()


def mae(error: Tensor, _: float) -> Tensor:
    """Absolute values of the components."""
    return error.abs()


def huber(error: Tensor, delta: float) -> Tensor:
    """½ e² below δ and δ (|e| − ½ δ) above (P. J. Huber, Ann. Math. Stat. 35, 73 (1964))."""
    return torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def l2mae(error: Tensor, _: float) -> Tensor:
    """Lengths of the rows: the mean length of the error vectors does not depend on the axes."""
    return torch.linalg.vector_norm(error, dim=1, keepdim=True)


NORMS: dict[str, Callable[[Tensor, float], Tensor]] = {"mse": mse, "mae": mae, "huber": huber, "l2mae": l2mae}
_COLUMNS = {"energy": 1, "forces": 3, "stress": 9, "polarization": 3, "born_charges": 9, "polarizability": 9}


class Term(Protocol):
    """A sum over labels and a count."""

    @property
    def label(self) -> str | None:
        """The label that some frame must carry; None for what the run itself makes."""

    def weight(self, progress: float) -> float:
        """Factor of the term when this share of the run is over."""

    def count(self, batch: Batch) -> int:
        """How many values the term averages over in this batch."""

    def sum(self, prediction: Prediction, batch: Batch) -> Tensor:
        """Weighted sum over these values, a float64 scalar."""


@dataclass(frozen=True)
class LossTerm:
    """One term (target, weight, norm)."""

    settings: LossTermSettings

    @property
    def label(self) -> str | None:
        """The label it compares with."""
        return self.settings.target

    def weight(self, progress: float) -> float:  # noqa: ARG002
        """The factor of the settings, never changed."""
        return self.settings.weight

    def count(self, batch: Batch) -> int:
        """How many values the term averages over in this batch."""
        columns = 1 if self.settings.norm == "l2mae" else _COLUMNS[self.settings.target]
        return columns * batch.labels[self.settings.target]

    def sum(self, prediction: Prediction, batch: Batch) -> Tensor:
        """Weighted sum of the norms of the errors, a float64 scalar."""
        error = residual(self.settings.target, prediction, batch, per_atom=self.settings.per_atom)
        return (error.weights * NORMS[self.settings.norm](error.values, self.settings.delta)).sum()


@dataclass(frozen=True)
class DenoisingTerm:
    """Mean square of the error of the noise, in units of σ, over the components of the atoms that were moved."""

    settings: DensSettings

    @property
    def label(self) -> str | None:
        """None: the noise is the run's own."""
        return None

    def weight(self, progress: float) -> float:
        """Falls linearly to zero where the settings say so."""
        return self.settings.weight * (1.0 - min(progress, 1.0) if self.settings.decay else 1.0)

    def count(self, batch: Batch) -> int:
        """Three for each atom that was moved."""
        return 3 * batch.labels["noise"]

    def sum(self, prediction: Prediction, batch: Batch) -> Tensor:
        """Σ w_f |noise − label|²."""
        if prediction.noise is None:
            return torch.zeros((), dtype=torch.float64, device=batch.noise.device)
        weights = batch.weight.index_select(0, batch.graph.structure)
        error = _masked(prediction.noise.double() - batch.noise, batch.corrupted, weights, batch.labels["noise"])
        return (error.weights * error.values.square()).sum()


@dataclass(frozen=True)
class AnisotropyTerm:
    """Σ |θ_l| over the irreps: each is let go as a whole where the data do not ask for it."""

    settings: AnisotropySettings

    @property
    def label(self) -> str | None:
        """None: it compares with no label."""
        return None

    def weight(self, progress: float) -> float:  # noqa: ARG002
        """The penalty of the settings."""
        return self.settings.penalty

    def count(self, batch: Batch) -> int:  # noqa: ARG002
        """One, in each process that has a batch."""
        return 1

    def sum(self, prediction: Prediction, batch: Batch) -> Tensor:
        """Σ |θ_l|; zero outside training."""
        if prediction.anisotropy is None:
            return torch.zeros((), dtype=torch.float64, device=batch.weight.device)
        return prediction.anisotropy.double().sum()


@dataclass(frozen=True)
class Loss:
    """The whole loss: the terms whose weight is not zero."""

    terms: tuple[Term, ...]

    @classmethod
    def from_settings(
        cls,
        settings: Sequence[LossTermSettings],
        dens: DensSettings | None = None,
        anisotropy: AnisotropySettings | None = None,
    ) -> Loss:
        """The terms as given, that of the auxiliary task, and the penalty of relaxed weights."""
        auxiliary: list[Term] = [] if dens is None else [DenoisingTerm(dens)]
        if anisotropy is not None and anisotropy.source == "learned" and anisotropy.penalty > 0:
            auxiliary.append(AnisotropyTerm(anisotropy))
        return cls((*(LossTerm(term) for term in settings if term.weight > 0), *auxiliary))

    @property
    def targets(self) -> set[str]:
        """Labels that the loss needs."""
        return {term.label for term in self.terms if term.label is not None}

    def counts(self, batch: Batch) -> list[int]:
        """Values per term in this batch; to be summed over processes before the division."""
        return [term.count(batch) for term in self.terms]

    def sums(self, prediction: Prediction, batch: Batch) -> list[Tensor]:
        """Weighted sums per term."""
        return [term.sum(prediction, batch) for term in self.terms]

    def total(self, sums: Sequence[Tensor], counts: Sequence[float], progress: float = 0.0) -> Tensor:
        """Σ weight · sum / count; a term without a label in the batch adds nothing."""
        factors = self.factors(counts, progress)
        return torch.stack([factor * value for factor, value in zip(factors, sums, strict=True)]).sum()

    def factors(self, counts: Sequence[float], progress: float = 0.0) -> list[float]:
        """Weight over count of each term."""
        return [t.weight(progress) / max(count, 1.0) for t, count in zip(self.terms, counts, strict=True)]
