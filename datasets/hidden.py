"""Hidden variables: what changes the labels between frames but is no input of the model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlip.datasets.frame import LabelledFrame
from mlip.datasets.neighbours import find_copies
from mlip.errors import InputError

# Names in files (lower case) → the quantity they state.
QUANTITIES: dict[str, tuple[str, ...]] = {
    "charge": ("charge", "total_charge", "tot_charge", "net_charge"),
    "spin": ("spin", "total_spin", "multiplicity", "spin_multiplicity", "nupdown", "ispin", "magmom", "total_magmom"),
    "k mesh": ("kpts", "kpoints", "k_points", "kmesh", "kgrid", "k_grid", "kspacing", "kpoint_grid"),
    "functional": ("xc", "functional", "xc_functional", "gga", "metagga", "method", "level", "level_of_theory",
                   "ivdw", "dispersion", "lhfcalc", "ldau", "hubbard_u"),
    "smearing": ("smearing", "sigma", "ismear", "degauss", "electronic_temperature", "smearing_width"),
    "basis": ("encut", "enmax", "ecutwfc", "ecutrho", "basis", "basis_set", "cutoff_energy"),
    "electric field": ("electric_field", "efield", "e_field", "external_field"),
}  # fmt: skip
_PER_ATOM = {
    "initial_magmoms": "magnetic moments",
    "magmoms": "magnetic moments",
    "initial_charges": "atomic charges",
}
_MOMENTS = ("magmom", "total_magmom")
_MOMENT_GAP = 0.25  # μ_B per atom between two states; within one, moments follow the atoms without such a gap


@dataclass(frozen=True)
class HiddenVariable:
    """A quantity that takes several values among the frames.

    Attributes:
        quantity: charge, spin, k mesh …
        key: The name it has in the files.
        values: Value (as text) → number of frames; ``"not stated"`` among them.
    """

    quantity: str
    key: str
    values: dict[str, int]

    def __str__(self) -> str:
        shown = ", ".join(f"{value} ({count})" for value, count in list(self.values.items())[:5])
        more = "" if len(self.values) <= 5 else f" and {len(self.values) - 5} more"
        return f"{self.quantity} varies: {self.key} = {shown}{more}"


@dataclass(frozen=True)
class NoiseFloor:
    """Spread of the labels over copies of one geometry: no model of positions alone can do better.

    Attributes:
        geometries: How many geometries occur more than once with labels.
        energy: Largest energy difference between copies, eV.
        energy_per_atom: The same per atom.
        force: Largest difference of a force component in frames with equal orientation, eV/Å; None unknown.
        examples: Names of the worst pair.
    """

    geometries: int
    energy: float
    energy_per_atom: float
    force: float | None
    examples: tuple[str, str]


@dataclass(frozen=True)
class HiddenReport:
    """Hidden variables and noise of a set."""

    variables: list[HiddenVariable] = field(default_factory=list)
    noise: NoiseFloor | None = None

    def lines(self) -> list[str]:
        """What to print; nothing when there is nothing to say."""
        found = [str(variable) for variable in self.variables]
        if self.noise is not None:
            n = self.noise
            found.append(
                f"{n.geometries} geometries occur more than once; their energies differ by up to {n.energy:.3g} eV "
                f"({1000 * n.energy_per_atom:.3g} meV/atom): the noise floor ({n.examples[0]} and {n.examples[1]})"
            )
        return found


def hidden_variables(frames: Sequence[LabelledFrame]) -> HiddenReport:
    """Quantities that vary among the frames, and the noise floor from copies of one geometry."""
    variables = [v for quantity, names in QUANTITIES.items() for v in _scan(frames, quantity, names)]
    variables += [v for name, quantity in _PER_ATOM.items() for v in _scan_atoms(frames, name, quantity)]
    return HiddenReport(variables, noise_floor(frames))


def refuse_hidden(frames: Sequence[LabelledFrame], inputs: Iterable[str] = ()) -> HiddenReport:
    """Raise when a hidden variable varies that is not among the model's inputs.

    Args:
        frames: The frames.
        inputs: Quantities or keys that the model is given.

    Raises:
        InputError: One varies.
    """
    report = hidden_variables(frames)
    known = set(inputs)
    for variable in report.variables:
        if variable.quantity not in known and variable.key not in known:
            mend = "split the set by it, or name it among the inputs"
            raise InputError(f"{variable}, and the model cannot see it", key=variable.key, mend=mend)
    return report


def _scan(frames: Sequence[LabelledFrame], quantity: str, names: tuple[str, ...]) -> list[HiddenVariable]:
    stated = [_settings(frame) for frame in frames]
    present = sorted({key for settings in stated for key in settings if key.lower() in names})
    found = []
    for key in present:
        values = [_spell(settings[key]) if key in settings else "not stated" for settings in stated]
        if key.lower() in _MOMENTS:
            per_atom = [_per_atom(settings.get(key), len(f)) for settings, f in zip(stated, frames, strict=True)]
            values = _states(per_atom)
        if _varies(values, frames, per_composition=quantity == "k mesh" and key.lower() != "kspacing"):
            found.append(HiddenVariable(quantity, key, dict(Counter(values).most_common())))
    return found


def _varies(values: list[str], frames: Sequence[LabelledFrame], *, per_composition: bool) -> bool:
    """Whether there are several values; k meshes differ rightly between cells of different size."""
    if not per_composition:
        return len(set(values)) > 1
    pairs = {(frame.composition, value) for frame, value in zip(frames, values, strict=True)}
    return len(pairs) > len({composition for composition, _ in pairs})


def _settings(frame: LabelledFrame) -> dict[str, Any]:
    theory = frame.info.get("theory", {})
    return {**frame.atoms.info, **frame.info, **(theory if isinstance(theory, dict) else {})}


def _spell(value: Any) -> str:
    """A value as text, the same for 1, 1.0 and numpy's."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return " ".join(_spell(part) for part in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.10g}"
    return str(value).strip()


