"""Tables printed before the first step: the frames, and the terms of the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mlip.datasets.frame import LabelledFrame
from mlip.datasets.inspection import find_leaks, summarise
from mlip.datasets.tables import print_summaries
from mlip.training.loss import AnisotropyTerm, Loss, LossTerm
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
    sets = {name: frames for name, frames in sets.items() if frames}
    print_summaries([summarise(frames, name, cutoff) for name, frames in sets.items()], console)
    if data.isolated:
        console.print(f"{len(data.isolated)} isolated atoms set E0 and are not trained on", highlight=False)
    for first, second, count in find_leaks(sets):
        text = f"LEAK: {count} frames of {second} are copies of frames of {first}"
        console.print(text, style="bold red", highlight=False, soft_wrap=True)


def loss_table(loss: Loss, train: Sequence[LabelledFrame], steps_per_epoch: int) -> Table:
    """Terms with the weights they really have: of the term, and of the frames that carry its label."""
    table = Table("loss term", "norm", "weight", "frames", "frame weights", "labels/batch")
    for term in loss.terms:
        if isinstance(term, AnisotropyTerm):
            table.add_row("relaxed weights Σ|θ|", "norm", f"{term.weight(0.0):g}", "penalty", "", "")
            continue
        if not isinstance(term, LossTerm):
            table.add_row("noise (σ)", "mse", f"{term.weight(0.0):g} → {term.weight(1.0):g}", "drawn", "", "")
            continue
        s = term.settings
        having = [frame for frame in train if s.target in (*frame.labels, *frame.response_labels)]
        per_atom = 9 if s.target == "born_charges" else 3
        labels = sum(_COMPONENTS.get(s.target, per_atom * len(frame)) for frame in having)
        table.add_row(
            f"{s.target} ({_UNITS[s.target] if s.per_atom else 'eV'})",
            s.norm if s.norm != "huber" else f"huber δ={s.delta:g}",
            f"{s.weight:g}",
            f"{len(having)} of {len(train)}",
            _weights(having),
            f"{labels / steps_per_epoch:.1f}",
        )
    return table


def _weights(frames: Sequence[LabelledFrame]) -> str:
    counts = Counter((frame.config_type or "frames", frame.weight) for frame in frames)
    if len({weight for _, weight in counts}) == 1:
        return f"all {frames[0].weight:g}"
    return ", ".join(f"{kind}: {weight:g} (×{n})" for (kind, weight), n in counts.most_common(6))
