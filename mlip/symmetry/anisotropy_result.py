"""What an anisotropy report says: tables, a figure, JSON."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.units import GPa
from matplotlib.figure import Figure

from mlip.files import write_bytes
from mlip.report import Check, plain
from mlip.symmetry.evidence import SIZES, LabelTest
from mlip.symmetry.mean_stress import ForbiddenStress
from mlip.symmetry.measurement import NEGLIGIBLE
from mlip.symmetry.retained import RetainedGroup

if TYPE_CHECKING:
    from mlip.symmetry.anisotropy import ReportSettings

LEVEL = 0.05


@dataclass(frozen=True)
class Component:
    """One irrep of the dependence on orientation.

    Attributes:
        name: Such as ``2e``, or ``Eg`` of a parent's group.
        energy: Rms over structures and orientations, meV/atom.
        energy_interval: 95 %, by resampled structures.
        force: Rms component, meV/Å.
        force_interval: The same.
        stress: Rms component, GPa; None without volume.
        stress_interval: The same.
        test: Against labels; None without.
        controls: ``energy`` of each control.
        tensors: Of a parent's irrep: the (l, p) up to l = 4 that contain it.
    """

    name: str
    energy: float
    energy_interval: tuple[float, float]
    force: float
    force_interval: tuple[float, float]
    stress: float | None
    stress_interval: tuple[float, float] | None
    test: LabelTest | None
    controls: list[float]
    tensors: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Significant in the labels, where there are labels; more than any control, where there are controls."""
        above = all(self.energy_interval[0] > c for c in self.controls)
        return self.there and above and (self.test is None or self.test.adjusted < LEVEL)

    @property
    def there(self) -> bool:
        """Whether the model's energies or stresses have it at all, beyond rounding."""
        energies, stresses = self.energy_interval, self.stress_interval or (0.0, 0.0)
        limits = 1000 * NEGLIGIBLE["energies"], NEGLIGIBLE["stresses"] / GPa
        return any(low > 0 and high > x for (low, high), x in zip((energies, stresses), limits, strict=True))

    @property
    def detectable(self) -> dict[int, float]:
        """Number of frames → smallest rms, meV/atom, that would be found in 80 % of such samples."""
        return {} if self.test is None else {n: self.energy * x for n, x in self.test.detectable.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "tensors": list(self.tensors),
            "energy_rms_meV_per_atom": self.energy,
            "energy_interval": list(self.energy_interval),
            "force_rms_meV_per_A": self.force,
            "force_interval": list(self.force_interval),
            "stress_rms_GPa": self.stress,
            "stress_interval": None if self.stress_interval is None else list(self.stress_interval),
            "score": None if self.test is None else self.test.score,
            "p": None if self.test is None else self.test.p,
            "p_holm": None if self.test is None else self.test.adjusted,
            "confirmed_share": None if self.test is None else self.test.scale,
            "detectable_meV_per_atom": self.detectable,
            "controls_meV_per_atom": self.controls,
            "found": self.found,
        }


@dataclass(frozen=True)
class ParentSpectrum:
    """The dependence on the operations of a parent crystal's point group.

    Attributes:
        group: International symbol.
        order: |G|.
        irreps: All but the identity representation.
        overall: All of them tested together; None without labels.
        retained: The subgroup that is left.
        forbidden: ``labels`` and ``model`` → mean stress that the group forbids; empty without volume.
    """

    group: str
    order: int
    irreps: list[Component]
    overall: LabelTest | None
    retained: RetainedGroup
    forbidden: dict[str, ForbiddenStress]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "group": self.group,
            "order": self.order,
            "irreps": [c.to_dict() for c in self.irreps],
            "p": None if self.overall is None else self.overall.p,
            "retained": self.retained.to_dict(),
            "forbidden_stress_GPa": {name: s.to_dict() for name, s in self.forbidden.items()},
            "stabiliser_order": len(self.retained.elements),
        }


@dataclass(frozen=True)
class Structure:
    """One structure's share: rms over orientations, and at its own orientation, meV/atom."""

    index: int
    formula: str
    rms: float
    own: float


