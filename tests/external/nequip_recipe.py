"""Run in NequIP's own environment: makes the checkpoints in tests/mlip/nequip_models and what NequIP says of them.

    PYTHON_OF_NEQUIP tests/external/nequip_recipe.py [FOLDER]

Two models are trained on the embedded silicon, twenty seconds each, by `nequip-train`; a third, for two species and
with every option that depends on them, has random weights. `benchmarks/nequip_phonons.py` takes `train` from here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import bulk, make_supercell

HERE = Path(__file__).resolve().parent
SILICON = HERE.parents[1] / "datasets" / "silicon"
MODELS = HERE.parent / "mlip" / "nequip_models"

PARITY = {"num_layers": 4, "l_max": 2, "parity": True, "num_features": 4, "radial_mlp_width": 8}
TAPERED = {
    "num_layers": 2, "l_max": 1, "parity": False, "num_features": [8, 4], "type_embed_num_features": 6,
    "radial_mlp_depth": 2, "radial_mlp_width": 8, "readout_mlp_hidden_layers_depth": 1, "bessel_trainable": True,
    "polynomial_cutoff_p": 8,
}  # fmt: skip
SPECIES = {
    "seed": 3, "model_dtype": "float64", "type_names": ["O", "Si"], "r_max": 4.0, "num_layers": 3, "l_max": 2,
    "parity": True, "num_features": [3, 2, 3], "radial_mlp_depth": 1, "radial_mlp_width": 8,
    "readout_mlp_hidden_layers_depth": 2, "readout_mlp_hidden_layers_width": 5, "readout_mlp_nonlinearity": "mish",
    "per_edge_type_cutoff": {"O": 3.5, "Si": {"O": 3.2, "Si": 4.0}}, "avg_num_neighbors": {"O": 2.0, "Si": 3.0},
    "per_type_energy_scales": {"O": 60.0, "Si": 28.0}, "per_type_energy_shifts": {"O": -2.0, "Si": -4.0},
}  # fmt: skip


def training(model, seconds, averaged, folder):
    """The configuration of `nequip-train`."""
    symbols, module = ["Si"], "EMALightningModule" if averaged else "NequIPLightningModule"
    transforms = [
        {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": symbols},
        {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": 5.0},
    ]
    statistics = "${training_data_stats:%s}"
    return {
        "run": ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": 1,
            "train_file_path": "train.xyz",
            "val_file_path": "validation.xyz",
            "transforms": transforms,
            "train_dataloader": {"_target_": "torch.utils.data.DataLoader", "batch_size": 5, "shuffle": True},
            "val_dataloader": {"_target_": "torch.utils.data.DataLoader", "batch_size": 10},
            "stats_manager": {"_target_": "nequip.data.CommonDataStatisticsManager", "type_names": symbols},
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "accelerator": "cpu",
            "max_time": f"00:00:00:{seconds:02d}" if seconds < 60 else f"00:00:{seconds // 60:02d}:00",
            "max_epochs": 1000,
            "enable_progress_bar": False,
            "logger": False,
            "callbacks": [
                {
                    "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "dirpath": str(folder),
                    "filename": "last",
                    "save_weights_only": True,
                }
            ],
        },
        "training_module": {
            "_target_": f"nequip.train.{module}",
            **({"ema_decay": 0.99} if averaged else {}),
            "loss": {
                "_target_": "nequip.train.EnergyForceLoss",
                "per_atom_energy": True,
                "coeffs": {"total_energy": 1.0, "forces": 1.0},
            },
            "val_metrics": {
                "_target_": "nequip.train.EnergyForceMetrics",
                "coeffs": {"total_energy_mae": 1.0, "forces_mae": 1.0},
            },
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
            "model": {
                "_target_": "nequip.model.NequIPGNNModel",
                "seed": 1,
                "model_dtype": "float64",
                "type_names": symbols,
                "r_max": 5.0,
                "avg_num_neighbors": statistics % "num_neighbors_mean",
                "per_type_energy_scales": statistics % "forces_rms",
                "per_type_energy_shifts": statistics % "per_atom_energy_mean",
                **model,
            },
        },
        "global_options": {"allow_tf32": False},
    }


def train(model, seconds, target, *, averaged=True):
    """Train on the embedded silicon and keep the checkpoint as ``target``."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(training(model, seconds, averaged, folder)))
        command = [Path(sys.executable).with_name("nequip-train"), "-cp", folder, "-cn", "config"]
        options = [f"hydra.run.dir={folder}/hydra", "hydra.job.chdir=false"]
        subprocess.run([*command, *options], check=True, cwd=SILICON)
        content = torch.load(next(Path(folder).glob("last*.ckpt")), weights_only=True)
    torch.save(portable(content), target)


