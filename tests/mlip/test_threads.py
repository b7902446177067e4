"""The command line's threads wait asleep, unless the user says otherwise, and torch is loaded after that is said."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from mlip.__main__ import main
early = "torch" in sys.modules
main(["info", "nowhere.mlip"])
print(os.environ["OMP_WAIT_POLICY"], early)
"""


@pytest.mark.parametrize("said", [None, "ACTIVE"])
def test_threads_wait_asleep_unless_told_otherwise(said):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {} if said is None else {"OMP_WAIT_POLICY": said}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == [said or "PASSIVE", "False"]


def test_a_warning_is_one_line_without_its_place():
    program = "import warnings\nfrom mlip.__main__ import _short_warnings\n"
    program += "with _short_warnings():\n    warnings.warn('outside the training data')\n"
    program += "    warnings.warn('old', DeprecationWarning)\n"
    done = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert lines[0] == "warning: outside the training data"
    assert "DeprecationWarning: old" in lines[1]
