"""The decorator of functions that numba compiles."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call, and keep the machine code on disk for later processes.

    Arithmetic is IEEE's, operation by operation: without ``fastmath`` the compiler may neither reorder sums nor
    contract a product and a sum into one rounding, so results are those of the same operations in Python. A division by
    zero gives infinity or NaN as in numpy. The function runs without Python's global lock.

    The code is kept in ``__pycache__`` beside the source or, where that cannot be written, in the user's cache folder
    (``NUMBA_CACHE_DIR`` names another); where neither can, every process compiles anew. numba notices a change of the
    file that a function is in, not of functions that it calls elsewhere: compiled functions call only those of their
    own module.
    """
    options = {"error_model": "numpy", "fastmath": False, "nogil": True}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return numba.njit(**options)(function)
