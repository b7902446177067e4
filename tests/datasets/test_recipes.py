"""Labelling goes on from the stored frames alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.datasets.recipes.frames import label_all, rounded, stored_frames


@dataclass(frozen=True)
class Frame:
    split: str
    name: str


PLAN = [Frame("train", "a"), Frame("test", "b"), Frame("train", "c")]


def geometry(frame):
    position = {"a": 0.1, "b": 0.2, "c": 0.3}[frame.name]
    return Atoms("H", positions=[[position, 0, 0]], cell=np.eye(3) * 5, pbc=True, info={"name": frame.name})


class Calculation:
    """Labels a frame, and says which ones it had to."""

    def __init__(self):
        self.done = []

    def __call__(self, frame, place):
        self.done.append(frame.name)
        atoms = geometry(frame)
        values = {"energy": 1.0 / 3, "forces": np.full((1, 3), 1.0 / 7), "stress": np.full(6, 1e-3 / 3)}
        atoms.calc = SinglePointCalculator(atoms, **values)
        return rounded(atoms, 0.0)


def test_stored_frames_are_not_computed_again_and_keep_every_digit(tmp_path):
    first, folder = Calculation(), tmp_path / "scratch"
    label_all(PLAN[:2], first, folder, tmp_path, finished=lambda place: False)
    before = (tmp_path / "test.xyz").read_text()
    second = Calculation()
    label_all(PLAN, second, folder, tmp_path, lambda place: False, stored_frames(tmp_path, PLAN, geometry))
    assert first.done == ["a", "b"]
    assert second.done == ["c"]
    assert (tmp_path / "test.xyz").read_text() == before
    assert (tmp_path / "train.xyz").read_text().count("name=") == 2


def test_a_frame_whose_plan_has_changed_is_computed_again(tmp_path):
    label_all(PLAN[:2], Calculation(), tmp_path / "scratch", tmp_path, finished=lambda place: False)

    def moved(frame):
        atoms = geometry(frame)
        atoms.positions += 0.01 * (frame.name == "b")
        return atoms

    assert set(stored_frames(tmp_path, PLAN, moved)) == {"a"}
