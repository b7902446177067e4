"""Every malformed configuration is one line on stderr and exit code 2, before any data are read."""

import pytest
import yaml

from mlip.__main__ import main
from mlip.errors import InputError
from mlip.training import TrainingSettings, load_settings
from mlip.training.load import validate

SMALLEST = {"data": {"train": "frames.xyz"}, "model": {"cutoff": 4.0}}

# (overrides of the smallest configuration, what the line must say)
MALFORMED = {
    "unknown section": (["trainings.max_epochs=3"], "did you mean 'training'"),
    "unknown training key": (["training.learning_rat=0.1"], "did you mean 'learning_rate'"),
    "unknown model key": (["model.num_layer=3"], "did you mean 'num_layers'"),
    "unknown data key": (["data.trian=a.xyz"], "did you mean 'train'"),
    "unknown entry key": (["data.train=[{path: a.xyz, indx: '0:5'}]"], "did you mean 'index'"),
    "unknown loss key": (["loss=[{target: energy, wieght: 1}]"], "did you mean 'weight'"),
    "unknown label key": (["data.train=[{path: a.xyz, keys: {enrgy: E}}]"], "enrgy"),
    "far from any key": (["training.xyzzy=1"], "known: max_epochs"),
    "no data": (["data=null"], "data"),
    "no files": (["data.train=[]"], "data.train"),
    "no model": (["model=null"], "model"),
    "text for a number": (["training.batch_size=many"], "training.batch_size"),
    "half a frame": (["training.batch_size=2.5"], "training.batch_size"),
    "empty batch": (["training.batch_size=0"], "training.batch_size"),
    "negative rate": (["training.learning_rate=-0.1"], "training.learning_rate"),
    "rate not a number": (["training.learning_rate=.nan"], "finite"),
    "infinite weight": (["loss=[{target: energy, weight: .inf}]"], "finite"),
    "unknown target": (["loss=[{target: dipole}]"], "'born_charges' or 'polarizability', not 'dipole'"),
    "unknown norm": (["loss=[{target: energy, norm: rmse}]"], "'mse', 'mae', 'huber' or 'l2mae'"),
    "no loss": (["loss=[]"], "loss"),
    "loss of zeros": (["loss=[{target: energy, weight: 0}]"], "nothing would be trained"),
    "same term twice": (["loss=[{target: energy}, {target: energy}]"], "same target and norm"),
    "delta without huber": (["loss=[{target: energy, delta: 0.1}]"], "belongs to norm: huber"),
    "l2mae of energies": (["loss=[{target: energy, norm: l2mae}]"], "not defined for energy"),
    "per_atom of forces": (["loss=[{target: forces, per_atom: false}]"], "belongs to target: energy"),
    "unknown optimizer": (["training.optimizer=sgdd"], "training.optimizer"),
    "unknown schedule": (["training.schedule=linear"], "training.schedule"),
    "plateau key with cosine": (["training.plateau_factor=0.5"], "belongs to schedule: plateau"),
    "average of one": (["training.ema=1.0"], "training.ema"),
    "no end": (["training.max_epochs=null", "training.max_minutes=null"], "max_epochs and max_minutes"),
    "endless patience": (["training.max_epochs=10", "training.patience=20"], "never runs out"),
    "half precision": (["training.dtype=float16"], "training.dtype"),
    "unknown device": (["training.device=tpu"], "training.device"),
    "validation of all": (["data.validation=1.0"], "between 0 and 1"),
    "no validation": (["data.validation=[]"], "chosen by the validation"),
    "explicit without values": (["data.e0={method: explicit}"], "'values' is needed"),
    "values without explicit": (["data.e0={method: fit, values: {Si: 1.0}}"], "only used by"),
    "curvature without weight": (["hessian={weight: 0}"], "hessian.weight"),
    "unknown curvature key": (["hessian={wieght: 1}"], "did you mean 'weight'"),
    "unknown key of a curvature file": (["hessian={data: [{path: a, tragets: hessian}]}"], "did you mean 'target'"),
    "unknown kind of curvature": (["hessian={data: [{path: a, target: phonons}]}"], "'hessian', 'dynamical_matrix'"),
    "q points of H·v": (
        ["hessian={data: [{path: a, q_points: [[0, 0, 0]]}]}"],
        "belongs to target: dynamical_matrix",
    ),
    "curvature after the end": (["hessian={start: 1.0}"], "hessian.start"),
    "two starts": (["hessian={start: 0.5, start_minutes: 3}"], "exclude each other"),
    "start after max_minutes": (["hessian={start_minutes: 50}"], "not within max_minutes"),
    "noise on the frames whose Hessians are probed": (["dens={}", "hessian={weight: 1}"], "hessian.data"),
    "denoising without noise": (["dens={sigma: 0}"], "dens.sigma"),
    "denoising with two sigmas": (["dens={sigma: 0.1, ladder: true}"], "exclude one another"),
    "foreign key": (["model.num_heads=8"], "belongs to architecture: equiformer"),
    "run in a subfolder": (["run.name=a/b"], "one folder"),
    "cutoff of zero": (["model.cutoff=0"], "model.cutoff"),
    "override without value": (["training.max_epochs"], "not key.path=value"),
    "override into a value": (["model.cutoff.x=3"], "holds a value"),
    "override outside a list": (["loss=[{target: energy}]", "loss.4.weight=2"], "not a position"),
    "override not YAML": (["loss=[{target: energy"], "not valid YAML"),
}