def portable(content):
    """A checkpoint without optimiser, callbacks and the folders of the machine it was trained on."""
    kept = {name: content[name] for name in ("epoch", "global_step", "pytorch-lightning_version", "state_dict")}
    hyper = dict(content["hyper_parameters"])
    data = {k: Path(v).name if k.endswith("_path") else v for k, v in hyper["info_dict"]["data"].items()}
    training_module = hyper["info_dict"]["training_module"]
    info = {"versions": hyper["info_dict"]["versions"], "data": data, "training_module": training_module}
    return kept | {"hyper_parameters": hyper | {"info_dict": info}}


def random_model(arguments, target):
    """A checkpoint with random weights."""
    import nequip
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    model = NequIPGNNModel(**arguments)
    hyper = {
        "model": {"_target_": "nequip.model.NequIPGNNModel", **arguments},
        "info_dict": {
            "versions": {"nequip": nequip.__version__},
            "training_module": {"_target_": "nequip.train.NequIPLightningModule"},
        },
        "num_datasets": {"train": 1, "val": 0, "test": 0},
    }
    state = {f"model.sole_model.{name}": x for name, x in model.state_dict().items()}
    state["run_stage"] = torch.zeros(1, dtype=torch.long)
    torch.save({"hyper_parameters": hyper, "state_dict": state, "pytorch-lightning_version": "2.5.0"}, target)


def silicon_frames():
    """A rattled cubic cell, and a strained primitive one, smaller than the cutoff."""
    rng = np.random.default_rng(1)
    cubic, primitive = bulk("Si", a=5.43, cubic=True), bulk("Si", a=5.3)
    cubic.positions += 0.1 * rng.standard_normal(cubic.positions.shape)
    primitive.positions += 0.05 * rng.standard_normal(primitive.positions.shape)
    return [cubic, primitive]


def oxide_frames():
    """Three atoms in a triclinic cell, a molecule, and a lone atom."""
    cell = [[3.1, 0.2, -0.1], [0.7, 3.4, 0.3], [-0.4, 0.5, 3.8]]
    scaled = [[0.02, 0.05, -0.03], [0.47, 0.55, 0.41], [0.61, 0.02, 0.52]]
    molecule = Atoms("SiOO", positions=[[0, 0, 0], [1.6, 0.2, 0], [-0.3, 1.5, 0.4]])
    return [Atoms("SiOO", scaled_positions=scaled, cell=cell, pbc=True), molecule, Atoms("O")]


def described(atoms):
    """What it takes to make the structure again."""
    names = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc}
    return {name: value.tolist() for name, value in names.items()}


MAKERS = {
    "silicon-lmax2-parity": lambda target: train(PARITY, 20, target),
    "silicon-lmax1": lambda target: train(TAPERED, 20, target, averaged=False),
    "oxide": lambda target: random_model(SPECIES, target),
}


def main(folder):
    from nequip_worker import Model

    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MAKERS.items():  # what is there is kept
        if not (folder / f"{name}.ckpt").exists():
            make(folder / f"{name}.ckpt")
    supercell = make_supercell(bulk("Si", a=5.43), 3 * np.eye(3))
    for name, frames in (
        ("silicon-lmax2-parity", silicon_frames()), ("silicon-lmax1", silicon_frames()), ("oxide", oxide_frames()),
    ):  # fmt: skip
        if (folder / f"{name}.json").exists():
            continue
        model = Model(folder / f"{name}.ckpt")
        said = {"frames": [described(atoms) | model.evaluate(atoms) for atoms in frames]}
        if name.startswith("silicon"):
            said["supercell"] = described(supercell)
            said["hessian_rows"] = model.hessian(supercell)[:6].tolist()  # of the two atoms of the first cell
        (folder / f"{name}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS)
