"""What a run writes stays small, however long it runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlip.training.loop import TIMING
from mlip.training.metrics import COLUMNS, MOST_ROWS, CsvTable, thinned

LONGEST_CELL = 18  # "-1.234567891e-308,"


def row(step, columns=COLUMNS, validated=True):
    return {name: -1.23456789123e-308 for name in columns if validated or not name.startswith("val")} | {"step": step}


def test_a_table_never_exceeds_its_rows_and_keeps_its_shape(tmp_path):
    table = CsvTable(tmp_path / "metrics.csv", COLUMNS, most=100)
    most = 0
    for step in range(1, 2001):
        table.append(row(step, validated=step % 7 == 0))
        if step % 50 == 0:
            most = max(most, len(table.rows()))
    rows = table.rows()
    assert most <= 100 < 2 * len(rows) + 2
    steps = [r["step"] for r in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == 2000  # the latest row is always there
    validated = [r["step"] for r in rows if not math.isnan(r["val_loss"])]
    assert all(step % 7 == 0 for step in validated)
    assert validated[-1] == 1995
    assert np.diff(validated).max() <= 2000 / 5  # from the beginning to the end


def test_twenty_hours_of_one_epoch_a_second_leave_fourteen_megabytes():
    """The bound: rows × columns × the longest number, of the two tables; checkpoint and model are replaced."""
    bound = MOST_ROWS * LONGEST_CELL * (len(COLUMNS) + len(TIMING))
    assert bound < 14e6
    assert MOST_ROWS < 20 * 3600  # without the limit it would be several times more


def test_the_bound_of_a_row_holds(tmp_path):
    table = CsvTable(tmp_path / "metrics.csv", COLUMNS)
    table.append(row(1))
    header = len(",".join(COLUMNS)) + 1
    assert table.path.stat().st_size - header <= LONGEST_CELL * len(COLUMNS)


def test_thinning_drops_half_of_each_kind():
    rows = [{"step": float(k), "val_loss": 1.0 if k % 2 else math.nan} for k in range(40)]
    left = thinned(rows)
    assert len(left) == 20
    assert sum(not math.isnan(r["val_loss"]) for r in left) == 10


@pytest.mark.parametrize("at", [30, 77])
def test_a_resumed_table_goes_on_counting(tmp_path, at):
    first = CsvTable(tmp_path / "metrics.csv", COLUMNS, most=50)
    for step in range(1, 81):
        first.append(row(step))
    again = CsvTable(tmp_path / "metrics.csv", COLUMNS, most=50)
    again.cut(at)
    kept = len(again.rows())
    for step in range(at + 1, at + 40):
        again.append(row(step))
    assert again.rows()[-1]["step"] == at + 39
    assert kept < len(again.rows()) <= 50
