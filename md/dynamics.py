"""Molecular dynamics through ASE's maintained integrators: seeded, logged, and restarted without a trace."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md.calculators import attached
from mlip.md.curvature import highest_frequency, suggested_timestep
from mlip.md.ensembles import Thermodynamics, integrator, start_velocities
from mlip.md.observables import (
    Curve,
    diffusion_coefficients,
    drift_of,
    mean_squared_displacement,
    pair_distribution,
    vibrational_density,
)
from mlip.md.recorder import Recorder
from mlip.md.rotation_average import require_conservative
from mlip.report import Check

Array = NDArray[np.float64]
Hook = Callable[[Atoms], str | None]


@dataclass(frozen=True)
class MDResult:
    """A molecular dynamics run.

    Attributes:
        atoms: The last structure, with momenta, without calculator.
        thermo: Ensemble and its settings (K, fs, GPa).
        seed: Seed of velocities and noise.
        log: Columns of `mlip.md.recorder.COLUMNS` by name, (m,) each.
        positions: (f, N, 3) Å, not wrapped.
        velocities: (f, N, 3) in ASE's unit Å/√(Å²·amu/eV).
        cells: (f, 3, 3) Å.
        times: (f,) fs.
        drift: Drift of the conserved quantity over the second half in meV/atom/ps; NaN for Langevin dynamics and
            very short runs.
        drift_error: Its standard error.
        fluctuation: Standard deviation about the drift line, meV/atom.
        drift_limit: What the check allows.
        stopped: Why the run ended early, or None.
        warnings: What the warning hook said, each with its first step.
    """

    atoms: Atoms
    thermo: Thermodynamics
    seed: int
    log: dict[str, Array]
    positions: Array
    velocities: Array
    cells: Array
    times: Array
    drift: float
    drift_error: float
    fluctuation: float
    drift_limit: float
    stopped: str | None
    warnings: dict[str, int]

    @property
    def checks(self) -> list[Check]:
        """The drift beyond twice its uncertainty, where something is conserved, and that the run came to its end."""
        checks = [Check("stopped early", float(self.stopped is not None), 0.0)]
        if np.isfinite(self.drift):
            significant = max(0.0, abs(self.drift) - 2 * self.drift_error)
            checks.append(
                Check("significant drift of the conserved quantity", significant, self.drift_limit, "meV/atom/ps")
            )
        return checks

    @cached_property
    def pair_distribution(self) -> Curve | None:
        """g(r) by pair of species over at most 200 frames of the second half."""
        half = np.linspace(len(self.times) // 2, len(self.times) - 1, min(200, len(self.times))).astype(int)
        half = np.unique(half)
        return pair_distribution(self.atoms, self.positions[half], self.cells[half])

    @cached_property
    def displacement(self) -> Curve:
        """Mean squared displacement by species, Å² over ps."""
        return mean_squared_displacement(self.atoms, self.positions, self.cells, self.times)

    @cached_property
    def vibrations(self) -> Curve | None:
        """Vibrational density of states by species, modes per THz."""
        return vibrational_density(self.atoms, self.velocities, self.times)

    @property
    def lines(self) -> list[str]:
        """What happened, for people."""
        steps, time = int(self.log["step"][-1]), self.log["time"][-1] / 1000
        kelvin = self.log["temperature"][len(self.log["time"]) // 2 :].mean()
        lines = [f"{steps} steps of {self.thermo.timestep:g} fs, {time:.3g} ps; second half at {kelvin:.0f} K"]
        if np.isfinite(self.drift):
            lines.append(f"drift {self.drift:+.2g} ± {self.drift_error:.1g} meV/atom/ps")
        lines += [f"step {step}: {text}" for text, step in self.warnings.items()]
        return lines if self.stopped is None else [*lines, f"stopped early: {self.stopped}"]

    def to_atoms(self) -> Atoms:
        """A copy of the last structure, with momenta."""
        return self.atoms.copy()

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        second = len(self.log["time"]) // 2
        return {
            **asdict(self.thermo),
            "seed": self.seed,
            "steps": int(self.log["step"][-1]),
            "time_ps": float(self.log["time"][-1]) / 1000,
            "mean_temperature_K": float(self.log["temperature"][second:].mean()),
            "mean_pressure_GPa": float(self.log["pressure"][second:].mean()),
            "drift_meV_per_atom_per_ps": self.drift,
            "drift_standard_error": self.drift_error,
            "fluctuation_meV_per_atom": self.fluctuation,
            "diffusion_A2_per_ps": diffusion_coefficients(self.displacement) if len(self.times) > 8 else None,
            "stopped": self.stopped,
            "warnings": self.warnings,
        }

    def plot(self) -> Figure:
        """Temperature, energies, conserved quantity, g(r), displacement and vibrations."""
        from mlip.md.dynamics_figures import dynamics_figure

        return dynamics_figure(self)


def run_md(
    atoms: Atoms,
    calculator: Any,
    *,
    ensemble: str = "nve",
    temperature: float = 300.0,
    timestep: float | None = None,
    steps: int | None = None,
    time: float | None = None,
    seed: int = 0,
    keep_velocities: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    trajectory: str = "trajectory.xyz",
    every: int = 5,
    log_every: int = 1,
    restart_every: int = 1000,
    stop_when: Hook | None = None,
    warn_when: Hook | None = None,
    observe: Callable[[Atoms], None] | None = None,
    drift_limit: float = 1.0,
    progress: Callable[[Sequence[int]], Any] = iter,
    **holding: float,
) -> MDResult:
    """Run molecular dynamics without touching the input.

    Args:
        atoms: The start; its constraints are kept.
        calculator: Any ASE calculator.
        ensemble: ``nve``, ``langevin``, ``bussi``, ``nose-hoover``, ``npt`` (full cell) or ``npt-isotropic``.
        temperature: K; in NVE, of the start velocities (a crystal at rest then settles at half of it).
        timestep: fs; None: a twentieth of the shortest vibrational period here.
        steps: Number of steps in all; or ``time``.
        time: ps in all.
        seed: Of start velocities and noise; the same seed gives the same run.
        keep_velocities: Start with the momenta of ``atoms``.
        folder: Where ``md.csv``, the trajectory and ``restart.npz`` go; None keeps everything in memory.
        resume: Go on from ``restart.npz`` in ``folder``, as if the run had never stopped.
        trajectory: Its file name there, ``.xyz`` or ``.h5``.
        every: Steps between frames; for a vibrational spectrum twenty steps a period allow five.
        log_every: Steps between rows of the log.
        restart_every: Steps between restart files; one is also written at the end and on Ctrl-C or SIGTERM.
        stop_when: Asked at every logged step; a text stops the run (leaving the trust range, a broken bond, …).
        warn_when: Likewise; a text is noted with its first step.
        observe: Shown the structure at every logged step (`mlip.md.harvest.Harvest`).
        drift_limit: meV/atom/ps.
        progress: Wraps the range of steps, for a progress bar.
        **holding: ``pressure`` (GPa), ``friction`` (1/ps), ``thermostat_time`` (fs), ``barostat_time`` (fs) and
            ``chain``; see `Thermodynamics`.

    Returns:
        Log, frames, drift and observables.

    Raises:
        InputError: Neither or both of ``steps`` and ``time``, or a setting that the ensemble cannot take.
    """
    require_conservative(calculator, "molecular dynamics")
    system = attached(atoms, calculator, constraints=True)
    if timestep is None:
        timestep = suggested_timestep(highest_frequency(atoms, calculator))
    thermo = _thermodynamics(ensemble, temperature, timestep, holding)
    total = _total_steps(steps, time, timestep)
    if not (keep_velocities or resume) or not system.has("momenta"):
        start_velocities(system, temperature, seed)
    dynamics = integrator(system, thermo, seed)

    settings = {**asdict(thermo), "seed": seed, "every": every, "log_every": log_every, "trajectory": trajectory}
    recorder = Recorder(system, dynamics, thermo, settings, None if folder is None else Path(folder))
    if resume:
        recorder.resume()
    stopped, notes = _run(recorder, total, restart_every, stop_when, _both(warn_when, observe), progress)
    recorder.save()

    log, (positions, velocities, cells, times) = recorder.log(), recorder.frames()
    # The first half is left out: from the start velocities energy flows between modes, and the integrator's own
    # error with it, which is no drift.
    half = slice(len(log["time"]) // 2, None)
    drift, error, spread = drift_of(log["conserved"][half], log["time"][half], len(atoms))
    final = system.copy()
    final.set_constraint(atoms.constraints)
    return MDResult(
        final,
        thermo,
        seed,
        log,
        positions,
        velocities,
        cells,
        times,
        drift,
        error,
        spread,
        drift_limit,
        stopped,
        notes,
    )


def outside_training(calculator: Any) -> Hook | None:
    """A hook that speaks when a structure leaves the range of the training data; None where none is known."""
    violations = getattr(calculator, "range_violations", None)
    known = getattr(getattr(calculator, "ranges", None), "ranges", True)
    if violations is None or not known:
        return None

    def hook(atoms: Atoms) -> str | None:
        found = violations(atoms)
        return f"outside the training data: {'; '.join(found)}" if found else None

    return hook


def _both(warn_when: Hook | None, observe: Callable[[Atoms], None] | None) -> Hook | None:
    """One hook that observes and warns."""
    if observe is None:
        return warn_when

    def hook(atoms: Atoms) -> str | None:
        observe(atoms)
        return warn_when(atoms) if warn_when else None

    return hook


def _thermodynamics(ensemble: str, temperature: float, timestep: float, holding: dict[str, float]) -> Thermodynamics:
    try:
        return Thermodynamics(ensemble, temperature, timestep, **holding)  # type: ignore[arg-type]
    except TypeError as error:
        known = "pressure, friction, thermostat_time, barostat_time, chain"
        raise InputError(f"unknown setting among {', '.join(holding)}", mend=f"known are {known}") from error


def _total_steps(steps: int | None, time: float | None, timestep: float) -> int:
    if (steps is None) == (time is None):
        raise InputError("give either steps or time")
    total = steps if steps is not None else round(1000 * (time or 0.0) / timestep)
    if total < 1:
        raise InputError(f"nothing to do in {total} steps", key="steps")
    return total


def _run(
    recorder: Recorder,
    total: int,
    restart_every: int,
    stop_when: Hook | None,
    warn_when: Hook | None,
    progress: Callable[[Sequence[int]], Any],
) -> tuple[str | None, dict[str, int]]:
    """Step to ``total``, recording; return why it stopped early and what was warned of."""
    dynamics = recorder.dynamics
    notes: dict[str, int] = {}
    todo = range(dynamics.nsteps, total)
    moving = dynamics.irun(len(todo))
    next(moving)
    if dynamics.nsteps == 0:
        recorder.record()
    with _asked_to_stop() as asked:
        for _ in progress(todo):
            next(moving)
            if dynamics.nsteps % recorder.settings["log_every"] == 0:
                energy = recorder.system.get_potential_energy()
                reason = None if np.isfinite(energy) else "the energy is not finite"
                reason = reason or (stop_when(recorder.system) if stop_when else None)
                warning = warn_when(recorder.system) if warn_when else None
                if warning:
                    notes.setdefault(warning, dynamics.nsteps)
                if reason:
                    return f"{reason} (step {dynamics.nsteps})", notes
            recorder.record()
            if dynamics.nsteps % restart_every == 0:
                recorder.save()
            if asked.is_set():
                return f"asked to stop at step {dynamics.nsteps}; go on with resume", notes
    return None, notes


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM end a run after the step at hand; a second one takes effect at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    old: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: Any) -> None:
        event.set()
        signal.signal(number, old[number])

    for number in old:
        signal.signal(number, note)
    try:
        yield event
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
