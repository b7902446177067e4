"""The frames of the molecular set in the order in which they are computed: any prefix is a balanced set.

Splits are by temperature, by angle and by molecule: methyl hydroperoxide is in the test set alone.
"""

from __future__ import annotations

from mlip.datasets.molecules.recipe.structures import Frame
from mlip.datasets.recipes.frames import spread

TRAINED = ("hydrogen_peroxide", "methanol")
HELD_OUT = "methyl_hydroperoxide"
FIRST = 45  # frames of the trained molecules before the first of the other one
# One turn of the OH group; methanol's methyl group repeats every 120 degrees, and the mirror image of an
# angle is another frame.
TRAINING_ANGLES = {
    "hydrogen_peroxide": tuple(range(0, 360, 24)),
    "methanol": tuple(range(0, 360, 24)),
}


def minima() -> list[Frame]:
    """The relaxed molecules, with their Hessians."""
    return [
        Frame("train", "hydrogen_peroxide", "minimum", angles=(0.0,), has_hessian=True),
        Frame("train", "methanol", "minimum", angles=(0.0,), has_hessian=True),
    ]


def thermal(split: str, temperatures: tuple[int, ...], copies: int, every: int) -> list[Frame]:
    """Thermal frames of the trained molecules; every `every`-th has a Hessian."""
    combinations = [(c, t, m) for c in range(copies) for t in temperatures for m in TRAINED]
    return [
        Frame(split, m, "thermal", t, has_hessian=(number // 2) % every == 0, copy=c)
        for number, (c, t, m) in enumerate(combinations)
    ]


def torsions() -> list[Frame]:
    """Full turns: of the molecule at rest otherwise, and with thermal displacements; each fourth with a Hessian."""
    still = [
        Frame("train", m, "torsion", angles=(float(a),), has_hessian=number % 4 == 2)
        for m in TRAINED
        for number, a in enumerate(TRAINING_ANGLES[m])
        if a
    ]
    warm = [
        Frame("train", m, "torsion", t, angles=(a + 12.0,), has_hessian=number % 5 == 1)
        for t in (300, 1000)
        for m in TRAINED
        for number, a in enumerate(TRAINING_ANGLES[m])
    ]
    return scattered(still) + scattered(warm)


def held_out() -> list[Frame]:
    """The molecule that is never trained on."""
    turns = [(60.0, 0.0), (180.0, 0.0), (0.0, 60.0), (120.0, 30.0)]
    frames = [Frame("test", HELD_OUT, "minimum", angles=(0.0, 0.0), has_hessian=True)]
    frames += [
        Frame("test", HELD_OUT, "thermal", t, has_hessian=c == 0, copy=c) for c in range(6) for t in (300, 800)
    ]
    frames += [Frame("test", HELD_OUT, "torsion", t, angles=a) for t in (0, 300) for a in turns]
    return frames


def scattered(frames: list[Frame]) -> list[Frame]:
    """The same frames in an order whose prefixes cover them evenly (golden-section order)."""
    golden = (5**0.5 - 1) / 2
    order = sorted(range(len(frames)), key=lambda i: (i * golden) % 1)
    return [frames[i] for i in order]


def frames() -> list[Frame]:
    """Every frame, in the order in which they are computed."""
    test_turns = [
        Frame("test", m, "torsion", t, angles=(a,), has_hessian=(a, t) == (40.0, 0))
        for a in (40.0, 160.0, 280.0)
        for t in (0, 500)
        for m in TRAINED
    ]
    validation_turns = [
        Frame("validation", m, "torsion", 500, angles=(a,)) for a in (80.0, 200.0, 320.0) for m in TRAINED
    ]
    known = spread([
        thermal("train", (300, 1000, 600, 1500), 11, every=6),
        torsions(),
        thermal("validation", (450,), 6, every=3) + validation_turns,
        thermal("test", (800,), 8, every=3) + test_turns,
    ])  # fmt: skip
    return [*minima(), *known[:FIRST], *spread([known[FIRST:], held_out()])]
