"""The loss on the curvature: random questions to labels in each step, and the errors of whole matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ase.units
import numpy as np
import torch
from torch import Tensor

from mlip.bloch import BlochHessian
from mlip.derivatives import hessian
from mlip.potential import Potential
from mlip.training.curvature import Answers, MatrixTarget, Question, Target, answer
from mlip.training.data import FrameSet
from mlip.training.loss import NORMS
from mlip.training.task_settings import HessianSettings

THZ = 1000 * ase.units.fs / (2 * np.pi)  # √(eV/Å²/amu) is 1/ase's unit of time
_FIXED_PROBES = 4


@dataclass(frozen=True)
class CurvatureLoss:
    """weight × Σ w φ(prediction − label) / count over the questions of a step.

    Attributes:
        settings: The section `hessian`.
        targets: Labels; each is asked equally often.
        fixed: Labels whose errors are logged.
        seed: With a step's number it fixes the questions of that step, so that no random state is kept.
        of_frames: Labels by the index of their training frame, where these are all there are: then every frame
            of a batch that has one is probed, and `targets` are not drawn from.
    """

    settings: HessianSettings
    targets: Sequence[Target]
    fixed: Sequence[Target]
    seed: int
    of_frames: Mapping[int, MatrixTarget] | None = None

    def active(self, progress: float, minutes: float) -> bool:
        """Whether the second stage has begun."""
        late = self.settings.start_minutes
        return progress >= self.settings.start if late is None else minutes >= late

    def draw_for(self, step: int, frames: Sequence[int]) -> list[Question]:
        """One random probe for each of these training frames that carries a Hessian."""
        labels = self.of_frames or {}
        return [
            labels[k].draw(np.random.default_rng([self.seed, 5, step, k]), self.settings.probes)
            for k in frames
            if k in labels
        ]

    def draw(self, step: int) -> list[Question]:
        """The questions of a step: labels in the order of one permutation after another, random probes."""
        first = step * self.settings.per_step
        return [self._question(number) for number in range(first, first + self.settings.per_step)]

    def _question(self, number: int) -> Question:
        cycle, place = divmod(number, len(self.targets))
        order = np.random.default_rng([self.seed, 2, cycle]).permutation(len(self.targets))
        return self.targets[order[place]].draw(np.random.default_rng([self.seed, 3, number]), self.settings.probes)

    def count(self, questions: Sequence[Question]) -> int:
        """How many values the term averages over; to be summed over processes."""
        lengths = self.settings.norm == "l2mae"
        return sum(atoms if lengths else atoms * numbers for atoms, numbers in (q.rows for q in questions))

    def value(self, model: Potential, questions: Sequence[Question], count: float) -> Tensor:
        """The term, differentiable by the parameters; a float64 scalar.

        Args:
            model: The model.
            questions: This process's questions, at least one.
            count: Values over all processes.
        """
        return self.total(answer(model, questions, create_graph=True), count)

    def total(self, found: Answers, count: float) -> Tensor:
        """The term from what the model answered."""
        sums = [q.weight * self._norm(error) for q, error in zip(found.questions, found.errors, strict=True)]
        return self.settings.weight * torch.stack(sums).sum() / max(count, 1.0)

    def _norm(self, error: Tensor) -> Tensor:
        return NORMS[self.settings.norm](error, 0.0).sum()

    def validate(self, model: Potential) -> tuple[float, dict[str, float]]:
        """The term on the fixed labels, with the same probes each time, and the errors of the whole matrices.

        Returns:
            weight × value, and ``hessian_loss`` (the value), ``hessian_mae_meV_per_A2``, ``frequency_mae_THz``.
        """
        model.eval()
        total, count, errors = 0.0, 0, _MatrixErrors()
        for number, target in enumerate(self.fixed):
            if isinstance(target, MatrixTarget):
                error = errors.add(model, target)
                rows = [self._fixed_error(target, error, [number, k]) for k in range(_FIXED_PROBES)]
            else:
                question = target.draw(np.random.default_rng(0), self.settings.probes)
                rows = answer(model, [question]).errors
            total += target.weight * sum(float(self._norm(row.detach())) for row in rows)
            count += sum(len(row) if self.settings.norm == "l2mae" else row.numel() for row in rows)
        value = total / max(count, 1)
        return self.settings.weight * value, {"hessian_loss": value, **errors.metrics()}

    def _fixed_error(self, target: MatrixTarget, error: Tensor, key: Sequence[int]) -> Tensor:
        """Error of H(q)·v for a probe that is the same each time: the error of the matrix times v."""
        wave = target.draw(np.random.default_rng([self.seed, 4, *key]), self.settings.probes)
        rows = (error @ wave.vector.flatten()).view(-1, 3)
        return torch.view_as_real(rows).flatten(1) if rows.is_complex() else rows

    def validation_cost(self, train: FrameSet) -> float:
        """What one validation costs, in forces of one average training frame; a product costs two force calls."""
        edges = float(train.samples.num_edges.mean())
        matrices = [target for target in self.fixed if isinstance(target, MatrixTarget)]
        products = sum(len(t.matrix) * t.graph.num_edges * (4 if t.matrix.is_complex() else 2) for t in matrices)
        return products / max(edges, 1.0)


class _MatrixErrors:
    """Mean absolute errors of matrix elements and of frequencies over several labels."""

    def __init__(self) -> None:
        self._elements: list[Tensor] = []
        self._frequencies: list[Tensor] = []

    def add(self, model: Potential, target: MatrixTarget) -> Tensor:
        """The error of the model's matrix, (3n, 3n), eV/Å², float64 or complex128."""
        found = whole_matrix(model, target)
        error = found - target.matrix
        self._elements.append(error.abs().flatten())
        ours, theirs = (frequencies(matrix, target.masses) for matrix in (found, target.matrix))
        self._frequencies.append((ours - theirs).abs())
        return error

    def metrics(self) -> dict[str, float]:
        """meV/Å² and THz; nothing where there was no matrix."""
        if not self._elements:
            return {}
        return {
            "hessian_mae_meV_per_A2": 1000.0 * float(torch.cat(self._elements).mean()),
            "frequency_mae_THz": float(torch.cat(self._frequencies).mean()),
        }


def whole_matrix(model: Potential, target: MatrixTarget) -> Tensor:
    """The model's Hessian or H(q) for a label, on the CPU, float64 or complex128."""
    graph = target.graph.to(device=model.device, dtype=model.dtype)
    if not target.matrix.is_complex() and not bool(target.q.any()):
        return hessian(model, graph).detach().cpu().double()
    found = BlochHessian(model, graph)(target.q.to(graph.positions)).detach().cpu()
    return found.to(torch.complex128) if target.matrix.is_complex() else found.real.double()


def frequencies(matrix: Tensor, masses: Tensor) -> Tensor:
    """Signed √ of the eigenvalues of m^−½ H m^−½, THz, rising; imaginary ones negative."""
    inverse = masses.rsqrt().repeat_interleave(3)
    weighted = inverse.unsqueeze(1) * ((matrix + matrix.mH) / 2) * inverse
    values = torch.linalg.eigvalsh(weighted)
    return values.sign() * values.abs().sqrt() * THZ
