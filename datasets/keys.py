"""Which name in a file is which label: known aliases, used only when exactly one matches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlip.datasets.raw import RawFrame
from mlip.errors import InputError

# Compared without regard to case. Predictions (MACE_energy …), per-atom energies and differences are not here.
ALIASES: dict[str, tuple[str, ...]] = {
    "energy": (
        "energy", "free_energy", "total_energy", "totalenergy", "tot_energy", "energy_total", "etot", "e_tot",
        "toten", "e", "energies", "potential_energy", "epot", "ref_energy", "energy_ref", "dft_energy",
        "energy_dft", "reference_energy",
    ),
    "forces": (
        "forces", "force", "f", "atomic_forces", "atforces", "ref_forces", "ref_force", "forces_ref",
        "dft_forces", "dft_force", "forces_dft", "force_dft", "reference_forces",
    ),
    "stress": ("stress", "stress_tensor", "ref_stress", "stress_ref", "dft_stress", "stress_dft", "reference_stress"),
    "virial": ("virial", "virials", "ref_virial", "ref_virials", "dft_virial", "dft_virials", "virial_dft"),
    "hessian": ("hessian", "hess", "ref_hessian", "dft_hessian", "force_constants"),
    "config_type": ("config_type",),
    "weight": ("weight", "config_weight", "frame_weight"),
}  # fmt: skip


@dataclass(frozen=True)
class Names:
    """The names in a file.

    Attributes:
        counts: Name → number of frames that have it.
        results: Those that are calculator results somewhere.
    """

    counts: Counter[str] = field(default_factory=Counter)
    results: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, frames: Iterable[RawFrame]) -> Names:
        """The names of some frames; one pass."""
        names = cls()
        for frame in frames:
            names.counts.update(frame.values.keys())
            names.results.update(frame.results)
        return names


def choose_keys(
    names: Names, stated: Mapping[str, str | None], *, file: str | Path
) -> tuple[dict[str, str], list[str]]:
    """Name of each label in the file, for those that are there, and remarks.

    Args:
        names: Of one file.
        stated: The user's choices, target → name, or None to leave a label alone.
        file: For messages.

    Raises:
        InputError: A stated name is nowhere, or several aliases match.
    """
    counts, per_atom = names.counts, names.results & {"energies"}  # ASE's, not totals
    chosen: dict[str, str] = {}
    notes: list[str] = []
    for target in ALIASES:
        if target in stated:
            name = stated[target]
            if name is not None:
                chosen[target] = _stated(name, target, counts, file)
        else:
            found = [name for name in counts if name.lower() in ALIASES[target] and name not in per_atom]
            name, remark = _only(found, target, counts, file)
            chosen |= {} if name is None else {target: name}
            notes += remark
    _one_meaning(chosen, stated, file)
    return chosen, notes


def _stated(name: str, target: str, counts: Counter[str], file: str | Path) -> str:
    if name not in counts:
        raise InputError(f"no frame has the {target} key", file=file, key=name, mend=_available(counts))
    return name


def _available(counts: Counter[str]) -> str:
    return f"it has {', '.join(sorted(counts))}" if counts else "it has no labels at all"


def _only(found: list[str], target: str, counts: Counter[str], file: str | Path) -> tuple[str | None, list[str]]:
    """The single match; with smearing, energy and free_energy stand together and the latter fits the forces."""
    if len(found) <= 1:
        return (found[0] if found else None), []
    if target == "energy" and sorted(name.lower() for name in found) == ["energy", "free_energy"]:
        energy, free = sorted(found, key=str.lower)
        if counts[free] >= counts[energy]:
            return free, [f"'{free}' read as energy, not '{energy}': it is the one the forces derive from"]
        return energy, [f"'{energy}' read as energy: only {counts[free]} frames have '{free}'"]
    names = ", ".join(f"'{name}'" for name in sorted(found))
    raise InputError(
        f"several names may be the {target}: {names}", file=file, mend=f"--key {target}={sorted(found)[0]}"
    )


def _one_meaning(chosen: dict[str, str], stated: Mapping[str, str | None], file: str | Path) -> None:
    """Stress and virial are one label: keep the one the user named, or refuse."""
    if "stress" not in chosen or "virial" not in chosen:
        return
    dropped = [name for name in ("stress", "virial") if name not in stated]
    if len(dropped) != 1:
        names = f"'{chosen['stress']}' and '{chosen['virial']}'"
        raise InputError(
            f"both stress and virial are there: {names}", file=file, mend=f"--key stress={chosen['stress']}"
        )
    del chosen[dropped[0]]
