"""Splits do not leak; summaries tell what is in a set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from mlip.datasets import LabelledFrame, find_copies, find_leaks, inspect, print_summaries, read_frames, split
from mlip.errors import InputError


def _moved(frame: LabelledFrame, seed: int = 0) -> LabelledFrame:
    """The same structure, shifted and with atoms wrapped into other cells."""
    rng = np.random.default_rng(seed)
    atoms = frame.atoms.copy()
    atoms.positions += rng.normal(size=3)
    if atoms.pbc.any():
        atoms.positions += rng.integers(-2, 3, size=(len(atoms), 3)) @ np.asarray(atoms.cell)
    else:
        atoms.rotate(50, rng.normal(size=3))
    return replace(frame, atoms=atoms)


def test_copies_are_found_whatever_their_place(copper_frames, molecule_frames):
    frames = [*copper_frames, *molecule_frames, _moved(copper_frames[3]), _moved(molecule_frames[4])]
    numbers = find_copies(frames)
    assert len(set(numbers.tolist())) == 100
    assert numbers[100] == numbers[3]
    assert numbers[101] == numbers[44]


def test_molecules_in_dummy_boxes_are_compared_as_molecules(molecule_frames):
    boxed = []
    for frame in molecule_frames:
        atoms = frame.atoms.copy()
        atoms.set_cell([30, 32, 34])
        atoms.pbc = True
        atoms.wrap()  # cuts some of the molecules in two
        boxed.append(replace(frame, atoms=atoms))
    found = inspect(boxed)
    assert found.dummy_boxes == 60
    assert found.diagnosis.slope == pytest.approx(inspect(molecule_frames).diagnosis.slope, abs=1e-6)
    assert found.net_torque_max < 1e-8
    turned = [replace(frame, atoms=_turned(frame)) for frame in molecule_frames[:3]]
    assert inspect([*boxed, *turned]).copies == 3


def _turned(frame: LabelledFrame) -> Atoms:
    atoms = frame.atoms.copy()
    atoms.rotate(77, (1, -1, 2))
    atoms.set_cell([40, 40, 40])
    atoms.pbc = True
    return atoms


def test_one_formula_in_cells_of_different_shape_is_not_compared(copper_frames):
    turned = []
    for frame in copper_frames[:10]:
        atoms = frame.atoms.copy()
        atoms.set_cell(np.asarray(atoms.cell)[[1, 0, 2]] * [[-1], [1], [1]])
        turned.append(replace(frame, atoms=atoms))
    found = inspect([*copper_frames, *turned])
    assert found.diagnosis.verdict.startswith("good")
    assert found.copies == 0


def test_small_displacements_are_not_copies(data_file):
    frames = read_frames(data_file("phonopy/CaTiO3"))
    assert len(set(find_copies(frames).tolist())) == 4


def test_a_thousand_copies_are_quick(molecule_frames):
    assert len(set(find_copies([molecule_frames[0]] * 1000).tolist())) == 1


@pytest.mark.parametrize("mode", ["random", "contiguous"])
def test_every_frame_is_somewhere_and_only_once(copper_frames, mode):
    parts = split(copper_frames, validation=0.1, test=5, seed=3, mode=mode)
    assert sorted([*parts.train, *parts.validation, *parts.test]) == list(range(40))
    assert (len(parts.validation), len(parts.test)) == (4, 5)


def test_a_seed_repeats_a_split(copper_frames):
    assert split(copper_frames, validation=0.2, seed=1) == split(copper_frames, validation=0.2, seed=1)
    assert split(copper_frames, validation=0.2, seed=1) != split(copper_frames, validation=0.2, seed=2)


@pytest.mark.parametrize("seed", range(10))
def test_copies_never_leak(copper_frames, seed):
    frames = [*copper_frames, *(_moved(frame, seed) for frame in copper_frames[:20])]
    parts = split(frames, validation=0.2, test=0.2, seed=seed).select(frames)
    assert find_leaks(parts) == []
    assert len(parts["test"]) == pytest.approx(12, abs=1)


def test_copies_of_training_frames_are_left_out_of_contiguous_parts(copper_frames):
    frames = [*copper_frames, _moved(copper_frames[0])]
    parts = split(frames, validation=0.0, test=4, mode="contiguous")
    assert parts.left_out == [40]
    assert find_leaks(parts.select(frames)) == []


def test_contiguous_parts_follow_in_time_with_gaps(copper_frames):
    parts = split(copper_frames, validation=5, test=5, mode="contiguous", gap=3)
    assert parts.train == list(range(24))
    assert parts.validation == list(range(27, 32))
    assert parts.test == list(range(35, 40))


def test_blocks_of_a_trajectory_stay_together(copper_frames):
    parts = split(copper_frames, validation=0.25, seed=2, block=5)
    for start in range(0, 40, 5):
        assert len({index in parts.validation for index in range(start, start + 5)}) == 1
    assert len(parts.validation) == 10


def test_each_config_type_gives_its_share(copper_frames):
    frames = [replace(f, config_type="rare" if i < 10 else "common") for i, f in enumerate(copper_frames)]
    parts = split(frames, validation=0.2, seed=0)
    assert sum(index < 10 for index in parts.validation) == 2
    assert len(parts.validation) == 8


def test_isolated_atoms_are_trained_on(copper_frames):
    frames = [LabelledFrame(Atoms("Cu"), energy=0.0), *copper_frames]
    assert all(0 in split(frames, validation=0.5, seed=seed).train for seed in range(5))


@pytest.mark.parametrize(
    "sizes",
    [
        {"validation": 1.5},
        {"validation": 40},
        {"validation": -1},
        {"test": float("nan")},
        {"block": 0},
        {"mode": "no"},
    ],
)
def test_impossible_splits_are_refused(copper_frames, sizes):
    with pytest.raises(InputError):
        split(copper_frames, **sizes)


def test_a_summary_counts_and_measures(copper_frames):
    found = inspect([*copper_frames, replace(copper_frames[0], energy=None, stress=None)], cutoff=5.0)
    assert found.labels == {"energy": 40, "forces": 41, "stress": 40, "hessian": 0}
    assert (found.atoms_min, found.atoms_max, found.species, found.periodic) == (8, 8, ["Cu"], True)
    lengths = np.concatenate([np.linalg.norm(f.forces, axis=1) for f in [*copper_frames, copper_frames[0]]])
    assert found.force_max == pytest.approx(lengths.max())
    assert found.force_rms == pytest.approx(np.sqrt(np.mean(lengths**2)))
    assert found.net_force_max < 1e-10
    assert found.net_torque_max is None
    assert found.height_min == pytest.approx(3.6, abs=0.2)
    assert found.below_cutoff == 41
    assert found.copies == 1


def test_net_forces_and_torques_are_seen(molecule_frames):
    turning = np.cross(molecule_frames[0].atoms.positions, [0, 0, 1.0])
    pushed = replace(molecule_frames[0], forces=molecule_frames[0].forces + np.array([0.1, 0, 0]))
    turned = replace(molecule_frames[0], forces=molecule_frames[0].forces + turning - turning.mean(axis=0))
    assert inspect(molecule_frames).net_torque_max < 1e-9
    assert inspect([pushed]).net_force_max == pytest.approx(0.4)
    assert inspect([turned]).net_torque_max > 0.5


def test_hessians_are_checked_for_symmetry_and_translations(data_file):
    found = inspect(data_file("hessian_molecules"), pbc=False)
    assert found.labels["hessian"] == 20
    assert found.hessian_asymmetry < 2e-3
    assert found.hessian_drift < 0.05
    frame = read_frames(data_file("hessian_molecules"), pbc=False, index=0)[0]
    skewed = frame.hessian.copy()
    skewed[0, 5] += 1.0
    broken = inspect([replace(frame, hessian=skewed)])
    assert broken.hessian_asymmetry == pytest.approx(1.0, abs=2e-3)
    assert broken.hessian_drift == pytest.approx(1.0, abs=0.05)


def test_single_frames_of_many_formulas_are_chosen_by_the_seed(data_file):
    frames = read_frames(data_file("born/phonon_becs_epsilon.xyz"), index=":200")
    chosen = [set(split(frames, validation=0.1, seed=seed).validation) for seed in (1, 2)]
    assert [len(part) for part in chosen] == [20, 20]
    assert len(chosen[0] & chosen[1]) < 10


def test_a_summary_prints_every_remark(copper_frames, capsys):
    forces = copper_frames[7].forces.copy()
    forces[2] = [0, 0, 300.0]
    frames = [*copper_frames[:7], replace(copper_frames[7], forces=forces), *copper_frames[8:]]
    twin = replace(copper_frames[0], energy=copper_frames[0].energy + 0.5, index=77)
    print_summaries([inspect([*frames, twin], name="copper")])
    printed = capsys.readouterr().out
    for words in ("large force: emt.xyz, frame 7, atom 2", "noise floor", "label doctor: good", "frame 77, by +0.5"):
        assert words in printed


def test_large_forces_are_listed_not_removed(copper_frames):
    forces = copper_frames[7].forces.copy()
    forces[2] = [0, 0, 300.0]
    found = inspect([*copper_frames[:7], replace(copper_frames[7], forces=forces), *copper_frames[8:]])
    assert [(o.atom, o.force) for o in found.force_outliers] == [(2, 300.0)]
    assert found.frames == 40


def test_leaks_between_real_sets_are_none(data_file):
    sets = {name: read_frames(data_file(f"zuo/{name}.xyz")) for name in ("Si_train", "Si_test")}
    assert find_leaks(sets) == []
    assert find_leaks({"a": sets["Si_test"], "b": sets["Si_test"][:3]}) == [("a", "b", 3)]
