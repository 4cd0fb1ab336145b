from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rpe.grouping import MeanShift
from rpe.metric.curve import PUBLISHED, Curve
from rpe.picture import colours_of, draw_recall, draw_sheet, one_projection
from rpe.proposal import PlainRanker, Proposer
from rpe.sphere import normalise
from rpe.structures import Batch, Embedded, FeatureMap


def test_colours_tell_objects_background_and_void_apart() -> None:
    colours = colours_of(np.arange(-1, 40)[None])[0]
    assert (colours[1] == 0).all() and (colours[0] == 0.5).all()
    assert len(np.unique(colours.round(3), axis=0)) == 41 and colours.min() >= 0 and colours.max() <= 1


def test_one_projection_for_all_iterates() -> None:
    first = normalise(torch.randn(30, 5))
    one, other = one_projection([first, first])
    assert one.shape == (30, 3) and (one == other).all() and one.min() >= 0 and one.max() <= 1
    assert one_projection([normalise(torch.randn(4, 2))])[0].shape == (4, 3)


def test_sheet_is_drawn(tmp_path: Path) -> None:
    labels = torch.zeros(1, 20, 30, dtype=torch.int64)
    labels[0, 4:14, 4:14] = 1
    points = torch.eye(3)[labels].permute(0, 3, 1, 2)
    embedded = Embedded(FeatureMap(points, 1), FeatureMap(8.0 * labels[:, None] - 4, 1), FeatureMap(points, 1))
    batch = Batch(torch.rand(1, 3, 20, 30), labels, [7], [(20, 30)])
    grouping = MeanShift(iterations=2, bandwidth=0.3, margin=0.5, learn_bandwidth=False, step=1.0)
    proposer = Proposer([0.3], [3], 0.01, 1e-6, None, None, False, 0.5, 1, 0.9, 10, 0.5)
    draw_sheet(batch, embedded, grouping, proposer, PlainRanker(3, 20.0), tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert pixels.shape[1] > 5 * pixels.shape[0] and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_curves_are_drawn(tmp_path: Path) -> None:
    ours = Curve("AR", np.array([1.0, 10, 1000]), np.array([0.1, 0.4, 0.5]))
    overlap = Curve("10 masks", np.linspace(0.5, 1, 5), np.linspace(1, 0, 5))
    draw_recall([overlap], [ours], PUBLISHED["AR"], "AR", tmp_path / "with.png")
    draw_recall([overlap], [ours], [], "AR", tmp_path / "without.png")
    pictures = [np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int) for name in ("with.png", "without.png")]
    assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any(), "published points are drawn"
