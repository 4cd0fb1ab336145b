"""The structure of MATLAB files: what scipy writes passes, and what would end the program does not."""

import io as streams

import numpy as np
import pytest
from scipy import io, sparse

from rpe.data.mat_check import check_structure

CONTENT = {
    "number": 3.5,
    "map": np.arange(12.0).reshape(3, 4),
    "complex": np.ones((2, 2)) * 1j,
    "small": np.array([[1, 2]], dtype=np.uint8),
    "flags": np.array([True, False]),
    "text": "Grüße",
    "none": np.empty((0, 3)),
    "struct": {"a": 1, "inner": {"b": "text", "c": np.ones(3)}},
    "structs": np.array([(1, 2)] * 3, dtype=[("x", object), ("y", object)]),
    "cell": np.array([np.ones(2), "text", {"d": 1}, None], dtype=object)[:3],
    "sparse": sparse.random(9, 7, 0.3, format="csc", random_state=0),
}


def saved(**content: object) -> bytes:
    stream = streams.BytesIO()
    io.savemat(stream, content)
    return stream.getvalue()


@pytest.mark.parametrize("name", CONTENT)
def test_what_scipy_writes_passes(name: str) -> None:
    check_structure(saved(**{name: CONTENT[name]}))
    stream = streams.BytesIO()
    io.savemat(stream, {name: CONTENT[name]}, do_compression=True)
    check_structure(stream.getvalue())


@pytest.mark.parametrize("name", ["map", "struct", "structs", "cell", "sparse"])
def test_a_cut_file_does_not_pass(name: str) -> None:
    whole = saved(**{name: CONTENT[name]})
    for length in range(128 + 1, len(whole) - 8, 7):
        with pytest.raises(ValueError, match=r"\w"):
            check_structure(whole[:length])


def test_sizes_and_places_that_do_not_fit() -> None:
    whole = bytearray(saved(map=np.zeros((3, 5))))
    place = whole.index(np.array([3, 5], dtype="<i4").tobytes())
    whole[place] = 4
    with pytest.raises(ValueError, match=r"15 values in an array of sizes \[4, 5\]"):
        check_structure(bytes(whole))
    many = bytearray(saved(cell=np.array([np.ones(2), "a"], dtype=object)))
    place = many.index(np.array([1, 2], dtype="<i4").tobytes())
    many[place + 7] = 100
    with pytest.raises(ValueError, match="parts in"):
        check_structure(bytes(many))
    rows = sparse.csc_matrix((np.ones(3), np.array([0, 4, 8]), np.array([0, 1, 2, 3])), shape=(9, 3))
    far = bytearray(saved(sparse=rows))
    place = far.index(np.array([0, 4, 8], dtype="<i4").tobytes())
    far[place + 8] = 9
    with pytest.raises(ValueError, match="rows do not fit"):
        check_structure(bytes(far))
