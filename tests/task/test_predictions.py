"""Selecting images and rows by name."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from rpe.metric.packed_rows import PackedRows
from rpe.structures import UserError
from rpe.task.predictions import (
    assign_truth_ids,
    keep_images,
    keep_rows,
    read_packed,
    read_results,
    select_names,
)

TRUTH = {
    "images": [{"id": 1, "file_name": "a/x.jpg"}, {"id": 2, "file_name": "y.png"}],
    "annotations": [{"id": 5, "image_id": 1}, {"id": 6, "image_id": 2}],
    "categories": [{"id": 1, "name": "thing"}],
}


def test_images_and_rows_select_names() -> None:
    assert select_names(TRUTH, None) is TRUTH
    some = select_names(TRUTH, ["y"])
    assert [image["id"] for image in some["images"]] == [2] == [
        a["image_id"] for a in some["annotations"]
    ] and some["categories"] == TRUTH["categories"]
    assert keep_images(TRUTH, {1})["annotations"] == [{"id": 5, "image_id": 1}]
    rows = [{"image_id": 1}, {"image_id": 2}, "no row", {}]
    assert keep_rows(rows, some) == [{"image_id": 2}, "no row", {}], "malformed rows stay, to be refused"
    assert keep_rows([{"image_id": [1]}, {"image_id": True}], some) == [{"image_id": [1]}, {"image_id": True}]
    with pytest.raises(UserError, match="names must be images of the split .* got .z."):
        select_names(TRUTH, ["z"])


def test_results_are_a_list_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"image_id": 1}]))
    assert read_results(tmp_path / "rows.json") == [{"image_id": 1}]
    with pytest.raises(UserError, match="nowhere.json, which does not exist"):
        read_results(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match="which is a folder"):
        read_results(tmp_path)
    (tmp_path / "rows.json").write_text("{}")
    with pytest.raises(UserError, match="got an object with no key"):
        read_results(tmp_path / "rows.json")


def packable(*counts: str) -> list[dict]:
    return [
        {
            "image_id": 1,
            "category_id": 1,
            "segmentation": {"size": [2, 3], "counts": code},
            "score": number / 7,
        }
        for number, code in enumerate(counts)
    ]


@pytest.mark.parametrize("indent", [None, 1, "\r\n\t "])
@pytest.mark.parametrize("block", [420, 421, 555, 2**24])
def test_rows_are_packed_block_by_block(
    indent: int | str | None, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks end within rows, between them and within white space."""
    monkeypatch.setattr("rpe.task.predictions.READ_AT_ONCE", block)
    rows = packable(*("7" * length for length in range(40)))
    file = tmp_path / "rows.json"
    file.write_bytes(f"\n {json.dumps(rows, indent=indent)} \n".encode())
    found = read_results(file)
    assert isinstance(found, PackedRows) and list(found) == rows


@pytest.mark.parametrize(
    "text",
    [
        "[{0} {1}]",
        "[{0},,{1}]",
        "[{0}[{1}]",
        "[{0},{1},]",
        "[{0},{1}",
        "[{0},{1}] [",
        "{0},{1}]",
        "[{0},{1}}}",
        "[{0},{1}]\u00a0",
        "",
        "[]",
        "[{0},{1},7]",
        "[{0},{1},{{}}]",
        "[{0},{1},[" + 10**5 * "[",
    ],
)
def test_a_list_of_other_rows_is_not_packed(text: str, tmp_path: Path) -> None:
    """Its rows are read as before, or its error is named."""
    file = tmp_path / "rows.json"
    file.write_text(text.format(*map(json.dumps, packable("1", "2"))), encoding="utf-8")
    assert read_packed(file) is None
    try:
        wanted = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        with pytest.raises(UserError):
            read_results(file)
    else:
        assert read_results(file) == wanted


def test_a_broken_row_does_not_draw_in_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpe.task.predictions.READ_AT_ONCE", 300)
    file = tmp_path / "rows.json"
    file.write_text("[" + 1000 * "{7: 7}, ")
    decoded = []
    decoder = json.JSONDecoder
    monkeypatch.setattr(
        json,
        "JSONDecoder",
        lambda: SimpleNamespace(
            raw_decode=lambda text, start: (decoded.append(len(text)), decoder().raw_decode(text, start))[1]
        ),
    )
    assert read_packed(file) is None and max(decoded) <= 900


def named(*rows: tuple[object, object]) -> list[dict]:
    """Rows of (file_name, image_id); None leaves it out."""
    return [
        {key: value for key, value in (("file_name", name), ("image_id", number)) if value is not None}
        for name, number in rows
    ]


def truth_of(*names: str) -> dict:
    """Image ids count from 1 in this order."""
    return {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)],
        "annotations": [],
        "categories": [],
    }


