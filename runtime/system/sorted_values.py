"""What ``numpy.unique`` and ``numpy.median`` compute, of plain arrays.

Numpy's own ask whether an array is masked, and load ``numpy.ma`` for that, which takes longer than a short video does.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def distinct_values(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """The distinct values of an array (n,), ascending."""
    ordered = np.sort(values)
    is_first = np.ones(len(ordered), dtype=bool)  # (n,)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_first]


def median_value(values: NDArray[Scalar]) -> Scalar:
    """The median of floating-point numbers (n,) without NaN, n at least 1."""
    count = len(values)
    median: Scalar = np.sort(values)[(count - 1) // 2 : count // 2 + 1].mean()
    return median
