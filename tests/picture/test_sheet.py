from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rpe.grouping import MeanShift
from rpe.network.backbone import UNet
from rpe.network.embedding import Embedding
from rpe.network.head import Objectness
from rpe.network.model import PixelEmbedding
from rpe.picture.panels import draw_panels
from rpe.picture.sheet import LONGEST_SIDE, draw_boundaries, draw_sheet, sample_points
from rpe.segment import HeuristicRanker, Proposer, Segmenter
from rpe.sphere import cosine_distance, normalise
from rpe.structures import Batch, FeatureMap, NetworkOutput, pixel_centres


def embedded_of(labels: torch.Tensor) -> NetworkOutput:
    points = torch.eye(3)[labels].permute(0, 3, 1, 2)
    return NetworkOutput(
        FeatureMap(points, 1), FeatureMap(8.0 * labels[:, None] - 4, 1), FeatureMap(points, 1)
    )


def test_sheet_is_drawn_and_says_how_far_the_loops_move(tmp_path: Path, monkeypatch) -> None:
    labels = torch.zeros(1, 20, 30, dtype=torch.int64)
    labels[0, 4:14, 4:14] = 1
    output = embedded_of(labels)
    output.points = FeatureMap(
        normalise((output.points.values + 0.2 * torch.randn(1, 3, 20, 30)).movedim(1, -1)).movedim(-1, 1), 1
    )
    batch = Batch(torch.rand(1, 3, 20, 30), labels, [7], [(20, 30)])
    grouping = MeanShift(iterations=2, bandwidth=0.3, margin=0.5, learn_bandwidth=False)
    proposer = Proposer(
        [0.3], [3], 0.01, 1e-6, None, None, False, [0.5], 1, 1, 0.9, 10, 0.5, HeuristicRanker(3, 20.0)
    )
    network = PixelEmbedding(
        UNet(4, 1, 1, None), Embedding(4, 3, 4, "none", []), grouping, Objectness(4, 4, 1)
    )
    monkeypatch.setattr(network, "embed", lambda images: output)
    titles: list[str] = []

    def noted(panels: list[tuple[str, np.ndarray]], columns: int, width: int, file: Path) -> None:
        titles.extend(title for title, _ in panels)
        draw_panels(panels, columns, width, file)

    monkeypatch.setattr("rpe.picture.sheet.draw_panels", noted)
    draw_sheet(batch, Segmenter(network, proposer), tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert pixels.shape[1] > 5 * pixels.shape[0] and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    iterates = grouping(sample_points(output, labels)[0])
    largest = float(cosine_distance(iterates[0], iterates[1]).max())
    assert (
        titles[2] == "X_0"
        and titles[3] == f"X_1\nmoved {largest:.2g} at most"
        and titles[4].startswith("X_2\nmoved ")
    )


def test_pixels_of_a_large_image_are_taken_evenly() -> None:
    labels = torch.zeros(1, 3 * LONGEST_SIDE, 30, dtype=torch.int64)
    ramp = pixel_centres((3 * LONGEST_SIDE, 30), torch.device("cpu"))[:, 0].reshape(
        1, 1, 3 * LONGEST_SIDE, 30
    ) / (3 * LONGEST_SIDE)
    points = FeatureMap(torch.cat([ramp.cos(), ramp.sin()], 1), 1)
    found, size = sample_points(NetworkOutput(points, points, points), labels)
    assert size == (LONGEST_SIDE, 10) and found.shape == (1, LONGEST_SIDE * 10, 2)
    angles = torch.atan2(found[0, :, 1], found[0, :, 0]).reshape(size)
    assert torch.allclose(angles[:, 0], (torch.arange(LONGEST_SIDE) + 0.5) / LONGEST_SIDE, atol=1e-4)


def test_boundaries_are_drawn(tmp_path: Path) -> None:
    labels = torch.zeros(16, 24, dtype=torch.int64)
    labels[8] = 1
    strength = labels.numpy().astype(np.float32)
    stage = torch.nn.functional.normalize(torch.randn(3, 8, 12), dim=0)
    draw_boundaries(torch.rand(3, 16, 24), labels, [stage, stage], strength, strength, tmp_path / "one.png")
    draw_boundaries(
        torch.rand(3, 16, 24), labels, [stage, stage], 0 * strength, strength, tmp_path / "other.png"
    )
    one, other = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("one", "other")
    )
    assert one.shape == other.shape and (one != other).any()
