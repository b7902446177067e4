"""Which symmetry do the labels break? Silicon with a thinned k mesh, the honest labels of the same frames, a control.

    python benchmarks/broken_silicon.py prepare --out study-relaxed
    python benchmarks/study.py benchmarks/studies/relaxed.yaml --out study-relaxed
    python benchmarks/broken_silicon.py table --out study-relaxed

Reports are made on the quarter of the frames that no run saw.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from ase.units import GPa

from mlip.datasets import silicon
from mlip.symmetry import AnisotropyReport, anisotropy_report, shuffle_frames

TEST = slice(3, None, 4)
COLUMNS = (
    "run", "p", "found", "Eg: p (Holm)", "Eg stress, GPa rms (95 %)", "left",
    "forbidden mean stress of the labels, GPa: xx yy zz", "of the model",
)  # fmt: skip


def labelled(name: str) -> list[Atoms]:
    """The frames with honest or broken labels, in one order."""
    return [pair[name == "broken"] for pair in silicon.honest_and_broken()]


def truth() -> float:
    """Rms component, GPa, of the Eg part (diagonal, traceless) of the stress difference of the test frames."""
    pairs = silicon.honest_and_broken()[TEST]
    changes = np.array([np.diag(b.get_stress(voigt=False) - a.get_stress(voigt=False)) for a, b in pairs])
    parts = changes - changes.mean(axis=1, keepdims=True)
    return float(np.sqrt((parts**2).sum(axis=1).mean() / 9) / GPa)


def row(name: str, report: AnisotropyReport) -> str:
    """One line of the table."""
    assert report.parent is not None
    (eg,) = (c for c in report.parent.irreps if c.name == "Eg")
    assert eg.test is not None
    assert eg.stress_interval is not None
    low, high = eg.stress_interval
    stresses = [
        " ".join(f"{s:+.3f}" for s in np.diag(report.parent.forbidden[who].mean)) for who in ("labels", "model")
    ]
    found = " ".join(c.name for c in report.parent.irreps if c.found) or "–"
    amplitude = f"{eg.stress:.3f} ({low:.3f}–{high:.3f})"
    cells = [name, f"{report.p:.2g}", found, f"{eg.test.adjusted:.2g}", amplitude, report.retained.label, *stresses]
    return "| " + " | ".join(cells) + " |"


def prepare(folder: Path) -> None:
    """Write what the plan trains on."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "honest.xyz", labelled("honest"), format="extxyz")
    control = shuffle_frames(labelled("broken"), parent=silicon.primitive_cell())
    for atoms in control:
        atoms.info["frame"] = atoms.info["frame"].ravel()
    write(folder / "shuffled.xyz", control, format="extxyz")


def table(folder: Path) -> None:
    """A report of each finished run."""
    sys.stdout.write(f"truth: {truth():.3f} GPa rms\n\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n")
    for line in (folder / "results.jsonl").read_text().splitlines():
        run = json.loads(line)
        frames = labelled("honest" if run["variant"] == "honest" else "broken")[TEST]
        report = anisotropy_report(folder / run["name"] / "best.mlip", frames, parent=silicon.primitive_cell())
        report.write(folder / run["name"] / "report")
        sys.stdout.write(row(f"{run['variant']}, seed {run['seed']}", report) + "\n")
        sys.stdout.flush()


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["prepare", "table"])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    {"prepare": prepare, "table": table}[arguments.action](arguments.out)


if __name__ == "__main__":
    main()
