"""Read MATLAB files, with one clear line where a file is broken or of the one format that scipy does not read."""

import io as streams
import warnings
from pathlib import Path
from typing import Any, NoReturn

from scipy import io

from rpe.data.mat_check import check_structure
from rpe.structures import UserError

MATLAB_7_3 = b"MATLAB 7.3"
"""Begins an HDF5 file that MATLAB has written; others begin as HDF5 does."""

HDF5 = b"\x89HDF"


def refuse_hdf5(file: Path, what: str) -> NoReturn:
    """Raises: UserError: a file of MATLAB 7.3 cannot be read."""
    raise UserError(
        f"{what} {file} is of MATLAB's version 7.3 (HDF5), which is not read: save it anew with save(.., '-v7')"
    )


def read_mat(file: Path, what: str) -> dict[str, Any]:
    """Return the variables of a MATLAB file up to version 7.

    Args:
        file: is there.
        what: the file is, for messages.

    Raises:
        UserError: it is broken, no MATLAB file, or one of version 7.3.
    """
    content = file.read_bytes()
    if content.startswith((MATLAB_7_3, HDF5)):
        refuse_hdf5(file, what)
    try:
        if 0 not in content[:4]:  # as scipy tells version 5 from 4
            check_structure(content)
        with warnings.catch_warnings(action="ignore"):  # scipy's, of a variable that comes twice
            variables = io.loadmat(streams.BytesIO(content))
    except Exception as error:  # scipy lets through whatever its parsing and zlib raise
        reason = str(error).splitlines()[0] if str(error) else ""
        raise UserError(
            f"{what} {file} does not decode as a MATLAB file ({type(error).__name__}: {reason}): download or save it anew"
        ) from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}