@pytest.mark.parametrize(
    ("names", "rows", "ids"),
    [
        (("c.png", "a.png", "b.png"), named(("a.png", 1), ("a.png", 1), ("c.png", 3)), [2, 2, 1]),
        (("c.png", "a.png", "b.png"), named(("a.png", None), ("c.png", None)), [2, 1]),
        (("c.png", "a.png", "b.png"), named(("a.png", 2), ("c.png", 1)), [2, 1]),
        (("c.png", "a.png", "b.png"), named(("a.png", 2.0), (None, 1)), [2, 1]),
        (("c.png", "a.png", "b.png"), named((None, 3), (None, 1)), [3, 1]),
        (("c.png", "a.png", "b.png"), [{"file_name": None, "image_id": 3}], [3]),
        (("x/1.png", "y/1.png", "y/2.png"), named(("y/1.png", 2), ("x/1.png", 1), ("2.png", 3)), [2, 1, 3]),
        (("x/1.png", "y/1.png"), named(("/data/val/y/1.png", 7), ("/data/val/x/1.png", 5)), [2, 1]),
        (("caf\u00e9.png", "b.png"), named(("cafe\u0301.png", 2), ("./b.png", 1)), [1, 2]),
        (("cafe\u0301.png", "b.png"), named(("caf\u00e9.png", 2), ("b.png", 1)), [1, 2]),
        (("a.jpg", "b.jpg"), named(("b.png", 2), ("a.png", 1)), [2, 1]),
        (("a.JPG", "b.jpg"), named(("b.jpg", 2), ("a.jpg", 1)), [2, 1]),
        (("val-1", "val-0"), named(("val-0.png", 1), ("val-1.png", 2)), [2, 1]),
        (("scan.02", "scan.01"), named(("scan.01.png", 1), ("scan.02.png", 2)), [2, 1]),
        (("a.png", "a.jpg"), named(("a.jpg", 2), ("a.png", 1)), [2, 1]),
    ],
)
def test_rows_with_a_file_name_belong_to_that_file(
    names: tuple[str, ...], rows: list[dict], ids: list[int]
) -> None:
    assert [row["image_id"] for row in assign_truth_ids(rows, truth_of(*names))] == ids


@pytest.mark.parametrize(
    ("names", "rows", "message"),
    [
        (
            ("a.png", "b.png"),
            named(("b.png", 1), ("a.png", 2)),
            "image_id must be the truth's id of file_name, got 'b.png' with image_id 1 in the pred.* 2 in",
        ),
        (
            ("a.png", "b.png", "c.png"),
            named(("c.png", 1), ("b.png", 2)),
            "must be the truth's id of file_name, got 'c.png' with image_id 1",
        ),
        (
            ("a.png", "b.png"),
            named(("a.png", "x"), ("b.png", 2)),
            "got 'a.png' with image_id \"x\" in the predictions, 1 in",
        ),
        (
            ("a.png", "b.png"),
            named(("a.png", 1), ("b.png", 1)),
            "got 'a.png' and 'b.png' for image_id 1.",
        ),
        (
            ("a.png", "b.png"),
            named(("a.png", 1), ("a.jpg", 2)),
            "got 'a.png' and 'a.jpg' for one image of the truth, id 1.",
        ),
        (
            ("a.png", "b.png"),
            named(("a.png", 1), ("a.png", 2)),
            'image_id of result 1 must be 1, as in other rows of file_name "a.png", got 2',
        ),
        (
            ("a.png", "b.png"),
            named(("z.png", 1)),
            "file_name of result 0 must be an image of the truth, got 'z.png'. Check that the file belongs to this split",
        ),
        (
            ("x/1.png", "y/1.png"),
            named(("1.png", 1)),
            "file_name of result 0 must name one image, got '1.png', which may be image 1 or 2",
        ),
        (
            ("a.png", "a.jpg"),
            named(("a.tif", 1)),
            "file_name of result 0 must name one image, got 'a.tif', which may be image 1 or 2",
        ),
        (("a.png", "b.png"), named((5, 1)), "file_name of result 0 must be text, got 5"),
        (
            ("a.png", "b.png"),
            named(("b.png", 1), (None, 2)),
            "result 1 must have a file_name, as the image_ids of other rows are not the truth's, got none",
        ),
        (("x/1.png",), named(("z/1.png", 1)), "must be an image of the truth, got 'z/1.png'"),
    ],
)
def test_names_that_are_unknown_or_contradict_the_ids_are_refused(
    names: tuple[str, ...], rows: list[dict], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        assign_truth_ids(rows, truth_of(*names))


def test_another_numbering_is_noted_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assign_truth_ids(named(("a.png", 1), ("b.png", 2)), truth_of("c.png", "a.png", "b.png"))
    assert (
        capsys.readouterr().err.count(
            "note: predictions number their images otherwise than the truth ('a.png' with image_id 1 in the predictions, 2 in"
        )
        == 1
    )
    assign_truth_ids(named(("a.png", 2), ("b.png", 3)), truth_of("c.png", "a.png", "b.png"))
    assert capsys.readouterr().err == ""


def test_a_name_means_all_images_that_bear_it() -> None:
    assert [
        image["id"] for image in select_names(truth_of("a/x.jpg", "b/x.jpg", "y.jpg"), ["x"])["images"]
    ] == [
        1,
        2,
    ]
    assert [
        image["id"] for image in select_names(truth_of("caf\u00e9.jpg", "y.jpg"), ["cafe\u0301"])["images"]
    ] == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON, got an empty file"),
        (b'[{"image_id": 1}', "must be JSON, got a file that ends too early"),
        (b'{"image_id": 1}\n{"image_id": 2}', "Write one list, not one object a line"),
        (
            b'{"images": [], "annotations": []}',
            "must be a list of COCO results, got an annotation file .an object with 'images', 'annotations'.. Name",
        ),
        (b"7", "must be a list of COCO results, got 7"),
        (b"\x93NUMPY", "must be JSON, got a NumPy file"),
        (b"image,score\n", "must be JSON, got an error .Expecting value at line 1, column 1"),
    ],
)
def test_predictions_that_are_something_else_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path / "rows.json")
