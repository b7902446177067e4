"""Do my data break a symmetry? Which one, by how many meV, how sure.

Relaxed weights are gauge: their sign and size mean nothing. What a model predicts when a structure turns against its
laboratory means something, and can be held against labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mlip.errors import InputError
from mlip.symmetry.anisotropy_result import AnisotropyReport, Component, Structure
from mlip.symmetry.evidence import LabelTest, reorientation_tests, reorientations
from mlip.symmetry.label_tests import Residuals, RotationalProducts, bond_alignment
from mlip.symmetry.matrix_group import MatrixGroup
from mlip.symmetry.measurement import Measurement
from mlip.symmetry.orientations import Evaluator, LabStructure, evaluator_of, frame_or_laboratory, in_laboratory
from mlip.symmetry.parent import FiniteMeasurement, parent_group
from mlip.symmetry.retained import RetainedGroup, retained_group
from mlip.symmetry.spectrum import Irrep

Array = NDArray[np.float64]
ALIGNED = 1e-4  # p of uniform orientations below which structures are said to lie alike


@dataclass(frozen=True)
class ReportSettings:
    """How an anisotropy is measured.

    Attributes:
        lmax: Highest degree, at most 5: there the icosahedral group still averages exactly.
        rotations: Random rotations of each structure; each is evaluated with and without the inversion.
        reorientations: Of the frames, in tests.
        resamples: Of the frames, for intervals.
        seed: Of everything random.
    """

    lmax: int = 4
    rotations: int = 16
    reorientations: int = 5000
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.lmax <= 5:
            raise InputError("lmax lies between 1 and 5", key="lmax")
        if self.rotations < 8:
            raise InputError("at least 8 rotations of each structure are needed", key="rotations")
        if self.reorientations < 500:
            raise InputError("at least 500 re-orientations are needed", key="reorientations")


def anisotropy_report(
    model: Any,
    structures: Sequence[Atoms],
    *,
    parent: Atoms | str | MatrixGroup | None = None,
    controls: Sequence[Any] = (),
    settings: ReportSettings | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> AnisotropyReport:
    """What in a model's energy depends on the orientation of a structure against its laboratory.

    Args:
        model: A model file, a Potential or any ASE calculator.
        structures: Frames, best held out of training. ``info["frame"]``, v_structure = frame @ v_lab, says how each
            lies in the laboratory (the identity where it is missing). Labels in their calculators are used for tests.
        parent: The undistorted crystal as it lies in the laboratory, or a Schoenflies symbol. Needed for tests where
            all structures are distortions of one crystal in one orientation.
        controls: The same kinds of model, trained on frames shuffled by `shuffle_frames`.
        settings: How to measure.
        progress: Wraps the loops over structures.

    Returns:
        Spectrum, tests, retained group.

    Raises:
        InputError: No structures, a frame that is not orthogonal, a parent without symmetry.
    """
    settings = settings or ReportSettings()
    lab = in_laboratory(structures)
    if len(lab) < 3:
        raise InputError("at least three structures are needed", mend="use more frames")
    group = None if parent is None else parent_group(parent)
    rng = np.random.default_rng(settings.seed)
    evaluate = evaluator_of(model)
    measured = Measurement.of(lab, evaluate, settings.lmax, settings.rotations, rng, progress)
    aligned = any(p < ALIGNED for p, _ in bond_alignment(lab).values())
    finite = FiniteMeasurement.of(lab, evaluate, group, progress) if group is not None else None
    floors = [_control(c, lab, group, settings, progress) for c in controls]
    tests: dict[str, LabelTest] = {}
    if finite is not None and aligned:
        kept = finite.retained(settings.reorientations, rng)
    else:
        tests, kept = _over_rotations(measured, settings, rng, testable=not aligned)
    return AnisotropyReport(
        settings=settings,
        spectrum=[_component(measured, i, tests, [f[0] for f in floors], settings, rng) for i in measured.irreps],
        beyond=_beyond(measured),
        overall=tests.get("all"),
        retained=kept,
        parent=None if finite is None else _parent(finite, [f[1] for f in floors], settings, rng),
        structures=_worst(measured, finite, lab),
        aligned=aligned,
        framed=sum("frame" in atoms.info for atoms in structures),
        labelled=sum(any(x is not None for x in (s.energy, s.forces, s.stress)) for s in lab),
        joint_error=_joint_error(evaluate, structures, lab),
    )


def shuffle_frames(
    structures: Sequence[Atoms], seed: int = 0, *, parent: Atoms | str | MatrixGroup | None = None
) -> list[Atoms]:
    """The same labelled structures in random orientations against their laboratory, for a training control.

    A model trained on them can find no anisotropy but by chance: what it finds is the noise of training.

    Args:
        structures: Frames.
        seed: Of the orientations.
        parent: A crystal (or Schoenflies symbol): orientations are drawn from its point group only.

    Returns:
        Copies with another ``info["frame"]``; positions and labels are as they were.
    """
    rng = np.random.default_rng(seed)
    group = None if parent is None else parent_group(parent)
    shuffled = []
    for k, atoms in enumerate(structures):
        turn = _any_turn(rng) if group is None else group.elements[rng.integers(len(group))]
        copy = atoms.copy()
        copy.calc = atoms.calc
        copy.info["frame"] = frame_or_laboratory(atoms, k) @ turn.T
        shuffled.append(copy)
    return shuffled


def _any_turn(rng: np.random.Generator) -> Array:
    return np.asarray(Rotation.random(rng=rng).as_matrix() * rng.choice([-1.0, 1.0]))


def _over_rotations(
    measured: Measurement, settings: ReportSettings, rng: np.random.Generator, *, testable: bool
) -> tuple[dict[str, LabelTest], RetainedGroup]:
    """Tests by re-orientation over O(3), and the group that is left; without labels the group alone."""
    n = len(measured.structures)
    left = None
    if testable and measured.dependent:
        strict = {q: [measured.strict(k, q) for k in range(n)] for q in measured.quantities}
        energies = [float(e[0]) for e in strict["energies"]]
        left = Residuals.of(measured.structures, energies, strict["forces"], strict.get("stresses"))
    if left is None:
        return {}, retained_group(measured, None, rng)
    products = RotationalProducts(measured, left, rng)

    def test(parts: Mapping[str, Any]) -> dict[str, LabelTest]:
        others = {p.other.shape[1] for kinds in parts.values() for p in kinds}
        draws = {m: reorientations(rng, settings.reorientations, len(left.frames), m) for m in others}
        return reorientation_tests(parts, draws)

    def p_against(projectors: dict[Irrep, Array], elements: Array) -> float:
        return test({"": products.of_what_breaks(projectors, elements)})[""].p

    tests = test({i.name: products.of_irrep(i) for i in measured.irreps}) | test({"all": products.of_all()})
    return tests, retained_group(measured, p_against, rng)


def _component(
    measured: Measurement,
    irrep: Irrep,
    tests: Mapping[str, LabelTest],
    floors: Sequence[Mapping[str, float]],
    settings: ReportSettings,
    rng: np.random.Generator,
) -> Component:
    return _from_powers(
        irrep.name,
        {q: measured.powers(q, irrep) for q in measured.quantities},
        tests.get(irrep.name),
        floors,
        settings,
        rng,
    )


def _from_powers(
    name: str,
    powers: Mapping[str, Array],
    test: LabelTest | None,
    floors: Sequence[Mapping[str, float]],
    settings: ReportSettings,
    rng: np.random.Generator,
    tensors: tuple[str, ...] = (),
) -> Component:
    n = len(powers["energies"])
    chosen = rng.integers(0, n, size=(settings.resamples, n))
    stresses = powers.get("stresses")
    return Component(
        name=name,
        energy=_rms(powers["energies"]),
        energy_interval=_interval(powers["energies"], chosen),
        force=_rms(powers["forces"]),
        force_interval=_interval(powers["forces"], chosen),
        stress=None if stresses is None else _rms(stresses, GPa),
        stress_interval=None if stresses is None else _interval(stresses, chosen, GPa),
        test=test,
        controls=[floor[name] for floor in floors],
        tensors=tensors,
    )


def _rms(powers: Array, unit: float = 1e-3) -> float:
    return float(np.sqrt(max(0.0, powers.mean()))) / unit


def _interval(powers: Array, chosen: NDArray[np.int64], unit: float = 1e-3) -> tuple[float, float]:
    """95 % by resampled frames, of the root mean square, in meV unless another unit is given in eV."""
    low, high = np.percentile(powers[chosen].mean(axis=1), [2.5, 97.5])
    return float(np.sqrt(max(0.0, low))) / unit, float(np.sqrt(max(0.0, high))) / unit


def _beyond(measured: Measurement) -> float:
    """Rms energy of degrees above the highest, meV/atom."""
    known = sum((measured.powers("energies", i) for i in measured.irreps), np.zeros(1))
    return _rms(measured.totals["energies"] - known)


def _control(
    model: Any,
    lab: list[LabStructure],
    group: MatrixGroup | None,
    settings: ReportSettings,
    progress: Callable[[Iterable[Any]], Iterable[Any]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Rms energies (meV/atom) of a control by (l, p) and by irrep of the parent."""
    evaluate = evaluator_of(model)
    rng = np.random.default_rng(settings.seed)
    measured = Measurement.of(lab, evaluate, settings.lmax, settings.rotations, rng, progress)
    by_degree = {i.name: _rms(measured.powers("energies", i)) for i in measured.irreps}
    if group is None:
        return by_degree, {}
    finite = FiniteMeasurement.of(lab, evaluate, group, progress)
    return by_degree, {i.name: _rms(finite.powers("energies", i)) for i in finite.broken}


