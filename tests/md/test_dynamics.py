"""Dynamics: conservation, order of the integrator, temperatures, restarts, observables."""

from __future__ import annotations

import os
import signal

import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.errors import InputError
from mlip.md import run_md
from mlip.md.ensembles import ENSEMBLES
from mlip.md.observables import drift_of, mean_squared_displacement, pair_distribution, vibrational_density
from mlip.md.trajectory import read_frames


def test_nve_conserves_energy_and_its_error_falls_with_the_square_of_the_step(silicon8, sw):
    steps = np.array([0.5, 1.0, 2.0])
    runs = [run_md(silicon8, sw, temperature=600, timestep=dt, time=0.25, seed=2, every=1000) for dt in steps]
    slope = np.polyfit(np.log(steps), np.log([run.fluctuation for run in runs]), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.1)
    assert all(run.checks[1].passed for run in runs)


def test_start_has_the_temperature_asked_for_and_no_net_momentum(silicon8, sw):
    result = run_md(silicon8, sw, temperature=450, timestep=1, steps=1, seed=5)
    assert result.log["temperature"][0] == pytest.approx(450, rel=1e-12)
    momentum = (result.velocities[0] * silicon8.get_masses()[:, None]).sum(axis=0)
    assert np.abs(momentum).max() < 1e-12


def test_the_same_seed_gives_the_same_run_and_another_one_another(silicon8, new_sw):
    runs = [run_md(silicon8, new_sw(), ensemble="langevin", timestep=2, steps=10, seed=s) for s in (1, 1, 2)]
    assert np.array_equal(runs[0].atoms.positions, runs[1].atoms.positions)
    assert not np.array_equal(runs[0].atoms.positions, runs[2].atoms.positions)


def test_the_input_is_left_alone(silicon8, sw):
    before = silicon8.get_positions()
    run_md(silicon8, sw, ensemble="npt", timestep=2, steps=3)
    assert np.array_equal(silicon8.get_positions(), before)
    assert not silicon8.has("momenta")
    assert silicon8.calc is None


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("trajectory", ["trajectory.xyz", "trajectory.h5"])
def test_restart_equals_no_restart_bit_for_bit(silicon8, new_sw, tmp_path, ensemble, trajectory):
    settings = {"ensemble": ensemble, "temperature": 600, "timestep": 2.0, "seed": 3, "trajectory": trajectory}
    whole = run_md(silicon8, new_sw(), steps=20, folder=tmp_path / "whole", **settings)
    run_md(silicon8, new_sw(), steps=9, folder=tmp_path / "parts", **settings)
    parts = run_md(silicon8, new_sw(), steps=20, folder=tmp_path / "parts", resume=True, **settings)
    for name, column in whole.log.items():
        assert np.array_equal(column, parts.log[name], equal_nan=True), name
    assert np.array_equal(whole.atoms.positions, parts.atoms.positions)
    assert np.array_equal(whole.atoms.get_momenta(), parts.atoms.get_momenta())
    assert np.array_equal(whole.positions, parts.positions)
    assert (tmp_path / "whole/md.csv").read_bytes() == (tmp_path / "parts/md.csv").read_bytes()


def test_what_was_written_after_the_restart_file_is_forgotten(silicon8, new_sw, tmp_path):
    """As when a run dies between two restart files."""
    settings = {"temperature": 600, "timestep": 2.0, "seed": 3, "folder": tmp_path}
    run_md(silicon8, new_sw(), steps=10, **settings)
    saved = (tmp_path / "restart.npz").read_bytes()
    run_md(silicon8, new_sw(), steps=17, resume=True, **settings)
    (tmp_path / "restart.npz").write_bytes(saved)
    result = run_md(silicon8, new_sw(), steps=20, resume=True, **settings)
    assert np.array_equal(result.log["step"], np.arange(21))
    assert np.array_equal(result.times, np.arange(0, 42, 10.0))


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_can_be_gone_on_with(silicon8, new_sw, tmp_path, signal_number):
    def interrupting(steps):
        for step in steps:
            if step == 6:
                os.kill(os.getpid(), signal_number)
            yield step

    settings = {"ensemble": "bussi", "timestep": 2.0, "seed": 3, "steps": 15}
    whole = run_md(silicon8, new_sw(), **settings)
    handler = signal.getsignal(signal_number)
    first = run_md(silicon8, new_sw(), folder=tmp_path, progress=interrupting, **settings)
    assert first.stopped == "asked to stop at step 7; go on with resume"
    assert signal.getsignal(signal_number) is handler
    second = run_md(silicon8, new_sw(), folder=tmp_path, resume=True, **settings)
    assert np.array_equal(second.atoms.positions, whole.atoms.positions)