def _per_atom(value: Any, atoms: int) -> float | None:
    return None if value is None else abs(float(np.ravel(value)[0])) / atoms


def _states(moments: list[float | None]) -> list[str]:
    """Magnetic states: moments per atom that a wide gap separates; within a state they move with the atoms."""
    known = np.sort([m for m in moments if m is not None])
    edges = known[1:][np.diff(known) > _MOMENT_GAP]
    names = [f"≈ {group.mean():.2f} μB/atom" for group in np.split(known, np.searchsorted(known, edges))]
    return ["not stated" if m is None else names[int(np.searchsorted(edges, m, side="right"))] for m in moments]


def _scan_atoms(frames: Sequence[LabelledFrame], name: str, quantity: str) -> list[HiddenVariable]:
    """Per-atom moments, by |Σm| and Σ|m| per atom: another pattern of one formula is another state."""
    arrays = [frame.atoms.arrays.get(name, frame.info.get(name)) for frame in frames]
    if all(array is None for array in arrays):
        return []
    groups: dict[str, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        groups[frame.composition].append(index)
    counts: Counter[str] = Counter()
    varies = False
    for composition, members in groups.items():
        sums = [_sums(arrays[i]) for i in members]
        net, size = _states([s[0] for s in sums]), _states([s[1] for s in sums])
        values = [f"{composition}: |Σm| {n}, Σ|m| {s}" for n, s in zip(net, size, strict=True)]
        varies |= len(set(values)) > 1
        counts.update(values)
    return [HiddenVariable(quantity, name, dict(counts.most_common()))] if varies else []


def _sums(array: Any) -> tuple[float | None, float | None]:
    """|Σm| and Σ|m| per atom, of collinear (N,) or non-collinear (N, 3) moments."""
    if array is None:
        return None, None
    moments = np.asarray(array, dtype=float).reshape(len(array), -1)
    net = float(np.linalg.norm(moments.sum(axis=0)))
    return net / len(moments), float(np.linalg.norm(moments, axis=1).sum()) / len(moments)


def noise_floor(frames: Sequence[LabelledFrame]) -> NoiseFloor | None:
    """The largest label difference between copies of one geometry; None without such copies.

    Differences below 1 µeV are the rounding of printed numbers.
    """
    with_energy = [frame for frame in frames if frame.energy is not None]
    numbers = find_copies(with_energy) if with_energy else np.empty(0)
    counts = Counter(numbers.tolist())
    worst: NoiseFloor | None = None
    repeated = [number for number, count in counts.items() if count > 1]
    differing = 0
    for number in repeated:
        members = [with_energy[i] for i in np.flatnonzero(numbers == number)]
        low = min(members, key=lambda f: f.energy or 0.0)
        high = max(members, key=lambda f: f.energy or 0.0)
        spread = (high.energy or 0.0) - (low.energy or 0.0)
        if spread < 1e-6:
            continue
        differing += 1
        if worst is None or spread > worst.energy:
            worst = NoiseFloor(0, spread, spread / len(low), _force_difference(low, high), (low.name, high.name))
    if worst is None:
        return None
    return NoiseFloor(differing, worst.energy, worst.energy_per_atom, worst.force, worst.examples)


def _force_difference(a: LabelledFrame, b: LabelledFrame) -> float | None:
    if a.forces is None or b.forces is None or np.abs(a.atoms.positions - b.atoms.positions).max() > 1e-3:
        return None
    return float(np.abs(a.forces - b.forces).max())
