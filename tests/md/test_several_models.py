"""Several models in one figure, and committees with a spread that is what it says."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from matplotlib.colors import to_rgb

from mlip import MLIPCalculator, Potential
from mlip.__main__ import main
from mlip.errors import InputError
from mlip.md import compare_phonons, phonons
from mlip.md.session import is_model, models_and_structures

SETTINGS = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 1, "num_channels": 4, "lmax": 1}
FEW = {"points": 14, "dos_mesh": [4, 4, 4], "supercell": 2, "relax_first": None}


@pytest.fixture(scope="module")
def potentials():
    return [Potential.from_config({**SETTINGS, "seed": seed}, species=["Si"]) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def crystal():
    return bulk("Si", a=5.43)


@pytest.fixture(scope="module")
def singles(potentials, crystal):
    return [phonons(crystal, MLIPCalculator(p, dtype="float64"), **FEW) for p in potentials]


@pytest.fixture(scope="module")
def committee(potentials, crystal):
    return phonons(crystal, MLIPCalculator(potentials, dtype="float64"), **FEW)


def test_a_committee_has_the_mean_matrix_and_the_members_spread(committee, singles):
    q = np.array([[0.1, 0.2, 0.35]])
    mean = np.mean([r.matrices.at(q) for r in singles], axis=0)
    assert committee.matrices.at(q) == pytest.approx(mean, abs=1e-12)
    members = np.array([r.bands.frequencies for r in singles])
    assert committee.spread.frequencies == pytest.approx(members, abs=1e-6)
    assert committee.spread.std == pytest.approx(np.std(members, axis=0, ddof=1), abs=1e-6)
    # the mean of the members' frequencies is not the frequency of their mean matrix
    assert np.abs(committee.bands.frequencies - members.mean(axis=0)).max() > 1e-3


def test_the_report_has_each_members_special_points(committee, singles):
    told = committee.to_dict()["committee"]
    for member, result in zip(told["members"], singles, strict=True):
        assert member["special_points_THz"]["X"] == pytest.approx(result.special_points()["X"], abs=1e-6)
    at_x = np.array([result.special_points()["X"] for result in singles])
    assert told["special_points_std_THz"]["X"] == pytest.approx(np.std(at_x, axis=0, ddof=1), abs=1e-6)
    assert any("committee of 3" in line for line in committee.lines)


def test_one_model_has_no_spread_and_equal_members_have_none_to_show(singles, potentials, crystal):
    assert singles[0].spread is None
    assert singles[0].to_dict()["committee"] is None
    twins = phonons(crystal, MLIPCalculator([potentials[0], potentials[0]], dtype="float64"), **FEW)
    assert twins.spread.std.max() < 1e-9
    assert twins.bands.frequencies == pytest.approx(singles[0].bands.frequencies, abs=1e-6)


@pytest.mark.parametrize("method", ["hessian", "displacement"])
def test_a_committees_spread_by_other_routes(potentials, crystal, method, committee):
    pair = phonons(crystal, MLIPCalculator(potentials, dtype="float64"), method=method, **FEW)
    x = committee.spread.special_points["X"]  # commensurate with the supercell, so that all routes agree
    assert pair.spread.special_points["X"] == pytest.approx(x, abs=2e-2)


def test_a_correction_reaches_the_members(potentials, crystal):
    plain = phonons(crystal, MLIPCalculator(potentials[:2], dtype="float64"), method="displacement", **FEW)
    corrected = phonons(
        crystal, MLIPCalculator(potentials[:2], dtype="float64"), method="displacement", asr=True, **FEW
    )
    acoustic = np.sort(np.abs(corrected.spread.special_points["GAMMA"]))[:, :3]
    assert acoustic.max() < 1e-5
    assert np.sort(np.abs(plain.spread.special_points["GAMMA"]))[:, :3].max() > acoustic.max()


# -- comparisons ------------------------------------------------------------------------------------------


def test_a_comparison_is_at_equal_q(singles):
    comparison = compare_phonons(singles, ["a", "b", "c"])
    b = comparison.against_first["b"]
    assert b.ours == pytest.approx(singles[0].bands.frequencies, abs=1e-6)
    assert b.theirs == pytest.approx(singles[1].bands.frequencies, abs=1e-6)
    told = comparison.to_dict()
    assert told["models"]["c"]["special_points_THz"]["L"] == pytest.approx(singles[2].special_points()["L"])
    assert told["against_first"]["b"]["mean_THz"] == pytest.approx(
        np.abs(singles[0].bands.frequencies - singles[1].bands.frequencies).mean(), abs=1e-6
    )


def test_lattice_constants_and_orientations_may_differ(potentials):
    """The same model on a turned and on a doubled crystal: no difference."""
    calculator = MLIPCalculator(potentials[0], dtype="float64")
    turned = bulk("Si", a=5.43, cubic=True)
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    results = [phonons(atoms, calculator, **FEW) for atoms in (bulk("Si", a=5.43), turned)]
    assert compare_phonons(results).against_first["model 2"].worst[0] < 1e-6


def test_wrong_comparisons_are_refused(singles, silicon_phonons, potentials):
    with pytest.raises(InputError, match="two results"):
        compare_phonons(singles[:1])
    with pytest.raises(InputError, match="different names"):
        compare_phonons(singles[:2], ["a", "a"])
    model = MLIPCalculator(potentials[0], dtype="float64")
    other = phonons(bulk("Si", "sc", a=2.5), model, **FEW)
    with pytest.raises(InputError, match="not Si2"):
        compare_phonons([singles[0], other])


def test_figures_have_a_line_for_each_model_and_a_band_for_a_committee(singles, committee):
    figure = compare_phonons([*singles, committee], ["a", "b", "c", "all"]).plot()
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["a", "b", "c", "all"]
    left = figure.axes[0]
    colours = {to_rgb(line.get_color()) for line in left.get_lines() if len(line.get_xdata()) > 2}
    assert len(colours) >= 4
    segments = len(committee.bands.path.segments)
    assert len(left.collections) >= 6 * segments
    alone = committee.plot()
    assert len(alone.axes[0].collections) >= 6 * segments
    assert "mean of 3 models" in alone.legends[0].get_texts()[0].get_text()
    top = max(r.bands.frequencies.max() for r in singles)
    assert left.get_ylim()[1] > top


def test_each_models_distance_from_a_reference_is_its_own(silicon_phonons):
    from mlip.md.reference import Reference

    def scaled(factor, name):
        lattice = silicon_phonons.cell.atoms.cell.array
        return Reference(name, silicon_phonons.cell, lattice, solve=lambda q: silicon_phonons.frequencies(q) * factor)

    results = [silicon_phonons.compared_with(scaled(factor, "dfpt")) for factor in (1.01, 1.02)]
    words = [text.get_text() for text in compare_phonons(results, ["a", "b"]).plot().legends[0].get_texts()]
    mean = silicon_phonons.bands.frequencies.mean()
    assert words == [f"a: mean |Δν| {0.01 * mean:.2g} THz", f"b: mean |Δν| {0.02 * mean:.2g} THz", "dfpt"]


# -- on the command line ----------------------------------------------------------------------------------


@pytest.fixture
def files(potentials, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, potential in zip(("one", "two"), potentials, strict=False):
        potential.save(f"{name}.mlip")
    (tmp_path / "plain").mkdir()
    potentials[2].save("plain/model")  # no suffix: known by its contents
    ase.io.write("si.cif", bulk("Si", a=5.43))
    return ["one.mlip", "two.mlip", "plain/model", "si.cif"]


OPTIONS = ["--points", "14", "--dos", "4 4 4", "--supercell", "2", "--no-relax"]


def test_models_are_told_from_structures(files, tmp_path):
    paths = [tmp_path / name for name in files]
    assert models_and_structures(paths, None) == (paths[:3], paths[3:])
    assert models_and_structures(paths[3:], "module:factory") == ([], paths[3:])
    assert not is_model(tmp_path / "si.cif")
    with pytest.raises(InputError, match="STRUCTURE"):
        models_and_structures(paths[:3], None)


def test_several_models_have_a_figure_and_a_folder_each(files, tmp_path, singles):
    assert main(["phonons", *files, *OPTIONS, "--json", "report.json"]) == 1  # random weights are no crystal
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["results"]["models"]) == ["one", "two", "model"]
    for name, result in zip(("one", "two", "model"), singles, strict=True):
        told = report["results"]["models"][name]["special_points_THz"]["X"]
        assert told == pytest.approx(result.special_points()["X"], abs=1e-6)
        assert (tmp_path / f"si-phonons/{name}/phonons.html").is_file()
    assert (tmp_path / "si-phonons/comparison.png").stat().st_size > 20_000
    assert all((tmp_path / file).is_file() for file in report["files"])


def test_a_committee_on_the_command_line(files, tmp_path, committee, capsys):
    assert main(["phonons", *files, *OPTIONS, "--committee", "--json", "report.json"]) == 1
    told = json.loads((tmp_path / "report.json").read_text())["results"]["committee"]
    assert [member["name"] for member in told["members"]] == ["one", "two", "model"]
    assert told["largest_std_THz"] == pytest.approx(committee.spread.std.max(), abs=1e-6)
    page = (tmp_path / "si-phonons/phonons.html").read_text()
    assert "mean of 3 models" in page
    capsys.readouterr()
    assert main(["phonons", "one.mlip", "si.cif", "--committee"]) == 2
    assert main(["relax", "one.mlip", "two.mlip", "si.cif"]) == 2
    assert "takes one" in capsys.readouterr().err
