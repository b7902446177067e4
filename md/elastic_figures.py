"""Figures of elasticity: the tensor, Young's modulus over all directions, sound beside phonons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip.md.elastic_tensor import directional_young, sound_path, sound_velocities
from mlip.md.figures import BLUE, GREY, ORANGE, VERMILION, house_style

if TYPE_CHECKING:
    from mlip.md.elastic_result import ElasticResult, SoundCheck

Array = NDArray[np.float64]


def elastic_figure(result: ElasticResult) -> Figure:
    """Left the tensor; in the middle 3-D Young's modulus; right sound, where phonons are there to compare."""
    with house_style():
        panels = 3 if result.sound is not None else 2
        figure = Figure(figsize=(3.9 * panels, 3.6), layout="constrained")
        grid = figure.add_gridspec(1, panels, width_ratios=[1.05, 1.0, 1.15][:panels])
        _draw_tensor(figure.add_subplot(grid[0]), result)
        _draw_young(figure, figure.add_subplot(grid[1], projection="3d"), result)
        if result.sound is not None:
            _draw_sound(figure.add_subplot(grid[2]), result, result.sound)
        cell = result.solution.cell
        formula = str(cell.atoms.symbols.formula.reduce()[0].format("metal"))
        name = formula.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
        figure.suptitle(f"{name}, {cell.space_group}", x=0.01, ha="left", fontsize=11)
    return figure


def _draw_tensor(axis: Any, result: ElasticResult) -> None:
    """C_IJ in numbers on a colour scale; clamped-ion values beneath where they differ."""
    c, clamped, spread = result.standard_matrix, result.standard_clamped, result.spread().get("C_GPa")
    largest = np.abs(c).max()
    axis.imshow(c, cmap="RdBu_r", vmin=-1.6 * largest, vmax=1.6 * largest)
    digits = 1 if largest < 1000 else 0
    for i, j in np.ndindex(6, 6):
        if abs(c[i, j]) < 1e-4 * largest and abs(clamped[i, j]) < 1e-4 * largest:
            axis.text(j, i, "·", ha="center", va="center", color=GREY)
            continue
        shift = abs(clamped[i, j] - c[i, j]) > 5e-4 * largest
        value = f"{c[i, j]:.{digits}f}" + ("" if spread is None else f"\n±{spread[i, j]:.{digits}f}")
        axis.text(j, i - (0.16 if shift else 0), value, ha="center", va="center", fontsize=8)
        if shift:
            axis.text(j, i + 0.3, f"{clamped[i, j]:.{digits}f}", ha="center", va="center", fontsize=6, color=GREY)
    names = ["xx", "yy", "zz", "yz", "xz", "xy"]
    axis.set(xticks=range(6), yticks=range(6), xticklabels=names, yticklabels=names)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title("$C_{IJ}$ (GPa); small grey: clamped ions")


def _draw_young(figure: Figure, axis: Any, result: ElasticResult) -> None:
    """Young's modulus as the radius of a surface; refuses to draw an unstable crystal."""
    axis.set_title("Young's modulus (GPa)")
    if not result.stable:
        axis.set_axis_off()
        axis.text2D(0.5, 0.5, "not stable", transform=axis.transAxes, ha="center", color=VERMILION)
        return
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 91), np.linspace(0, 2 * np.pi, 181), indexing="ij")
    n = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    young = directional_young(result.standard_matrix, n)
    low, high = float(young.min()), float(young.max())
    if high - low < 1e-3 * high:
        low, high = 0.99 * low, 1.01 * high
    norm, colours = mpl.colors.Normalize(low, high), mpl.colormaps["viridis"]
    x, y, z = np.moveaxis(n * young[..., None], -1, 0)
    axis.plot_surface(
        x, y, z, facecolors=colours(norm(young)), rstride=2, cstride=2, lw=0, antialiased=False, shade=True
    )
    reach = 1.02 * young.max()
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axis.set_box_aspect((1, 1, 1), zoom=1.25)
    axis.view_init(elev=24, azim=38)
    axis.set_axis_off()
    for end, label in zip(1.32 * young.max() * np.eye(3), "xyz", strict=True):
        axis.plot(*zip(0.78 * end, end, strict=True), color=GREY, lw=0.9)
        axis.text(*(1.08 * end), label, color=GREY, ha="center", va="center")
    bar = figure.colorbar(mpl.cm.ScalarMappable(norm, colours), ax=axis, shrink=0.72, pad=0.02)
    bar.outline.set_visible(False)


def _draw_sound(axis: Any, result: ElasticResult, sound: SoundCheck) -> None:
    directions, places, _ = sound_path(40)
    fine = sound_velocities(result.solution.tensor, result.solution.density, directions @ result.axes)
    for branch in range(3):
        axis.plot(places, fine[:, branch], color=BLUE)
        axis.plot(sound.places, sound.phonons[:, branch], "o", ms=3.2, mfc="none", mec=ORANGE, mew=0.9)
    axis.plot([], [], color=BLUE, label="elastic tensor")
    axis.plot([], [], "o", ms=3.2, mfc="none", mec=ORANGE, label="phonons, $k \\to 0$")
    for place in sound.corners.values():
        axis.axvline(place, color=GREY, lw=0.5, zorder=0)
    low, high = float(sound.christoffel.min()), float(sound.christoffel.max())
    axis.set_ylim(low - 0.12 * (high - low), high + 0.3 * (high - low))
    axis.set_xticks(list(sound.corners.values()), list(sound.corners))
    axis.set(xlim=(0, sound.places[-1]), ylabel="velocity (km/s)")
    axis.set_title(f"Sound; largest difference {sound.defect:.0e}")
    axis.legend(loc="upper right", ncols=2)
