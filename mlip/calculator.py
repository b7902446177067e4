"""The ASE calculator: one potential or a committee, with exact Hessians and dynamical matrices."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import ArrayLike

from mlip.bloch import dynamical_matrix
from mlip.bloch_derivatives import BlochDerivatives
from mlip.calibration import Calibration, expand
from mlip.derivatives import evaluate, hessian, hessian_vector_product
from mlip.errors import InputError
from mlip.graph import AtomicGraph, species_index
from mlip.inference import for_inference, tables_repay
from mlip.neighbors import SkinNeighbors
from mlip.potential import Potential, resolve_dtype
from mlip.ranges import TrainingRanges
from mlip.response import field_response
from mlip.strain import strain_derivatives
from mlip.surroundings import FIELD, FRAME, NAMES, TENSOR, frame_matrix

Model = str | Path | Potential
LOST_SYMMETRIES = (
    "the energy depends on the orientation of the structure in its frame",
    "there is a torque on molecules and cells, so angular momentum is not conserved",
    "the stress is not symmetric: 'stress' is its symmetric part, 'full_stress' all of it (3, 3)",
    "phonons and elastic constants have only the symmetry that crystal and laboratory share",
    "rotational sum rules of force constants do not hold",
)


class MLIPCalculator(Calculator):
    """A potential as an ASE calculator.

    Computes energy, free_energy and energies (eV), forces (eV/Å) and, for structures periodic in all three
    directions, stress (eV/Å³). With several models it is a committee: results are means, and their standard
    deviations ``energy_std``, ``forces_std`` and ``stress_std`` (n − 1 in the denominator) appear beside them.
    Forces of a model with ``forces: direct`` are those of its second readout; they are no derivatives, and Hessians
    and dynamical matrices are refused.

    Args:
        model: A model file, a pattern such as ``"runs/si-committee/*/best.mlip"``, a Potential, or a list of these.
        device: Where to compute.
        dtype: ``"float32"``, ``"float64"``, or None: as stored. Hessians and dynamical matrices always use float64.
        skin: Extra radius of the neighbour list, Å.
        frame: (3, 3), v_structure = frame @ v_lab, for structures without ``atoms.info["frame"]``; a model with
            relaxed weights needs one. What then no longer holds is in ``lost_symmetries``, and said once.
        calibration: Factors on the committee's standard deviations; None: as they are.

    Raises:
        InputError: A model cannot be read, or the committee's members differ in species or cutoff.
    """

    # a list, as ASE has it; a committee extends its own copy
    implemented_properties: list[str] = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012
    default_parameters: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        model: Model | Sequence[Model],
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        skin: float = 0.5,
        frame: ArrayLike | None = None,
        calibration: Calibration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frame = None if frame is None else frame_matrix(frame)
        members = _members(model)
        self.calibration = calibration
        self.potentials = [_open(member, device, dtype) for member in members]
        _check_committee(self.potentials)
        self.potential = self.potentials[0]
        self.neighbors = SkinNeighbors(self.potential.cutoff, skin)
        self.ranges = TrainingRanges(self.potential.metadata.get("ranges", {}))
        # direct forces need no derivative, which the stress would cost: only where it is asked for
        self._all_direct = all(p.settings.forces == "direct" for p in self.potentials)
        self._warned = False
        self._exact_members: list[Potential] | None = None
        self._fast_members: list[Potential] | None = None
        if len(self.potentials) > 1:
            spreads = ["energy_std", "forces_std", "stress_std"]
            self.implemented_properties = [*self.implemented_properties, *spreads]
        if self.lost_symmetries:
            self.implemented_properties = [*self.implemented_properties, "full_stress"]
            warnings.warn(f"relaxed weights: {'; '.join(self.lost_symmetries)}", UserWarning, stacklevel=2)

    @property
    def rotation_invariant(self) -> bool:
        """Whether energies do not depend on how a structure lies in the laboratory."""
        return not any(p.settings.needs_frame for p in self.potentials)

    def is_invariant(self, atoms: Atoms) -> bool:
        """Whether turning this structure alone leaves its energy as it is: no relaxed weights, no field on it."""
        given = {"field": atoms.info.get(FIELD), "variants": atoms.info.get(TENSOR)}
        sources = {p.settings.anisotropy.source for p in self.potentials if p.settings.anisotropy is not None}
        felt = [given[source] for source in sources & set(given)]
        return self.rotation_invariant and not any(b is not None and np.any(b) for b in felt)

    @property
    def lost_symmetries(self) -> list[str]:
        """What no longer holds with relaxed weights; empty for models that keep every symmetry."""
        return [] if self.rotation_invariant else list(LOST_SYMMETRIES)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        structure = self.atoms
        if any("stress" in name for name in properties) and not structure.pbc.all():
            raise PropertyNotImplementedError("stress needs a structure periodic in all three directions")
        graph = self._graph(structure)
        asked = any("stress" in name for name in properties)
        with_stress = asked or (bool(structure.pbc.all()) and not self._all_direct)
        members = [self._evaluate(potential, graph, with_stress) for potential in self._members(graph)]
        self.results = members[0]
        if len(members) > 1:
            shared = set.intersection(*(set(m) for m in members))
            self.results = {name: np.mean([m[name] for m in members], axis=0) for name in shared}
            self._add_spread(members)
        self.results["energy"] = self.results["free_energy"] = float(self.results["energy"])
        self._warn_outside(structure, graph)

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """What has changed since the last calculation.

        ASE asks several times per MD step; its own comparison costs a small molecule a tenth of the step.
        """
        known = self.atoms
        if known is None or len(known) != len(atoms):
            return list(all_changes)
        now, then = ((a.positions, a.numbers, a.cell.array, a.pbc) for a in (atoms, known))
        names = ("positions", "numbers", "cell", "pbc")
        changed = [name for name, a, b in zip(names, now, then, strict=True) if not _equal(a, b, tol)]
        return changed + [n for n in NAMES if not _same(atoms.info.get(n), known.info.get(n))]

    def placed(self, atoms: Atoms) -> Atoms:
        """The structure with the frame that it is evaluated in: its own, else the calculator's."""
        if self.frame is None or atoms.info.get(FRAME) is not None:
            return atoms
        copy = atoms.copy()
        copy.info[FRAME] = self.frame
        return copy

    def get_hessian(self, atoms: Atoms, indices: Sequence[int] | None = None) -> np.ndarray:
        """Second derivatives by the positions, (3N, 3N), row 3i+a, eV/Å²; float64; the mean of a committee.

        Args:
            atoms: The structure.
            indices: Only the block (3k, 3k) of these k atoms, in this order, at a cost that scales with k.

        Raises:
            InputError: An index is out of range, or appears twice.
        """
        members = [hessian(p, p.graph(self.placed(atoms)), indices).detach().cpu().numpy() for p in self._exact()]
        return np.mean(members, axis=0)

    def get_strain_derivatives(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
        """∂²E/∂u∂ε and ∂²E/∂ε∂ε by symmetric strain, atoms carried along (see `mlip.strain`); float64.

        Args:
            atoms: A crystal periodic in all three directions.

        Returns:
            (N, 3, 3, 3) in eV/Å and (3, 3, 3, 3) in eV; the mean of a committee.

        Raises:
            InputError: The structure is not periodic in all three directions.
        """
        if not atoms.pbc.all():
            raise InputError("strain derivatives need a crystal periodic in all three directions")
        members = [strain_derivatives(p, p.graph(self.placed(atoms))) for p in self._exact()]
        mixed = np.mean([m.mixed.detach().cpu().numpy() for m in members], axis=0)
        return mixed, np.mean([m.strain.detach().cpu().numpy() for m in members], axis=0)

    def get_hessian_vector_product(self, atoms: Atoms, v: np.ndarray) -> np.ndarray:
        """+H·v, (N, 3) → (N, 3), eV/Å² times the unit of ``v``; float64.

        Raises:
            InputError: ``v`` has another shape.
        """
        vector = np.asarray(v, dtype=np.float64)
        if vector.shape != (len(atoms), 3):
            raise InputError(f"v must have shape ({len(atoms)}, 3), not {vector.shape}")
        products = [self._product(p, atoms, vector) for p in self._exact()]
        return np.mean(products, axis=0)

    def get_dynamical_matrix(self, atoms: Atoms, q: np.ndarray) -> np.ndarray:
        """D(q) of the crystal whose cell ``atoms`` holds, exactly, in phonopy's convention.

        Args:
            atoms: A cell, taken as it is; a non-primitive one gives folded bands.
            q: (3,) or (nq, 3), in fractions of this cell's reciprocal vectors.

        Returns:
            (nq, 3n, 3n) complex, eV/Å²/amu, with the masses of ``atoms``.

        Raises:
            InputError: The structure is not periodic in all three directions, or ``q`` has another shape.
        """
        points = np.atleast_2d(np.asarray(q, dtype=np.float64))
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError("q must have shape (3,) or (nq, 3) and be finite")
        if not atoms.pbc.all():
            raise InputError("a dynamical matrix needs a crystal periodic in all three directions")
        masses = torch.as_tensor(atoms.get_masses(), dtype=torch.float64, device=self.potential.device)
        wave = torch.as_tensor(points, dtype=torch.float64, device=self.potential.device)
        matrices = [
            dynamical_matrix(p, p.graph(self.placed(atoms)), wave, masses).detach().cpu().numpy()
            for p in self._exact()
        ]
        return np.mean(matrices, axis=0)

    def get_field_response(self, atoms: Atoms) -> dict[str, np.ndarray]:
        """Derivatives by an electric field, at ``atoms.info["electric_field"]`` or at none; see `mlip.response`.

        Returns:
            ``dipole`` (3,) in e Å, ``polarizability`` (3, 3) in e Å²/V, ``born_charges`` (N, 3, 3) in e with
            Z[i, a, b] = ∂F_ib/∂ε_a; float64; the mean of a committee.

        Raises:
            InputError: The model feels no field.
        """
        members = [field_response(p, p.graph(self.placed(atoms))).arrays() for p in self._exact()]
        return {name: np.mean([member[name] for member in members], axis=0) for name in members[0]}

    def get_wave_derivatives(self, atoms: Atoms, q: np.ndarray, waves: np.ndarray) -> dict[str, np.ndarray]:
        """First derivatives of the curvature Re v† H(q) v of Bloch waves; see `mlip.bloch_derivatives`.

        Args:
            atoms: A cell, taken as it is.
            q: (m, 3), the wavevector of each wave, in fractions of this cell's reciprocal vectors.
            waves: (m, n, 3) complex, u_jR = v_j exp(iq·R).

        Returns:
            ``curvature`` (m,), eV/Å² times |v|², ``by_wavevector`` (m, 3) per rad/Å, ``by_strain`` (m, 3, 3),
            ``by_position`` (m, n, 3) per Å; float64; the mean of a committee.
        """
        device = self.potential.device
        points = torch.as_tensor(np.asarray(q, dtype=np.float64), device=device)
        vectors = torch.as_tensor(np.asarray(waves, dtype=np.complex128), device=device)
        members = [BlochDerivatives(p, p.graph(self.placed(atoms)))(points, vectors) for p in self._exact()]
        return {name: np.mean([getattr(m, name).cpu().numpy() for m in members], axis=0) for name in vars(members[0])}

    def range_violations(self, atoms: Atoms) -> list[str]:
        """What in ``atoms`` lies outside the training data, one phrase each; empty when nothing does."""
        energy = float(self.get_property("energy", atoms))
        return self.ranges.violations(atoms, self._graph(atoms), self.potential.species, energy)

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """What ASE stores beside results: the parameters, which are none."""
        return super().todict(skip_default)

    def _graph(self, atoms: Atoms) -> AtomicGraph:
        index = species_index(atoms, self.potential.species)
        return self.neighbors.graph(self.placed(atoms), index, self.potential.dtype, self.potential.device)

    @staticmethod
    def _evaluate(potential: Potential, graph: AtomicGraph, stress: bool) -> dict[str, Any]:
        evaluation = evaluate(potential, graph, stress=stress)
        results: dict[str, Any] = {
            "energy": float(evaluation.energy[0]),
            "energies": evaluation.atomic_energies.cpu().numpy(),
            "forces": evaluation.forces.detach().cpu().double().numpy(),
        }
        if evaluation.stress is not None:
            full = evaluation.stress[0].detach().cpu().double().numpy()
            results["stress"] = full_3x3_to_voigt_6_stress(full)
        if evaluation.full_stress is not None and potential.settings.needs_frame:
            results["full_stress"] = evaluation.full_stress[0].detach().cpu().double().numpy()
        return results

    def _add_spread(self, members: list[dict[str, Any]]) -> None:
        for name in ("energy", "forces", "stress"):
            if name in members[0]:
                spread = np.std([m[name] for m in members], axis=0, ddof=1)
                self.results[f"{name}_std"] = spread * (self.calibration.scale(name) if self.calibration else 1.0)
        self.results["energy_std"] = float(self.results["energy_std"])

    def _members(self, graph: AtomicGraph) -> list[Potential]:
        """What is evaluated: with tables from the first structure on that is large enough to repay them."""
        if self._fast_members is None and tables_repay(self.potential, graph):
            self._fast_members = [for_inference(p) for p in self.potentials]
        return self._fast_members or self.potentials

    def _exact(self) -> list[Potential]:
        """The members in float64, copied when first needed."""
        if self._exact_members is None:
            members = [p if p.dtype == torch.float64 else _copy(p, torch.float64) for p in self.potentials]
            self._exact_members = members
        return self._exact_members

    def _product(self, potential: Potential, atoms: Atoms, vector: np.ndarray) -> np.ndarray:
        tensor = torch.as_tensor(vector, dtype=torch.float64, device=potential.device)
        return hessian_vector_product(potential, potential.graph(self.placed(atoms)), tensor).detach().cpu().numpy()

    def _warn_outside(self, atoms: Atoms, graph: AtomicGraph) -> None:
        if self._warned:
            return
        found = self.ranges.violations(atoms, graph, self.potential.species, self.results["energy"])
        if found:
            self._warned = True
            warnings.warn(f"outside the training data: {'; '.join(found)}", UserWarning, stacklevel=4)


def _same(a: Any, b: Any) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _equal(a: np.ndarray, b: np.ndarray, tol: float) -> bool:
    return np.array_equal(a, b) or (tol > 0 and np.allclose(a, b, rtol=0, atol=tol))


def _members(model: Model | Sequence[Model]) -> list[Model]:
    """The models one by one, patterns expanded."""
    given = [model] if isinstance(model, str | Path | Potential) else list(model)
    members: list[Model] = [m for one in given for m in (expand(one) if isinstance(one, str) else [one])]
    if not members:
        raise InputError("no model given")
    return members


def _open(model: Model, device: str | torch.device, dtype: str | torch.dtype | None) -> Potential:
    if not isinstance(model, Potential):
        potential = Potential.load(model, device, dtype)
    else:
        potential = _copy(model, model.dtype if dtype is None else resolve_dtype(dtype)).to(device)
    return potential.eval().requires_grad_(False)


def _copy(potential: Potential, dtype: torch.dtype) -> Potential:
    """A copy of its own, so that neither the caller's model nor its gradients are touched."""
    copy = Potential(potential.settings, potential.species, potential.normalization)
    copy = copy.to(device=potential.device, dtype=dtype)
    copy.load_state_dict(potential.state_dict())
    copy.metadata = potential.metadata
    return copy.eval().requires_grad_(False)


def _check_committee(potentials: Sequence[Potential]) -> None:
    first = potentials[0]
    for other in potentials[1:]:
        if other.species != first.species or other.cutoff != first.cutoff:
            raise InputError("the members of a committee must share species and cutoff")