def test_restart_of_our_own_calculator(silicon8, small_potential, tmp_path):
    from mlip import MLIPCalculator

    settings = {"ensemble": "bussi", "timestep": 2.0, "seed": 3}
    whole = run_md(silicon8, MLIPCalculator(small_potential), steps=12, **settings)
    run_md(silicon8, MLIPCalculator(small_potential), steps=7, folder=tmp_path, **settings)
    parts = run_md(silicon8, MLIPCalculator(small_potential), steps=12, folder=tmp_path, resume=True, **settings)
    assert np.array_equal(whole.atoms.positions, parts.atoms.positions)


def test_a_restart_must_be_given_the_same_settings(silicon8, sw, tmp_path):
    run_md(silicon8, sw, timestep=2, steps=3, folder=tmp_path)
    with pytest.raises(InputError, match="timestep"):
        run_md(silicon8, sw, timestep=1, steps=6, folder=tmp_path, resume=True)
    with pytest.raises(InputError, match="other atoms"):
        run_md(bulk("Si"), sw, timestep=2, steps=6, folder=tmp_path, resume=True)


@pytest.mark.parametrize("ensemble", ["langevin", "bussi"])
def test_thermostats_give_the_mean_and_variance_of_the_kinetic_energy(ensemble, new_springs):
    """⟨E_kin⟩ = f kT/2 and var E_kin = f (kT)²/2 with f = 3N − 3; eight free atoms, so that 3N would be seen."""
    holding = {"friction": 50.0} if ensemble == "langevin" else {"thermostat_time": 20.0}
    gas = Atoms("Ar8", np.random.default_rng(0).uniform(0, 10, (8, 3)))
    gas.set_masses(np.linspace(10, 40, 8))
    settings = {"temperature": 300, "timestep": 4.0, "steps": 5000, "seed": 1, "every": 5000}
    result = run_md(gas, new_springs(0.0), ensemble=ensemble, **settings, **holding)
    kinetic = result.log["kinetic"]
    f, kt = 21, 300 * ase.units.kB
    assert kinetic.mean() == pytest.approx(f * kt / 2, rel=0.03)
    assert result.log["temperature"].mean() == pytest.approx(300, rel=0.03)
    assert kinetic.var() == pytest.approx(f * kt**2 / 2, rel=0.12)


def test_langevin_dynamics_heats_springs_to_equipartition(new_springs):
    """Potential and kinetic energy of 3N − 3 oscillators are both f kT/2 on average."""
    crystal = Atoms("Ar8", np.random.default_rng(0).uniform(0, 10, (8, 3)))
    settings = {"temperature": 300, "timestep": 4.0, "steps": 5000, "seed": 1, "every": 5000, "friction": 30.0}
    result = run_md(crystal, new_springs(5.0), ensemble="langevin", **settings)
    expected = 21 * 300 * ase.units.kB / 2
    assert result.log["kinetic"][500:].mean() == pytest.approx(expected, rel=0.03)
    assert result.log["potential"][500:].mean() == pytest.approx(expected, rel=0.06)


