"""One interaction of NequIP: linear map, `uvu` convolution, linear map, self-connection, gates."""

from __future__ import annotations

import math
from itertools import chain, pairwise

import torch
from torch import Tensor, nn

from mlip.nn.linear import normal
from mlip.nn.uvu import Blocks, Coupling, Kind, LayerPlan, UVUEdges


class DeepRadial(nn.Module):
    """Radial functions → weights: no biases, so that the weights end where the envelope does.

    Gains as in NequIP: 1/√fan_in, and √2 after an activation.
    """

    def __init__(self, sizes: list[int], rng: torch.Generator) -> None:
        super().__init__()
        self.weights = nn.ParameterList(normal(rng, a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """(E, sizes[0]) → (E, sizes[-1])."""
        for k, weight in enumerate(self.weights):
            x = nn.functional.silu(x) if k else x
            x = x @ (weight * math.sqrt((2 if k else 1) / weight.shape[0]))
        return x


class SpeciesTensorProduct(nn.Module):
    """Self-connection: features ⊗ embedding of the species, one matrix per kind and species."""

    def __init__(self, inputs: int, types: int, outputs: int, rng: torch.Generator) -> None:
        super().__init__()
        self.weight = normal(rng, inputs, types, outputs)
        self.scale = 1 / math.sqrt(inputs * types)

    def forward(self, x: Tensor, edges: UVUEdges) -> Tensor:
        """(N, 2l+1, inputs) → (N, 2l+1, outputs)."""
        matrices = torch.einsum("st,uto->suo", edges.types * self.scale, self.weight)
        if len(matrices) == 1:
            return x @ matrices[0]
        spread = (edges.one_hot.unsqueeze(3) * x.unsqueeze(2)).flatten(2)
        return spread @ matrices.flatten(0, 1)


class UVUConvolution(nn.Module):
    """Messages of all paths, and the linear map that mixes them at the node.

    Args:
        plan: What enters and leaves.
        num_radial: Radial functions.
        width: Hidden width of the radial network.
        depth: Its hidden layers.
        rng: Source of the initial weights.
    """

    def __init__(self, plan: LayerPlan, num_radial: int, width: int, depth: int, rng: torch.Generator) -> None:
        super().__init__()
        self.plan = plan
        sources = list(zip(plan.inputs.kinds, plan.inputs.counts, strict=True))
        self.couplings = [Coupling(kind[0], plan.paths(kind)) for kind in plan.inputs.kinds]
        self.senders = [k for k, c in enumerate(self.couplings) if c.paths]
        self.channels = plan.inputs.counts
        self.sizes = [len(c.paths) * n for c, n in zip(self.couplings, self.channels, strict=True)]
        self.up = nn.ParameterList(normal(rng, n, n) for _, n in sources)
        self.radial = DeepRadial([num_radial, *[width] * depth, sum(self.sizes)], rng)
        self.down = nn.ParameterList(
            normal(rng, self._fan_in(kind), n)
            for kind, n in zip(plan.outputs.kinds, plan.outputs.counts, strict=True)
        )
        for k in self.senders:
            rows = torch.tensor([path for path, _ in self.couplings[k].rows])
            self.register_buffer(f"rows{k}", rows, persistent=False)

    def _fan_in(self, kind: Kind) -> int:
        pairs = zip(self.couplings, self.channels, strict=True)
        return sum(n for c, n in pairs for path in c.paths if path.output == kind)

    def forward(self, features: Blocks, edges: UVUEdges) -> Blocks:
        """One (N, 2l+1, channels) per kind of ``plan.outputs``."""
        weights = self.radial(edges.radial).split(self.sizes, 1)
        arrived: dict[Kind, list[Tensor]] = {kind: [] for kind in self.plan.outputs.kinds}
        for k in self.senders:
            for kind, part in self._send(k, features[k], weights[k], edges):
                arrived[kind].append(part)
        kinds = zip(arrived.values(), self.down, strict=True)
        return [torch.cat(parts, 2) @ (down * (1 / math.sqrt(down.shape[0]))) for parts, down in kinds]

    def _send(self, k: int, x: Tensor, weights: Tensor, edges: UVUEdges) -> list[tuple[Kind, Tensor]]:
        """The summed messages of one input, (N, 2·l_out+1, paths·channels) for each output."""
        coupling, channels = self.couplings[k], self.channels[k]
        sent = edges.exchange.gather(x @ (self.up[k] * (1 / math.sqrt(channels))) * edges.norm)
        per_path = weights.unflatten(1, (len(coupling.paths), channels))
        per_row = per_path.index_select(1, getattr(self, f"rows{k}"))
        rows = edges.exchange.collect(torch.bmm(edges.couplings[coupling], sent) * per_row)
        counts = [sum(path.output == kind for path in coupling.paths) for kind in coupling.outputs]
        sizes = [(2 * l + 1) * n for (l, _), n in zip(coupling.outputs, counts, strict=True)]
        parts = zip(coupling.outputs, rows.split(sizes, 1), strict=True)
        return [(kind, part.reshape(len(part), 2 * kind[0] + 1, -1)) for kind, part in parts]


class UVULayer(nn.Module):
    """Convolution, self-connection and gates.

    Args:
        plan: What enters and leaves.
        types: Width of the embedding of the species; 0: no self-connection.
        num_radial: Radial functions.
        width: Hidden width of the radial network.
        depth: Its hidden layers.
        rng: Source of the initial weights.
    """

    def __init__(
        self, plan: LayerPlan, types: int, num_radial: int, width: int, depth: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.plan = plan
        self.convolution = UVUConvolution(plan, num_radial, width, depth, rng)
        outputs = plan.outputs
        self.kept = [k for k, kind in enumerate(plan.inputs.kinds) if types and kind in outputs.kinds]
        self.targets = [outputs.kinds.index(plan.inputs.kinds[k]) for k in self.kept]
        self.connect = nn.ModuleList(
            SpeciesTensorProduct(plan.inputs.counts[k], types, outputs.counts[j], rng)
            for k, j in zip(self.kept, self.targets, strict=True)
        )

    def forward(self, features: Blocks, edges: UVUEdges, gains: Tensor) -> Blocks:
        """The new features; ``gains``: what brings SiLU and tanh of a unit normal to second moment one."""
        values = self.convolution(features, edges)
        for k, j, connect in zip(self.kept, self.targets, self.connect, strict=True):
            values[j] = values[j] + connect(features[k], edges)
        return self._gate(dict(zip(self.plan.outputs.kinds, values, strict=True)), gains)

    def _gate(self, values: dict[Kind, Tensor], gains: Tensor) -> Blocks:
        silu, tanh = gains.unbind()
        gated = self.plan.gated
        even = nn.functional.silu(values[0, 1]) * silu
        scalars, *gates = even.split([self.plan.scalars.of((0, 1)), *gated.counts], 2)
        odd = [torch.tanh(values[kind]) * tanh for kind in self.plan.scalars.kinds if kind == (0, -1)]
        opened = [values[kind] * gate for kind, gate in zip(gated.kinds, gates, strict=True)]
        return list(chain([scalars], odd, opened))
