"""The figure of a molecular dynamics run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from mlip.md.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, house_style
from mlip.md.observables import Curve

if TYPE_CHECKING:
    from mlip.md.dynamics import MDResult

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)


def dynamics_figure(result: MDResult) -> Figure:
    """Temperature, energies and conserved quantity over time; g(r), displacement and vibrational spectrum."""
    with house_style():
        figure = Figure(figsize=(9.6, 5.2), layout="constrained")
        axes = figure.subplots(2, 3)
        _temperature(axes[0, 0], result)
        _energies(axes[0, 1], result)
        _conserved(axes[0, 2], result)
        _curves(axes[1, 0], result.pair_distribution, "Pair distribution", "r (Å)", "g(r)")
        displacement = result.displacement
        half = slice(0, max(2, len(displacement.x) // 2))
        short = Curve(displacement.x[half], {n: y[half] for n, y in displacement.y.items()}, "ps", "Å²")
        _curves(axes[1, 1], short, "Mean squared displacement", "lag (ps)", "⟨r²⟩ (Å²)")
        _curves(axes[1, 2], _cut(result.vibrations), "Vibrational spectrum", "frequency (THz)", "modes per THz")
        thermo = result.thermo
        title = f"{result.atoms.get_chemical_formula()}, {thermo.ensemble}, {thermo.timestep:g} fs a step"
        figure.suptitle(title if result.stopped is None else f"{title}: {result.stopped}", x=0.01, ha="left")
    return figure


def _temperature(axis: Any, result: MDResult) -> None:
    time, kelvin = result.log["time"] / 1000, result.log["temperature"]
    axis.plot(time, kelvin, color=BLUE, lw=0.8)
    mean = kelvin[len(kelvin) // 2 :].mean()
    axis.axhline(mean, color=VERMILION, lw=1, ls="--", label=f"second half: {mean:.0f} K")
    axis.set(xlabel="time (ps)", ylabel="temperature (K)", title="Temperature", ylim=(0, None))
    axis.legend(loc="lower right")


def _energies(axis: Any, result: MDResult) -> None:
    time, scale = result.log["time"] / 1000, 1000 / len(result.atoms)
    start = result.log["potential"][0]
    axis.plot(time, (result.log["potential"] - start) * scale, color=BLUE, lw=0.9, label="potential − start")
    axis.plot(time, result.log["kinetic"] * scale, color=VERMILION, lw=0.9, label="kinetic")
    axis.set(xlabel="time (ps)", ylabel="energy (meV/atom)", title="Energies")
    axis.legend()


def _conserved(axis: Any, result: MDResult) -> None:
    time, conserved = result.log["time"] / 1000, result.log["conserved"]
    axis.set(xlabel="time (ps)", title="Conserved quantity")
    if not np.isfinite(conserved).all():
        _nothing(axis, "Langevin dynamics\nconserves nothing")
        return
    change = (conserved - conserved.mean()) * 1000 / len(result.atoms)
    axis.plot(time, change, color=GREEN, lw=0.8)
    if np.isfinite(result.drift):
        half = slice(len(time) // 2, None)
        line = change[half].mean() + result.drift * (time[half] - time[half].mean())
        label = f"{result.drift:+.2g} ± {result.drift_error:.1g} meV/atom/ps"
        axis.plot(time[half], line, color=GREY, lw=1.4, ls="--", label=label)
        axis.legend()
    axis.set_ylabel("deviation (meV/atom)")


def _curves(axis: Any, curve: Curve | None, title: str, x: str, y: str) -> None:
    axis.set_title(title)
    if curve is None or len(curve.x) < 2:
        _nothing(axis, "not defined here")
        return
    for (name, values), colour in zip(curve.y.items(), COLOURS * 4, strict=False):
        axis.plot(curve.x, values, color=colour, lw=1.1, label=name)
    axis.set(xlabel=x, ylabel=y, xlim=(0, curve.x[-1]), ylim=(0, None))
    axis.legend()


def _cut(curve: Curve | None) -> Curve | None:
    """A spectrum without its empty upper end."""
    if curve is None:
        return None
    total = sum(curve.y.values(), start=np.zeros_like(curve.x))
    stop = min(len(curve.x), int(np.flatnonzero(total > 0.005 * total.max())[-1] * 1.1) + 2)
    return Curve(curve.x[:stop], {n: y[:stop] for n, y in curve.y.items()}, curve.x_unit, curve.y_unit)


def _nothing(axis: Any, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=GREY)