@dataclass(frozen=True)
class AnisotropyReport:
    """Which symmetry a model, and with it its data, breaks.

    Attributes:
        settings: How it was measured.
        spectrum: (l, p) components of the energy as a function of orientation.
        beyond: Rms energy above the highest degree, meV/atom.
        overall: LabelTest of everything together; None where it could not be made.
        retained: The point group of the laboratory that is left; inside the parent's where structures lie alike.
        parent: Irreps of the parent's group; None without parent.
        structures: By how much they depend on orientation, largest first.
        aligned: Whether the structures lie alike in the laboratory, so that only the parent's operations compare
            like with like.
        framed: Structures with ``info["frame"]``.
        labelled: Structures with labels.
        joint_error: eV/atom, by which the model changes when structure and frame turn together; None if not asked.
    """

    settings: ReportSettings
    spectrum: list[Component]
    beyond: float
    overall: LabelTest | None
    retained: RetainedGroup
    parent: ParentSpectrum | None
    structures: list[Structure]
    aligned: bool
    framed: int
    labelled: int
    joint_error: float | None

    @property
    def p(self) -> float | None:
        """Of all anisotropy together, where it could be tested."""
        if self.aligned:
            return None if self.parent is None or self.parent.overall is None else self.parent.overall.p
        return None if self.overall is None else self.overall.p

    @property
    def verdict(self) -> str:
        """The answer in one line."""
        parts = [*self.spectrum, *(self.parent.irreps if self.parent is not None else [])]
        if not any(c.there for c in parts):
            return "the model does not depend on orientation: it is strict"
        if self.p is None:
            why = "no labels" if self.labelled < 3 else "all structures lie alike: a parent crystal is needed"
            return f"the model keeps {self.retained.label}; not tested ({why})"
        if self.p >= LEVEL:
            return f"the labels speak for no anisotropy (p = {self.p:.2g})"
        return f"broken: {self.names} (p = {self.p:.2g}); what is left is {self.retained.label}"

    @property
    def names(self) -> str:
        """The components that were found."""
        listed = self.parent.irreps if self.aligned and self.parent is not None else self.spectrum
        found = [c for c in listed if c.found]
        shown = [c.name + (f" ({' '.join(c.tensors)})" if c.tensors else "") for c in found]
        return ", ".join(shown) or "no single component for sure"

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        n = len(self.structures)
        lines = [self.verdict]
        if self.framed < n:
            lines.append(f"{n - self.framed} of {n} structures have no frame: their axes are the laboratory's")
        if self.aligned:
            lines.append(
                "the structures lie alike in the laboratory: the spectrum over all rotations is extrapolated, and "
                "tests compare "
                + ("the parent's operations only" if self.parent else "nothing; name the parent crystal")
            )
        if self.parent is not None:
            lines.append(f"of the parent's {self.parent.group}: what is left is {self.parent.retained.label}")
            lines += [f"mean stress it forbids, GPa, {name}: {s}" for name, s in self.parent.forbidden.items()]
        if self.retained.rejected:
            word = "violation" if self.retained.p is None else "p"
            given_up = ", ".join(f"{name} ({word} {value:.2g})" for name, value in self.retained.rejected.items())
            lines.append(f"given up: {given_up}")
        worst = ", ".join(f"{s.formula} #{s.index} ({s.rms:.2f})" for s in self.structures[:3])
        lines.append(f"largest dependence on orientation, meV/atom: {worst}")
        return lines

    @property
    def checks(self) -> list[Check]:
        """Whether the measurement can be trusted; a broken symmetry is a finding, no failure."""
        largest = max(self.spectrum, key=lambda c: c.energy)
        checks = [Check("energy beyond the highest l", self.beyond, max(0.5 * largest.energy, 0.05), "meV/atom")]
        if self.joint_error is not None:
            checks.append(Check("structure and frame turned together", 1000 * self.joint_error, 0.01, "meV/atom"))
        return checks

    def table(self) -> list[dict[str, str]]:
        """One row per component, as text."""
        parts = [*self.spectrum, *(self.parent.irreps if self.parent is not None else [])]
        return [_row(c) for c in parts]

    def plot(self) -> Figure:
        """Spectra of energies and forces with intervals and controls; what the labels say; structures."""
        from mlip.symmetry.anisotropy_figures import report_figure

        return report_figure(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "verdict": self.verdict,
            "p": self.p,
            "spectrum": [c.to_dict() for c in self.spectrum],
            "beyond_meV_per_atom": self.beyond,
            "retained": self.retained.to_dict(),
            "parent": None if self.parent is None else self.parent.to_dict(),
            "aligned": self.aligned,
            "structures": len(self.structures),
            "with_frame": self.framed,
            "with_labels": self.labelled,
            "structures_by_anisotropy": [vars(s) for s in self.structures[:20]],
            "settings": vars(self.settings),
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``anisotropy.json`` and ``anisotropy.png`` into a folder; return the files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        image = io.BytesIO()
        self.plot().savefig(image, format="png", dpi=200, bbox_inches="tight")
        files = {
            "anisotropy.json": (json.dumps(plain(self.to_dict()), indent=1) + "\n").encode(),
            "anisotropy.png": image.getvalue(),
        }
        for name, data in files.items():
            write_bytes(folder / name, data)
        return [folder / name for name in files]


def _row(c: Component) -> dict[str, str]:
    row = {
        "irrep": c.name + (f" ({' '.join(c.tensors)})" if c.tensors else ""),
        "energy (meV/atom)": _spread(c.energy, c.energy_interval),
        "force (meV/Å)": _spread(c.force, c.force_interval),
        "stress (GPa)": "–"
        if c.stress is None or c.stress_interval is None
        else _spread(c.stress, c.stress_interval, 4),
        "control": f"{max(c.controls):.2f}" if c.controls else "–",
        "p": "–" if c.test is None else f"{c.test.p:.2g}",
        "p (Holm)": "–" if c.test is None else f"{c.test.adjusted:.2g}",
    }
    smallest = [c.detectable.get(n, np.inf) for n in SIZES]
    shown = "–" if c.test is None or not np.isfinite(smallest).all() else " ".join(f"{x:.2g}" for x in smallest)
    return row | {f"found from, at {'/'.join(map(str, SIZES))} frames": shown}


def _spread(value: float, interval: tuple[float, float], digits: int = 2) -> str:
    return f"{value:.{digits}f} ({interval[0]:.{digits}f}–{interval[1]:.{digits}f})"
