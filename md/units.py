"""Conversion factors that several workflows share."""

from __future__ import annotations

from typing import Final

import ase.units
import numpy as np
from scipy.constants import atomic_mass, elementary_charge

# √(eV/Å²/amu) is an angular frequency; this times it is a frequency in THz (15.6333).
THZ_PER_SQRT_EV_A2_AMU: Final = float(np.sqrt(elementary_charge / atomic_mass) * 1e10 / (2 * np.pi) * 1e-12)
GPA_PER_EV_A3: Final = 1.0 / ase.units.GPa
# dω/dk with ω = 2πν: a slope of 1 THz Å is 100 m/s.
KM_PER_S_PER_THZ_A: Final = 0.1
# √(eV/amu) is a velocity; this times it is one in km/s (9.8227).
KM_PER_S_PER_SQRT_EV_AMU: Final = float(np.sqrt(elementary_charge / atomic_mass) / 1000)
