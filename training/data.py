"""From labelled frames to batches: graphs within a budget, labels with masks, an order that can be taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlip.datasets.frame import RESPONSE, LabelledFrame
from mlip.datasets.progress import slowly
from mlip.errors import InputError
from mlip.graph import AtomicGraph, batch_graphs, build_graph
from mlip.surroundings import MEND_FRAME, NO_FRAME
from mlip.training.coverage import Coverage

_OVERHEAD = 256  # bytes of a small tensor beside its numbers


@dataclass(frozen=True)
class Batch:
    """Graphs and labels of several frames. A label that is missing or NaN is 0 here, and masked.

    Attributes:
        graph: All structures as one graph of N atoms in B structures.
        energy: (B,), total energy, eV, float64 (−30 000 eV must not lose digits).
        forces: (N, 3), eV/Å, float64.
        stress: (B, 3, 3), eV/Å³, float64, ASE sign.
        has_energy: (B,) bool.
        has_forces: (N,) bool: all three components are there.
        has_stress: (B,) bool.
        weight: (B,), weight of each frame in the loss.
        num_atoms: (B,), atoms in each frame.
        corrupted: (N,) bool, atoms that were moved by noise; they have no force label, though ``forces`` keeps it.
        noise: (N, 3), how far they were moved in units of σ, float64; 0 elsewhere.
        polarization: (B, 3), dipole of the molecule or cell, e Å, float64.
        born_charges: (N, 3, 3), e, float64.
        polarizability: (B, 3, 3), e Å²/V, float64.
        has_polarization: (B,) bool.
        has_born_charges: (N,) bool.
        has_polarizability: (B,) bool.
        labels: How many frames (energy, stress) or atoms (forces, noise) carry each label.
        frames: Index of each frame in its set.
    """

    graph: AtomicGraph
    energy: Tensor
    forces: Tensor
    stress: Tensor
    has_energy: Tensor
    has_forces: Tensor
    has_stress: Tensor
    weight: Tensor
    num_atoms: Tensor
    corrupted: Tensor
    noise: Tensor
    polarization: Tensor
    born_charges: Tensor
    polarizability: Tensor
    has_polarization: Tensor
    has_born_charges: Tensor
    has_polarizability: Tensor
    labels: dict[str, int]
    frames: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        tensors: dict[str, Any] = {name: getattr(self, name).to(device) for name in _TENSORS}
        return replace(self, graph=self.graph.to(device=device), **tensors)


_TENSORS = (
    *("energy", "forces", "stress", "has_energy", "has_forces", "has_stress"),
    *("weight", "num_atoms", "corrupted", "noise"),
    *RESPONSE,
    *(f"has_{name}" for name in RESPONSE),
)


def collate(samples: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    if len(samples) == 1:
        return samples[0]
    return Batch(
        graph=batch_graphs([s.graph for s in samples]),
        labels={key: sum(s.labels[key] for s in samples) for key in samples[0].labels},
        frames=tuple(frame for s in samples for frame in s.frames),
        **{name: torch.cat([getattr(s, name) for s in samples]) for name in _TENSORS},
    )


def sample(frame: LabelledFrame, graph: AtomicGraph, index: int) -> Batch:
    """One frame as a batch of its own."""
    count = len(frame.atoms)
    energy, has_energy = _label(frame.energy, (1,))
    forces, has_forces = _label(frame.forces, (count, 3))
    stress, has_stress = _label(frame.stress, (1, 3, 3))
    shapes = {"polarization": (1, 3), "born_charges": (count, 3, 3), "polarizability": (1, 3, 3)}
    response = {name: _label(frame.response(name), shape) for name, shape in shapes.items()}
    return Batch(
        graph=graph,
        energy=energy,
        forces=forces,
        stress=stress,
        has_energy=has_energy,
        has_forces=has_forces,
        has_stress=has_stress,
        weight=torch.tensor([float(frame.weight)], dtype=torch.float64),
        num_atoms=torch.tensor([count], dtype=torch.float64),
        corrupted=torch.zeros(count, dtype=torch.bool),
        noise=torch.zeros(count, 3, dtype=torch.float64),
        labels={
            "energy": int(has_energy.sum()),
            "forces": int(has_forces.sum()),
            "stress": int(has_stress.sum()),
            "noise": 0,
            **{name: int(mask.sum()) for name, (_, mask) in response.items()},
        },
        frames=(index,),
        **{name: value for name, (value, _) in response.items()},
        **{f"has_{name}": mask for name, (_, mask) in response.items()},
    )


def _label(value: object, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The label with missing entries set to 0, and the mask of the rows that are whole."""
    if value is None:
        return torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[0], dtype=torch.bool)
    array = torch.as_tensor(np.array(value, dtype=np.float64).reshape(shape))
    whole = torch.isfinite(array.flatten(1) if array.dim() > 1 else array.unsqueeze(1)).all(dim=1)
    mask = whole.reshape(-1, *[1] * (array.dim() - 1))
    return torch.where(mask, array, torch.zeros_like(array)), whole


