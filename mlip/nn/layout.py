"""Where each component lives: nodes hold degrees l = 1…L packed in e3nn's order, edges hold them ordered by m.

A node's tensor block is (N, (L+1)²−1, C). In the edge frame its rows are m-major: first m = 0 (l = 1…L), then
for each m the components +m (l = m…L) and −m (l = m…L), so that one GEMM per m finds its operands side by side.
A pseudo block also holds l = 0, in front of the rest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def tensor_dim(lmax: int) -> int:
    """Components of degrees 1…lmax."""
    return (lmax + 1) ** 2 - 1


def degree_of_rows(lmax: int, lmin: int = 1) -> Tensor:
    """(rows,), the degree of each component in e3nn's order, counted from ``lmin``."""
    return torch.tensor([l - lmin for l in range(lmin, lmax + 1) for _ in range(2 * l + 1)])


def frame_rows(lmax: int, lmin: int, mmax: int) -> list[tuple[int, int]]:
    """The (l, m) of each row of the edge frame, m-major."""
    rows = [(l, 0) for l in range(lmin, lmax + 1)]
    for m in range(1, mmax + 1):
        rows += [(l, m) for l in range(m, lmax + 1)] + [(l, -m) for l in range(m, lmax + 1)]
    return rows


def signed_sizes(lmax: int, lmin: int, mmax: int | None = None) -> list[int]:
    """Rows of m = 0, +1, −1, +2 …: how the edge frame is split where every sign of m is a matrix of its own."""
    highest = lmax if mmax is None else mmax
    return [lmax + 1 - lmin] + [lmax + 1 - m for m in range(1, highest + 1) for _ in range(2)]


def flat_index(lmax: int, rows: list[tuple[int, int]], lmin: int) -> Tensor:
    """Index that assembles the block-diagonal matrix (rows, columns) from flattened Wigner blocks.

    The source is [D¹ … Dᴸ flattened, 0, 1]: the last but one entry fills what is outside the blocks, the last is
    the single component of l = 0.
    """
    starts, position = {}, 0
    for l in range(1, lmax + 1):
        starts[l] = position
        position += (2 * l + 1) ** 2
    zero, one = position, position + 1
    columns = [(l, k) for l in range(lmin, lmax + 1) for k in range(2 * l + 1)]
    table = torch.full((len(rows), len(columns)), zero)
    for a, (l, m) in enumerate(rows):
        for b, (degree, k) in enumerate(columns):
            if degree == l:
                table[a, b] = one if l == 0 else starts[l] + (l + m) * (2 * l + 1) + k
    return table.flatten()


def phase_folded(rows: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], Tensor]:
    """Rows and signs that turn (x₊, x₋) into (−x₋, x₊): the phase that pseudo features carry in the edge frame."""
    folded = [(l, -m) for l, m in rows]
    signs = torch.tensor([-1.0 if m > 0 else 1.0 for _, m in rows], dtype=torch.float64)
    return folded, signs


def frame_degrees(num_rows: int, num_columns: int) -> tuple[Tensor, Tensor]:
    """Degrees of the rows (R,) and of the columns (D,) of a frame matrix.

    Its shape tells them: D is (lmax+1)² with l = 0 and one less without, and every order m adds two rows or more.
    """
    lmin = 0 if math.isqrt(num_columns) ** 2 == num_columns else 1
    lmax = math.isqrt(num_columns + lmin) - 1
    orders = (frame_rows(lmax, lmin, mmax) for mmax in range(lmax + 1))
    (rows,) = [rows for rows in orders if len(rows) == num_rows]
    return torch.tensor([l for l, _ in rows]), degree_of_rows(lmax, lmin) + lmin
