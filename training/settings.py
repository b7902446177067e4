"""Every setting of a training run: one strict schema, each field with its unit and meaning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mlip.datasets.entry import DatasetEntry
from mlip.settings import ModelSettings
from mlip.training.base_settings import Settings, as_entries, changed_fields
from mlip.training.task_settings import DensSettings, HessianSettings


class WandbSettings(Settings):
    """Tracking with Weights & Biases; off unless this section is given."""

    project: str = Field(default="mlip", description="Name of the project the run is filed under.")
    entity: str | None = Field(default=None, description="User or team; null: the account's default.")
    mode: Literal["online", "offline"] | None = Field(
        default=None, description="'offline' keeps everything in the run folder; null: as WANDB_MODE says."
    )


class RunSettings(Settings):
    """Where the run's files go: ``folder/name``."""

    name: str | None = Field(default=None, description="Name of the run; null: the configuration file's name.")
    folder: Path = Field(default=Path("runs"), description="Folder of all runs.")
    wandb: WandbSettings | None = Field(default=None, description="Tracking with Weights & Biases; null: off.")

    @field_validator("name")
    @classmethod
    def _name_is_one_folder(cls, name: str | None) -> str | None:
        if name is not None and (not name or name in {".", ".."} or "/" in name):
            raise ValueError("a run's name is the name of one folder, without '/'")
        return name


# What stands for a list of files: a path, an entry, or a list of either.
_SHORT = str | DatasetEntry | list[str | DatasetEntry]


class E0Settings(Settings):
    """Energies of isolated atoms, subtracted from the labels."""

    method: Literal["isolated", "fit", "explicit"] | None = Field(
        default=None,
        description="'isolated': from single-atom frames in the training set; 'fit': least squares over "
        "compositions; 'explicit': as given in `values`; null: isolated when every species has its frame, "
        "else fit.",
    )
    path: str | None = Field(
        default=None, description="isolated: a file of single-atom frames, beside those in train."
    )
    values: dict[str, float] | None = Field(default=None, description="explicit: element → energy of its atom (eV).")

    @model_validator(mode="after")
    def _options_belong_to_the_method(self) -> Self:
        if (self.method == "explicit") != (self.values is not None):
            raise ValueError("'values' is needed by, and only used by, method: explicit")
        if self.path is not None and self.method not in {None, "isolated"}:
            raise ValueError(f"'path' belongs to method: isolated, not to {self.method}")
        return self


class DataSettings(Settings):
    """The labelled frames."""

    train: list[DatasetEntry] = Field(
        min_length=1, description="Files to train on; 'silicon:train' names an embedded set."
    )
    validation: float | list[DatasetEntry] = Field(
        default=0.05, description="A fraction of the training frames, drawn with the run's seed, or files."
    )
    test: list[DatasetEntry] = Field(default_factory=list, description="Files evaluated once, at the end.")
    e0: E0Settings = Field(default_factory=E0Settings, description="Energies of isolated atoms.")
    split_seed: int | None = Field(
        default=None, ge=0, description="Seed of the draw of `validation`; null: the run's. Equal in a committee."
    )
    subset: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the training frames that is trained on, drawn with the run's seed: the members of a "
        "committee then differ in what they have seen, and their spread shows what the data leave open; null: all.",
    )

    @field_validator("train", "test", mode="before", json_schema_input_type=_SHORT)
    @classmethod
    def _paths_are_entries(cls, value: Any) -> Any:
        return as_entries(value)

    @field_validator("validation", mode="before", json_schema_input_type=float | _SHORT)
    @classmethod
    def _validation_is_a_number_or_entries(cls, value: Any) -> Any:
        return value if isinstance(value, str) and _is_number(value) else as_entries(value)

    @field_validator("validation")
    @classmethod
    def _there_is_validation(cls, value: float | list[DatasetEntry]) -> float | list[DatasetEntry]:
        if isinstance(value, float) and not 0.0 < value < 1.0:
            raise ValueError("a fraction between 0 and 1, or a list of files: the best model is chosen by it")
        if isinstance(value, list) and not value:
            raise ValueError("an empty list: the best model is chosen by the validation frames")
        return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_OF_FIELD = ("polarization", "born_charges", "polarizability")


