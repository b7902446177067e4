"""Errors of the runs of a study: means over the seeds, and what each variant changes.

    for plan in benchmarks/studies/architectures-*.yaml; do python benchmarks/study.py $plan --out study-nets; done
    python benchmarks/study_errors.py study-nets --recipes ethanol aspirin acac zuo-si --figure architectures.png

On the recipe's test frames. A relative error is the mean over the seeds of the ratio of the two force errors of one
seed, with the standard deviation of those ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from mlip.md.figures import BLUE, GREEN, GREY, VERMILION, house_style

FORCES, ENERGY = "forces_mae_meV_per_A", "energy_mae_meV_per_atom"
SQUARES = "forces_rmse_meV_per_A"
COLORS = (BLUE, VERMILION, GREEN, GREY)
Key = tuple[str, str]  # recipe and budget
Runs = dict[Key, dict[str, dict[int, dict[str, Any]]]]  # variant → seed → row


def runs_of(rows: Iterable[dict[str, Any]]) -> Runs:
    """Rows of ``results.jsonl`` by recipe and budget, variant, seed."""
    runs: Runs = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        budget = f"{row['min']:g} minutes" if "min" in row else f"{row['epochs']:g} epochs"
        runs[Path(row["recipe"]).stem, budget][row["variant"]][row["seed"]] = row
    return {key: dict(sorted(variants.items(), key=lambda item: len(item[0]))) for key, variants in runs.items()}


def errors(row: dict[str, Any], name: str) -> dict[str, float]:
    """One error of a run for each group of test frames; the whole alone where it has one group."""
    groups = {group["group"]: float(group[name]) for group in row["test"]["groups"] if name in group}
    files = {label: error for label, error in groups.items() if label.startswith("file ")}
    return files if len(files) > 1 else {"all": groups["all"]}


def ratios(own: dict[int, dict[str, Any]], first: dict[int, dict[str, Any]], group: str) -> NDArray[np.float64]:
    """Force error of each seed that both have, relative."""
    seeds = sorted(set(own) & set(first))
    return np.array([errors(own[s], FORCES)[group] / errors(first[s], FORCES)[group] for s in seeds])


def table(runs: Runs, against: str | None = None) -> str:
    """A row for each variant, and its force errors relative to one of them."""
    heads = ["set", "budget", "model", "seeds", "F MAE (meV/Å)", "relative", "F RMSE (meV/Å)"]
    heads += ["E MAE (meV/atom)", "CPU min"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for (recipe, budget), variants in sorted(runs.items()):
        first = variants[against] if against in variants else next(iter(variants.values()))
        for variant, own in variants.items():
            rows = list(own.values())
            for group in errors(rows[0], FORCES):
                cells = [recipe if group == "all" else f"{recipe}, {group}", budget, variant, str(len(rows))]
                cells += [_spread([errors(row, FORCES)[group] for row in rows])]
                cells += [_spread(list(ratios(own, first, group)), digits=2)]
                cells += [_spread([errors(row, name)[group] for row in rows]) for name in (SQUARES, ENERGY)]
                cells += [f"{np.mean([row['cpu_s'] for row in rows]) / 60:.1f}"]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float], digits: int | None = None) -> str:
    """Mean ± standard deviation; a value alone has none, and no value nothing."""
    if not len(values):
        return ""
    mean = f"{np.mean(values):.3g}" if digits is None else f"{np.mean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    spread = float(np.std(values, ddof=1))
    return f"{mean} ± {spread:.1g}" if digits is None else f"{mean} ± {spread:.{digits}f}"


def figure(runs: Runs) -> Figure:
    """Force errors: a column of panels for each set, a row for each kind of budget, a dot for each seed."""
    recipes = sorted({recipe for recipe, _ in runs})
    with house_style():
        drawn = Figure(figsize=(2.6 * len(recipes), 5.2), layout="constrained")
        panels = drawn.subplots(2, len(recipes), squeeze=False)
        for column, recipe in enumerate(recipes):
            for line, unit in enumerate(("epochs", "minutes")):
                for budget, variants in ((b, v) for (r, b), v in runs.items() if r == recipe and b.endswith(unit)):
                    _panel(panels[line, column], variants)
                    panels[line, column].set(title=f"{recipe}, {budget}")
        for line in panels:
            line[0].set(ylabel="force MAE (meV/Å)")
    return drawn


def _panel(axes: Axes, variants: dict[str, dict[int, dict[str, Any]]]) -> None:
    groups = list(errors(next(iter(next(iter(variants.values())).values())), FORCES))
    for color, group in zip(COLORS, groups, strict=False):
        for place, own in enumerate(variants.values()):
            values = [errors(row, FORCES)[group] for row in own.values()]
            axes.plot([place] * len(values), values, ".", color=color, markersize=4)
            label = group.removeprefix("file ") if len(groups) > 1 and not place else None
            axes.plot([place - 0.25, place + 0.25], [np.mean(values)] * 2, color=color, label=label)
    if len(groups) > 1:
        axes.legend(fontsize=6, loc="lower right")
    axes.set_xticks(range(len(variants)), [name.replace(" ", "\n") for name in variants], fontsize=7)
    axes.set(yscale="log", xmargin=0.12)
    axes.set_ylim(*_at_least_twofold(*axes.dataLim.intervaly))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())


def _at_least_twofold(low: float, high: float) -> tuple[float, float]:
    """Limits around the values; a few per cent must not fill a panel."""
    middle, reach = np.sqrt(low * high), max(np.sqrt(2.2), 1.1 * np.sqrt(high / low))
    return float(middle / reach), float(middle * reach)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--recipes", nargs="+", help="of these sets alone, by the stems of their recipes")
    parser.add_argument("--variants", nargs="+", help="of these variants alone")
    parser.add_argument("--against", help="the variant that the others are compared with; by default the first")
    arguments = parser.parse_args()
    text = (arguments.study / "results.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    if arguments.recipes is not None:
        rows = [row for row in rows if Path(row["recipe"]).stem in arguments.recipes]
    if arguments.variants is not None:
        rows = [row for row in rows if row["variant"] in arguments.variants]
    runs = runs_of(rows)
    sys.stdout.write(table(runs, arguments.against) + "\n")
    if arguments.figure is not None:
        figure(runs).savefig(arguments.figure, dpi=160)


if __name__ == "__main__":
    main()
