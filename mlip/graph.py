"""From atoms to a graph: who neighbours whom, through which periodic image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from vesin import NeighborList

from mlip.errors import InputError
from mlip.surroundings import field_of, frame_of, tensor_of


@dataclass(frozen=True)
class AtomicGraph:
    """One or several structures as tensors. An edge runs from a source (sender) to a target (receiver).

    Attributes:
        positions: (N, 3), Å.
        species: (N,), index into the potential's species.
        source: (E,), the sending atom of each edge.
        target: (E,), the receiving atom of each edge.
        shifts: (E, 3), how many cells each edge crosses, integers held in the dtype of ``positions``.
        cells: (B, 3, 3), rows are lattice vectors, Å; zero for a structure without a cell.
        structure: (N,), the structure each atom belongs to.
        frames: (B, 3, 3), laboratory → structure, v_structure = frame @ v_lab; None unless all structures have one.
        electric_fields: (B, 3), V/Å, in each structure's axes; None where no structure is in a field.
        breaking_tensors: (B, D), components of the tensor that each structure is handed; None where none is.
    """

    positions: Tensor
    species: Tensor
    source: Tensor
    target: Tensor
    shifts: Tensor
    cells: Tensor
    structure: Tensor
    frames: Tensor | None = None
    electric_fields: Tensor | None = None
    breaking_tensors: Tensor | None = None

    @property
    def num_atoms(self) -> int:
        """Atoms in all structures."""
        return self.positions.shape[0]

    @property
    def num_edges(self) -> int:
        """Directed edges in all structures."""
        return self.source.shape[0]

    @property
    def num_structures(self) -> int:
        """Structures in the batch."""
        return self.cells.shape[0]

    @property
    def edge_structure(self) -> Tensor:
        """(E,), the structure each edge belongs to."""
        return self.structure.index_select(0, self.target)

    @property
    def volumes(self) -> Tensor:
        """(B,), cell volumes, Å³; zero without a cell."""
        return torch.linalg.det(self.cells).abs()

    def edge_vectors(self) -> Tensor:
        """(E, 3), from target to source through the image that the edge crosses: x_src + S·h − x_dst, Å."""
        vectors = self.positions.index_select(0, self.source) - self.positions.index_select(0, self.target)
        if self.num_structures == 1:
            return vectors + self.shifts @ self.cells[0]
        cells = self.cells.index_select(0, self.edge_structure)
        return vectors + torch.bmm(self.shifts.unsqueeze(1), cells).squeeze(1)

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> AtomicGraph:
        """The same graph elsewhere, or in another precision."""
        move = {"device": device or self.positions.device}
        real = {name: getattr(self, name).to(dtype=dtype, **move) for name in ("positions", "shifts", "cells")}
        index = {name: getattr(self, name).to(**move) for name in ("species", "source", "target", "structure")}
        given = {name: getattr(self, name) for name in SURROUNDINGS}
        around: dict[str, Any] = {
            name: None if value is None else value.to(dtype=dtype, **move) for name, value in given.items()
        }
        return replace(self, **real, **index, **around)


SURROUNDINGS = ("frames", "electric_fields", "breaking_tensors")


def neighbor_pairs(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs closer than the cutoff, periodic images of an atom with itself included.

    Args:
        atoms: The structure; any mixture of periodic directions; need not be wrapped.
        cutoff: Å.

    Returns:
        Sources (E,), targets (E,) and integer cell shifts (E, 3), in the order (target, source, shift).

    Raises:
        InputError: A position or the cell is not finite, a periodic cell has no volume, or two atoms coincide.
    """
    _check_geometry(atoms)
    finder = NeighborList(cutoff=cutoff, full_list=True, sorted=False)
    target, source, shifts, distance = finder.compute(
        points=atoms.positions, box=atoms.cell.array, periodic=atoms.pbc, quantities="ijSd"
    )
    if distance.size and distance.min() < 1e-6:
        worst = int(distance.argmin())
        raise InputError(f"atoms {target[worst]} and {source[worst]} lie on the same spot")
    source, target, shifts = source.astype(np.int64), target.astype(np.int64), shifts.astype(np.int64)
    order = _edge_order(source, target, shifts)
    return source[order], target[order], shifts[order]