@pytest.fixture
def smallest(tmp_path):
    path = tmp_path / "smallest.yaml"
    path.write_text(yaml.safe_dump(SMALLEST))
    return path


def _one_line(capsys):
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert len(line) < 500
    return line


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_setting_is_one_line_and_exit_code_2(smallest, capsys, name):
    overrides, says = MALFORMED[name]
    assert main(["train", str(smallest), *overrides]) == 2
    assert says in _one_line(capsys)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: {cutoff: 4.0}\nmodel: {cutoff: 5.0}\n", "given twice"),
        ("model: {cutoff: 4.0\n", "line"),
        ("", "not a list of"),
        ("- a\n- b\n", "not a list of"),
        ("model:\n\t- x\n", "YAML"),
    ],
)
def test_malformed_file_is_one_line_and_exit_code_2(tmp_path, capsys, text, says):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert main(["train", str(path)]) == 2
    line = _one_line(capsys)
    assert says in line
    assert "broken.yaml" in line


@pytest.mark.parametrize("name", ["no/such.yaml", "nosuch.yaml", "nosuchrecipe", "."])
def test_missing_configuration(capsys, name):
    assert main(["train", name]) == 2
    _one_line(capsys)


def test_smallest_configuration_is_a_path_and_a_cutoff(smallest):
    settings = load_settings(smallest)
    assert settings.model.cutoff == 4.0
    assert settings.data.train[0].path == "frames.xyz"
    assert settings.run.name == "smallest"
    assert [(t.target, t.weight) for t in settings.loss] == [("energy", 100.0), ("forces", 100.0)]


def test_overrides_win_over_the_file(smallest):
    settings = load_settings(smallest, ["training.max_epochs=7", "data.train=[{path: a}]", "data.train.0.weight=2"])
    assert settings.training.max_epochs == 7
    assert settings.data.train[0].weight == 2.0


def test_one_seed_serves_weights_and_data_unless_the_model_has_its_own(smallest):
    assert load_settings(smallest, ["seed=9"]).model.seed == 9
    assert load_settings(smallest, ["seed=9", "model.seed=4"]).model.seed == 4


def test_resolved_settings_read_back_as_themselves(smallest):
    settings = load_settings(smallest, ["seed=9", "training.schedule=plateau"])
    assert validate(settings.model_dump(mode="json")) == settings


def test_every_setting_says_what_it_means():
    def walk(model):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            if hasattr(field.annotation, "model_fields"):
                walk(field.annotation)

    walk(TrainingSettings)


def test_faults_beyond_the_first_are_counted():
    with pytest.raises(InputError, match=r"and 1 more"):
        validate({**SMALLEST, "training": {"batch_size": 0, "learning_rate": -1}})
