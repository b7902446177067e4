"""Frames worth labelling, kept while a run goes on: where a committee disagrees, or the training ranges are left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from mlip.errors import InputError


class Harvest:
    """Called at every logged step; writes the structures that the model should not be trusted with.

    A structure is kept when the largest |σ(F)| of an atom exceeds the threshold, or a range in the model's header
    is left; then none is kept for a while, because neighbours in time teach little. The file is extended XYZ
    without labels: they are for a first-principles code to compute.

    Args:
        path: The file; frames are added to what is there.
        calculator: Ours: one model (ranges alone) or a committee.
        threshold: eV/Å, of the largest force disagreement, calibrated where the calculator is.
        gap: Calls to wait after a frame was kept.
        most: Frames kept at most, so that a run that has gone astray fills no disk.

    Raises:
        InputError: The threshold is not positive, or the calculator has neither members nor ranges.
    """

    def __init__(self, path: Path, calculator: Any, threshold: float, *, gap: int = 20, most: int = 500) -> None:
        if not threshold > 0:
            raise InputError("the threshold must be positive", key="harvest", mend="such as 0.1, in eV/Å")
        self.path, self.calculator, self.threshold = path, calculator, threshold
        self.gap, self.most = gap, most
        self.kept = 0
        self._committee = len(getattr(calculator, "potentials", [])) > 1
        self._wait = 0
        if not self._committee and not getattr(getattr(calculator, "ranges", None), "ranges", None):
            raise InputError("harvesting needs a committee, or a model that knows its training ranges", key="harvest")

    def __call__(self, atoms: Atoms) -> None:
        """Keep the structure when there is a reason to."""
        self._wait -= 1
        if self._wait >= 0 or self.kept >= self.most:
            return
        spread = force_disagreement(atoms, self.calculator) if self._committee else 0.0
        reasons = list(self.calculator.range_violations(atoms))
        if spread > self.threshold:
            reasons.insert(0, f"the committee's forces differ by {spread:.3g} eV/Å")
        if reasons:
            self._keep(atoms, "; ".join(reasons), spread)

    def _keep(self, atoms: Atoms, reason: str, spread: float) -> None:
        frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info = {"config_type": "harvested", "harvest_reason": reason, "forces_std_max": spread}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        ase.io.write(self.path, frame, format="extxyz", append=True)
        self.kept += 1
        self._wait = self.gap

    @property
    def line(self) -> str:
        """What was kept, for people."""
        full = " (no more were taken)" if self.kept >= self.most else ""
        return f"{self.kept} frames harvested above {self.threshold:g} eV/Å or outside the training data{full}"


def force_disagreement(atoms: Atoms, calculator: Any) -> float:
    """Largest length over the atoms of a committee's force standard deviation, eV/Å."""
    return float(np.linalg.norm(calculator.get_property("forces_std", atoms), axis=1).max())
