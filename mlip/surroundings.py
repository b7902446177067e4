"""What a structure says of its surroundings: its frame in the laboratory, an electric field, a breaking tensor.

All three stand in ``atoms.info``. Whatever turns a structure's axes turns them along (:func:`turned`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError

Array = NDArray[np.float64]
FRAME, FIELD, TENSOR = "frame", "electric_field", "breaking_tensor"
NAMES = (FRAME, FIELD, TENSOR)
_CHARGE = ("charge", "total_charge", "net_charge")
NO_FRAME = "this model has relaxed weights, its energy depends on the orientation, and the structure has no frame"
MEND_FRAME = (
    "atoms.info['frame'] = numpy.eye(3) (v_structure = frame @ v_lab), MLIPCalculator(model, frame=numpy.eye(3)), "
    "--frame identity, or 'frame: lab' for a data set in the laboratory's axes"
)
_LOOSEST = 1e-4  # of frame · frameᵀ − 1: what rounding to five digits leaves


def frame_matrix(value: Any) -> Array:
    """(3, 3) from a matrix or nine numbers in row-major order: v_structure = frame @ v_lab.

    Raises:
        InputError: Not nine numbers, or not orthogonal.
    """
    matrix = _numbers(value, 9, FRAME, "a 3×3 matrix, or its nine numbers row by row").reshape(3, 3)
    defect = float(np.abs(matrix @ matrix.T - np.eye(3)).max())
    if defect > _LOOSEST:
        raise InputError(f"the frame is not orthogonal, by {defect:.1g}", mend="v_structure = frame @ v_lab")
    if defect < 1e-14:
        return matrix
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ right)


def frame_of(atoms: Atoms) -> Array | None:
    """The frame that a structure carries, (3, 3); None where it has none."""
    value = atoms.info.get(FRAME)
    return None if value is None else frame_matrix(value)


def field_of(atoms: Atoms) -> Array | None:
    """The electric field that a structure carries, (3,) V/Å in the structure's axes; None where it has none.

    Raises:
        InputError: Not three numbers, or the structure is charged.
    """
    value = atoms.info.get(FIELD)
    field = None if value is None else _numbers(value, 3, FIELD, "three numbers in V/Å")
    charge = next((float(atoms.info[name]) for name in _CHARGE if name in atoms.info), 0.0)
    if charge and field is not None and field.any():
        raise InputError(
            f"a structure of charge {charge:g} would be accelerated by a uniform field, where the model keeps ΣF = 0",
            mend="a neutral structure, or no field",
        )
    return field


def tensor_of(atoms: Atoms) -> Array | None:
    """The breaking tensor that a structure carries, components in e3nn's order; None where it has none."""
    value = atoms.info.get(TENSOR)
    return None if value is None else _numbers(value, np.size(value), TENSOR, "components in e3nn's order")


def _numbers(value: Any, size: int, key: str, meaning: str) -> Array:
    array = np.asarray(value)
    if array.size != size or array.dtype.kind not in "iuf" or not np.isfinite(array.astype(np.float64)).all():
        raise InputError(f"atoms.info['{key}'] is not {meaning}")
    return array.astype(np.float64).reshape(-1)


def turned(atoms: Atoms, turn: Array) -> Atoms:
    """The same structure described in other axes: v → turn·v of positions, cell, momenta, field, and the frame.

    The energy does not change, whatever breaks the symmetry: the laboratory is turned along. To turn a structure
    against its laboratory, turn positions and cell alone.

    Args:
        atoms: The structure.
        turn: (3, 3), orthogonal; determinant −1 for reflections and inversion.

    Raises:
        InputError: The structure carries a breaking tensor, whose irreps only a model knows.
    """
    image = atoms.copy()
    image.set_cell(atoms.cell.array @ turn.T, scale_atoms=False)
    image.positions = atoms.positions @ turn.T
    if image.has("momenta"):
        image.set_momenta(atoms.get_momenta() @ turn.T)
    if (frame := frame_of(atoms)) is not None:
        image.info[FRAME] = turn @ frame
    if (field := field_of(atoms)) is not None:
        image.info[FIELD] = turn @ field
    if tensor_of(atoms) is not None:
        raise InputError("a breaking tensor must be turned by the model that knows its irreps", key=TENSOR)
    return image