# Of squared errors in eV/atom, eV/Å and eV/Å³: what is proposed where nothing is chosen.
WEIGHTS: dict[Literal["energy", "forces", "stress"], float] = {"energy": 100.0, "forces": 100.0, "stress": 1000.0}


class LossTermSettings(Settings):
    """One term of the loss: weight × norm of (prediction − label), averaged over all labels of a batch."""

    target: Literal["energy", "forces", "stress", "polarization", "born_charges", "polarizability"] = Field(
        description="The label compared with. The last three are derivatives by an electric field, in e Å (of the "
        "whole cell, up to e times its periods), e and e Å²/V, and need model.anisotropy.source: field."
    )
    weight: float = Field(default=1.0, ge=0, description="Factor of this term; never changed behind your back.")
    norm: Literal["mse", "mae", "huber", "l2mae"] = Field(
        default="mse", description="Mean square, mean absolute, Huber, or (forces) mean length of the error vectors."
    )
    delta: float = Field(
        default=0.01, gt=0, description="Huber: error at which square turns linear (eV/atom, eV/Å or eV/Å³)."
    )
    per_atom: bool = Field(default=True, description="Energy: divide the error by the number of atoms.")

    @model_validator(mode="after")
    def _options_belong_to_the_term(self) -> Self:
        changed = changed_fields(self)
        if "delta" in changed and self.norm != "huber":
            raise ValueError(f"'delta' belongs to norm: huber, not to {self.norm}")
        if "per_atom" in changed and self.target != "energy":
            raise ValueError(f"'per_atom' belongs to target: energy, not to {self.target}")
        if self.norm == "l2mae" and self.target not in {"forces", "polarization"}:
            raise ValueError(f"norm: l2mae is the length of vectors, not defined for {self.target}")
        return self


class LoopSettings(Settings):
    """The optimisation itself."""

    max_epochs: int | None = Field(default=500, ge=1, description="Passes over the training frames; null: no limit.")
    max_minutes: float | None = Field(
        default=30.0, gt=0, description="Budget in minutes, on which the schedule lands at zero; null: no limit."
    )
    batch_size: int = Field(default=5, ge=1, description="Frames per step, over all processes together.")
    optimizer: Literal["muon", "adam", "adam_amsgrad", "adamw"] = Field(
        default="muon", description="muon: orthogonalised steps for matrices, Adam for the rest; others from torch."
    )
    learning_rate: float = Field(default=0.01, gt=0, description="Largest learning rate.")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty; decoupled with adamw.")
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        default="cosine", description="cosine: to zero at max_epochs or max_minutes, whichever comes first."
    )
    warmup_steps: int = Field(default=0, ge=0, description="Steps over which the learning rate rises from zero.")
    plateau_factor: float = Field(default=0.8, gt=0, lt=1, description="plateau: factor on the learning rate.")
    plateau_patience: int = Field(default=25, ge=0, description="plateau: validations without a better loss.")
    ema: float | None = Field(
        default=0.99, gt=0, lt=1, description="Decay per step of the weight average that is kept; null: none."
    )
    clip: float | None = Field(default=10.0, gt=0, description="Largest norm of the gradient; null: no clipping.")
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many epochs without a better validation loss; null: never."
    )
    validate_every: int | None = Field(
        default=None,
        ge=1,
        description="Epochs between validations; null: so that they cost about a tenth of the time.",
    )
    dtype: Literal["float32", "float64"] = Field(default="float32", description="Precision of the network.")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1.")
    threads: int = Field(default=1, ge=1, description="CPU threads of torch.")
    compile: bool = Field(
        default=False,
        description="Compile the step when training begins and check it against the uncompiled one: minutes at the "
        "start, then faster steps. Needs a C++ compiler; for energies, forces and stress.",
    )
    graph_memory: float = Field(
        default=2.0, ge=0, description="Memory for graphs that are kept (GiB); the others are built when needed."
    )

    @model_validator(mode="after")
    def _it_ends(self) -> Self:
        if self.max_epochs is None and self.max_minutes is None:
            raise ValueError("one of max_epochs and max_minutes is needed")
        plateau = {"plateau_factor", "plateau_patience"} & changed_fields(self)
        if plateau and self.schedule != "plateau":
            raise ValueError(f"'{min(plateau)}' belongs to schedule: plateau, not to {self.schedule}")
        return self


