"""Settings of the auxiliary tasks: curvature and denoising."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mlip.datasets.entry import DatasetEntry
from mlip.training.base_settings import Settings, as_entries, changed_fields


class CurvatureEntry(DatasetEntry):
    """One file of labels of the curvature, and what is asked of them."""

    target: Literal["hessian", "dynamical_matrix", "force_differences"] = Field(
        "hessian",
        description="hessian: H·v on the frame itself; dynamical_matrix: D(q)·v on the primitive cell, at the q that "
        "fit into the label's supercell; force_differences: F(u) − F(0) of phonopy's displaced supercells.",
    )
    q_points: list[tuple[float, float, float]] | None = Field(
        None,
        min_length=1,
        description="dynamical_matrix: only these, in fractions of the primitive reciprocal vectors; null: all.",
    )
    primitive: str | None = Field(
        None, description="dynamical_matrix: a structure file of the primitive cell; null: phonopy finds it."
    )

    @model_validator(mode="after")
    def _options_belong_to_the_target(self) -> Self:
        if self.target != "dynamical_matrix":
            for name in ("q_points", "primitive"):
                if getattr(self, name) is not None:
                    raise ValueError(f"'{name}' belongs to target: dynamical_matrix, not to {self.target}")
        return self


class HessianSettings(Settings):
    """Curvature as an auxiliary task: products H·v with random v, differentiated three times.

    Energies and forces go on being sampled beside it. Probes have components of unit variance (real and imaginary
    parts alike), or are one column.
    """

    weight: float = Field(default=1.0, gt=0, description="Factor of this term, in eV/Å² (squared with norm: mse).")
    norm: Literal["mae", "mse", "l2mae"] = Field(
        default="mae", description="Mean absolute, mean square, or mean length of the error vectors of the atoms."
    )
    probes: Literal["gaussian", "columns"] = Field(
        default="gaussian", description="gaussian: isotropic random vectors; columns: one random column."
    )
    per_step: int = Field(
        default=1,
        ge=1,
        description="Labels of `data` probed in each step, over all processes together. With data: null every frame "
        "of a batch that has a Hessian is probed.",
    )
    start: float = Field(
        default=0.0, ge=0, lt=1, description="Part of the run with energies and forces alone (0.5: the first half)."
    )
    start_minutes: float | None = Field(default=None, gt=0, description="The same in minutes; null: as `start` says.")
    data: list[CurvatureEntry] | None = Field(
        default=None, min_length=1, description="Labels; null: the training frames that carry a Hessian."
    )
    validation: list[CurvatureEntry] | None = Field(
        default=None,
        min_length=1,
        description="Labels for the logged errors; null: some of `data`, or with `data: null` the validation frames "
        "that carry a Hessian where there are any.",
    )
    validation_size: int = Field(
        default=4,
        ge=1,
        description="Labels, drawn once with the run's seed, whose whole matrix each validation computes.",
    )

    @field_validator(
        "data",
        "validation",
        mode="before",
        json_schema_input_type=str | CurvatureEntry | list[str | CurvatureEntry] | None,
    )
    @classmethod
    def _paths_are_entries(cls, value: Any) -> Any:
        return as_entries(value)

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.start_minutes is not None and self.start > 0:
            raise ValueError("'start' and 'start_minutes' exclude each other")
        if self.data is None and self.per_step != 1:
            raise ValueError("'per_step' belongs to `data`; without it every frame that has a Hessian is probed")
        return self


class DensSettings(Settings):
    """Denoising non-equilibrium structures (2403.09549) as an auxiliary task, of which the file keeps no trace."""

    sigma: float = Field(default=0.05, gt=0, le=1, description="Standard deviation of the noise (Å).")
    weight: float = Field(default=5.0, gt=0, description="Factor of the mean square of (predicted − true) noise/σ.")
    decay: bool = Field(default=True, description="Let the weight fall linearly to zero over the run.")
    probability: float = Field(default=0.25, gt=0, le=1, description="Share of the frames that are corrupted.")
    ratio: float = Field(default=0.25, gt=0, lt=1, description="Share of such a frame's atoms that are moved.")
    max_force: float = Field(
        default=30.0, gt=0, description="Frames with a larger force on an atom stay as they are (eV/Å)."
    )
    ladder: bool = Field(
        default=False, description="Draw σ for each frame from 50 logarithmic steps from 0.01 to 0.5 Å."
    )

    @model_validator(mode="after")
    def _one_kind_of_sigma(self) -> Self:
        if self.ladder and "sigma" in changed_fields(self):
            raise ValueError("'sigma' and 'ladder' exclude one another")
        return self
