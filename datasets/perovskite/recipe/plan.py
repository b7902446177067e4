"""The frames of the PbTiO3 set in the order in which they are computed: any prefix is a balanced set.

Splits are by amplitude and strain, never at random: no amplitude of a kind, and no strain, of the
validation and test sets is in the training set.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TypeVar

from mlip.datasets.perovskite.recipe.structures import Frame
from mlip.datasets.recipes.frames import spread

T = TypeVar("T")
DIRECTIONS = ((0, 0, 1), (1, 1, 0), (1, 1, 1))
RODS = ("rod100", "rod110", "rod111")


def alternated(first: list[T], second: list[T]) -> list[T]:
    """One of each in turn, then what is left."""
    return [item for pair in zip_longest(first, second) for item in pair if item is not None]


def volume(change: float) -> tuple[float, ...]:
    """Voigt strain of a relative change of volume."""
    linear = round((1 + change) ** (1 / 3) - 1, 6)
    return (linear, linear, linear, 0.0, 0.0, 0.0)


def tetragonal(along: float, across: float) -> tuple[float, ...]:
    """Voigt strain of a cell stretched along z."""
    return (across, across, along, 0.0, 0.0, 0.0)


def strains() -> list[Frame]:
    """The equation of state and elastic constants of the undisplaced crystal."""
    shears = [
        tetragonal(0.02, 0.0), tetragonal(-0.02, 0.0), tetragonal(0.05, -0.01), tetragonal(0.08, -0.01),
        (0.02, -0.02, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.0, 0.02), (0.0, 0.0, 0.0, 0.0, 0.0, 0.05),
        (0.0, 0.0, 0.0, 0.02, 0.02, 0.02), (0.01, 0.01, 0.01, 0.03, 0.03, 0.03),
    ]  # fmt: skip
    volumes = [volume(v) for v in (0.0, -0.04, 0.04, -0.02, 0.02, -0.06, 0.06)]
    return [Frame("train", "strain", strain=s) for s in alternated(volumes, shears)]


def polars() -> list[Frame]:
    """The double wells along [001], [110] and [111], in the cubic cell and in those of the phases."""
    cubic = [Frame("train", "polar", amplitude=a, axis=d) for a in (0.06, 0.09, 0.03, 0.12) for d in DIRECTIONS]
    cells = [
        (tetragonal(0.03, -0.003), (0, 0, 1)), (tetragonal(0.06, -0.006), (0, 0, 1)),
        (tetragonal(0.10, -0.01), (0, 0, 1)),
        ((0.005, 0.005, 0.005, 0.01, 0.01, 0.01), (1, 1, 1)), ((0.01, 0.01, -0.005, 0.0, 0.0, 0.015), (1, 1, 0)),
    ]  # fmt: skip
    strained = [Frame("train", "polar", amplitude=a, strain=s, axis=d) for a in (0.09, 0.06, 0.12) for s, d in cells]
    return alternated(cubic, strained)


def rotations() -> list[Frame]:
    """Rotations of the octahedra: in phase (M) and in antiphase (R)."""
    train = [Frame("train", "tilt", "rod111", a, axis=d) for a in (0.06, 0.12) for d in DIRECTIONS]
    train += [Frame("train", "tilt", "rod110", a, axis=(0, 0, 1)) for a in (0.06, 0.12, 0.18)]
    train += [Frame("train", "tilt", "rod111", 0.18, axis=(0, 0, 1))]
    return train


def softs() -> list[Frame]:
    """Random polar displacements of every phase with tilts, in all cells."""
    kept = {
        "rod100": ("4mm", "mm2x", "mm2x", "4mm", "mx"),  # along the modulation, across it
        "rod110": ("4mm", "mm2xy", "mm2", "4mm", "mx"),
        "rod111": ("4mm", "mm2", "4mm", "mm2", "mx"),
    }
    rods = [
        Frame("train", "soft", cell, a, group=kept[cell][i])
        for i, a in enumerate((0.06, 0.04, 0.09, 0.12, 0.06))
        for cell in RODS
    ]
    single = [Frame("train", "soft", amplitude=a, group=g) for a in (0.06, 0.12, 0.09) for g in ("4mm", "3m", "mm2d")]
    single += [Frame("train", "soft", amplitude=a, group=g) for a in (0.06, 0.09) for g in ("mx", "mxy")]
    single += [
        Frame("train", "soft", amplitude=a, group=g, copy=1)
        for a in (0.06, 0.12, 0.04)
        for g in ("4mm", "3m", "mm2d")
    ]
    single += [Frame("train", "soft", amplitude=0.09, group="1")]
    return alternated(single, rods)


def rattles() -> list[Frame]:
    """Independent Gaussians: the stiff modes."""
    kept = {"rod100": ("mm2", "mm2x", "4mm"), "rod110": ("mm2", "mm2xy", "4mm"), "rod111": ("4mm", "mm2", "4mm")}
    rods = [
        Frame("train", "rattle", cell, a, group=kept[cell][i])
        for i, a in enumerate((0.04, 0.06, 0.02))
        for cell in RODS
    ]
    single = [
        Frame("train", "rattle", amplitude=a, group=g, copy=c)
        for a, c in ((0.04, 0), (0.08, 0), (0.02, 0), (0.09, 0), (0.06, 0))
        for g in ("4mm", "3m", "mm2", "mm2d")
    ]
    single += [Frame("train", "rattle", amplitude=a, group=g) for a in (0.04, 0.08) for g in ("mx", "mxy")]
    single += [Frame("train", "rattle", amplitude=0.06, group="1")]
    return alternated(single, rods)


def mixed() -> list[Frame]:
    """Polar, rattled and strained at once: the surroundings of the phases."""
    cells = [
        (tetragonal(0.04, -0.005), "4mm"), (tetragonal(0.06, -0.01), "mm2"), (volume(0.03), "mm2d"),
        (tetragonal(0.08, -0.01), "4mm"), ((0.01, -0.01, 0.02, 0.0, 0.0, 0.0), "mm2"), (volume(-0.03), "4mm"),
        ((0.0, 0.0, 0.02, 0.0, 0.0, 0.02), "mm2d"), (tetragonal(0.02, 0.005), "4mm"),
    ]  # fmt: skip
    single = [Frame("train", "mixed", amplitude=a, strain=s, axis=(0, 0, 1), group=g)
              for a in (0.06, 0.09, 0.04, 0.05) for s, g in cells]  # fmt: skip
    single += [
        Frame("train", "mixed", amplitude=0.08, strain=(0.01, 0.0, 0.02, 0.02, 0.0, 0.0), axis=(0, 0, 1), group="mx")
    ]
    rods = [
        Frame("train", "mixed", cell, 0.08, strain=s, axis=(0, 0, 1), group="4mm")
        for s in (tetragonal(0.05, -0.005), volume(0.02))
        for cell in RODS[:2]
    ]
    slanted = [(0.005, 0.005, 0.005, e, e, e) for e in (0.01, 0.02)]
    three = [Frame("train", "mixed", amplitude=a, strain=s, axis=(1, 1, 1), group="3m")
             for a in (0.06, 0.09, 0.12) for s in slanted]  # fmt: skip
    flat = (0.012, 0.012, -0.004, 0.0, 0.0, 0.015)
    two = [
        Frame("train", "mixed", amplitude=a, strain=flat, axis=(1, 1, 0), group="mm2xy") for a in (0.06, 0.09, 0.12)
    ]
    return spread([single, rods, three, two])


def validation() -> list[Frame]:
    """Amplitudes and strains between those of training."""
    return [
        Frame("validation", "soft", "rod100", 0.05, group="4mm"),
        Frame("validation", "polar", amplitude=0.075, axis=(0, 0, 1)),
        Frame("validation", "mixed", amplitude=0.075, strain=tetragonal(0.05, -0.008), axis=(0, 0, 1), group="mm2"),
        Frame("validation", "tilt", "rod111", 0.09, axis=(1, 1, 0)),
        Frame("validation", "rattle", "single5", 0.07, group="mm2"),
        Frame("validation", "strain", strain=volume(-0.03)),
        Frame("validation", "soft", "rod110", 0.05, group="mm2xy"),
        Frame("validation", "rattle", "rod111", 0.03, group="4mm"),
        Frame("validation", "polar", amplitude=0.075, axis=(1, 1, 1)),
        Frame("validation", "soft", "single5", 0.05, group="mxy"),
        Frame("validation", "mixed", "rod100", 0.075, strain=volume(0.01), axis=(0, 0, 1), group="4mm"),
        Frame("validation", "strain", strain=tetragonal(0.035, 0.0)),
        Frame("validation", "soft", "rod111", 0.05, group="4mm"),
        Frame("validation", "soft", "single5", 0.08, group="3m"),
    ]  # fmt: skip


def test() -> list[Frame]:
    """As validation, with other amplitudes and strains, a general direction and cells that hold all of X, M, R."""
    return [
        Frame("test", "soft", "rod100", 0.07, group="mm2x"),
        Frame("test", "polar", amplitude=0.1, axis=(0, 0, 1)),
        Frame("test", "mixed", amplitude=0.1, strain=tetragonal(0.07, -0.009), axis=(0, 0, 1), group="mm2"),
        Frame("test", "tilt", "rod111", 0.1, axis=(1, 1, 1)),
        Frame("test", "rattle", "single5", 0.05, group="mx"),
        Frame("test", "strain", strain=volume(0.03)),
        Frame("test", "soft", "rod110", 0.07, group="mm2"),
        Frame("test", "rattle", "rod100", 0.05, group="4mm"),
        Frame("test", "polar", amplitude=0.1, axis=(1, 1, 2)),
        Frame("test", "rattle", "rod110", 0.05, group="mm2"),
        Frame("test", "soft", "rod111", 0.07, group="4mm"),
        Frame("test", "soft", "single5", 0.07, group="1"),
        Frame("test", "strain", strain=(0.0, 0.0, 0.01, 0.0, 0.0, 0.035)),
        Frame("test", "mixed", "rod110", 0.1, strain=volume(0.015), axis=(0, 0, 1), group="4mm"),
        Frame("test", "tilt", "rod110", 0.1, axis=(0, 0, 1)),
        Frame("test", "soft", "single5", 0.1, group="mxy"),
    ]  # fmt: skip


def large() -> list[Frame]:
    """Eight formula units with all of Γ, X, M and R at once: dear, so they come last."""
    return [
        Frame("test", "soft", "cubic40", 0.07, group="4mm"),
        Frame("train", "soft", "cubic40", 0.06, group="4mm"),
    ]


def frames() -> list[Frame]:
    """Every frame, in the order in which they are computed.

    A cell of two formula units takes the time of four of one, so the first half of the list holds a third of
    the rods and half of the rest.
    """
    groups = [strains(), polars(), softs(), rotations(), mixed(), rattles(), validation(), test()]
    small = [[f for f in group if f.supercell == "single5"] for group in groups]
    rods = [[f for f in group if f.supercell != "single5"] for group in groups]
    first = [group[: (len(group) + 1) // 2] for group in small] + [group[: (len(group) + 2) // 3] for group in rods]
    chosen = {frame.name for group in first for frame in group}
    second = [[f for f in group if f.name not in chosen] for group in small + rods]
    return [*spread(first), *spread(second), *large()]
