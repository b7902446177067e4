"""The tensor b of each structure: a constant of the laboratory turned into it, powers of a field, or as given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn import o3
from torch import Tensor

from mlip.errors import InputError
from mlip.graph import AtomicGraph
from mlip.nn.anisotropy import Port
from mlip.nn.constants import clebsch_gordan
from mlip.settings import Irrep
from mlip.surroundings import MEND_FRAME, NO_FRAME


def irrep_matrices(lmax: int, turns: Tensor) -> list[Tensor]:
    """(K, 3, 3) orthogonal → D⁰ … Dᴸ of natural parity, (K, 2l+1, 2l+1) each, in e3nn's basis.

    Dˡ = (2l+1) Cᵀ (Dˡ⁻¹ ⊗ R) C with the 3j symbols C of (l−1, 1, l): polynomials of R, without angles, which lose
    half the digits near the poles.
    """
    found = [turns.new_ones(len(turns), 1, 1), turns]
    for l in range(2, lmax + 1):
        c = clebsch_gordan(l - 1, 1, l).to(turns)
        found.append((2 * l + 1) * torch.einsum("iam,kij,kab,jbn->kmn", c, found[-1], turns, c))
    return found[: lmax + 1]


def turn_tensor(irreps: Sequence[Irrep], turns: Tensor, tensor: Tensor) -> Tensor:
    """The image D(g) b for each of K orthogonal matrices; (K, 3, 3) and (D,) or (K, D) → (K, D)."""
    matrices = irrep_matrices(max(irrep.l for irrep in irreps), turns)
    sign = torch.linalg.det(turns).sign().view(-1, 1)
    parts = tensor.expand(len(turns), -1).split([irrep.dim for irrep in irreps], 1)
    images = [torch.einsum("kmn,kn->km", matrices[irrep.l], part) for irrep, part in zip(irreps, parts, strict=True)]
    signed = [image if irrep.eta > 0 else sign * image for irrep, image in zip(irreps, images, strict=True)]
    return torch.cat(signed, 1)


def vector_powers(irreps: Sequence[Irrep], vectors: Tensor) -> Tensor:
    """(K, 3) → (K, D): |v|² for 0e and |v|^l Y_l(v) for l > 0, polynomials with every derivative at v = 0.

    Y has e3nn's 'component' normalisation.
    """
    parts = [
        vectors.square().sum(1, keepdim=True)
        if irrep.l == 0
        else o3.spherical_harmonics(irrep.l, vectors, normalize=False, normalization="component")
        for irrep in irreps
    ]
    return torch.cat(parts, 1)


def breaking_tensors(port: Port, source: str, graph: AtomicGraph) -> Tensor | None:
    """(B, D), the b of each structure; None where nothing is given, which is the strict model.

    Raises:
        InputError: A structure without a frame where θ is learnt; a tensor of another length.
    """
    if source == "learned":
        return _turned_theta(port, graph)
    given = given_tensors(source, graph)
    if given is None or source == "field":
        return None if given is None else vector_powers(port.irreps, given)
    return _checked(given, port)


def given_tensors(source: str, graph: AtomicGraph) -> Tensor | None:
    """(B, …), what the structures are handed, a field or a tensor; None where nothing is, or zero throughout.

    A zero that a derivative is asked by stays.
    """
    given = {"field": graph.electric_fields, "variants": graph.breaking_tensors}.get(source)
    silent = given is not None and not given.requires_grad and not bool(given.any())
    return None if silent else given


def _checked(tensors: Tensor, port: Port) -> Tensor:
    if tensors.shape[1] != port.dim:
        raise InputError(
            f"atoms.info['breaking_tensor'] has {tensors.shape[1]} components, the model wants {port.dim}"
        )
    return tensors


def _turned_theta(port: Port, graph: AtomicGraph) -> Tensor:
    if graph.frames is None:
        raise InputError(NO_FRAME, mend=MEND_FRAME)
    if port.theta is None:
        raise RuntimeError("b is given: there is no θ")
    theta = port.theta if port.strength == 1.0 else port.theta * port.strength
    axes = torch.eye(3, dtype=graph.frames.dtype, device=graph.frames.device)
    if bool((graph.frames == axes).all()):
        return theta.unsqueeze(0) if graph.num_structures == 1 else theta.expand(graph.num_structures, -1)
    return turn_tensor(port.irreps, graph.frames, theta)
