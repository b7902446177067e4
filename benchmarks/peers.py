"""The packages that are compared: a model of ours, and the peers with its hyper-parameters or with their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alternate import Worker, quartiles, ratio
from environments import python_of

OURS = {"num_layers": 4, "num_channels": 32, "lmax": 2, "cutoff": 5.0, "node_square": False}
NEQUIP = {"num_layers": 4, "num_features": 32, "l_max": 2}
SEVENN = {"num_convolution_layer": 4, "channel": 32, "lmax": 2}
# Compilers run one after the other, as children whose time the worker can count.
ONE_COMPILER = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
MACE = {"hidden_irreps": "32x0e+32x1o+32x2e", "max_ell": 2}


def ours(name: str, task: dict[str, Any], **changes: Any) -> Worker:
    """A model of ours; a preset, if named among the changes, comes with its own hyper-parameters."""
    model = changes if "preset" in changes else {**OURS, **changes}
    return Worker(name, "worker_mlip.py", {**task, "model": model}, environment=dict(ONE_COMPILER))


def nequip(task: dict[str, Any], parity: bool, *, preset: str | None = None, compiled: bool = False) -> Worker:
    """NequIP, its default radial network (1×128) or one of its presets: eager, or as its own compiler makes it."""
    size = {**NEQUIP, "parity": parity} if preset is None else {"preset": preset}
    model = {**size, "compiled": compiled}
    name = " ".join(["NequIP", *([] if preset is None else [preset])]) + (", compiled" if compiled else "")
    return Worker(name, "worker_nequip.py", {**task, "model": model}, python_of("nequip"), dict(ONE_COMPILER))


def sevenn(task: dict[str, Any], parity: bool) -> Worker:
    """SevenNet."""
    model = {**SEVENN, "is_parity": parity}
    return Worker("SevenNet", "worker_sevenn.py", {**task, "model": model}, python_of("sevenn"))


def mace(task: dict[str, Any], *, compiled: bool = False) -> Worker:
    """MACE, two layers, correlation three; it has no switch for parity."""
    name, model = "MACE 32×0e+1o+2e" + (", compiled" if compiled else ""), {**MACE, "compiled": compiled}
    return Worker(name, "worker_mace.py", {**task, "model": model}, python_of("mace"), dict(ONE_COMPILER))


def mace_by_rows(task: dict[str, Any]) -> Worker:
    """The same, its Hessian row by row: less memory, and faster than its default."""
    model = {**MACE, "rows": "loop"}
    return Worker("MACE, rows in a loop", "worker_mace.py", {**task, "model": model}, python_of("mace"))


def table(peers: Sequence[Worker], own: Sequence[Worker]) -> list[str]:
    """A row for every worker: times, and how often each peer's it fits in."""
    heads = ["model", "parameters", "CPU ms (quartiles)", *(f"× faster than {p.name}" for p in peers)]
    heads += ["peak MiB", "of it by the evaluation", "first call, CPU ms"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for one in [*peers, *own]:
        low, middle, high = quartiles(one.times)
        cells = [one.name, f"{one.facts['parameters']:,}", f"{middle:.0f} ({low:.0f}–{high:.0f})"]
        cells += [ratio(peer, one) if peer is not one else "1" for peer in peers]
        cells += [f"{one.peak:.0f}", f"{one.peak - one.facts['loaded']:.0f}"] if one.peak else ["?", "?"]
        first = one.facts.get("first")
        cells.append("" if first is None else f"{first:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines
