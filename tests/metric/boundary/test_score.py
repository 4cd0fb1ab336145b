"""Score a folder of maps in parallel, stop, and resume."""

import csv
import io
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bsds_miniature import write_bsds
from PIL import Image

from rpe.data.bsds import read_drawings, split_files
from rpe.metric.boundary import (
    Annotators,
    BoundaryCounts,
    boundary_metrics,
    count_boundary_pixels,
    counts_from_table,
    even_thresholds,
    match_boundaries,
    matching_distance,
)
from rpe.metric.boundary import score as module
from rpe.metric.boundary.score import score_folder, score_maps
from rpe.structures import UserError


def truths_of(root: Path, split: str = "test") -> dict[str, Path]:
    return {name: truth for name, (_, truth) in split_files(root, split).items()}


def write_maps(folder: Path, truths: dict[str, Path]) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, truth in truths.items():
        people = read_drawings(truth)
        mean = np.mean([one.boundaries for one in people], axis=0)
        np.save(folder / f"{name}.npy", (0.7 * mean + 0.3 * random.random(mean.shape)).clip(0, 1))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, dict[str, Path], Path]:
    truths = truths_of(write_bsds(tmp_path / "bsds"))
    write_maps(tmp_path / "maps", truths)
    return tmp_path / "maps", truths, tmp_path / "out"


def score(
    maps: Path, truths: dict[str, Path], out: Path, thresholds: int, names: list | None, workers: int
) -> dict[str, float]:
    return score_folder(maps, truths, out / "journal", thresholds, names, workers).metrics


@pytest.mark.parametrize("workers", [1, 2])
def test_figures_and_tables(folders: tuple[Path, dict[str, Path], Path], workers: int) -> None:
    maps, truths, out = folders
    scored = score_folder(maps, truths, out / "journal", 9, workers=workers)
    counts = [
        count_boundary_pixels(
            np.load(maps / f"{name}.npy"),
            Annotators([one.boundaries for one in read_drawings(truth)]),
            even_thresholds(9),
        )
        for name, truth in truths.items()
    ]
    wanted = boundary_metrics(
        counts_from_table(np.stack([one.table() for one in counts])), even_thresholds(9)
    )
    assert scored.metrics == wanted | {"images": 4} and 0.3 < wanted["ODS"] <= wanted["OIS"] < 1
    thresholds, images = (
        list(csv.DictReader(io.StringIO(str(scored.tables()[name]))))
        for name in ("thresholds.csv", "images.csv")
    )
    assert len(thresholds) == 9 and max(float(row["F"]) for row in thresholds) <= wanted["ODS"] + 1e-6
    recall, precision = scored.curve()
    assert [f"{value:.6f}" for value in recall] == [row["recall"] for row in thresholds] and precision[
        -1
    ] == float(thresholds[-1]["precision"])
    assert [row["name"] for row in images] == sorted(truths) and all(
        0 < float(row["F"]) <= 1 for row in images
    )


def test_maps_in_memory_score_as_their_files_do(folders: tuple[Path, dict[str, Path], Path]) -> None:
    maps, truths, out = folders
    eight = {name: np.rint(255 * np.load(maps / f"{name}.npy")).astype(np.uint8) for name in truths}
    (out / "png").mkdir(parents=True)
    for name, values in eight.items():
        Image.fromarray(values).save(out / "png" / f"{name}.png")
    assert score_maps(eight, truths, 9, progress=False).metrics == score(out / "png", truths, out, 9, None, 1)


def test_only_the_named_images(folders: tuple[Path, dict[str, Path], Path]) -> None:
    maps, truths, out = folders
    assert score(maps, truths, out, 5, [3002], 1)["images"] == 1 and score_folder(
        maps, truths, out, 5, [3002], 1
    ).names == ["3002"]
    (maps / "3000.npy").unlink()
    assert score(maps, truths, out, 5, ["3001", 3002], 1)["images"] == 2
    with pytest.raises(UserError, match="3000"):
        score(maps, truths, out, 5, None, 1)


