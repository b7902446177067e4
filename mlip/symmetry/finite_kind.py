"""One quantity of a model at all images of structures under a finite group, and what labels say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip.symmetry.evidence import Products
from mlip.symmetry.label_tests import Residuals
from mlip.symmetry.orientations import Orientations

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FiniteKind:
    """Energies, forces or stresses at all images g·y of n structures, turned back, less their mean over the group.

    Attributes:
        inner: (n, |G|, |G|) products of the values at two images, summed over components.
        sizes: (n,) number of components.
        along: (k, |G|): the values along the residuals of k labelled structures; None without such labels.
        frames: (k,) which structures those are.
        weights: (n,) how far each structure is trusted; 1 without label.
    """

    inner: Array
    sizes: NDArray[np.int64]
    along: Array | None
    frames: NDArray[np.int64]
    weights: Array

    @classmethod
    def of(cls, name: str, found: Sequence[Orientations], left: Residuals | None) -> FiniteKind:
        """From a model's values at the group's operations, and the labels' residuals."""
        values = [centred(o, name) for o in found]
        frames, along, weights = np.zeros(0, dtype=np.int64), None, np.ones(len(found))
        if left is not None and name in left.kinds:
            frames, residuals = left.frames, getattr(left, name)
            weights[frames] = left.trust(name)
            pairs = zip(frames, residuals, strict=True)
            along = np.array([weights[k] * (values[k] @ np.atleast_1d(r)) for k, r in pairs])
        inner, sizes = np.array([v @ v.T for v in values]), np.array([v.shape[1] for v in values])
        return cls(inner, sizes, along, frames, weights)

    def powers(self, projector: Array) -> Array:
        """(n,) mean square of a component over G's part by a projector."""
        return np.asarray(np.einsum("gh,khg->k", projector, self.inner) / self.inner.shape[1] / self.sizes)

    def products(self, projector: Array, at: Sequence[int]) -> list[Products]:
        """With the residuals, at the true orientation and at some operations; nothing without labels."""
        if self.along is None:
            return []
        own = self.along @ projector.T
        squares = (self.weights * self.powers(projector) * self.sizes)[self.frames]
        return [Products(own[:, 0], own[:, list(at)], squares)]


def centred(sample: Orientations, name: str) -> Array:
    """(|G|, k): what depends on orientation."""
    values = np.asarray(getattr(sample, name)).reshape(len(sample.turns), -1)
    return np.asarray(values - values.mean(axis=0))
