import csv
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rpe.grouping import mean_shift, nonblurring_mean_shift
from rpe.picture.colour import project_on_principal_axes
from rpe.picture.dynamics import draw_comparison, draw_projections, moves_table, spread_loops
from rpe.picture.sphere import Motion
from rpe.sphere import normalise


def motions_of(loops: int) -> dict[str, Motion]:
    labels = torch.arange(60) // 20
    points = normalise(torch.eye(3, 5)[labels] + 0.3 * torch.randn(60, 5))[None]
    kinds = {
        "blurring": mean_shift(points, 10.0, loops),
        "non-blurring": nonblurring_mean_shift(points, 10.0, loops),
    }
    return {name: Motion([one[0] for one in iterates], labels, (6, 10)) for name, iterates in kinds.items()}


def colours_in(file: Path) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3).tolist()}


def as_bytes(colours: np.ndarray) -> set[tuple[int, ...]]:
    # matplotlib's way to 8 bits
    return {tuple(pixel) for pixel in (colours * 255).astype(np.uint8).tolist()}


def test_moves_as_a_table() -> None:
    motions = motions_of(3)
    rows = list(csv.DictReader(io.StringIO(moves_table(motions))))
    assert [row["loop"] for row in rows] == ["1", "2", "3"]
    for name, motion in motions.items():
        cosines = [
            (one * other).sum(1) for one, other in zip(motion.iterates[:-1], motion.iterates[1:], strict=True)
        ]
        for row, cosine in zip(rows, cosines, strict=True):
            assert abs(float(row[f"{name} largest"]) - float(1 - cosine.min())) < 1e-5
            assert abs(float(row[f"{name} mean"]) - float(1 - cosine.mean())) < 1e-5


def test_both_kinds_are_drawn_by_one_projection(tmp_path: Path) -> None:
    motions, black = motions_of(3), np.zeros((6, 10, 3))
    draw_comparison(motions, [0, 1, 3], black, black, tmp_path / "one.png")
    colours = project_on_principal_axes(
        [iterate for motion in motions.values() for iterate in motion.iterates]
    )
    wanted = as_bytes(np.concatenate([colours[index] for index in (0, 1, 3, 4, 5, 7)]))
    found = colours_in(tmp_path / "one.png")
    assert len(wanted & found) > 0.9 * len(wanted)
    assert len(as_bytes(np.concatenate([colours[2], colours[6]])) & found - wanted) < 10, (
        "the second loop was not requested"
    )


def test_projections_are_drawn_in_rows(tmp_path: Path) -> None:
    motion, black = motions_of(3)["blurring"], np.zeros((6, 10, 3))
    draw_projections(motion, [0, 3], black, black, [1, 2], tmp_path / "three.png")
    draw_projections(motion, [0, 3], black, black, [], tmp_path / "one.png")
    one, three = (Image.open(tmp_path / f"{name}.png").size for name in ("one", "three"))
    assert one[0] == three[0] and abs(three[1] - 3 * one[1]) <= 3
    wanted = as_bytes(np.concatenate([project_on_principal_axes(motion.iterates)[loop] for loop in (0, 3)]))
    assert len(wanted & colours_in(tmp_path / "one.png")) > 0.9 * len(wanted)


def test_loops_stand_closer_at_the_beginning() -> None:
    assert spread_loops(3, 6) == [0, 1, 2, 3] and spread_loops(10, 6) == [0, 1, 2, 3, 6, 10]
    for last in range(1, 60):
        loops = spread_loops(last, 6)
        assert loops[0] == 0 and loops[-1] == last and loops == sorted(set(loops)) and len(loops) <= 6