def test_nose_hoover_leaves_a_gas_at_its_temperature_alone(new_springs):
    """The chain counts 3N − 3 momenta: with 2 E_kin = f kT from the start it has nothing to do."""
    gas = Atoms("Ar8", np.random.default_rng(0).uniform(0, 10, (8, 3)))
    result = run_md(gas, new_springs(0.0), ensemble="nose-hoover", temperature=300, timestep=2.0, steps=200)
    assert result.log["temperature"] == pytest.approx(300, rel=1e-9)
    colder = run_md(
        result.atoms,
        new_springs(0.0),
        ensemble="nose-hoover",
        temperature=100,
        timestep=2.0,
        steps=20,
        keep_velocities=True,
    )
    assert colder.log["temperature"][-1] < 299


def test_npt_reaches_its_pressure():
    copper = bulk("Cu", cubic=True)
    result = run_md(
        copper,
        EMT(),
        ensemble="npt-isotropic",
        temperature=300,
        pressure=5.0,
        timestep=4.0,
        steps=700,
        barostat_time=200,
        seed=1,
        every=1000,
    )
    half = len(result.log["pressure"]) // 2
    assert result.log["pressure"][half:].mean() == pytest.approx(5.0, abs=1.0)
    assert result.log["volume"][half:].mean() < copper.get_volume()
    assert result.checks[1].passed


@pytest.mark.parametrize("ensemble", ["bussi", "nose-hoover", "npt"])
def test_thermostats_conserve_what_they_should(silicon8, sw, ensemble):
    result = run_md(silicon8, sw, ensemble=ensemble, temperature=500, timestep=1.0, steps=300, seed=4)
    moved = np.ptp(result.log["potential"] + result.log["kinetic"])
    assert np.ptp(result.log["conserved"]) < 0.1 * moved


def test_langevin_says_that_it_conserves_nothing(silicon8, sw):
    result = run_md(silicon8, sw, ensemble="langevin", timestep=2, steps=20)
    assert np.isnan(result.drift)
    assert [check.name for check in result.checks] == ["stopped early"]


def test_a_drift_is_found_and_noise_is_not_taken_for_one():
    t = np.linspace(0, 2000, 2001)
    noise = np.random.default_rng(0).normal(scale=1e-4, size=t.size)
    drift, error, spread = drift_of(0.008 * t / 1000 + noise, t, atoms=8)
    assert drift == pytest.approx(1.0, abs=3 * error)
    assert spread == pytest.approx(0.0125, rel=0.05)
    drift, error, _ = drift_of(noise, t, atoms=8)
    assert abs(drift) < 3 * error


def test_a_nonconservative_force_is_seen_as_drift(silicon8, sw, altered):
    def heating(atoms, results):
        results["forces"] += 0.02 * atoms.get_velocities()
        return results

    result = run_md(silicon8, altered(sw, heating), timestep=2, temperature=300, steps=300, seed=1)
    assert not result.checks[1].passed


def test_hooks_stop_and_warn(silicon8, sw):
    result = run_md(
        silicon8,
        sw,
        timestep=2,
        steps=50,
        stop_when=lambda atoms: "too far" if np.ptp(atoms.get_positions()) > 4.1 else None,
        warn_when=lambda atoms: "moving" if atoms.get_kinetic_energy() > 0 else None,
        temperature=2000,
    )
    assert result.stopped.startswith("too far (step ")
    assert result.warnings == {"moving": 1}
    assert not result.checks[0].passed


def test_leaving_the_training_range_is_noted(silicon8, small_potential):
    from mlip import MLIPCalculator
    from mlip.md.dynamics import outside_training

    small_potential.metadata["ranges"] = {"min_distance": {"Si-Si": 2.30}}
    hook = outside_training(MLIPCalculator(small_potential))
    close = silicon8.copy()
    assert hook(close) is None
    close.positions[0] += 0.3
    assert "Si-Si" in hook(close)


def test_an_energy_that_is_not_finite_stops_the_run(silicon8, sw, altered):
    def breaks(atoms, results):
        if atoms.get_positions()[0, 0] != 0.0:
            results["energy"] = float("nan")
        return results

    result = run_md(silicon8, altered(sw, breaks), timestep=2, steps=20)
    assert result.stopped == "the energy is not finite (step 1)"


