"""The dependence of a model on orientation, measured for a set of structures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlip.symmetry.orientations import Evaluator, LabStructure, Orientations, at_orientations, random_turns
from mlip.symmetry.spectrum import Irrep, Prior, Wigner, first_spectrum, irreps_up_to, spectrum, wigner_list

Array = NDArray[np.float64]
Progress = Callable[[Iterable[Any]], Iterable[Any]]
QUANTITIES = ("energies", "forces", "stresses")
NEGLIGIBLE = {"energies": 1e-6, "forces": 1e-5, "stresses": 1e-6}  # rms, eV, Å: what single precision leaves


@dataclass(frozen=True, eq=False)
class Measurement:
    """Samples of n structures at m random rotations and their products with the inversion.

    Attributes:
        structures: In laboratory axes.
        samples: (n pairs) the parts even and odd under inversion.
        wigner: Of each structure's rotations.
        lmax: Highest degree.
        grams: quantity → irrep → (n, 2l+1, 2l+1): eV²/atom² for energies, eV²/Å² per component for
            forces, eV²/Å⁶ per component for stresses (only where every structure has one).
        totals: quantity → (n,): the whole power for all irreps but 0e, those beyond ``lmax`` included.
        priors: (quantity, parity) → what all structures together say.
    """

    structures: list[LabStructure]
    samples: list[tuple[Orientations, Orientations]]
    wigner: list[Wigner]
    lmax: int
    grams: dict[str, dict[Irrep, Array]]
    totals: dict[str, Array]
    priors: dict[tuple[str, int], Prior]

    @classmethod
    def of(
        cls,
        structures: Sequence[LabStructure],
        evaluate: Evaluator,
        lmax: int,
        rotations: int,
        rng: np.random.Generator,
        progress: Progress = iter,
    ) -> Measurement:
        """Evaluate the model and estimate its spectrum, at 2·rotations orientations of each structure."""
        samples = [at_orientations(s, evaluate, random_turns(rng, rotations)).parts() for s in progress(structures)]
        wigner = [wigner_list(even.turns, lmax) for even, _ in samples]
        grams: dict[str, dict[Irrep, Array]] = {}
        totals, priors = {}, {}
        for quantity in (q for q in QUANTITIES if all(getattr(even, q) is not None for even, _ in samples)):
            grams[quantity], totals[quantity] = {}, np.zeros(len(samples))
            for place, parity in enumerate((1, -1)):
                values = [_values(pair[place], quantity) for pair in samples]
                power = np.array([_power(v, parity) for v in values])
                first = [first_spectrum(v, d) for v, d in zip(values, wigner, strict=True)]
                means = [np.mean([g[l] for g in first], axis=0) for l in range(lmax + 1)]
                prior = Prior.of(means, float(power.mean()), free_mean=parity == 1)
                found = [spectrum(v, d, prior) for v, d in zip(values, wigner, strict=True)]
                priors[quantity, parity] = prior
                totals[quantity] += power
                for irrep in irreps_up_to(lmax):
                    if irrep.parity == parity:
                        grams[quantity][irrep] = np.array([g[irrep.l] for g in found])
        return cls(list(structures), samples, wigner, lmax, grams, totals, priors)

    @property
    def irreps(self) -> list[Irrep]:
        """All but 0e."""
        return irreps_up_to(self.lmax)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was measured: energies, forces and, where every structure has a volume, stresses."""
        return tuple(self.grams)

    @property
    def dependent(self) -> tuple[str, ...]:
        """What depends on orientation at all, beyond rounding."""
        return tuple(q for q in self.quantities if self.totals[q].mean() > NEGLIGIBLE[q] ** 2)

    def sizes(self, quantity: str) -> NDArray[np.int64]:
        """(n,) number of components: 1, 3N or 9."""
        return np.array([_values(even, quantity).shape[1] for even, _ in self.samples])

    def powers(self, quantity: str, irrep: Irrep) -> Array:
        """(n,) unbiased estimates of P_lp of each structure; single ones may be negative."""
        return np.asarray(np.trace(self.grams[quantity][irrep], axis1=1, axis2=2))

    def coefficients(self, index: int, quantity: str, parity: int, along: Array | None = None) -> list[Array]:
        """Estimates of c_mn of one structure by degree, (2l+1, 2l+1, k); of forces or stress ``along`` a vector."""
        values = _values(self.samples[index][0 if parity == 1 else 1], quantity, per_component=False)
        values = values if along is None else values @ along[:, None]
        return self.priors[quantity, parity].coefficients(values, self.wigner[index])

    def strict(self, index: int, quantity: str) -> Array:
        """The model's rotation average for one structure: eV/atom (1,), eV/Å (3N,) or eV/Å³ (9,)."""
        return np.asarray(self.coefficients(index, quantity, 1)[0][0, 0])


def _values(sample: Orientations, quantity: str, *, per_component: bool = True) -> Array:
    if quantity == "energies":
        return sample.energies[:, None]
    values = np.asarray(getattr(sample, quantity))
    # Scaled so that sums over components are means: spectra of forces and stresses are mean squares.
    return values / np.sqrt(values.shape[1]) if per_component else values


def _power(values: Array, parity: int) -> float:
    """Everything that depends on orientation; of the odd part that is all of it, its mean included."""
    if parity == 1:
        return float(values.var(axis=0, ddof=1).sum())
    return float((values**2).mean(axis=0).sum())
