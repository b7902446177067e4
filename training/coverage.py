"""What the training data cover, gathered while their graphs are built: the ranges in a model's header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlip.datasets.frame import LabelledFrame
from mlip.datasets.statistics import Extremes
from mlip.graph import AtomicGraph
from mlip.ranges import describe_structure


class Coverage:
    """Smallest distances, neighbour counts, volumes and energies per atom of the frames that were added.

    Args:
        species: Chemical symbols in the order of the potential.
    """

    def __init__(self, species: Sequence[str]) -> None:
        self._species = species
        self._shortest: dict[str, float] = {}
        self._neighbors, self._volumes, self._energies = Extremes(), Extremes(), Extremes()
        self._largest: list[list[float]] | None = None

    def add(self, frame: LabelledFrame, graph: AtomicGraph) -> None:
        """Take one more frame into account."""
        seen = describe_structure(frame.atoms, graph, self._species)
        for pair, length in seen["min_distance"].items():
            self._shortest[pair] = min(length, self._shortest.get(pair, length))
        self._neighbors.add(seen["neighbors"])
        self._volumes.add([] if seen["volume"] is None else [seen["volume"]])
        known = frame.energy is not None and np.isfinite(frame.energy)
        self._energies.add([frame.energy / len(frame)] if known and frame.energy is not None else [])
        self._largest = _larger(self._largest, frame)

    @property
    def min_distance(self) -> dict[str, float]:
        """Smallest distance by pair of species, Å, ``{"O-Si": 1.6}``."""
        return dict(self._shortest)

    def to_dict(self) -> dict[str, Any]:
        """The ranges that ``mlip.ranges.TrainingRanges`` reads.

        Returns:
            ``min_distance`` {"Si-Si": Å}, and ``neighbors``, ``volume_per_atom`` (Å³, periodic frames) and
            ``energy_per_atom`` (eV, total) as [min, max]; ``largest_cell``, rows in Å, of the periodic frame with
            the largest volume; keys without data are left out.
        """
        ranges = {
            "min_distance": self.min_distance,
            "neighbors": _range(self._neighbors),
            "volume_per_atom": _range(self._volumes),
            "energy_per_atom": _range(self._energies),
            "largest_cell": self._largest,
        }
        return {key: value for key, value in ranges.items() if value}


def _larger(cell: list[list[float]] | None, frame: LabelledFrame) -> list[list[float]] | None:
    """The cell with the larger volume, of those periodic in all directions."""
    if not frame.atoms.pbc.all():
        return cell
    other = frame.atoms.cell.array
    is_larger = cell is None or abs(np.linalg.det(other)) > abs(np.linalg.det(np.array(cell)))
    return other.tolist() if is_larger else cell


def _range(extremes: Extremes) -> list[float] | None:
    return None if extremes.ends is None else list(extremes.ends)
