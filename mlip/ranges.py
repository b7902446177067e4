"""Where a potential has seen data: the ranges in a model's header, and the warning on leaving them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlip.graph import AtomicGraph


def describe_structure(atoms: Atoms, graph: AtomicGraph, species: Sequence[str]) -> dict[str, Any]:
    """Smallest distance per species pair (Å), fewest and most neighbours, volume per atom (Å³, if periodic)."""
    lengths = graph.edge_vectors().detach().double().norm(dim=1).cpu().numpy()
    kinds = graph.species.cpu().numpy()
    ends = np.sort(np.stack([kinds[graph.source.cpu()], kinds[graph.target.cpu()]]), axis=0)
    pairs = ends[0] * len(species) + ends[1]
    shortest = {}
    for pair in np.unique(pairs):
        name = "-".join(sorted((species[pair // len(species)], species[pair % len(species)])))
        shortest[name] = float(lengths[pairs == pair].min())
    counts = np.bincount(graph.target.cpu().numpy(), minlength=graph.num_atoms)
    volume = float(atoms.cell.volume) / len(atoms) if atoms.pbc.all() else None
    return {"min_distance": shortest, "neighbors": [int(counts.min()), int(counts.max())], "volume": volume}


class TrainingRanges:
    """The ranges of the training data, which a calculator can warn from.

    Args:
        ranges: ``min_distance`` {"Si-Si": Å}, ``neighbors`` [min, max], ``volume_per_atom`` [min, max] in Å³,
            ``energy_per_atom`` [min, max] in eV; any may be missing.
        slack: Fraction by which a range may be left before it counts.
    """

    def __init__(self, ranges: Mapping[str, Any], slack: float = 0.05) -> None:
        self.ranges, self.slack = ranges, slack

    def violations(self, atoms: Atoms, graph: AtomicGraph, species: Sequence[str], energy: float) -> list[str]:
        """One phrase with numbers for each range that the structure leaves."""
        if not self.ranges:
            return []
        now = describe_structure(atoms, graph, species)
        found = self._distances(now["min_distance"])
        found += self._outside("neighbors", "neighbours", now["neighbors"][0])
        found += self._outside("neighbors", "neighbours", now["neighbors"][1])
        if now["volume"] is not None:
            found += self._outside("volume_per_atom", "Å³ per atom", now["volume"])
        found += self._outside("energy_per_atom", "eV per atom", energy / len(atoms))
        return found

    def _distances(self, shortest: Mapping[str, float]) -> list[str]:
        trained = self.ranges.get("min_distance") or {}
        return [
            f"{pair} distance {length:.2f} Å (trained to {trained[pair]:.2f})"
            for pair, length in shortest.items()
            if pair in trained and length < trained[pair] * (1 - self.slack)
        ]

    def _outside(self, key: str, what: str, value: float) -> list[str]:
        limits = self.ranges.get(key)
        if not limits:
            return []
        low, high = limits
        margin = self.slack * max(abs(low), abs(high), high - low)
        if low - margin <= value <= high + margin:
            return []
        return [f"{value:.4g} {what} (trained on {low:.4g} … {high:.4g})"]