def _edge_order(source: np.ndarray, target: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """What sorts edges by (target, source, shift): the same sums in the same order, whoever found the pairs."""
    if source.size == 0:
        return np.arange(0)
    lowest = shifts.min(0)
    spans = shifts.max(0) - lowest + 1
    image = (shifts - lowest) @ np.array([spans[1] * spans[2], spans[2], 1])
    return np.lexsort((image, target * (source.max() + 1) + source))


def _check_geometry(atoms: Atoms) -> None:
    if len(atoms) == 0:
        raise InputError("the structure has no atoms")
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise InputError("positions or cell are not finite")
    if atoms.pbc.any() and np.linalg.norm(atoms.cell.array[atoms.pbc], axis=1).min() < 1e-6:
        raise InputError("a periodic direction has no lattice vector", mend="set pbc to False or give a cell")
    if atoms.pbc.all() and atoms.cell.volume < 1e-6:
        raise InputError("the periodic cell has no volume")


def build_graph(
    atoms: Atoms,
    cutoff: float,
    species: Sequence[str],
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> AtomicGraph:
    """The graph of one structure.

    Args:
        atoms: The structure, Å.
        cutoff: Å.
        species: Chemical symbols in the order of the potential.
        dtype: Precision of positions, shifts and cells.
        device: Where the tensors live.

    Raises:
        InputError: An element the potential does not know, or an impossible geometry.
    """
    source, target, shifts = neighbor_pairs(atoms, cutoff)
    return graph_from_pairs(atoms, species_index(atoms, species), source, target, shifts, dtype, device)


def graph_from_pairs(
    atoms: Atoms,
    index: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    shifts: np.ndarray,
    dtype: torch.dtype,
    device: torch.device | str,
) -> AtomicGraph:
    """The graph of one structure whose neighbours are known.

    Raises:
        InputError: A frame, field or breaking tensor in ``atoms.info`` that is not one.
    """
    around = {"frames": frame_of(atoms), "electric_fields": field_of(atoms), "breaking_tensors": tensor_of(atoms)}
    given = {k: torch.as_tensor(v, dtype=dtype, device=device)[None] for k, v in around.items() if v is not None}
    return AtomicGraph(
        positions=torch.as_tensor(atoms.positions, dtype=dtype, device=device),
        species=torch.as_tensor(index, device=device),
        source=torch.as_tensor(source, device=device),
        target=torch.as_tensor(target, device=device),
        shifts=torch.as_tensor(shifts, dtype=dtype, device=device),
        cells=torch.as_tensor(atoms.cell.array, dtype=dtype, device=device).unsqueeze(0),
        structure=torch.zeros(len(atoms), dtype=torch.int64, device=device),
        **given,
    )


def species_index(atoms: Atoms, species: Sequence[str]) -> np.ndarray:
    """(N,), each atom's index into ``species``.

    Raises:
        InputError: An element is not among them.
    """
    table = {symbol: k for k, symbol in enumerate(species)}
    symbols = atoms.get_chemical_symbols()
    unknown = sorted(set(symbols) - set(table))
    if unknown:
        raise InputError(f"the potential does not know {', '.join(unknown)}; it knows {', '.join(species)}")
    return np.array([table[symbol] for symbol in symbols], dtype=np.int64)


def batch_graphs(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
    """Several graphs as one, atoms and edges in order.

    Raises:
        InputError: There is nothing to batch.
    """
    if not graphs:
        raise InputError("no structures given")
    if len(graphs) == 1:
        return graphs[0]
    atoms = np.cumsum([0] + [graph.num_atoms for graph in graphs])
    cells = np.cumsum([0] + [graph.num_structures for graph in graphs])
    return AtomicGraph(
        positions=torch.cat([graph.positions for graph in graphs]),
        species=torch.cat([graph.species for graph in graphs]),
        source=torch.cat([graph.source + int(a) for graph, a in zip(graphs, atoms, strict=False)]),
        target=torch.cat([graph.target + int(a) for graph, a in zip(graphs, atoms, strict=False)]),
        shifts=torch.cat([graph.shifts for graph in graphs]),
        cells=torch.cat([graph.cells for graph in graphs]),
        structure=torch.cat([graph.structure + int(c) for graph, c in zip(graphs, cells, strict=False)]),
        frames=_all_or_none([graph.frames for graph in graphs]),
        electric_fields=_zero_where_missing(graphs, "electric_fields"),
        breaking_tensors=_zero_where_missing(graphs, "breaking_tensors"),
    )


def _all_or_none(values: Sequence[Tensor | None]) -> Tensor | None:
    there = [value for value in values if value is not None]
    return torch.cat(there) if len(there) == len(values) else None


def _zero_where_missing(graphs: Sequence[AtomicGraph], name: str) -> Tensor | None:
    """A structure that says nothing is in no field."""
    values = [getattr(graph, name) for graph in graphs]
    first = next((value for value in values if value is not None), None)
    if first is None:
        return None
    empty = [first.new_zeros(graph.num_structures, first.shape[1]) for graph in graphs]
    return torch.cat([e if value is None else value for e, value in zip(empty, values, strict=True)])
