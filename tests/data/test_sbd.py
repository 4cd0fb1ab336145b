from pathlib import Path

import numpy as np
import pytest
from miniature_voc import maps_of, write_mat, write_sbd
from scipy.io import savemat

from rpe.data.module import data_root
from rpe.data.sbd import check_file, read_sbd
from rpe.structures import UserError

NAME = "2008_000005"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sbd(tmp_path) / "benchmark_RELEASE" / "dataset"


def test_objects_classes_and_the_class_of_each(folder: Path) -> None:
    objects, classes, class_of = read_sbd(folder, NAME)
    assert class_of.tolist() == [15, 7, 15] and set(np.unique(objects)) == {0, 1, 2, 3}
    assert (np.concatenate([[0], class_of])[objects] == classes).all()


def test_files_without_instances(folder: Path) -> None:
    nothing = np.zeros((60, 80), dtype=np.uint8)
    write_mat(folder, NAME, nothing, nothing, [])
    with pytest.raises(UserError, match=r"inst/2008_000005.mat must hold an instance, got none"):
        read_sbd(folder, NAME)
    write_mat(folder, NAME, nothing, nothing, [15])
    with pytest.raises(UserError, match=r"inst/2008_000005.mat must hold an instance, got none"):
        read_sbd(folder, NAME)


@pytest.mark.parametrize(
    "content",
    [
        {"GTboundary": {"Segmentation": np.zeros((2, 2), dtype=np.uint8)}},
        {"GTinst": {"Segmentation": np.zeros((2, 2), dtype=np.uint8)}},
        {"GTinst": np.zeros((2, 2))},
        {"GTinst": {"Segmentation": np.zeros((2, 2)), "Categories": np.ones((1, 1))}},
        {"GTinst": {"Segmentation": np.zeros((2, 2, 2), dtype=np.uint8), "Categories": np.ones((1, 1))}},
        {},
    ],
    ids=lambda content: str({name: getattr(value, "shape", list(value)) for name, value in content.items()}),
)
def test_another_structure(folder: Path, content: dict) -> None:
    savemat(folder / "inst" / f"{NAME}.mat", content)
    with pytest.raises(UserError, match=r"inst/2008_000005.mat must"):
        read_sbd(folder, NAME)


def test_more_objects_than_categories(folder: Path) -> None:
    _, objects, classes = maps_of(5)
    write_mat(folder, NAME, objects, classes, [15, 7])
    with pytest.raises(UserError, match="Categories in .* must list 3 objects, got 2"):
        read_sbd(folder, NAME)


@pytest.mark.parametrize("part", ["inst", "cls"])
def test_absent_truncated_and_other_files(folder: Path, part: str) -> None:
    file = folder / part / f"{NAME}.mat"
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b"", b"no MATLAB file at all" * 40):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"{part}/2008_000005.mat"):
            read_sbd(folder, NAME)
    file.unlink()
    with pytest.raises(UserError, match=rf"{part}/2008_000005.mat must exist, as SBD's"):
        read_sbd(folder, NAME)


@pytest.mark.parametrize("part", ["inst", "cls"])
def test_whole_files_are_told_from_others_without_unpacking(
    folder: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpe.data.sbd.read_mat", None)
    file = folder / part / f"{NAME}.mat"
    check_file(file)
    whole = file.read_bytes()
    for content in (
        whole[: len(whole) // 2],
        whole[:-1],
        whole[:130],
        whole[:128],
        whole[:100],
        b"",
        b"no MATLAB file at all" * 40,
    ):
        file.write_bytes(content)
        with pytest.raises(
            UserError,
            match=rf"{part}/2008_000005.mat must be a (whole MATLAB|MATLAB 5) file, got .*Download it anew",
        ):
            check_file(file)
    file.write_bytes(whole + b"\0" * 3)
    check_file(file)


def test_real_files() -> None:
    folder = data_root() / "benchmark_RELEASE" / "dataset"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set RPE_DATA_DIR to the real data")
    for name, count in (("2008_000215", 3), ("2008_000234", 3), ("2008_000359", 2)):
        check_file(folder / "inst" / f"{name}.mat")
        objects, classes, class_of = read_sbd(folder, name)
        assert (
            class_of.tolist() == [15] * count
            and objects.max() == count
            and ((objects > 0) == (classes == 15)).all()
        )


def test_other_forms_of_a_struct(folder: Path) -> None:
    file = folder / "inst" / f"{NAME}.mat"
    expected, _, _ = read_sbd(folder, NAME)
    one = {"Segmentation": expected, "Categories": np.array([15, 7, 15])}
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = one
    for content in (one, cell):
        savemat(file, {"GTinst": content})
        assert (read_sbd(folder, NAME)[0] == expected).all()
    savemat(file, {"GTinst": np.array([tuple(one.values())] * 2, dtype=[(name, object) for name in one])})
    with pytest.raises(UserError, match=r"got GTinst \(2 structs of Segmentation, Categories\)"):
        read_sbd(folder, NAME)
    file.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    for read in (lambda: check_file(file), lambda: read_sbd(folder, NAME)):
        with pytest.raises(UserError, match="got version 7.3"):
            read()
