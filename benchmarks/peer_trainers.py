"""How each peer is trained from its own command line: settings it recommends, scaled to the epochs there is time for.

NequIP: four layers with 32 features up to l = 2 and no parity (``4x32``), or its own preset S, compiled as its
documentation advises; Adam at 0.01, mean squared errors of energies per atom and forces with equal coefficients, all
as in the configurations it ships; the learning rate falls along a cosine to the last epoch, since a plateau is seldom
met within minutes, and the weights are averaged over a tenth of the steps, at most a thousand. MACE: two layers of
64×0e+64×1o, or of 32 channels to l = 2 (``L2x32``), correlation three; AMSGrad, moving average, a plateau of a tenth
of the epochs, stage two over the last quarter: the flags of its README. Both start from the mean energy of the
training frames, as ours does, and not from free atoms: minutes do not suffice to learn the whole cohesive energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from ase.data import atomic_numbers
from environments import python_of


@dataclass(frozen=True)
class Sets:
    """The frames of a recipe in files that every package reads, and what its settings say of them.

    Attributes:
        folder: Where ``train.extxyz`` and ``validation.extxyz`` lie.
        e0: Energy of each free atom, eV.
        shift: Mean energy per atom of the training frames above the free atoms, eV.
        cutoff: Å.
        batch_size: Frames a step.
        steps: Of an epoch.
        part: Share of the frames that is in the files of its folder ``timing``.
    """

    folder: Path
    e0: dict[str, float]
    shift: float
    cutoff: float
    batch_size: int
    steps: float
    part: float


class Trainer(Protocol):
    """A peer in one of its sizes."""

    name: str
    peer: str

    def command(self, sets: Sets, work: Path, epochs: int, seed: int) -> Sequence[str | Path]:
        """What trains it; it leaves its model in the folder."""

    def model(self, work: Path) -> Path:
        """The file with the model."""


@dataclass
class NequIP:
    """``nequip-train``."""

    name: str
    size: dict[str, Any]
    peer: str = field(default="nequip", init=False)

    def command(self, sets: Sets, work: Path, epochs: int, seed: int) -> Sequence[str | Path]:
        """Its configuration, written to the folder, and the command that takes it."""
        (work / "config.yaml").write_text(yaml.safe_dump(self._config(sets, work, epochs, seed)), encoding="utf-8")
        script = python_of(self.peer).parent / "nequip-train"
        return [script, "-cp", work.resolve(), "-cn", "config", f"hydra.run.dir={work.resolve()}"]

    def model(self, work: Path) -> Path:
        """The checkpoint with the least error on the validation frames."""
        return work / "best.ckpt"

    def _config(self, sets: Sets, work: Path, epochs: int, seed: int) -> dict[str, Any]:
        species = list(sets.e0)
        loader = {"_target_": "torch.utils.data.DataLoader", "batch_size": sets.batch_size}
        transforms = "nequip.data.transforms."
        to_types = {symbol: symbol for symbol in species}
        error = {"coeffs": {"per_atom_energy_mae": 1.0, "forces_mae": 1.0}}
        averaged = min(1000.0, max(10.0, 0.1 * epochs * sets.steps))
        best = {"monitor": "val0_epoch/weighted_sum", "dirpath": str(work.resolve()), "filename": "best"}
        return {
            "run": ["train"],
            "data": {
                "_target_": "nequip.data.datamodule.ASEDataModule",
                "seed": seed,
                "train_file_path": str((sets.folder / "train.extxyz").resolve()),
                "val_file_path": str((sets.folder / "validation.extxyz").resolve()),
                "transforms": [
                    {
                        "_target_": transforms + "ChemicalSpeciesToAtomTypeMapper",
                        "model_type_names": species,
                        "chemical_species_to_atom_type_map": to_types,
                    },
                    {"_target_": transforms + "NeighborListTransform", "r_max": sets.cutoff},
                ],
                "train_dataloader": {**loader, "shuffle": True},
                "val_dataloader": loader,
                "stats_manager": {
                    "_target_": "nequip.data.CommonDataStatisticsManager",
                    "type_names": species,
                    "dataloader_kwargs": {"batch_size": 10},
                },
            },
            "trainer": {
                "_target_": "lightning.Trainer",
                "accelerator": "cpu",
                "max_epochs": epochs,
                "logger": False,
                "enable_progress_bar": False,
                "callbacks": [{"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", **best}],
            },
            "training_module": {
                "_target_": "nequip.train.EMALightningModule",
                "ema_decay": 1.0 - 1.0 / averaged,
                "loss": {
                    "_target_": "nequip.train.EnergyForceLoss",
                    "per_atom_energy": True,
                    "coeffs": {"total_energy": 1.0, "forces": 1.0},
                },
                "val_metrics": {"_target_": "nequip.train.EnergyForceMetrics", **error},
                "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
                "lr_scheduler": {
                    "scheduler": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": epochs},
                    "interval": "epoch",
                    "frequency": 1,
                },
                "model": {
                    "seed": seed,
                    "compile_mode": "compile",
                    "model_dtype": "float32",
                    "type_names": species,
                    "r_max": sets.cutoff,
                    "avg_num_neighbors": "${training_data_stats:per_type_num_neighbors_mean}",
                    "per_type_energy_scales": "${training_data_stats:per_type_forces_rms}",
                    "per_type_energy_shifts": {symbol: e0 + sets.shift for symbol, e0 in sets.e0.items()},
                    **self.size,
                },
            },
        }


@dataclass
class MACE:
    """``mace_run_train``."""

    name: str
    irreps: str
    max_ell: int = 3
    peer: str = field(default="mace", init=False)

    def command(self, sets: Sets, work: Path, epochs: int, seed: int) -> Sequence[str | Path]:
        """The command with its flags."""
        energies = ", ".join(f"{atomic_numbers[symbol]}: {value:.10g}" for symbol, value in sets.e0.items())
        files = {
            "work_dir": work.resolve(),
            "train_file": (sets.folder / "train.extxyz").resolve(),
            "valid_file": (sets.folder / "validation.extxyz").resolve(),
            "E0s": "{" + energies + "}",
            "energy_key": "energy",
            "forces_key": "forces",
        }
        steps = {
            "batch_size": sets.batch_size,
            "max_num_epochs": epochs,
            "scheduler_patience": max(2, epochs // 10),
            "start_swa": max(1, 3 * epochs // 4),
            "lr": 0.01,
            "ema_decay": 0.99,
        }
        network = {"r_max": sets.cutoff, "hidden_irreps": self.irreps, "max_ell": self.max_ell}
        layers = {"num_interactions": 2, "correlation": 3}
        run = {
            "name": "mace",
            "model": "ScaleShiftMACE",
            "seed": seed,
            "device": "cpu",
            "default_dtype": "float32",
            "plot": "False",
        }
        options = {**run, **files, **steps, **network, **layers}
        script = python_of(self.peer).parent / "mace_run_train"
        flags = ["--ema", "--amsgrad", "--swa"]
        return [script, *(f"--{key}={value}" for key, value in options.items()), *flags]

    def model(self, work: Path) -> Path:
        """Of stage two."""
        return work / "mace_stagetwo.model"


_BUILDERS = {"preset": "nequip.model.PresetNequIPGNNModel", "own": "nequip.model.NequIPGNNModel"}
_LAYERS = {"num_layers": 4, "l_max": 2, "num_features": 32, "parity": False}
TRAINERS: dict[str, Trainer] = {
    "NequIP 4x32": NequIP("NequIP 4x32", {"_target_": _BUILDERS["own"], **_LAYERS}),
    "NequIP S": NequIP("NequIP S", {"_target_": _BUILDERS["preset"], "preset": "S"}),
    "MACE 64x0e+64x1o": MACE("MACE 64x0e+64x1o", "64x0e + 64x1o"),
    "MACE L2x32": MACE("MACE L2x32", "32x0e + 32x1o + 32x2e", max_ell=2),
}
