"""From the named values of a file to labels: shapes, units, signs, and masks for what is not a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.datasets.boxes import cell_problem, set_boundaries
from mlip.datasets.frame import Array, LabelledFrame, full_stress
from mlip.datasets.raw import RawFrame
from mlip.datasets.units import Units
from mlip.errors import InputError

# Extra labels: name in the files → our name. Tensors are row-major.
_EXTRA = {
    "polarization": "polarization", "dipole": "dipole", "polarizability": "polarizability",
    "dielectric_tensor": "dielectric", "dielectric": "dielectric", "eps": "dielectric", "epsilon": "dielectric",
    "becs": "born_charges", "born_charge": "born_charges", "born_charges": "born_charges",
    "born_effective_charges": "born_charges", "magmom": "magmom", "magmoms": "magmoms", "charges": "charges",
    "theory": "theory",
}  # fmt: skip
_TENSORS = {"polarizability", "dielectric", "frame"}
_VOLUME_LABELS = ("stress", "virial")


@dataclass
class LabelReader:
    """Turns the raw frames of one file into labelled frames.

    Attributes:
        file: The file, for messages.
        keys: Label → name in the file.
        units: The file's units.
        sign: +1 for ASE's sign of the stress, −1 for the pressure-like one.
        pbc: None to keep what the file says.
        weight: Factor on every frame's weight.
        masked: Counts the labels dropped because they are NaN or Inf.
        notes: Remarks, with how often each was made.
    """

    file: Path
    keys: dict[str, str]
    units: Units
    sign: float = 1.0
    pbc: bool | None = None
    weight: float = 1.0
    masked: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def __call__(self, raw: RawFrame) -> LabelledFrame:
        """One labelled frame.

        Raises:
            InputError: A label of the wrong shape or kind, or a geometry that is not one.
        """
        atoms = self._geometry(raw)
        return LabelledFrame(
            atoms=atoms,
            energy=self._label("energy", raw, _scalar),
            forces=self._label("forces", raw, _vectors),
            stress=self._stress(raw, atoms),
            hessian=self._label("hessian", raw, _square),
            weight=self._weight(raw),
            config_type=self._config_type(raw),
            file=self.file,
            index=raw.index,
            info=self._extra(raw),
        )

    def _fail(self, problem: str, raw: RawFrame, key: str | None = None, mend: str | None = None) -> InputError:
        return InputError(problem, file=self.file, frame=raw.index, key=key, mend=mend)

    def _geometry(self, raw: RawFrame) -> Atoms:
        atoms = raw.atoms
        if len(atoms) == 0:
            raise self._fail("has no atoms", raw)
        if not np.isfinite(atoms.positions).all() or not np.isfinite(np.asarray(atoms.cell)).all():
            raise self._fail("positions or cell hold NaN or Inf", raw)
        if (atoms.numbers < 1).any() or (atoms.numbers > 118).any():
            raise self._fail("holds an atom that is not an element", raw)
        if self.units.length != 1:
            atoms.set_cell(atoms.cell * self.units.length)
            atoms.positions *= self.units.length
        set_boundaries(atoms, self.pbc)
        problem = cell_problem(atoms)
        if problem is not None:
            raise self._fail(problem, raw, mend="--no-pbc if it is a molecule")
        labels = set(self.keys.values())
        for name in labels & set(atoms.arrays):
            del atoms.arrays[name]
        atoms.info = {k: v for k, v in atoms.info.items() if k not in labels}
        if "frame" in atoms.info:
            atoms.info["frame"] = self._tensor(atoms.info["frame"], raw, "frame")
        return atoms

    def _label(self, target: str, raw: RawFrame, shape: Callable[[Array, int], Array | None]) -> Any:
        """The label in our units, or None when it is missing or not finite."""
        name = self.keys.get(target)
        if name is None or name not in raw.values or raw.values[name] is None:
            return None
        shaped = shape(self._numbers(raw, name, target), len(raw.atoms))
        if shaped is None:
            problem = f"{target} of shape {np.shape(raw.values[name])} for {len(raw.atoms)} atoms"
            raise self._fail(problem, raw, name)
        if not np.isfinite(shaped).all():
            self.masked[target] += 1
            return None
        value = shaped * getattr(self.units, target)
        return float(value) if target == "energy" else value

    def _numbers(self, raw: RawFrame, name: str, target: str) -> Array:
        value = raw.values[name]
        array = np.asarray(value) if not isinstance(value, str | bool | dict) else np.array("")
        if array.dtype.kind not in "iuf":
            raise self._fail(f"{target} is not a number: {str(value)[:40]!r}", raw, name)
        return array.astype(np.float64)

    def _stress(self, raw: RawFrame, atoms: Atoms) -> Array | None:
        """Symmetric (3, 3) stress in ASE's sign; of three-dimensional crystals only."""
        target = next((name for name in _VOLUME_LABELS if name in self.keys), None)
        if target is None or self.keys[target] not in raw.values:
            return None
        if not atoms.pbc.all():
            self.notes["stress of structures that are not periodic in three directions left out"] += 1
            return None
        stress: Array | None = self._label(target, raw, _tensor_3x3)
        if stress is None:
            return None
        stress = self.sign * (stress if target == "stress" else -stress / atoms.cell.volume)
        if np.abs(stress - stress.T).max() > 0.01 * np.abs(stress).max():
            self.notes["stress is not symmetric by more than 1 %: its symmetric part is taken"] += 1
        return (stress + stress.T) / 2

    def _weight(self, raw: RawFrame) -> float:
        name = self.keys.get("weight")
        if name is None or name not in raw.values:
            return self.weight
        own = _scalar(self._numbers(raw, name, "weight"), 1)
        if own is None or not np.isfinite(own) or own < 0:
            raise self._fail("is not a weight", raw, name, mend="a number, not negative")
        return self.weight * float(own)

    def _config_type(self, raw: RawFrame) -> str | None:
        name = self.keys.get("config_type")
        value = None if name is None else raw.values.get(name)
        return None if value is None else str(value)

    def _extra(self, raw: RawFrame) -> dict[str, Any]:
        """Other labels, tensors as 3×3, whatever the calculator stored beside the known ones."""
        taken = set(self.keys.values())
        names = {name: _EXTRA.get(name.lower(), name) for name in raw.values if name not in taken}
        wanted = {old: new for old, new in names.items() if old.lower() in _EXTRA or old in raw.results}
        extra = {}
        for old, new in wanted.items():
            value = raw.values[old]
            if new in _TENSORS:
                value = self._tensor(value, raw, old)
            elif new == "born_charges":
                value = np.asarray(value, dtype=float).reshape(len(raw.atoms), 3, 3)
            extra[new] = value
        return extra

    def _tensor(self, value: Any, raw: RawFrame, name: str) -> Array:
        """(3, 3) from nine numbers in row-major order."""
        array = np.asarray(value)
        if array.size != 9 or array.dtype.kind not in "iuf":
            raise self._fail("is not a 3×3 matrix", raw, name)
        return np.ascontiguousarray(array, dtype=np.float64).reshape(3, 3)


def _scalar(value: Array, _atoms: int) -> Array | None:
    return value.reshape(()) if value.size == 1 else None


def _vectors(value: Array, atoms: int) -> Array | None:
    return value.reshape(atoms, 3).copy() if value.size == 3 * atoms else None


def _square(value: Array, atoms: int) -> Array | None:
    if value.shape == (atoms, 3, atoms, 3) or (value.size == 9 * atoms * atoms and value.ndim < 3):
        return value.reshape(3 * atoms, 3 * atoms)
    if value.shape == (atoms, atoms, 3, 3):
        return value.transpose(0, 2, 1, 3).reshape(3 * atoms, 3 * atoms)
    return None


def _tensor_3x3(value: Array, _atoms: int) -> Array | None:
    return full_stress(value) if value.size in (6, 9) else None
