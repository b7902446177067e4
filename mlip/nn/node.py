"""What happens at the nodes: self-connections, the node square, gates, the norm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlip.nn.constants import Constants, clebsch_gordan
from mlip.nn.features import EdgeContext, Features
from mlip.nn.layout import degree_of_rows, tensor_dim
from mlip.nn.linear import DegreeLinear, Linear, SpeciesLinear, gate, silu

_HALF = 1 / math.sqrt(2)


class NodeSquare(nn.Module):
    """Symmetric self-product of the aggregated tensors: the many-body term that lets few layers do.

    All couplings l₁ ⊗ l₂ → l₃ with l₁ ≤ l₂ and l₁ + l₂ + l₃ even (which keep natural parity), through one
    constant matrix; then one channel-mixing map per l₃.
    """

    def __init__(self, lmax: int, channels: int, scalars_out: int, rng: torch.Generator) -> None:
        super().__init__()
        columns, paths = [], []
        for l3 in range(lmax + 1):
            found = [
                self._coupling(lmax, l1, l2, l3)
                for l1 in range(1, lmax + 1)
                for l2 in range(l1, lmax + 1)
                if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
            ]
            columns += found
            paths.append(len(found))
        self.paths = paths
        self.sizes = [p * (2 * l + 1) for l, p in enumerate(paths)]
        self.constants = Constants(table=torch.cat(columns, 1).t().contiguous())
        outputs = [scalars_out] + [channels] * lmax
        self.outputs = outputs
        self.mix = nn.ModuleDict({str(l): Linear(p * channels, outputs[l], rng) for l, p in enumerate(paths) if p})

    @staticmethod
    def _coupling(lmax: int, l1: int, l2: int, l3: int) -> Tensor:
        dim = tensor_dim(lmax)
        table = torch.zeros(dim, dim, 2 * l3 + 1, dtype=torch.float64)
        rows, columns = slice(l1 * l1 - 1, (l1 + 1) ** 2 - 1), slice(l2 * l2 - 1, (l2 + 1) ** 2 - 1)
        table[rows, columns] = clebsch_gordan(l1, l2, l3) * math.sqrt(2 * l3 + 1)
        return table.flatten(0, 1)

    def forward(self, tensors: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D, C) → scalars (N, scalars_out) and tensors (N, D, C)."""
        pairs = (tensors.unsqueeze(2) * tensors.unsqueeze(1)).flatten(1, 2)
        products = torch.matmul(self.constants.table, pairs).split(self.sizes, 1)
        degrees = [self._degree(l, product) for l, product in enumerate(products)]
        return degrees[0].squeeze(1), torch.cat(degrees[1:], 1)

    def _degree(self, l: int, product: Tensor) -> Tensor:
        """All products of one degree (N, paths·(2l+1), C) → (N, 2l+1, outputs)."""
        if not self.paths[l]:  # with lmax = 1 no even coupling leads to l = 1
            return product.new_zeros(product.shape[0], 2 * l + 1, self.outputs[l])
        stacked = product.unflatten(1, (self.paths[l], 2 * l + 1)).transpose(1, 2).flatten(2)
        return self.mix[str(l)](stacked)


class RMSNorm(nn.Module):
    """Divide all degrees by one rms, scalars included.

    At sites of high symmetry every l > 0 feature vanishes; a norm over l > 0 alone would have the curvature of
    x/√(x²+ε) there and ruin the phonons of simple crystals.
    """

    def __init__(self, epsilon: float = 0.01) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, features: Features) -> Features:
        """The features at rms ≈ 1."""
        parts = [part for part in (features.scalars, features.tensors, features.pseudo) if part is not None]
        count = sum(part[0].numel() for part in parts)
        square = torch.stack([part.square().flatten(1).sum(1) for part in parts]).sum(0)
        inverse = torch.rsqrt(square * (1 / count) + self.epsilon)
        return Features(
            features.scalars * inverse[:, None],
            None if features.tensors is None else features.tensors * inverse[:, None, None],
            None if features.pseudo is None else features.pseudo * inverse[:, None, None],
        )