class Samples(Sequence[Batch]):
    """Frames as batches of one; as many as a budget allows are kept, the others are built when they are asked for.

    An epoch asks for each frame once and in random order, so that which ones are kept does not matter.

    Args:
        first: All of them in order, once.
        build: From an index to the batch; the same each time, bit for bit.
        count: Number of frames.
        budget: Memory of what is kept, bytes.
        title: Of the progress bar.

    Attributes:
        num_edges: (count,), edges of each frame.
        num_atoms: (count,).
    """

    def __init__(
        self, first: Iterable[Batch], build: Callable[[int], Batch], count: int, budget: float, title: str
    ) -> None:
        self._build, self._kept = build, dict[int, Batch]()
        self.num_edges, self.num_atoms = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        for index, item in enumerate(slowly(first, title, total=count)):
            self.num_edges[index], self.num_atoms[index] = item.graph.num_edges, item.graph.num_atoms
            budget -= memory_of(item)
            if budget >= 0:
                self._kept[index] = item

    def __len__(self) -> int:
        return len(self.num_edges)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        position = range(len(self))[index]
        kept = self._kept.get(position)
        return self._build(position) if kept is None else kept


def memory_of(batch: Batch) -> int:
    """Bytes of a batch's tensors, and of the objects around them."""
    tensors = [value for part in (batch, batch.graph) for value in vars(part).values() if isinstance(value, Tensor)]
    return sum(tensor.nbytes + _OVERHEAD for tensor in tensors)


class FrameSet:
    """Labelled frames with their graphs.

    Args:
        name: What messages call the set.
        frames: The frames: a list, or a view of a cache, from which each is read when its graph is built.
        cutoff: Å.
        species: Chemical symbols in the order of the potential.
        dtype: Precision of the graphs.
        memory: Bytes of graphs that are kept; those of the other frames are built again when they are needed.

    Attributes:
        coverage: The distances, volumes and energies of the frames.

    Raises:
        InputError: A frame that cannot be made a graph, named by its file and index.
    """

    def __init__(
        self,
        name: str,
        frames: Sequence[LabelledFrame],
        *,
        cutoff: float,
        species: Sequence[str],
        dtype: torch.dtype,
        memory: float = math.inf,
    ) -> None:
        self.name, self.frames = name, frames
        self._options: dict[str, Any] = {"cutoff": cutoff, "species": species, "dtype": dtype}
        self.coverage = Coverage(species)
        self.samples = Samples(self._first(), self._sample, len(self.frames), memory, f"neighbours in {name}")

    def _first(self) -> Iterator[Batch]:
        """All samples in the order in which a file gives its frames fastest."""
        for index, frame in enumerate(self.frames):
            item = self._of(frame, index)
            self.coverage.add(frame, item.graph)
            yield item

    def _sample(self, index: int) -> Batch:
        return self._of(self.frames[index], index)

    def _of(self, frame: LabelledFrame, index: int) -> Batch:
        try:
            return sample(frame, self.graph(frame.atoms), index)
        except InputError as error:
            raise InputError(error.problem, file=frame.file, frame=frame.index, mend=error.mend) from None

    def __len__(self) -> int:
        return len(self.samples)

    def graph(self, atoms: Atoms) -> AtomicGraph:
        """The graph of a structure, as those of the frames are."""
        return build_graph(atoms, **self._options)

    def require_frames(self) -> None:
        """See that every structure says how it lies in the laboratory.

        Raises:
            InputError: One does not, named by its file and index.
        """
        for frame, item in zip(self.frames, self.samples, strict=True):
            if item.graph.frames is None:
                raise InputError(NO_FRAME, file=frame.file, frame=frame.index, mend=MEND_FRAME)

    def batch(self, indices: Sequence[int], device: torch.device) -> Batch:
        """The frames of these indices as one batch."""
        return collate([self.samples[i] for i in indices]).to(device)

    def packs(self, max_edges: int) -> Iterator[list[int]]:
        """Consecutive frames, as many at a time as ``max_edges`` allows (at least one): evaluation batches."""
        pack: list[int] = []
        edges = 0
        for index, more in enumerate(self.samples.num_edges.tolist()):
            if pack and edges + more > max_edges:
                yield pack
                pack, edges = [], 0
            pack.append(index)
            edges += more
        if pack:
            yield pack


@dataclass(frozen=True)
class Sampler:
    """The order of the training frames: epoch k is one permutation, drawn from (seed, k) alone.

    Because nothing but the epoch's number enters, an interrupted run takes up the order where it left it. A
    set that the batch size does not divide is cut into batches whose sizes differ by at most one frame.
    """

    num_frames: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-self.num_frames // self.batch_size)

    def epoch(self, number: int) -> list[list[int]]:
        """All batches of an epoch."""
        order = np.random.default_rng([self.seed, number]).permutation(self.num_frames)
        return [part.tolist() for part in np.array_split(order, self.steps_per_epoch)]