def _parent(
    finite: FiniteMeasurement,
    floors: Sequence[Mapping[str, float]],
    settings: ReportSettings,
    rng: np.random.Generator,
) -> Any:
    from mlip.symmetry.anisotropy_result import ParentSpectrum
    from mlip.symmetry.point_groups import point_group_name
    from mlip.symmetry.retained import INTERNATIONAL

    tests = finite.test(settings.reorientations, rng)
    irreps = [
        _from_powers(
            i.name,
            {q: finite.powers(q, i) for q in finite.kinds},
            tests.get(i.name),
            floors,
            settings,
            rng,
            i.tensors,
        )
        for i in finite.broken
    ]
    name = point_group_name(finite.group.elements)
    retained = finite.retained(settings.reorientations, rng)
    return ParentSpectrum(
        INTERNATIONAL.get(name, name), len(finite.group), irreps, tests.get("all"), retained, finite.forbidden
    )


def _worst(measured: Measurement, finite: FiniteMeasurement | None, lab: list[LabStructure]) -> list[Structure]:
    """Structures by how much their energy depends on orientation, largest first."""
    found = []
    for k, structure in enumerate(lab):
        rms = 1000 * float(np.sqrt(max(0.0, measured.totals["energies"][k])))
        if finite is not None:
            rms = 1000 * float(finite.energies[k].std())
            own = 1000 * float(finite.energies[k, 0] - finite.energies[k].mean())
        else:
            parts = [measured.coefficients(k, "energies", p) for p in (1, -1)]
            own = 1000 * sum(float(np.trace(parts[0 if i.parity == 1 else 1][i.l][..., 0])) for i in measured.irreps)
        found.append(Structure(structure.index, str(structure.atoms.symbols), rms, own))
    return sorted(found, key=lambda s: -s.rms)


def _joint_error(evaluate: Evaluator, structures: Sequence[Atoms], lab: list[LabStructure]) -> float | None:
    """Largest change of energy, eV/atom, when structure and frame turn together; None where all frames are trivial.

    A calculator that does not know frames has its laboratory along the Cartesian axes, and is not asked.
    """
    turned = [k for k, a in enumerate(structures) if np.abs(frame_or_laboratory(a, k) - np.eye(3)).max() > 1e-6][:5]
    if not turned or not getattr(evaluate, "knows_frames", False):
        return None
    here = evaluate([lab[k].atoms for k in turned])
    there = evaluate([structures[k].copy() for k in turned])
    return max(abs(a.energy - b.energy) / len(lab[k]) for k, a, b in zip(turned, here, there, strict=True))
