"""Errors of NequIP and MACE after given minutes of one core, on the frames of a recipe, as a study's results.

    python benchmarks/environments.py nequip mace
    python benchmarks/peer_training.py 3bpa --minutes 20 --seeds 1 --out study-minutes

Each is trained by its own command with what it recommends (`peer_trainers`), with the recipe's frames, free atoms,
cutoff and batch size. Short runs on a part of the frames tell what the start and an epoch cost; the run then has as
many epochs as fit, and its schedule ends with them. Rows are appended to ``results.jsonl`` as `study.py` appends
ours, and `study_errors.py` prints them side by side.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from environments import python_of
from peer_trainers import TRAINERS, Sets, Trainer
from study import finished

from mlip.datasets.e0 import ReferenceEnergies
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.writing import write_frames
from mlip.report import plain
from mlip.training.evaluation import EvaluationResult
from mlip.training.load import load_settings
from mlip.training.loss import Loss
from mlip.training.references import run_references
from mlip.training.sets import load_data

HERE = Path(__file__).parent
TIMED_STEPS = 40


@dataclass(frozen=True)
class Run:
    """One training of one peer."""

    recipe: str
    trainer: Trainer
    seed: int
    minutes: float

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{Path(self.recipe).stem}-{self.trainer.name}-seed{self.seed}-{self.minutes:g}min"

    def row(self) -> dict[str, Any]:
        """The start of its row, as in a study of ours."""
        variant = {"recipe": self.recipe, "variant": self.trainer.name, "seed": self.seed}
        return {"name": self.name, **variant, "min": self.minutes}


def prepare(recipe: str, folder: Path) -> tuple[Sets, list[LabelledFrame]]:
    """Write the frames of a recipe as one reads them anywhere; return them and those of the test."""
    settings = load_settings(recipe)
    data = load_data(settings.data, Loss.from_settings(settings.loss), settings.seed)
    references = run_references(settings.data.e0, data, None)
    folder.mkdir(parents=True, exist_ok=True)
    batch, test = settings.training.batch_size, list(data.test)
    every = max(1, len(data.train) // (TIMED_STEPS * batch))
    (folder / "timing").mkdir(exist_ok=True)
    for name, frames in (("train", data.train), ("validation", data.validation), ("test", test)):
        write_frames(frames, folder / f"{name}.extxyz", force=True)
        write_frames(list(frames)[::every], folder / "timing" / f"{name}.extxyz", force=True)
    energies = ReferenceEnergies(references.values, "explicit")
    shift = float(np.mean([energies.subtract(frame) / len(frame) for frame in data.train]))
    part = len(data.train[::every]) / len(data.train)
    return Sets(folder, references.values, shift, settings.model.cutoff, batch, len(data.train) / batch, part), test


def run(command: Sequence[str | Path], log: Path) -> float:
    """Run a command on one thread; return the seconds of processor time it took."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    environment["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # e3nn 0.4.4, which MACE pins, reads its constants so
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("a") as output:
        subprocess.run([str(word) for word in command], stdout=output, stderr=output, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fresh(folder: Path) -> Path:
    """An empty folder in its place."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def log_of(folder: Path) -> Path:
    """Beside the folder of a run: what its commands print."""
    return folder.with_name(folder.name + ".log")


def cost(trainer: Trainer, sets: Sets, folder: Path) -> tuple[float, float]:
    """Seconds of processor time of the start and of an epoch, from one and three epochs of a part of the frames.

    A run before them fills the cache of the compiler, whose time is thereby not counted.
    """
    few = replace(sets, folder=sets.folder / "timing", steps=sets.steps * sets.part)
    _, one, three = (run(trainer.command(few, fresh(folder), epochs, 1), log_of(folder)) for epochs in (1, 1, 3))
    epoch = (three - one) / 2
    return one - epoch, epoch / sets.part


def train(trainer: Trainer, sets: Sets, minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    """Train for the minutes; return the time, the epochs and where the model is."""
    start, epoch = cost(trainer, sets, folder.with_name(folder.name + "-timing"))
    epochs = max(2, int((60 * minutes - start) / epoch))
    seconds = run(trainer.command(sets, fresh(folder), epochs, seed), log_of(folder))
    return {"cpu_s": seconds, "start_s": start, "epoch_s": epoch, "epochs": epochs}


def test_errors(trainer: Trainer, work: Path, sets: Sets, frames: list[LabelledFrame]) -> dict[str, Any]:
    """Its errors on the test frames, counted as ours are."""
    found = work / "predictions.npz"
    script = [python_of(trainer.peer), HERE / "peer_predict.py", trainer.peer]
    run([*script, trainer.model(work), sets.folder / "test.extxyz", found], log_of(work))
    values = np.load(found)
    forces = np.split(values["forces"], np.cumsum([len(frame) for frame in frames])[:-1])
    energies = values["energies"].tolist()
    predictions = [{"energy": energy, "forces": force} for energy, force in zip(energies, forces, strict=True)]
    return EvaluationResult(frames, predictions).to_dict()


def once(asked: Run, out: Path, sets: Sets, test: list[LabelledFrame]) -> None:
    """Train and test, unless the results are there."""
    results, work = out / "results.jsonl", out / asked.name
    if asked.name in finished(results):
        return
    row = asked.row() | train(asked.trainer, sets, asked.minutes, asked.seed, work)
    row["test"] = plain(test_errors(asked.trainer, work, sets, test))
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")
    sys.stdout.write(f"finished {asked.name}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--peers", nargs="+", choices=list(TRAINERS), default=list(TRAINERS))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for recipe in arguments.recipes:
        sets, test = prepare(recipe, arguments.out / f"frames-{Path(recipe).stem}")
        for seed, peer in itertools.product(arguments.seeds, arguments.peers):
            once(Run(recipe, TRAINERS[peer], seed, arguments.minutes), arguments.out, sets, test)


if __name__ == "__main__":
    main()
