"""Tables printed before the first step: the frames, and the terms of the loss."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from mlip.datasets.frame import LabelledFrame
from mlip.datasets.inspection import find_leaks, summarise
from mlip.datasets.tables import print_summaries
from mlip.training.loss import AnisotropyTerm, DenoisingTerm, Loss, LossTerm
from mlip.training.sets import RunData

_UNITS = {
    "energy": "eV/atom",
    "forces": "eV/Å",
    "stress": "eV/Å³",
    "polarization": "e Å",
    "born_charges": "e",
    "polarizability": "e Å²/V",
}
_COMPONENTS = {"energy": 1, "stress": 9, "polarization": 3, "polarizability": 9}


def print_data(data: RunData, cutoff: float, console: Console) -> None:
    """What was read from where, one column per set, and frames that two sets share."""
    for line in data.lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    sets = {"train": data.train, "validation": data.validation, "test": data.test}
    sets = {name: frames for name, frames in sets.items() if len(frames)}
    print_summaries([summarise(frames, name, cutoff) for name, frames in sets.items()], console)
    if data.isolated:
        console.print(f"{len(data.isolated)} isolated atoms set E0 and are not trained on", highlight=False)
    for first, second, count in find_leaks(sets):
        text = f"LEAK: {count} frames of {second} are copies of frames of {first}"
        console.print(text, style="bold red", highlight=False, soft_wrap=True)


def loss_table(loss: Loss, train: Sequence[LabelledFrame], steps_per_epoch: int) -> Table:
    """Terms with the weights they really have: of the term, and of the frames that carry its label."""
    table = Table("loss term", "norm", "weight", "frames", "frame weights", "labels/batch")
    having = _carried(train)
    for term in loss.terms:
        if isinstance(term, AnisotropyTerm):
            table.add_row("relaxed weights Σ|θ|", "norm", f"{term.weight(0.0):g}", "penalty", "", "")
            continue
        if not isinstance(term, LossTerm):
            table.add_row("noise (σ)", "mse", f"{term.weight(0.0):g} → {term.weight(1.0):g}", "drawn", "", "")
            continue
        s = term.settings
        found = having[s.target]
        table.add_row(
            f"{s.target} ({_UNITS[s.target] if s.per_atom else 'eV'})",
            s.norm if s.norm != "huber" else f"huber δ={s.delta:g}",
            f"{s.weight:g}",
            f"{found.frames} of {len(train)}",
            found.weights_text(),
            f"{found.labels / steps_per_epoch:.1f}",
        )
    return table


def loss_remark(loss: Loss) -> str | None:
    """What denoising asks of the other terms; None where there is nothing to say.

    The forces of what is left of a moved structure are hard to tell, and squared they outweigh those of all others.
    """
    squared = any(
        isinstance(t, LossTerm) and (t.settings.target, t.settings.norm) == ("forces", "mse") for t in loss.terms
    )
    if not squared or not any(isinstance(t, DenoisingTerm) for t in loss.terms):
        return None
    return (
        "dens: the squared force errors of moved structures outweigh all others; "
        "use norm: l2mae for forces and norm: mae for the energy"
    )


@dataclass
class _Carried:
    """How many frames carry a label, how many numbers that makes, and with which weights."""

    frames: int = 0
    labels: int = 0
    weights: Counter[tuple[str, float]] = field(default_factory=Counter)

    def weights_text(self) -> str:
        """The weights by kind of frame, the most frequent first."""
        values = {weight for _, weight in self.weights}
        if len(values) == 1:
            return f"all {next(iter(values)):g}"
        return ", ".join(f"{kind}: {weight:g} (×{n})" for (kind, weight), n in self.weights.most_common(6))


def _carried(train: Sequence[LabelledFrame]) -> dict[str, _Carried]:
    """By label, from one pass over the frames."""
    found: dict[str, _Carried] = defaultdict(_Carried)
    for frame in train:
        for target in (*frame.labels, *frame.response_labels):
            per_atom = 9 if target == "born_charges" else 3
            found[target].frames += 1
            found[target].labels += _COMPONENTS.get(target, per_atom * len(frame))
            found[target].weights[frame.config_type or "frames", frame.weight] += 1
    return found
