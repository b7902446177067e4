"""Fine-tuning: what is loaded, what is not, and that new elements are allowed."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.neighborlist import neighbor_list
from rich.console import Console

from mlip import Potential
from mlip.errors import InputError
from mlip.potential import Normalization
from mlip.training import evaluate, train
from mlip.training.finetune import species_axes, transfer_weights
from mlip.training.load import validate

QUIET = Console(quiet=True)
SMALL = {"cutoff": 4.0, "preset": "fast", "num_channels": 4, "lmax": 1, "num_radial": 4, "radial_width": 8}


@pytest.fixture
def trained(settings):
    """A copper model trained for a moment."""
    return train(settings(training={"max_epochs": 20}, run={"name": "copper"}), console=QUIET).best_path


def test_untouched_fine_tuning_predicts_what_it_started_from(trained, settings, copper):
    still = {"max_epochs": 1, "learning_rate": 1e-12, "ema": None}
    result = train(settings(training=still, init_from=str(trained)), console=QUIET)
    atoms = read(copper, ":3")
    before, after = (p.evaluate(atoms) for p in (Potential.load(trained), result.model))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a["forces"], b["forces"], atol=1e-8)
        # E0 is fitted anew to what the interaction leaves over: all energies move by the same amount
    shifts = [b["energy"] - a["energy"] for a, b in zip(before, after, strict=True)]
    assert np.ptp(shifts) < 1e-8


def test_fine_tuning_starts_better_than_from_scratch(trained, settings):
    one = {"max_epochs": 1, "learning_rate": 1e-4}
    scratch = train(settings(training=one, run={"name": "scratch"}), console=QUIET)
    tuned = train(settings(training=one, run={"name": "tuned"}, init_from=str(trained)), console=QUIET)
    assert tuned.rows[0]["val_loss"] < 0.8 * scratch.rows[0]["val_loss"]


def test_new_element_keeps_what_was_known(trained, settings, alloy, copper):
    data = {"train": [{"path": str(alloy)}]}
    still = {"max_epochs": 1, "learning_rate": 1e-12, "ema": None}
    text = io.StringIO()
    result = train(settings(data=data, training=still, init_from=str(trained)), console=Console(file=text, width=200))
    model = result.model
    assert model.species == ("Cu", "Ag")
    assert set(model.metadata["e0"]) == {"Cu", "Ag"}
    assert "loaded for the known species" in text.getvalue()
    atoms = read(copper, ":3")
    before, after = (p.evaluate(atoms) for p in (Potential.load(trained), model))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a["forces"], b["forces"], atol=1e-8)


def test_new_element_can_be_learnt(trained, settings, alloy):
    data = {"train": [{"path": str(alloy)}]}
    rows = train(settings(data=data, training={"max_epochs": 25}, init_from=str(trained)), console=QUIET).rows
    assert rows[-1]["val_forces_mae_meV_per_A"] < 0.8 * rows[0]["val_forces_mae_meV_per_A"]


@pytest.mark.parametrize("old", [["Cu"], ["Cu", "Ag"], ["Ag", "Au", "Cu"]])
def test_rows_go_with_their_element_whatever_the_order(old):
    new = ["Ag", "Ni", "Cu", "Pd"]
    source, target = (Potential.from_config({**SMALL, "seed": k}, s) for k, s in enumerate((old, new)))
    axes = species_axes(target)
    assert axes["network.embedding"] == (0,)
    transfer_weights(source, target)
    for symbol in set(old) & set(new):
        torch.testing.assert_close(
            target.network.embedding[new.index(symbol)], source.network.embedding[old.index(symbol)]
        )


def test_same_number_of_other_elements_is_not_mistaken_for_the_same():
    source = Potential.from_config({**SMALL, "seed": 1}, ["Cu", "Ag"])
    target = Potential.from_config({**SMALL, "seed": 2}, ["Ag", "Ni"])
    untouched = target.network.embedding[1].clone()
    transfer_weights(source, target)
    torch.testing.assert_close(target.network.embedding[0], source.network.embedding[1])
    torch.testing.assert_close(target.network.embedding[1], untouched)


def test_what_is_not_loaded_is_said():
    source = Potential.from_config(SMALL, ["Cu"])
    target = Potential.from_config({**SMALL, "num_layers": 3}, ["Cu"])
    report = transfer_weights(source, target)
    assert report.left
    assert any(line.startswith("NOT loaded") for line in report.lines())


def test_another_cutoff_is_refused(trained, settings):
    with pytest.raises(InputError, match=r"model\.cutoff"):
        train(settings(model={"cutoff": 4.5}, init_from=str(trained)), console=QUIET)


def test_the_model_section_may_be_left_out(trained, settings_values):
    values = settings_values(init_from=str(trained))
    values.pop("model")
    assert validate(values).model == Potential.load(trained).settings


def test_sizes_of_the_model_are_kept(trained, settings, alloy):
    data = {"train": [{"path": str(alloy)}]}
    result = train(settings(data=data, init_from=str(trained)), console=QUIET)
    old, new = Potential.load(trained).normalization, result.model.normalization
    assert isinstance(new, Normalization)
    assert (new.avg_num_neighbors, new.energy_scale) == (old.avg_num_neighbors, old.energy_scale)


def test_evaluation_of_both_agree_with_the_run(trained, copper):
    errors = evaluate(trained, str(copper)).rows[0]
    assert errors["frames"] == 12


def test_the_smallest_distances_are_those_of_all_data(trained, settings, copper):
    """A run keeps those of its data; fine-tuning on wider data keeps the smaller ones it started from."""
    pairs = [d for atoms in read(copper, ":") for d in neighbor_list("d", atoms, 4.0)]
    before = Potential.load(trained).normalization.min_distance["Cu-Cu"]
    assert min(pairs) <= before < min(pairs) + 0.3  # one of the frames may be a validation frame
    wide = Path(str(copper)).with_name("wide.xyz")
    frames = read(copper, ":")
    for atoms in frames:
        results = atoms.calc.results
        atoms.set_cell(atoms.cell * 1.2, scale_atoms=True)
        atoms.calc = SinglePointCalculator(atoms, energy=results["energy"], forces=results["forces"])
    write(wide, frames)
    data = {"train": [{"path": str(wide)}]}
    still = {"max_epochs": 1, "learning_rate": 1e-12, "ema": None}
    tuned = train(settings(data=data, training=still, init_from=str(trained)), console=QUIET).model
    assert tuned.normalization.min_distance["Cu-Cu"] == before
    assert tuned.metadata["ranges"]["min_distance"]["Cu-Cu"] > before + 0.2