class NodeUpdate(nn.Module):
    """Messages and old features → new features: linear maps, self-connection by species, node square, gates.

    Args:
        num_species: Species the potential knows.
        lmax: Highest degree.
        scalars_in: Scalar channels of the messages.
        scalars: Scalar channels, old and new.
        tensors: Tensor channels.
        pseudo_in: Pseudo channels of the old features, 0 for none.
        pseudo_out: Pseudo channels of the messages and the new features, 0 for none.
        has_tensors: Whether the old features have tensors.
        square: Whether to add the node square.
        message_scale: Size of the messages that the square undoes, so that its start value is of order one.
        rng: Source of the initial weights.
    """

    degrees: Tensor
    pseudo_degrees: Tensor

    def __init__(
        self,
        num_species: int,
        lmax: int,
        scalars_in: int,
        scalars: int,
        tensors: int,
        pseudo_in: int,
        pseudo_out: int,
        has_tensors: bool,
        square: bool,
        message_scale: float,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.lmax, self.tensors, self.pseudo_out = lmax, tensors, pseudo_out
        self.gates = [lmax * tensors] + ([(lmax + 1) * pseudo_out] if pseudo_out else [])
        width = scalars + (sum(self.gates) if lmax else 0)
        self.sizes = [scalars, width - scalars]
        self.linear = Linear(scalars_in, width, rng)
        self.connect = SpeciesLinear(num_species, scalars, width, rng)
        self.square = NodeSquare(lmax, tensors, width, rng) if square and lmax else None
        self.square_scale = 1 / message_scale
        self.tensor_linear = DegreeLinear(lmax, tensors, tensors, rng) if lmax else None
        self.tensor_connect = DegreeLinear(lmax, tensors, tensors, rng) if lmax and has_tensors else None
        self.pseudo_linear = DegreeLinear(lmax, pseudo_out, pseudo_out, rng, lmin=0) if pseudo_out else None
        self.pseudo_connect = None
        if pseudo_in and pseudo_out:
            self.pseudo_connect = DegreeLinear(lmax, pseudo_in, pseudo_out, rng, lmin=0)
        shape = (num_species, lmax, tensors)
        self.species_scale = nn.Parameter(torch.ones(shape, dtype=torch.float32)) if has_tensors else None
        self.register_buffer("degrees", degree_of_rows(lmax), persistent=False)
        self.register_buffer("pseudo_degrees", degree_of_rows(lmax, 0), persistent=False)

    def forward(self, messages: Features, old: Features, edges: EdgeContext) -> Features:
        """The new features of the nodes."""
        scalars = self.linear(messages.scalars) + self.connect(old.scalars, edges.one_hot)
        if self.tensor_linear is None or messages.tensors is None:
            return Features(silu(scalars * _HALF))
        tensors = self.tensor_linear(messages.tensors)
        if self.square is not None:
            more, product = self.square(messages.tensors)
            scalars = (scalars + more * self.square_scale) * (1 / math.sqrt(1.5))
            tensors = (tensors + product * self.square_scale) * _HALF
        tensors = self._connect_tensors(tensors, old, edges)
        value, gates = (scalars * _HALF).split(self.sizes, 1)
        parts = gate(gates).split(self.gates, 1)
        opened = parts[0].unflatten(1, (self.lmax, self.tensors)).index_select(1, self.degrees)
        return Features(silu(value), tensors * opened, self._pseudo(messages, old, parts))

    def _connect_tensors(self, tensors: Tensor, old: Features, edges: EdgeContext) -> Tensor:
        if self.tensor_connect is None or old.tensors is None or self.species_scale is None:
            return tensors
        scale = self.species_scale.index_select(0, edges.species).index_select(1, self.degrees)
        return (tensors + self.tensor_connect(old.tensors) * scale) * _HALF

    def _pseudo(self, messages: Features, old: Features, gates: tuple[Tensor, ...]) -> Tensor | None:
        if self.pseudo_linear is None or messages.pseudo is None:
            return None
        pseudo = self.pseudo_linear(messages.pseudo)
        if self.pseudo_connect is not None and old.pseudo is not None:
            pseudo = (pseudo + self.pseudo_connect(old.pseudo)) * _HALF
        opened = gates[1].unflatten(1, (self.lmax + 1, self.pseudo_out))
        return pseudo * opened.index_select(1, self.pseudo_degrees)