class TrainingSettings(Settings):
    """A whole training run. The smallest configuration is a data path and a cutoff."""

    seed: int = Field(default=1, ge=0, description="Seed of the weights, the split and the order of frames.")
    run: RunSettings = Field(default_factory=RunSettings, description="Name and folder of the run.")
    model: ModelSettings = Field(description="The network; its cutoff (Å) is the one thing to choose.")
    data: DataSettings = Field(description="The labelled frames.")
    loss: list[LossTermSettings] = Field(
        default=[LossTermSettings(target=target, weight=WEIGHTS[target]) for target in ("energy", "forces")],
        min_length=1,
        description="Terms, in eV/atom, eV/Å and eV/Å³.",
    )
    training: LoopSettings = Field(default_factory=LoopSettings, description="The optimisation.")
    dens: DensSettings | None = Field(default=None, description="Denoising as an auxiliary task; null: none.")
    hessian: HessianSettings | None = Field(default=None, description="Curvature as an auxiliary task; null: off.")
    init_from: Path | None = Field(default=None, description="A model whose weights to start from (fine-tuning).")

    @model_validator(mode="before")
    @classmethod
    def _one_seed_for_all(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("model"), dict):
            return {**data, "model": {"seed": data.get("seed", 1), **data["model"]}}
        return data

    @field_validator("loss")
    @classmethod
    def _terms_differ(cls, terms: list[LossTermSettings]) -> list[LossTermSettings]:
        kinds = [(t.target, t.norm, t.per_atom) for t in terms]
        if len(set(kinds)) < len(kinds):
            raise ValueError("two terms have the same target and norm: add up their weights instead")
        if all(t.weight == 0 for t in terms):
            raise ValueError("every weight is zero: nothing would be trained")
        return terms

    @model_validator(mode="after")
    def _patience_can_run_out(self) -> Self:
        limit, patience = self.training.max_epochs, self.training.patience
        if patience is not None and limit is not None and patience >= limit:
            raise ValueError(f"training.patience {patience} never runs out within max_epochs {limit}")
        return self

    @model_validator(mode="after")
    def _curvature_starts_within_the_run(self) -> Self:
        start = None if self.hessian is None else self.hessian.start_minutes
        if start is not None and (self.training.max_minutes or math.inf) <= start:
            raise ValueError(
                f"hessian.start_minutes {start:g} is not within max_minutes {self.training.max_minutes:g}"
            )
        return self

    @model_validator(mode="after")
    def _noise_can_be_told(self) -> Self:
        model = self.model
        if self.dens is not None and self.hessian is not None and self.hessian.data is None:
            raise ValueError(
                "dens moves atoms of the very frames whose Hessians would be probed: name them in hessian.data"
            )
        if self.dens is not None and (model.lmax < 1 or (model.architecture == "nequip" and model.num_layers < 2)):
            raise ValueError("dens needs vectors in the network: lmax ≥ 1 (and for nequip num_layers ≥ 2)")
        return self

    @model_validator(mode="after")
    def _fields_are_felt(self) -> Self:
        asked = [term.target for term in self.loss if term.target in _OF_FIELD]
        anisotropy = self.model.anisotropy
        if asked and (anisotropy is None or anisotropy.source != "field"):
            raise ValueError(f"a loss on {asked[0]} needs a model that feels a field: anisotropy: {{source: field}}")
        if asked and self.model.forces == "direct":
            raise ValueError(f"a loss on {asked[0]} needs forces: gradient")
        if asked and (self.dens is not None or (self.hessian is not None and self.hessian.data is None)):
            raise ValueError(f"a loss on {asked[0]} goes with neither dens nor Hessians of the training frames")
        return self

    @model_validator(mode="after")
    def _what_is_compiled(self) -> Self:
        if not self.training.compile:
            return self
        model, targets = self.model, {term.target for term in self.loss}
        others = {
            "hessian": self.hessian is not None,
            "dens": self.dens is not None,
            "model.anisotropy": model.anisotropy is not None,
            "dropout": any((model.dropout, model.drop_path, model.attention_dropout)),
            f"a loss on {min(targets)}": bool(targets & set(_OF_FIELD)),
        }
        for name, there in others.items():
            if there:
                raise ValueError(f"training.compile does not go with {name}")
        return self

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.folder / (self.run.name or "run")
