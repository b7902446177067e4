"""The figure of vibrations: sticks at the frequencies, coloured by what light can do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from mlip.md.figures import BLUE, GREEN, GREY, ORANGE, VERMILION, house_style
from mlip.md.mode_symmetry import ModeSymmetry

if TYPE_CHECKING:
    from mlip.md.vibration_result import VibrationResult

Array = NDArray[np.float64]
_ACTIVITY = {
    (True, False): ("infrared", BLUE),
    (False, True): ("Raman", ORANGE),
    (True, True): ("infrared and Raman", GREEN),
    (False, False): ("silent", GREY),
}


def spectrum_figure(result: VibrationResult) -> Figure:
    """One stick per level, as high as it is degenerate; intensities would need dipoles, which are not known."""
    with house_style():
        figure = Figure(figsize=(7.0, 3.0), layout="constrained")
        axis = figure.subplots()
        levels = _levels(result)
        for frequency, degeneracy, symmetry in levels:
            _, colour = _kind(symmetry)
            colour = VERMILION if frequency < 0 else colour
            axis.vlines(frequency, 0, degeneracy, color=colour, lw=2)
        for name, colour in dict(_kind(symmetry) for frequency, _, symmetry in levels if frequency >= 0).items():
            axis.plot([], [], color=colour, lw=2, label=name)
        if result.frequencies.min() < 0:
            axis.plot([], [], color=VERMILION, lw=2, label="imaginary")
            axis.axvline(0, color=GREY, lw=0.5, zorder=0)
        most = max(degeneracy for _, degeneracy, _ in levels)
        low, high = float(result.frequencies.min()), float(result.frequencies.max())
        span = max(high - min(low, 0.0), 100.0)
        _label(axis, levels, span, most + 0.3)
        axis.set(
            xlim=(min(0.0, low - 0.04 * span), high + 0.04 * span),
            ylim=(0, 1.6 * most + 0.3),
            yticks=range(most + 1),
            xlabel="wavenumber (cm⁻¹)",
            ylabel="degeneracy",
        )
        figure.legend(loc="outside upper right", ncols=4)
        axis.set_title(_title(result))
    return figure


def _kind(symmetry: ModeSymmetry) -> tuple[str, str]:
    if symmetry.infrared is None or symmetry.raman is None:
        return "activity unknown", BLUE
    return _ACTIVITY[symmetry.infrared, symmetry.raman]


def _levels(result: VibrationResult) -> list[tuple[float, int, ModeSymmetry]]:
    """Degenerate modes together: neighbours of one symmetry within 0.5 cm⁻¹, as many as the symmetry allows."""
    levels: list[tuple[float, int, ModeSymmetry]] = []
    sizes = {"E": 2, "T": 3, "G": 4, "H": 5, "Π": 2}
    for frequency, symmetry in zip(result.frequencies, result.symmetries, strict=True):
        most = sizes.get(symmetry.label[0], 1)
        if levels:
            last, count, known = levels[-1]
            if known == symmetry and count < most and abs(last - frequency) < 0.5:
                levels[-1] = (last, count + 1, known)
                continue
        levels.append((float(frequency), 1, symmetry))
    return levels


def _label(axis: Any, levels: list[tuple[float, int, ModeSymmetry]], span: float, height: float) -> None:
    """Symmetry and wavenumber of each stick in one row on top, moved apart; none where they would not fit."""
    if len(levels) > 40:
        return
    wanted = np.array([frequency for frequency, _, _ in levels])
    for (frequency, degeneracy, symmetry), x in zip(levels, spread(wanted, 0.021 * span), strict=True):
        name = "" if symmetry.label == "?" else f"{symmetry.label}  "
        number = f"{abs(frequency):.0f}{'i' if frequency < 0 else ''}"
        axis.plot([frequency, frequency, x], [degeneracy, height - 0.14, height], color=GREY, lw=0.4, zorder=0)
        axis.annotate(f"{name}{number}", (x, height), rotation=90, ha="center", va="bottom", fontsize=7)


def spread(wanted: Array, gap: float) -> Array:
    """Positions at least ``gap`` apart, in the same order, as near to the wanted ones as possible.

    Least squares under an order: isotonic regression of the positions less their share of gaps.
    """
    steps = gap * np.arange(len(wanted))
    return np.asarray(isotonic_regression(wanted - steps).x + steps)


def _title(result: VibrationResult) -> str:
    formula = str(result.atoms.symbols.formula.convert("hill"))
    formula = formula.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
    group = f", {result.group.symbol}" if result.group is not None else ""
    return f"{formula}{group}: {result.verdict.split(',')[0]}"
