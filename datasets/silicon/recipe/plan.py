"""The frames of the silicon set in the order in which they are computed.

Splits are by amplitude, strain, temperature and cell, never at random: no kind of frame of the
validation and test sets (same kind, same amplitude) is in the training set.
"""

from __future__ import annotations

from mlip.datasets.silicon.recipe.structures import RODS, SMALL, Frame

VOLUMES = (-0.06, -0.03, 0.03, 0.06)


def volume(change: float) -> tuple[float, ...]:
    """Voigt strain of a relative change of volume."""
    linear = round((1 + change) ** (1 / 3) - 1, 6)
    return (linear, linear, linear, 0.0, 0.0, 0.0)


def _primitive_strains() -> list[Frame]:
    """Perfect and strained two-atom cells: the equation of state and the elastic constants."""
    shears = [
        (0.02, 0, 0, 0, 0, 0), (-0.02, 0, 0, 0, 0, 0), (0.02, -0.02, 0, 0, 0, 0),
        (0, 0, 0, 0.02, 0, 0), (0, 0, 0, -0.02, 0, 0), (0, 0, 0, 0.06, 0, 0),
        (0, 0, 0, 0.03, 0.03, 0.03), (0.04, -0.02, -0.02, 0, 0, 0),
    ]  # fmt: skip
    strains = [volume(v) for v in (0.0, -0.06, -0.03, -0.01, 0.01, 0.03, 0.06)] + shears
    frames = [Frame("train", "strain", "primitive2", strain=strain) for strain in strains]
    frames += [Frame("train", "rattle", "primitive2", a) for a in (0.01, 0.03, 0.1)]
    frames += [Frame("validation", "strain", "primitive2", strain=volume(-0.04))]
    frames += [Frame("validation", "strain", "primitive2", strain=(0, 0, 0, 0.04, 0, 0))]
    frames += [Frame("test", "strain", "primitive2", strain=volume(0.045))]
    frames += [Frame("test", "strain", "primitive2", strain=(0.03, 0, 0, 0.03, 0, 0))]
    return frames


def _strained_rattles() -> list[Frame]:
    """Strained, sheared and rattled cells of eight atoms."""
    shears = [
        (0.02, -0.01, 0, 0.02, 0, 0), (0, 0.03, 0, 0, 0.03, 0), (-0.02, 0, 0.01, 0, 0, 0.04),
        (0, 0, -0.03, 0.02, -0.02, 0), (0.01, 0.02, -0.03, 0, 0, 0.02), (0, 0, 0, 0.03, 0.03, -0.03),
    ]  # fmt: skip
    strains = [volume(v) for v in VOLUMES] + shears
    frames = [
        Frame("train", "strained_rattle", SMALL[i % len(SMALL)], 0.03, strain) for i, strain in enumerate(strains)
    ]
    frames += [Frame("train", "strained_rattle", "cubic8", 0.08, volume(v)) for v in (-0.05, 0.05)]
    frames += [
        Frame("validation", "strained_rattle", "rod110x4", 0.04, volume(-0.04)),
        Frame("validation", "strained_rattle", "cubic8", 0.04, (0.02, 0, 0, 0, 0.04, 0)),
        Frame("test", "strained_rattle", "rod100x4", 0.05, volume(0.045)),
        Frame("test", "strained_rattle", "cubic8", 0.05, (0, 0, -0.02, 0, 0.02, 0.03)),
    ]
    return frames


def frames() -> list[Frame]:
    """Every frame, the most informative first; the held-out ones are spread between them."""
    small = {
        (kind, amplitude): [Frame("train", kind, cell, amplitude) for cell in SMALL]
        for kind, amplitudes in (("rattle", (0.01, 0.03, 0.06, 0.12)), ("soft", (0.02, 0.03, 0.08)))
        for amplitude in amplitudes
    }
    hot = [Frame("train", "hot", "cubic8", temperature=t, copy=c)
           for c in range(3) for t in (300, 900, 1500)]  # fmt: skip
    rods = {
        (kind, amplitude): [Frame("train", kind, cell, amplitude) for cell in RODS]
        for kind, amplitude in (("soft", 0.03), ("soft", 0.06), ("rattle", 0.06))
    }
    validation = [
        Frame("validation", "rattle", "rod100x4", 0.04),
        Frame("validation", "soft", "w8", 0.05),
        Frame("validation", "hot", "cubic8", temperature=600),
        Frame("validation", "soft", "rod111x4", 0.05),
        Frame("validation", "rattle", "cubic8", 0.15),
        Frame("validation", "rattle", "general8", 0.04),
    ]
    test = [
        Frame("test", "rattle", "rod111x4", 0.05),
        Frame("test", "soft", "rod110x4", 0.04),
        Frame("test", "hot", "cubic8", temperature=1200),
        Frame("test", "rattle", "cubic8", 0.09),
        Frame("test", "soft", "general8", 0.04),
        Frame("test", "rattle", "w8", 0.05),
        Frame("test", "soft", "rod100x4", 0.04),
        Frame("test", "hot", "cubic8", temperature=1200, copy=1),
    ]
    large = [Frame("train", "rattle", cell, a) for cell, a in (("cubic8", 0.18), ("rod110x4", 0.18),
             ("cubic8", 0.25), ("general8", 0.25))]  # fmt: skip
    strained = _strained_rattles()
    tiny = [
        Frame("train", "strained_rattle", "primitive2", 0.08, strain)
        for strain in (volume(-0.05), volume(0.02), (0, 0.02, 0, 0.02, 0, 0.02), (0, 0, -0.03, 0.03, 0, 0))
    ]
    tiny += [
        Frame("validation", "rattle", "primitive2", 0.04),
        Frame("test", "rattle", "primitive2", 0.05),
    ]
    compact = [
        Frame("train", "rattle", "tetragonal16", 0.03),
        Frame("train", "rattle", "tetragonal16", 0.1),
        Frame("train", "soft", "tetragonal16", 0.03),
        Frame("test", "rattle", "tetragonal16", 0.05),
    ]
    return [
        *small["soft", 0.03], *small["rattle", 0.03], *_primitive_strains(),
        *validation[:3], *test[:3], *rods["soft", 0.03],
        *small["rattle", 0.12], *strained[:10], *hot[:3],
        *small["soft", 0.08], *rods["rattle", 0.06][:2], *validation[3:], *test[3:],
        *small["rattle", 0.06], *hot[3:6], *small["soft", 0.02], *rods["soft", 0.06][:2],
        *strained[10:], *large, *small["rattle", 0.01], *hot[6:], *tiny,
        Frame("test", "large", "cubic64", temperature=700), Frame("validation", "soft", "rod110x8", 0.05),
        *compact,
    ]  # fmt: skip
