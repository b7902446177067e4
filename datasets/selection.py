"""Which frames to keep or to label: the most different ones, by a cheap invariant descriptor or a committee."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlip.datasets.e0 import elements
from mlip.datasets.frame import Array, LabelledFrame
from mlip.datasets.progress import slowly
from mlip.errors import InputError

_RADIAL = 6  # Gaussians between 0 and the cutoff
_POOL = 5  # times as many frames as are wanted, by disagreement, from which farthest points are taken


def describe(atoms: Atoms, species: Sequence[str], cutoff: float = 5.0) -> Array:
    """An invariant description of a frame: mean and spread over the atoms of smooth neighbour densities.

    For atom i, neighbours of species s and a Gaussian g_k of the distance, with cosine cutoff f, the moments
    c_k = Σ g_k f, v_k = Σ g_k f r̂ and t_k = Σ g_k f (r̂ r̂ᵀ − 1/3) give c_k, |v_k| and |t_k|: what a power spectrum
    holds up to l = 2, on its diagonal (Bartók et al., arXiv 1209.3140). Rotations, translations, permutations and
    repeated cells do not change it.

    Args:
        atoms: The frame.
        species: Chemical symbols of the whole set.
        cutoff: Å.

    Returns:
        (2 · s · s · 3 · 6,) for s species: for each central species the mean and the standard deviation.
    """
    local = _local(atoms, species, cutoff)
    numbers = np.array([species.index(symbol) for symbol in atoms.get_chemical_symbols()])
    parts = []
    for kind in range(len(species)):
        mine = local[numbers == kind]
        zero = np.zeros(local.shape[1])
        share = len(mine) / len(atoms)
        parts += [share * mine.mean(axis=0), share * mine.std(axis=0)] if len(mine) else [zero, zero]
    return np.concatenate(parts)


def _local(atoms: Atoms, species: Sequence[str], cutoff: float) -> Array:
    """(N, s · 3 · 6): the moments of every atom's neighbours."""
    from mlip.graph import neighbor_pairs  # here, as it brings torch, which reading does without

    source, target, shifts = neighbor_pairs(atoms, cutoff)
    vectors = atoms.positions[source] - atoms.positions[target] + shifts @ atoms.cell.array
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / length
    width = cutoff / _RADIAL
    centres = width * (np.arange(_RADIAL) + 0.5)
    radial = np.exp(-0.5 * ((length - centres) / width) ** 2) * 0.5 * (1 + np.cos(np.pi * length / cutoff))
    tensor = unit[:, :, None] * unit[:, None, :] - np.eye(3) / 3
    angular = np.concatenate([np.ones((len(unit), 1)), unit, tensor.reshape(-1, 9)], axis=1)
    kinds = np.array([species.index(symbol) for symbol in atoms.get_chemical_symbols()])
    moments = np.zeros((len(atoms), len(species), _RADIAL, 13))
    np.add.at(moments, (target, kinds[source]), radial[:, :, None] * angular[:, None, :])
    norms = [np.linalg.norm(moments[..., part], axis=-1) for part in (slice(0, 1), slice(1, 4), slice(4, 13))]
    return np.concatenate(norms, axis=-1).reshape(len(atoms), -1)


def descriptors(frames: Sequence[LabelledFrame], species: Sequence[str], cutoff: float = 5.0) -> Array:
    """(frames, d), one row each."""
    rows = slowly(frames, "describing frames", total=len(frames))
    return np.array([describe(frame.atoms, species, cutoff) for frame in rows])


def farthest_points(points: Array, count: int, known: Array | None = None) -> tuple[list[int], Array]:
    """Greedy selection: each next point is the one farthest from all that are chosen or known (Gonzalez 1985).

    Args:
        points: (n, d).
        count: How many to choose.
        known: (m, d), what is there already; without it the first choice is the point nearest to the mean.

    Returns:
        Indices in the order of choice, and the distance of each to what was there before it.
    """
    if known is None or not len(known):
        first = int(np.argmin(np.linalg.norm(points - points.mean(axis=0), axis=1)))
        chosen, gaps = [first], [np.inf]
        distance = np.linalg.norm(points - points[first], axis=1)
    else:
        chosen, gaps = [], []
        distance = np.array([np.linalg.norm(known - point, axis=1).min() for point in points])
    while len(chosen) < count:
        index = int(np.argmax(distance))
        chosen.append(index)
        gaps.append(float(distance[index]))
        distance = np.minimum(distance, np.linalg.norm(points - points[index], axis=1))
    return chosen, np.array(gaps)


def select_frames(
    frames: Sequence[LabelledFrame],
    count: int,
    *,
    known: Sequence[LabelledFrame] = (),
    committee: Any = None,
    cutoff: float = 5.0,
) -> tuple[list[int], Array]:
    """Choose the frames that differ most from each other and from those that are known.

    Args:
        frames: What to choose from.
        count: How many.
        known: Frames that are in the training set already.
        committee: An `mlip.MLIPCalculator` with several members: frames are chosen among the five times ``count``
            whose forces it disagrees about most. None: among all.
        cutoff: Of the descriptor, Å.

    Returns:
        Indices in the order of choice, and for each its distance (standardised descriptors) to what was there, or
        with a committee its largest force disagreement, eV/Å.

    Raises:
        InputError: More are wanted than there are.
    """
    if not 1 <= count <= len(frames):
        raise InputError(f"{count} of {len(frames)} frames cannot be chosen", key="count")
    pool, spread = list(range(len(frames))), None
    if committee is not None:
        spread = _disagreement(frames, committee)
        pool = sorted(np.argsort(-spread)[: _POOL * count].tolist())
    species = elements([*frames, *known])
    points = descriptors([frames[i] for i in pool], species, cutoff)
    others = descriptors(known, species, cutoff) if known else None
    centre, width = points.mean(axis=0), points.std(axis=0)
    used = width > 1e-9 * max(1.0, float(np.abs(points).max()))
    scaled = (points - centre)[:, used] / width[used]
    chosen, gaps = farthest_points(
        scaled, count, None if others is None else (others - centre)[:, used] / width[used]
    )
    picked = [pool[i] for i in chosen]
    return picked, gaps if spread is None else spread[picked]


def _disagreement(frames: Sequence[LabelledFrame], committee: Any) -> Array:
    """(frames,) eV/Å, the largest length over the atoms of the committee's force standard deviation."""
    if len(committee.potentials) < 2:
        raise InputError("a committee needs two models or more", key="model")
    structures = [frame.atoms for frame in frames]
    forces = [[a["forces"] for a in p.evaluate(structures, ("forces",))] for p in committee.potentials]
    spreads = [np.std(of_frame, axis=0, ddof=1) for of_frame in zip(*forces, strict=True)]
    return np.array([np.linalg.norm(spread, axis=1).max() for spread in spreads])
