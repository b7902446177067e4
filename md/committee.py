"""How far the members of a committee differ in their phonons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlip.md.dynamical import DynamicalMatrices, frequencies_at

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Frequencies of each member of a committee at the same structure and the same q points.

    Branches are paired in rising order at equal q, as in comparisons with references.

    Attributes:
        names: What to call the members.
        frequencies: (members, nq, 3n) THz along the path.
        special_points: By label, (members, 3n) THz.
    """

    names: list[str]
    frequencies: Array
    special_points: dict[str, Array]

    @property
    def std(self) -> Array:
        """(nq, 3n) THz, the standard deviation over the members (n − 1 in the denominator)."""
        return np.std(self.frequencies, axis=0, ddof=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: each member's special points, and the standard deviation there and along the path."""
        return {
            "members": [
                {"name": name, "special_points_THz": {label: v[i] for label, v in self.special_points.items()}}
                for i, name in enumerate(self.names)
            ],
            "special_points_std_THz": {label: np.std(v, axis=0, ddof=1) for label, v in self.special_points.items()},
            "mean_std_THz": float(self.std.mean()),
            "largest_std_THz": float(self.std.max()),
        }

    @property
    def line(self) -> str:
        """One line for people."""
        return (
            f"committee of {len(self.names)}: frequencies spread by {self.std.mean():.3g} THz (mean standard "
            f"deviation along the path), at most {self.std.max():.3g} THz"
        )


def spread_of(
    members: list[Any], solve: Callable[[Any], DynamicalMatrices], q: Array, points: dict[str, Array]
) -> Spread | None:
    """Frequencies of every member along a path and at its special points.

    Args:
        members: Calculators.
        solve: From a calculator to its D(q).
        q: (nq, 3) fractions.
        points: Labels and fractions of special points.

    Returns:
        Their spread; None where there are fewer than two members.
    """
    if len(members) < 2:
        return None
    every = np.concatenate([q, np.array(list(points.values()))])
    values = np.array([frequencies_at(solve(member), every) for member in members])
    special = {label: values[:, len(q) + i] for i, label in enumerate(points)}
    return Spread([f"member {i + 1}" for i in range(len(members))], values[:, : len(q)], special)
