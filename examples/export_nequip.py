"""Run in NequIP's environment: a NequIP package (or any checkpoint) → a plain file that `mlip convert nequip` reads.

    python export_nequip.py MODEL.nequip.zip MODEL.ckpt
    mlip convert nequip MODEL.ckpt                         # in the environment of curie-mlip

A package is code: opening it runs it, so only NequIP's own environment should. What this writes holds weights and
plain values alone. The hyper-parameters are read off the model itself, as a package does not keep them.
"""

from __future__ import annotations

import sys
from typing import Any

import nequip
import torch
from e3nn.o3 import Irreps
from nequip.model import ModelFromCheckpoint, ModelFromPackage
from nequip.utils.global_state import set_global_state


def load(path: str) -> Any:
    """The one model that a package or checkpoint holds."""
    set_global_state()
    model = ModelFromPackage(path) if path.endswith(".nequip.zip") else ModelFromCheckpoint(path)
    return model["sole_model"] if isinstance(model, torch.nn.ModuleDict) else model


def hyper_parameters(model: Any) -> dict[str, Any]:
    """The arguments of NequIPGNNModel that would build this model."""
    func = model.model.func
    layers = [module for name, module in func.named_children() if name.endswith("_convnet")]
    unknown = [name for name, _ in func.named_children() if name not in KNOWN and not name.endswith("_convnet")]
    if unknown:
        raise SystemExit(f"not a plain NequIPGNNModel: it has {', '.join(unknown)}")
    l_max = max(Irreps(func.spharm.irreps_edge_sh).ls)
    last, first = (Irreps(layers[k].feature_irreps_hidden) for k in (-1, 0))
    hidden = first if len(layers) > 1 else last
    channels = [next((mul for mul, ir in hidden if ir.l == l), last.dim) for l in range(l_max + 1)]
    radial, readout = layers[0].conv.edge_mlp.dims, func.per_atom_energy_readout.mlp_module
    neighbors = [float(x) ** -2 for x in layers[0].conv.avg_num_neighbors_norm.norm_const.flatten()]
    names = list(model.type_names)
    return {
        "_target_": "nequip.model.NequIPGNNModel",
        "seed": 0,
        "model_dtype": str(model.model_dtype).removeprefix("torch."),
        "type_names": names,
        "r_max": float(func.edge_norm.r_max),
        "num_layers": len(layers),
        "l_max": l_max,
        "parity": any(ir.p != (-1) ** ir.l for _, ir in hidden),
        "num_features": channels,
        "type_embed_num_features": func.type_embed.embed_module.embedding_dim,
        "radial_mlp_depth": len(radial) - 2,
        "radial_mlp_width": radial[1] if len(radial) > 2 else 1,
        "readout_mlp_hidden_layers_depth": len(readout.dims) - 2,
        "readout_mlp_hidden_layers_width": readout.dims[1] if len(readout.dims) > 2 else None,
        "readout_mlp_nonlinearity": type(readout.mlp[1]).__name__.lower() if len(readout.dims) > 2 else "silu",
        "num_bessels": func.bessel_encode.num_bessels,
        "polynomial_cutoff_p": func.bessel_encode.cutoff.p,
        "avg_num_neighbors": neighbors[0] if len(neighbors) == 1 else dict(zip(names, neighbors, strict=True)),
    }


KNOWN = {
    "type_embed", "spharm", "edge_norm", "bessel_encode", "factor", "per_atom_energy_readout",
    "per_type_energy_scale_shift", "total_energy_sum",
}  # fmt: skip


def main(source: str, target: str) -> None:
    model = load(source)
    hyper = {"model": hyper_parameters(model), "info_dict": {"versions": {"nequip": nequip.__version__}}}
    state = {f"model.sole_model.{name}": x.detach().cpu() for name, x in model.state_dict().items()}
    torch.save({"hyper_parameters": hyper, "state_dict": state}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
