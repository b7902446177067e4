"""i-PI's ASE driver with a model of this package; i-PI is not installed with it.

i-pi-py_driver -m custom -P PATH_OF_THIS_FILE -o template=start.xyz,model=silicon.mlip -a SOCKET -u
"""

from __future__ import annotations

from typing import Any

from ipi.pes._ase import ASEDriver

from mlip.calculator import MLIPCalculator

__DRIVER_NAME__ = "mlip"
__DRIVER_CLASS__ = "MLIPDriver"


class MLIPDriver(ASEDriver):
    """Energies, forces and virials for path integrals.

    Args:
        template: A file with a structure: species, and which directions are periodic.
        model: A model file.
        dtype: ``"float32"``, ``"float64"``, or None: as stored.
        has_stress: Whether to compute the virial; False for molecules.
        kwargs: What i-PI's driver takes.
    """

    def __init__(
        self, template: str, model: str, dtype: str | None = None, has_stress: bool = True, **kwargs: Any
    ) -> None:
        self.model, self.model_dtype = model, dtype
        super().__init__(template, has_stress=has_stress, **kwargs)

    def check_parameters(self) -> None:
        """Read template and model; called by i-PI."""
        super().check_parameters()
        self.ase_calculator = MLIPCalculator(self.model, dtype=self.model_dtype)