def test_finished_images_are_not_counted_again_unless_they_change(
    folders: tuple[Path, dict[str, Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    maps, truths, out = folders
    counted, count = [], module.count_boundaries
    monkeypatch.setattr(
        module, "count_boundaries", lambda one, *options: counted.append(one[0]) or count(one, *options)
    )
    whole = score(maps, truths, out, 5, None, 1)
    assert len(counted) == 4
    (out / "journal" / "3001.json").unlink()
    (out / "journal" / "3002.json").write_text('{"key": "torn')
    assert (
        score(maps, truths, out, 5, None, 1) == whole
        and counted[4:] == ["3001", "3002"]
        and "2 of 4" in capsys.readouterr().out
    )
    np.save(maps / "3003.npy", np.load(maps / "3003.npy") / 2)
    assert score(maps, truths, out, 5, None, 1) != whole and counted[6:] == ["3003"]
    score(maps, truths, out, 7, None, 1)
    assert len(counted) == 11


def test_nothing_is_counted_before_all_files_are_right(folders: tuple[Path, dict[str, Path], Path]) -> None:
    maps, truths, out = folders
    np.save(maps / "3003.npy", np.full((4, 4), 0.5))
    with pytest.raises(UserError, match="3003.npy must be .* as its image, got 4 x 4"):
        score(maps, truths, out, 5, None, 2)
    assert not list((out / "journal").iterdir())


def test_without_thinning_each_pixel_needs_its_own_match(
    folders: tuple[Path, dict[str, Path], Path],
) -> None:
    maps, truths, out = folders
    thin_maps = score_folder(maps, truths, out / "journal", 9)
    thick = score_folder(maps, truths, out / "journal", 9, thinning=False)  # not read from the same journal
    assert (thick.counts.predicted > thin_maps.counts.predicted).any()
    for index, (name, truth) in enumerate(truths.items()):
        counts = [
            plain_counts(np.load(maps / f"{name}.npy") >= threshold, truth) for threshold in thick.thresholds
        ]
        assert thick.counts.table()[index].tolist() == counts


def plain_counts(mask: np.ndarray, truth: Path) -> list[int]:
    """Match a mask with one annotator after the other, pixel by pixel."""
    drawings = [one.boundaries for one in read_drawings(truth)]
    matches = [match_boundaries(mask, one, matching_distance(mask.shape)) for one in drawings]
    union = np.logical_or.reduce([predicted for predicted, _ in matches])
    found = sum(int(truth_matched.sum()) for _, truth_matched in matches)
    return [found, sum(int(one.sum()) for one in drawings), int(union.sum()), int(mask.sum())]


def score_slowly(maps: Path, truths: dict[str, Path], out: Path) -> None:
    """In a process of its own, with its own group, to which the terminal would send Ctrl-C."""
    os.setsid()
    with (out / "stderr").open("w") as stream:
        os.dup2(stream.fileno(), 2)
        sys.stderr = os.fdopen(2, "w")
    count_boundary_pixels = module.count_boundary_pixels

    def slow(
        prediction: np.ndarray, annotators: Annotators, thresholds: np.ndarray, thinning: bool
    ) -> BoundaryCounts:
        # the landscapes, 3001 and 3003
        time.sleep(6 if prediction.shape[0] < prediction.shape[1] else 0)
        return count_boundary_pixels(prediction, annotators, thresholds, thinning)

    module.count_boundary_pixels = slow
    score(maps, truths, out, 5, None, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_stopped_by_ctrl_c(folders: tuple[Path, dict[str, Path], Path]) -> None:
    maps, truths, out = folders
    out.mkdir()
    process = multiprocessing.get_context("fork").Process(target=score_slowly, args=(maps, truths, out))
    process.start()
    deadline = time.monotonic() + 60
    while not (out / "journal" / "3000.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    process.join(60)
    # one stack trace, the parent's: the workers end without a word
    error = (out / "stderr").read_text()
    assert (
        process.exitcode == 1 and error.count("KeyboardInterrupt") == 1 and error.count("Traceback") == 1
    ), error
    kept = {file.name: file.stat().st_mtime_ns for file in (out / "journal").iterdir()}
    assert "3000.json" in kept and len(kept) < 4
    assert score(maps, truths, out, 5, None, 1)["images"] == 4
    assert all((out / "journal" / name).stat().st_mtime_ns == when for name, when in kept.items())


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_workers_of_a_killed_scoring_go_too(folders: tuple[Path, dict[str, Path], Path]) -> None:
    maps, truths, out = folders
    out.mkdir()
    process = multiprocessing.get_context("fork").Process(target=score_slowly, args=(maps, truths, out))
    process.start()
    deadline = time.monotonic() + 60
    while not (out / "journal" / "3000.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.join()
    assert workers
    deadline = time.monotonic() + 30
    while any(running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(running(worker) for worker in workers)


def running(process: str) -> bool:
    """Return whether a process lives; a zombie does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
