"""The reader on a miniature in BSDS500's layout, and on the real data where RPE_DATA_DIR has them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bsds_miniature import annotations_of, write_annotations, write_bsds
from PIL import Image
from scipy import io, sparse

from rpe.data.bsds import Bsds, count_votes, make_target, read_drawings, split_files
from rpe.data.module import data_root
from rpe.data.thinning import segment_changes, thin
from rpe.structures import VOID, BoundaryBatch, UserError

REAL = data_root() / "BSR"
real = pytest.mark.skipif(not REAL.is_dir(), reason="RPE_DATA_DIR has no BSR")


def make_bsds(root: Path, **change: object) -> Bsds:
    options = dict(
        name="bsds",
        root=str(root),
        batch_size=2,
        eval_batch_size=1,
        num_workers=0,
        seed=0,
        train_splits=["train"],
        min_annotators=3,
        vote_radius=0,
        crop=40,
        scale_range=[1, 1],
        rotation=0,
        flip=False,
    )
    return Bsds(**(options | change))  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bsds(tmp_path / "bsds")


def test_agreement_of_people() -> None:
    votes = np.array([[0, 1, 2, 3, 5]])
    assert make_target(votes, 5, 3).tolist() == [[0, VOID, VOID, 1, 1]]
    assert make_target(votes, 5, 0.4).tolist() == [[0, VOID, 1, 1, 1]] and make_target(
        votes, 5, 1
    ).tolist() == [[0, 1, 1, 1, 1]]
    # never more than there are people
    assert make_target(votes[:, :3], 2, 3).tolist() == [[0, VOID, 1]]


def test_boundaries_a_pixel_apart_agree_with_slack() -> None:
    lines = [np.zeros((9, 9), dtype=bool) for _ in range(3)]
    for row, line in zip((3, 4, 6), lines, strict=True):
        line[row] = True
    assert count_votes(lines, 0)[:, 4].tolist() == [0, 0, 0, 1, 1, 0, 1, 0, 0]
    assert count_votes(lines, 1)[:, 4].tolist() == [0, 0, 0, 2, 2, 0, 1, 0, 0]
    assert count_votes(lines, 2)[:, 4].tolist() == [0, 0, 0, 2, 3, 0, 2, 0, 0]


def test_whole_images_and_their_target(root: Path) -> None:
    data = make_bsds(root, min_annotators=2)
    sample = data.dataset("test")[1]
    maps = annotations_of((48, 64))
    votes = sum(thin(segment_changes(one.astype(np.int64))).astype(int) for one in maps)
    assert sample.name == "3001" and sample.size == (48, 64) and sample.image_id == 1
    assert (sample.labels.numpy() == np.where(votes >= 2, 1, np.where(votes == 1, VOID, 0))).all() and int(
        (sample.labels == 1).sum()
    ) > 30
    assert (sample.segments.numpy() == np.stack(maps) - 1).all() and 0 <= float(sample.image.min()) < float(
        sample.image.max()
    ) <= 1
    assert data.dataset("test").truth()["files"]["3001"][1] == root / "groundTruth" / "test" / "3001.mat"


def test_training_views_of_both_orientations_in_one_batch(root: Path) -> None:
    data = make_bsds(
        root, batch_size=4, scale_range=[0.8, 1.3], rotation=20, flip=True, train_splits=["train", "val"]
    )
    assert len(data.dataset("train", training=True)) == 8
    batches = list(data.loader("train", training=True))
    assert len(batches) == 2
    for batch in batches:
        assert (
            isinstance(batch, BoundaryBatch)
            and batch.images.shape == (4, 3, 40, 40)
            and batch.segments.shape == (4, 3, 40, 40)
        )
        assert set(torch.unique(batch.labels).tolist()) <= {VOID, 0, 1} and batch.labels.dtype == torch.int64
        outside = batch.segments[:, 0] == VOID
        assert outside.any() and (batch.labels[outside] == VOID).all()
    assert {size for batch in batches for size in batch.sizes} == {(48, 64), (64, 48)}


def test_views_are_a_function_of_seed_and_epoch(root: Path) -> None:
    first, again, other = (
        make_bsds(root, scale_range=[0.7, 1.4], rotation=30, seed=seed).dataset("train", training=True)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first[1].image, again[1].image)
    assert not torch.equal(first[1].image, first[1 + len(first)].image) and not torch.equal(
        first[1].image, other[1].image
    )


def test_whole_images_of_both_orientations_in_one_batch(root: Path) -> None:
    batch = next(iter(make_bsds(root, eval_batch_size=2).loader("val", training=False)))
    assert (
        batch.images.shape == (2, 3, 64, 64)
        and batch.sizes == [(64, 48), (48, 64)]
        and batch.names == ["2000", "2001"]
    )
    assert (
        (batch.labels[0, :, 48:] == VOID).all()
        and (batch.labels[1, 48:] == VOID).all()
        and torch.equal(batch.images[1, :, 48:], batch.images[1, :, 32:48].flip(1))
    )
    assert (batch.segments[0, :, :, :48] != VOID).all() and (batch.segments[0, :, :, 48:] == VOID).all()


def test_people_beyond_the_last_are_void(root: Path) -> None:
    write_annotations(root / "groundTruth" / "val" / "2001.mat", annotations_of((48, 64), people=5))
    batch = next(iter(make_bsds(root, eval_batch_size=2).loader("val", training=False)))
    assert (
        batch.segments.shape[1] == 5
        and (batch.segments[0, 3:] == VOID).all()
        and (batch.segments[1, 4, :48] != VOID).all()
    )


def test_folders_above_and_without_splits(tmp_path: Path) -> None:
    inner = write_bsds(tmp_path / "BSR" / "BSDS500" / "data")
    for root in (inner, tmp_path / "BSR", tmp_path / "BSR" / "BSDS500"):
        assert list(split_files(root, "val")) == ["2000", "2001", "2002", "2003"]
    for kind in ("images", "groundTruth"):
        (tmp_path / "flat" / kind).mkdir(parents=True)
        for file in (inner / kind / "test").iterdir():
            (tmp_path / "flat" / kind / file.name).write_bytes(file.read_bytes())
    assert list(split_files(tmp_path / "flat", "test")) == ["3000", "3001", "3002", "3003"]


@pytest.mark.parametrize("what", ["root", "split", "truth", "mat", "text", "size", "image"])
def test_wrong_files_are_named_in_one_line(root: Path, what: str) -> None:
    truth, image = root / "groundTruth" / "val" / "2001.mat", root / "images" / "val" / "2001.jpg"
    named: Path | str = truth
    if what == "root":
        root, named = root / "groundTruth", root / "groundTruth"
    elif what == "split":
        for file in image.parent.iterdir():
            file.unlink()
        named = image.parent
    elif what == "truth":
        truth.unlink()
    elif what == "mat":
        io.savemat(truth, {"segs": np.zeros(3)})
    elif what == "text":
        truth.write_text("hello")
    elif what == "size":
        write_annotations(truth, annotations_of((40, 64)))
    else:
        image.write_bytes(image.read_bytes()[:200])
        named = image
    with pytest.raises(UserError) as refusal:
        list(make_bsds(root).loader("val", training=False))
    assert str(named) in str(refusal.value) and "\n" not in str(refusal.value)


PERSON = [("Segmentation", object), ("Boundaries", object)]


def variant(kind: str, maps: list[np.ndarray]) -> object:
    """The same annotators in the forms that MATLAB and scipy write."""
    drawn = [thin(segment_changes(one.astype(np.int64))) for one in maps]
    if kind == "struct array":
        return np.array(list(zip(maps, drawn, strict=True)), dtype=PERSON)
    if kind == "column":
        return np.array(list(zip(maps, drawn, strict=True)), dtype=PERSON)[:, None]
    if kind == "list of dictionaries":
        people = [{"Segmentation": one, "Boundaries": line} for one, line in zip(maps, drawn, strict=True)]
        return np.array([*people, None], dtype=object)[:-1]
    if kind == "cell of a struct array":
        cell = np.empty((1, 1), dtype=object)
        cell[0, 0] = np.array(list(zip(maps, drawn, strict=True)), dtype=PERSON)
        return cell
    if kind == "one annotator":
        return {"Segmentation": maps[0], "Boundaries": drawn[0]}
    if kind == "one annotator in a cell":
        cell = np.empty((1, 1), dtype=object)
        cell[0, 0] = {"Segmentation": maps[0], "Boundaries": drawn[0]}
        return cell
    if kind == "doubles and sparse":
        pairs = [(one.astype(float), sparse.csc_matrix(line)) for one, line in zip(maps, drawn, strict=True)]
        return np.array(pairs, dtype=PERSON)
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "struct array",
        "column",
        "list of dictionaries",
        "cell of a struct array",
        "one annotator",
        "one annotator in a cell",
        "doubles and sparse",
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_the_annotators_in_other_forms(tmp_path: Path, kind: str, compressed: bool) -> None:
    maps = annotations_of((48, 64))
    write_annotations(tmp_path / "official.mat", maps)
    io.savemat(tmp_path / "other.mat", {"groundTruth": variant(kind, maps)}, do_compression=compressed)
    official, other = (read_drawings(tmp_path / f"{name}.mat") for name in ("official", "other"))
    assert len(other) == (1 if kind.startswith("one") else 3)
    for one, same in zip(other, official, strict=False):
        assert (one.segments == same.segments).all() and (one.boundaries == same.boundaries).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"gt": np.ones(3)}, "annotation file X must hold groundTruth, got gt"),
        (
            {"groundTruth": np.ones((4, 5))},
            r"groundTruth in X must hold structs with Segmentation and Boundaries, got float64\[4, 5\]",
        ),
        (
            {"groundTruth": {"Segmentation": np.ones((4, 5))}},
            "groundTruth in X must hold structs .*, got a struct of Segmentation",
        ),
        (
            {"groundTruth": {"Segmentation": np.ones((4, 5)), "Boundaries": "text"}},
            r"Boundaries in X must be numbers \[height, width\], got <U4\[1\]",
        ),
        (
            {"groundTruth": {"Segmentation": np.ones((4, 5, 2)), "Boundaries": np.ones((4, 5))}},
            r"Segmentation in X must be numbers \[height, width\], got float64\[4, 5, 2\]",
        ),
        (
            {"groundTruth": {"Segmentation": np.full((4, 5), np.nan), "Boundaries": np.ones((4, 5))}},
            "Segmentation in X must hold integers, got nan",
        ),
        (
            {"groundTruth": {"Segmentation": np.ones((4, 5)), "Boundaries": np.ones((5, 4))}},
            r"X must hold maps of one size, got \(4, 5\) and \(5, 4\)",
        ),
        (
            {"groundTruth": np.empty((1, 0), dtype=object)},
            "groundTruth in X must hold a struct for each annotator, got none",
        ),
    ],
)
def test_a_wrong_ground_truth_names_its_fault(tmp_path: Path, content: dict, message: str) -> None:
    io.savemat(tmp_path / "a.mat", content)
    with pytest.raises(UserError, match=message.replace("X", ".*a.mat", 1)) as refusal:
        read_drawings(tmp_path / "a.mat")
    assert "\n" not in str(refusal.value)


def test_images_with_other_suffixes_are_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root / "images" / "val"
    (folder / "2001.jpg").rename(folder / "2001.JPG")
    assert list(split_files(root, "val")) == ["2000", "2002", "2003"]
    assert f"warning: {folder} also holds 1 *.JPG: only *.jpg is read" in capsys.readouterr().err
    for file in list(folder.iterdir()):
        file.rename(file.with_suffix(".png"))
    with pytest.raises(UserError, match=r"val must hold \*.jpg, got 4 \*.png. Save the images as JPEG"):
        split_files(root, "val")
    truth = root / "groundTruth" / "test" / "3001.mat"
    truth.rename(truth.with_suffix(".MAT"))
    with pytest.raises(UserError, match="3001.mat must exist, got none .1 such; there is 3001.MAT."):
        split_files(root, "test")


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_photograph_lies_as_its_annotations(root: Path, orientation: int) -> None:
    file = root / "images" / "test" / "3001.jpg"
    with Image.open(file) as image:
        pixels = np.array(image)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned_back = {1: pixels, 3: pixels[::-1, ::-1], 6: np.rot90(pixels)}[orientation]
    Image.fromarray(turned_back).save(file, exif=exif, quality=95)
    seen = make_bsds(root).dataset("test")[1].image
    assert (
        seen.shape[1:] == (48, 64)
        and float((seen - torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255).abs().mean()) < 0.02
    )


@pytest.mark.parametrize(
    "change",
    [
        {"train_splits": ["test"]},
        {"train_splits": []},
        {"min_annotators": 0},
        {"min_annotators": 1.5},
        {"scale_range": [2, 1]},
        {"scale_range": [0.5, 1, 1.5]},
        {"scale_range": []},
        {"vote_radius": -1},
        {"crop": 0},
        {"rotation": -5},
    ],
)
def test_senseless_numbers_are_refused(root: Path, change: dict) -> None:
    with pytest.raises(UserError, match=f"data.{next(iter(change))}"):
        make_bsds(root, **change)


@real
def test_real_data() -> None:
    assert [len(split_files(REAL, split)) for split in ("train", "val", "test")] == [200, 100, 200]
    for name in ("100007", "3063", "160067"):
        people = read_drawings(REAL / "BSDS500" / "data" / "groundTruth" / "test" / f"{name}.mat")
        assert 4 <= len(people) <= 9 and all(int(one.segments.min()) == 0 for one in people)
        # views draw boundaries anew by this rule
        assert all((thin(segment_changes(one.segments)) == one.boundaries).all() for one in people)
    batch = next(
        iter(make_bsds(REAL, crop=320, scale_range=[0.8, 1.2], rotation=10).loader("train", training=True))
    )
    assert batch.images.shape == (2, 3, 320, 320) and 0.0005 < float((batch.labels == 1).float().mean()) < 0.1
