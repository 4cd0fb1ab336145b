"""MATLAB files: which are read, and how others are refused."""

from pathlib import Path

import numpy as np
import pytest
from scipy import io

from rpe.data.mat import read_mat
from rpe.structures import UserError


def test_variables_without_the_files_own(tmp_path: Path) -> None:
    for version in ("4", "5"):
        io.savemat(tmp_path / "a.mat", {"a": np.eye(3), "b": "text"}, format=version)
        content = read_mat(tmp_path / "a.mat", "file")
        assert list(content) == ["a", "b"] and (content["a"] == np.eye(3)).all()


@pytest.mark.parametrize("begins", [b"MATLAB 7.3 MAT-file, Platform: GLNXA64", b"\x89HDF\r\n\x1a\n"])
def test_version_7_3_is_named(tmp_path: Path, begins: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(begins + bytes(500))
    with pytest.raises(
        UserError,
        match=r"map .*a.mat must be a MATLAB file up to version 7, got version 7.3 \(HDF5\). Save it anew with save\(.., '-v7'\)",
    ):
        read_mat(tmp_path / "a.mat", "map")


@pytest.mark.parametrize("content", [b"", b"text that is long enough for a header" * 9, bytes(200)])
def test_others_do_not_decode(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(UserError, match="map .*a.mat must decode as a MATLAB file"):
        read_mat(tmp_path / "a.mat", "map")
