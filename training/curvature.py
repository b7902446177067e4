"""Labels of the curvature, and the questions that are put to them: H(q)·v, and F(u) − F(0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip.bloch import bloch_hessian_vector_product
from mlip.derivatives import HessianOperator, evaluate, hessian_vector_product
from mlip.graph import AtomicGraph, batch_graphs
from mlip.potential import Potential

Array = NDArray[np.float64]
Probes = Literal["gaussian", "columns"]


@dataclass(frozen=True, eq=False)
class Wave:
    """One product H(q)·v and its label.

    Attributes:
        graph: One structure of n atoms.
        q: (3,), in fractions of its reciprocal vectors; zero for H·v of the structure itself.
        vector: (n, 3), float64; complex128 where e^{iq·R} is not real.
        label: (n, 3), H(q)·v, eV/Å².
        weight: Of its frame and file.
        name: Where the label is from.
    """

    graph: AtomicGraph
    q: Tensor
    vector: Tensor
    label: Tensor
    weight: float
    name: str

    @property
    def rows(self) -> tuple[int, int]:
        """Atoms, and numbers per atom."""
        return len(self.vector), 6 if self.vector.is_complex() else 3


@dataclass(frozen=True, eq=False)
class Difference:
    """−[F(u) − F(0)] · scale and its label: a product H·(scale u) with its exact anharmonic part.

    Attributes:
        moved: The displaced structure of n atoms.
        rest: The undisplaced one.
        label: (n, 3), eV/Å², already scaled.
        scale: Gives the displacement the length of a probe, 1/Å.
        weight: Of its file.
        name: Where the label is from.
    """

    moved: AtomicGraph
    rest: AtomicGraph
    label: Tensor
    scale: float
    weight: float
    name: str

    @property
    def rows(self) -> tuple[int, int]:
        """Atoms, and numbers per atom."""
        return len(self.label), 3


Question = Wave | Difference


@dataclass(frozen=True, eq=False)
class MatrixTarget:
    """A whole Hessian, or H(q) of a primitive cell.

    Attributes:
        graph: One structure of n atoms.
        q: (3,), zero for the Hessian of the structure itself.
        matrix: (3n, 3n), float64 where e^{iq·R} is real, else complex128, eV/Å².
        masses: (n,), amu.
        weight: Of its frame and file.
        name: Where it is from.
    """

    graph: AtomicGraph
    q: Tensor
    matrix: Tensor
    masses: Tensor
    weight: float
    name: str

    def draw(self, rng: np.random.Generator, probes: Probes) -> Wave:
        """A random probe."""
        vector = self._probe(rng, probes)
        label = (self.matrix @ vector.flatten()).view(-1, 3)
        return Wave(self.graph, self.q, vector, label, self.weight, self.name)

    def _probe(self, rng: np.random.Generator, probes: Probes) -> Tensor:
        """(n, 3): components (real and imaginary parts) of unit variance, or one column."""
        size = len(self.matrix)
        if probes == "columns":
            vector = torch.zeros(size, dtype=self.matrix.dtype)
            vector[rng.integers(size)] = 1.0
            return vector.view(-1, 3)
        parts = torch.from_numpy(rng.normal(size=(2, size // 3, 3)))
        return torch.complex(parts[0], parts[1]) if self.matrix.is_complex() else parts[0]


@dataclass(frozen=True, eq=False)
class DifferenceTarget:
    """Forces on a displaced supercell.

    Attributes:
        moved: The displaced structure.
        rest: The undisplaced one, whose labelled forces are zero.
        displacement: Length of u, Å.
        forces: (n, 3), F(u) − F(0), eV/Å.
        weight: Of its file.
        name: Where it is from.
    """

    moved: AtomicGraph
    rest: AtomicGraph
    displacement: float
    forces: Tensor
    weight: float
    name: str

    def draw(self, rng: np.random.Generator, probes: Probes) -> Difference:  # noqa: ARG002
        """Always the same: u is given. It is scaled to the length that probes of this kind have."""
        length = 1.0 if probes == "columns" else self.forces.numel() ** 0.5
        scale = length / self.displacement
        return Difference(self.moved, self.rest, -scale * self.forces, scale, self.weight, self.name)


Target = MatrixTarget | DifferenceTarget


@dataclass(frozen=True)
class Answers:
    """What a model says to questions.

    Attributes:
        errors: Prediction − label of each, (n, 3), or (n, 6) with real and imaginary parts; eV/Å², float64.
        questions: The questions, in the same order.
    """

    errors: list[Tensor]
    questions: Sequence[Question]


def answer(model: Potential, questions: Sequence[Question], *, create_graph: bool = False) -> Answers:
    """Put questions to a model: real waves, complex waves and differences each as one batch."""
    real = [q for q in questions if isinstance(q, Wave) and not q.vector.is_complex()]
    complexes = [q for q in questions if isinstance(q, Wave) and q.vector.is_complex()]
    differences = [q for q in questions if isinstance(q, Difference)]
    errors = []
    for group in (real, complexes):
        if group:
            errors += _waves(model, group, create_graph)
    if differences:
        errors += _differences(model, differences, create_graph)
    return Answers(errors, [*real, *complexes, *differences])


def answer_with(operator: HessianOperator, waves: Sequence[Wave]) -> Answers:
    """The same for H·v of all structures of a batch, whose forces are at hand: the first derivative is shared."""
    reals = operator.graph.positions
    vector, label = (torch.cat([getattr(wave, name) for wave in waves]) for name in ("vector", "label"))
    error = operator(vector.to(reals)).double() - label.to(reals.device)
    return Answers(list(error.split([len(wave.vector) for wave in waves])), list(waves))


def _waves(model: Potential, waves: Sequence[Wave], create_graph: bool) -> list[Tensor]:
    graph = batch_graphs([wave.graph for wave in waves]).to(device=model.device, dtype=model.dtype)
    q = torch.stack([wave.q for wave in waves]).to(graph.positions)
    vector = torch.cat([wave.vector for wave in waves])
    vector = vector.to(device=model.device, dtype=model.dtype.to_complex() if vector.is_complex() else model.dtype)
    if vector.is_complex() or bool(q.any()):
        found = bloch_hessian_vector_product(model, graph, q, vector, create_graph=create_graph)
    else:
        found = hessian_vector_product(model, graph, vector, create_graph=create_graph)
    label = torch.cat([wave.label for wave in waves]).to(model.device)
    error = (found if label.is_complex() else found.real) - label
    rows = torch.view_as_real(error).flatten(1) if error.is_complex() else error
    return list(rows.split([len(wave.vector) for wave in waves]))


def _differences(model: Potential, differences: Sequence[Difference], create_graph: bool) -> list[Tensor]:
    graphs = [d.moved for d in differences] + [d.rest for d in differences]
    graph = batch_graphs(graphs).to(device=model.device, dtype=model.dtype)
    moved, rest = evaluate(model, graph, create_graph=create_graph).forces.double().chunk(2)
    label = torch.cat([d.label for d in differences]).to(model.device)
    sizes = [len(d.label) for d in differences]
    scale = torch.tensor([d.scale for d in differences], dtype=torch.float64).repeat_interleave(torch.tensor(sizes))
    return list((-scale.to(model.device).unsqueeze(1) * (moved - rest) - label).split(sizes))
