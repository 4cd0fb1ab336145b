"""Read MATLAB files. A broken file, or one of version 7.3, which scipy does not read, is one clear error."""

import io as streams
import warnings
from pathlib import Path
from typing import Any, NoReturn

from scipy import io

from rpe.data.mat_check import check_structure
from rpe.structures import UserError

MATLAB_7_3 = b"MATLAB 7.3"
"""Start of an HDF5 file that MATLAB has written."""

HDF5 = b"\x89HDF"


def refuse_hdf5(file: Path, what: str) -> NoReturn:
    """Refuse a file of MATLAB 7.3.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"{what} {file} must be a MATLAB file up to version 7, got version 7.3 (HDF5). "
        "Save it anew with save(.., '-v7')."
    )


def read_mat(file: Path, what: str) -> dict[str, Any]:
    """Return the variables of a MATLAB file up to version 7.

    Args:
        file: an existing file.
        what: names the file in messages.

    Raises:
        UserError: it is broken, not a MATLAB file, or of version 7.3.
    """
    content = file.read_bytes()
    if content.startswith((MATLAB_7_3, HDF5)):
        refuse_hdf5(file, what)
    try:
        if 0 not in content[:4]:  # scipy's test of version 5 against 4
            check_structure(content)
        with warnings.catch_warnings(action="ignore"):  # scipy warns of duplicate variables
            variables = io.loadmat(streams.BytesIO(content))
    except Exception as error:  # scipy's parsing and zlib raise errors of many kinds
        reason = str(error).splitlines()[0] if str(error) else ""
        raise UserError(
            f"{what} {file} must decode as a MATLAB file, got {type(error).__name__}: {reason}. "
            "Download or save it anew."
        ) from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}
