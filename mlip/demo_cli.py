"""The main job end to end, on the silicon set that the package carries: the one module that uses every room."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

_FORCES, _PHONONS = "force MAE on test frames", "phonons: mean |Δν| from DFPT"


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Budget for training, of processor time.")] = 3.0,
    seed: Annotated[int, typer.Option(help="Of weights, order of frames and velocities.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON to this file.")] = None,
) -> None:
    """Train on the embedded silicon set, check the potential, run dynamics, draw phonons beside DFPT."""
    from rich.console import Console

    from mlip.calculator import MLIPCalculator
    from mlip.files import output_folder
    from mlip.report import CommandReport

    console = Console()
    folder = output_folder(out, force=force)
    report = CommandReport("demo", inputs={"minutes": minutes, "seed": seed})
    console.rule("training on DFT silicon")
    model = _train(folder, minutes, seed, report)
    calculator = MLIPCalculator(model, dtype="float64")
    console.rule("physical checks")
    _check(calculator, folder, report)
    console.rule("molecular dynamics, 64 atoms, 300 K")
    _dynamics(calculator, folder, seed, report, console)
    console.rule("phonons beside DFPT")
    _phonons(calculator, folder, report, console)
    console.rule("result")
    report.print_checks(console)
    for file in report.files:
        console.print(f"wrote {file}", highlight=False, soft_wrap=True)
    if json is not None:
        report.write_json(json)
    if not report.passed:
        console.print(_hint(report, minutes), highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def _hint(report: Any, minutes: float) -> str:
    """What to do about checks that failed."""
    failed = {check.name for check in report.checks if not check.passed}
    if not failed <= {_FORCES, _PHONONS}:
        return "a check of the physics failed, which should not happen: please report it"
    steps, again = int(report.results["steps"]), f"mlip demo --minutes {2 * minutes:g} --force"
    return f"{steps} steps were too few for these limits; a slower processor needs more minutes: {again}"


def _train(folder: Path, minutes: float, seed: int, report: Any) -> Path:
    from mlip.errors import MLIPError
    from mlip.report import Check
    from mlip.training import load_settings, train
    from mlip.training.state import Clock

    # Processor time: what else runs on the machine changes how long it takes, not how good the potential is.
    clock = Clock(time.process_time)
    overrides = [f"seed={seed}", f"training.max_minutes={minutes}", f"run.folder={folder}", "run.name=training"]
    result = train(load_settings("silicon", overrides), clock=clock)
    report.files += result.files
    if result.test is None:
        raise typer.Exit(130)
    pairs = result.test.pairs("forces")
    if pairs is None:
        raise MLIPError("the test frames carry no forces")
    percent = 100 * pairs.mae / pairs.rms
    report.results["test"] = result.test.to_dict()
    report.results["steps"] = result.rows[-1]["step"]
    report.checks.append(Check(_FORCES, percent, 3.0, "% of rms"))
    return result.best_path


def _check(calculator: Any, folder: Path, report: Any) -> None:
    from mlip.datasets import silicon
    from mlip.md import check

    result = check(calculator, silicon.primitive_cell().repeat((2, 2, 2)), nve_steps=100)
    path = folder / "check.png"
    result.plot().savefig(path, dpi=150)
    report.files.append(path)
    report.checks += [*result.checks, *result.warnings]  # with nuclear repulsion there is no hole to warn of


def _dynamics(calculator: Any, folder: Path, seed: int, report: Any, console: Any) -> None:
    import numpy as np
    from ase.build import make_supercell

    from mlip.datasets import silicon
    from mlip.md import run_md

    cubic = np.ones((3, 3), dtype=int) - 2 * np.eye(3, dtype=int)  # primitive → conventional cell
    atoms = make_supercell(silicon.primitive_cell(), 2 * cubic)
    result = run_md(
        atoms,
        calculator,
        ensemble="nve",
        temperature=600.0,  # of the velocities: half goes into displacements, 300 K remain
        timestep=2.0,
        steps=500,
        seed=seed,
        folder=folder / "md",
    )
    path = folder / "md.png"
    result.plot().savefig(path, dpi=150)
    report.files.append(path)
    report.checks += result.checks
    for line in result.lines:
        console.print(line, highlight=False)


def _phonons(calculator: Any, folder: Path, report: Any, console: Any) -> None:
    from dataclasses import replace

    import numpy as np

    from mlip.datasets import silicon
    from mlip.md import interpolation_baseline, phonons, read_reference
    from mlip.report import Check

    reference = replace(read_reference(silicon.FOLDER / "dfpt.json"), name="DFPT")
    result = phonons(silicon.primitive_cell(), calculator, references=[reference])
    report.files += result.write(folder / "phonons")
    comparison = result.references[0]
    report.checks += [*result.checks, Check(_PHONONS, comparison.mean, 0.10, "THz")]
    baseline = interpolation_baseline(result.cell.atoms, calculator, 2, comparison.q)
    off = float(np.abs(np.sort(baseline, axis=1) - comparison.theirs).mean())
    report.results["phonons"] = {**result.to_dict(), "interpolation_baseline_THz": off}
    for line in result.lines:
        console.print(line, highlight=False)
    console.print(f"plain interpolation of the Hessian of a 16-atom cell would be off by {off:.3f} THz")