def test_the_suggested_step_is_a_twentieth_of_the_shortest_period(silicon8, sw):
    result = run_md(silicon8, sw, steps=1)
    assert 0.045 < result.thermo.timestep * 17.84e-3 < 0.05


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"ensemble": "nvt"}, "ensemble"),
        ({"steps": None}, "steps or time"),
        ({"time": 1.0}, "steps or time"),
        ({"timestep": -1.0}, "timestep"),
        ({"ensemble": "langevin", "temperature": 0.0}, "temperature"),
        ({"viscosity": 3.0}, "viscosity"),
        ({"resume": True}, "folder"),
    ],
)
def test_wrong_settings_are_named(silicon8, sw, settings, word):
    with pytest.raises(InputError, match=word):
        run_md(silicon8, sw, **{"timestep": 2.0, "steps": 2, **settings})


def test_npt_needs_a_crystal():
    with pytest.raises(InputError, match="periodic"):
        run_md(Atoms("Cu2", [[0, 0, 0], [2.4, 0, 0]]), EMT(), ensemble="npt", timestep=1, steps=2)


def test_files_hold_the_frames(silicon8, sw, tmp_path):
    for name in ("trajectory.xyz", "trajectory.h5"):
        result = run_md(silicon8, sw, timestep=2, steps=10, folder=tmp_path / name, trajectory=name)
        positions, velocities, cells, times = read_frames(tmp_path / name / name)
        assert positions.shape == velocities.shape == (3, 8, 3)
        assert np.array_equal(times, [0, 10, 20])
        assert positions[-1] == pytest.approx(result.atoms.positions, abs=1e-7)
        assert cells[0] == pytest.approx(silicon8.cell.array)


def test_pair_distribution_counts_neighbours(silicon8):
    g = pair_distribution(silicon8, silicon8.positions[None], silicon8.cell.array[None], cutoff=6.0, bins=300)
    r, values = g.x, g.y["Si–Si"]
    shell = (r > 2.0) & (r < 3.0)
    density = 8 / silicon8.get_volume()
    assert np.sum(4 * np.pi * r**2 * values * density * (r[1] - r[0]), where=shell) == pytest.approx(4, rel=1e-3)


def test_displacement_of_a_straight_flight_and_of_a_drifting_crystal():
    atoms = Atoms("Ar2", [[0, 0, 0], [5, 0, 0]])
    times = np.arange(50) * 10.0
    flight = np.zeros((50, 2, 3))
    flight[:, 0, 1], flight[:, 1, 1] = 0.01 * times, -0.01 * times
    cells = np.zeros((50, 3, 3))
    assert mean_squared_displacement(atoms, flight, cells, times).y["Ar"] == pytest.approx((0.01 * times) ** 2)
    drift = np.broadcast_to((0.01 * times)[:, None, None], (50, 2, 3))
    assert mean_squared_displacement(atoms, drift, cells, times).y["Ar"] == pytest.approx(0, abs=1e-12)


def test_vibrational_spectrum_peaks_at_the_oscillators_frequency_and_counts_the_modes():
    atoms = Atoms("ArNe", [[0, 0, 0], [5, 0, 0]])
    times = np.arange(2000) * 2.0
    v = np.zeros((2000, 2, 3))
    v[:, 0] = np.cos(2 * np.pi * 5e-3 * times)[:, None] / np.sqrt(atoms.get_masses()[0])
    v[:, 1] = np.cos(2 * np.pi * 12e-3 * times)[:, None] / np.sqrt(atoms.get_masses()[1])
    spectrum = vibrational_density(atoms, v, times)
    assert spectrum.x[spectrum.y["Ar"].argmax()] == pytest.approx(5, abs=0.6)
    assert spectrum.x[spectrum.y["Ne"].argmax()] == pytest.approx(12, abs=0.6)
    assert np.trapezoid(sum(spectrum.y.values()), spectrum.x) == pytest.approx(6, rel=1e-6)
