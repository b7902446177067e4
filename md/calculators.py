"""Any ASE calculator, or one of our model files, behind the same door."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.errors import InputError
from mlip.factories import made_by


def calculator_from(
    model: str | Path | Sequence[str | Path] | None = None,
    *,
    factory: str | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    frame: Any = None,
) -> Any:
    """The calculator that a command line names.

    Args:
        model: A model file, or several for a committee.
        factory: ``"package.module:callable"`` that makes any other ASE calculator, called without arguments.
        device: ``"cpu"``, ``"cuda"``, …; for model files only.
        dtype: ``"float32"`` or ``"float64"``; None keeps the dtype the model was stored with.
        frame: (3, 3), how structures without a frame of their own lie in the laboratory; for model files only.

    Returns:
        An ASE calculator.

    Raises:
        InputError: Both or neither are given, the file is not there, the factory cannot be imported, or it is
            given a frame.
    """
    if (model is None) == (factory is None):
        raise InputError("give either a model file or --calculator module:factory")
    if factory is not None and frame is not None:
        raise InputError("--frame belongs to our own models", key="frame", mend="leave it out with --calculator")
    if factory is not None:
        return made_by(factory)
    files = [model] if isinstance(model, str | Path) else list(model or [])
    for file in files:
        if not Path(file).is_file():
            raise InputError("no such model file", file=file)
    from mlip import MLIPCalculator  # torch is slow to import, and other calculators do not need it

    return MLIPCalculator(files if len(files) > 1 else files[0], device=device, dtype=dtype, frame=frame)


def attached(atoms: Atoms, calculator: Any, *, constraints: bool = False) -> Atoms:
    """A copy of ``atoms`` that carries ``calculator``; the input is never touched.

    Args:
        atoms: The structure.
        calculator: Any ASE calculator.
        constraints: Keep the constraints. Labels and second derivatives are those of the free atoms.
    """
    copy = atoms.copy()
    if not constraints:
        copy.set_constraint()
    copy.calc = calculator
    return copy


def working_dtype(calculator: Any) -> np.dtype:
    """The floating-point type a calculator says it works in; float64 when it does not say.

    Our calculators carry a torch dtype; other ASE calculators nearly always compute in double precision.
    """
    owner = getattr(calculator, "potential", calculator)
    named = str(getattr(owner, "dtype", "float64")).removeprefix("torch.")
    return np.dtype("float32") if named in {"float32", "float16", "bfloat16"} else np.dtype("float64")


def name_of(calculator: Any) -> str:
    """What to call a calculator in tables and figures."""
    return str(getattr(calculator, "name", None) or type(calculator).__name__)


def has_stress(atoms: Atoms, calculator: Any) -> bool:
    """Whether stress can be asked for: the cell is periodic in all directions and the calculator has it."""
    return bool(atoms.pbc.all()) and "stress" in getattr(calculator, "implemented_properties", [])


def has_bloch_matrix(calculator: Any) -> bool:
    """Whether ``calculator.get_dynamical_matrix(atoms, q)`` exists.

    Calculators of matscipy have a method of that name without q: the mass-weighted Hessian at Γ.
    """
    method = getattr(calculator, "get_dynamical_matrix", None)
    return method is not None and len(signature(method).parameters) >= 2


def members_of(calculator: Any) -> list[Any]:
    """One calculator for each member of a committee of ours; none where there is no committee."""
    potentials = getattr(calculator, "potentials", [])
    if len(potentials) < 2:
        return []
    return [type(calculator)(potential, device=potential.device, frame=calculator.frame) for potential in potentials]
