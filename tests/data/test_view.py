import numpy as np
import torch

from rpe.data.thinning import segment_changes, thin
from rpe.data.view import Drawing, View
from rpe.structures import VOID


def annotation(size: tuple[int, int] = (40, 60)) -> Drawing:
    segments = np.zeros(size, dtype=np.int64)
    segments[10:30, 20:45] = 1
    return Drawing(segments, thin(segment_changes(segments)))


def test_without_change_pixels_are_copied() -> None:
    random = np.random.default_rng(0)
    image = torch.rand(3, 40, 60)
    for _ in range(5):
        view = View.draw((40, 60), 24, (1, 1), 0, False, random)
        top, left = int(view.centre[0] - 12), int(view.centre[1] - 12)
        assert 0 <= top <= 16 and 0 <= left <= 36
        assert torch.allclose(view.image(image), image[:, top : top + 24, left : left + 24], atol=1e-5)
        assert (
            view.drawing(annotation()).segments == annotation().segments[top : top + 24, left : left + 24]
        ).all()


def test_mirrored() -> None:
    straight, mirrored = (View(20, 1.0, 0.0, flip, (20.0, 30.0)) for flip in (False, True))
    image = torch.rand(3, 40, 60)
    assert torch.allclose(straight.image(image).flip(-1), mirrored.image(image), atol=1e-5)
    assert (straight.drawing(annotation()).segments[:, ::-1] == mirrored.drawing(annotation()).segments).all()
    random = np.random.default_rng(0)
    assert {View.draw((40, 60), 24, (1, 1), 0, True, random).flip for _ in range(20)} == {False, True}


def test_image_and_segments_move_together() -> None:
    random = np.random.default_rng(1)
    one = annotation((80, 120))
    image = torch.from_numpy(one.segments).float().expand(3, -1, -1)
    for _ in range(10):
        view = View.draw((80, 120), 64, (0.6, 1.6), 45, True, random)
        picture, warped = view.image(image)[0].numpy(), view.drawing(one)
        inside = warped.segments != VOID
        # apart from the pixels along the border, where the picture is between 0 and 1
        agree = np.abs(picture - warped.segments) < 0.5
        assert agree[inside].mean() > 0.98
        assert (view.image(image + 1)[0] > 0.99).all(), "no black beyond the image"


def test_a_quarter_turn_and_scales() -> None:
    one = annotation((60, 60))
    turned = View(60, 1.0, np.pi / 2, False, (30.0, 30.0)).drawing(one)
    assert (turned.segments == np.rot90(one.segments, -1)).all() or (
        turned.segments == np.rot90(one.segments)
    ).all()
    double = View(120, 2.0, 0.0, False, (60.0, 60.0)).drawing(one)
    assert (
        double.segments[::2, ::2] == one.segments
    ).all() and double.segments.sum() == 4 * one.segments.sum()


def test_boundaries_stay_one_pixel_wide_and_void_outside() -> None:
    view = View(100, 1.5, 0.5, False, (30.0, 45.0))
    warped = view.drawing(annotation())
    assert (thin(warped.boundaries) == warped.boundaries).all() and warped.boundaries.sum() > 80
    outside = warped.segments == VOID
    assert outside.any() and not warped.boundaries[outside].any()
    # none runs along the image's border
    assert not warped.boundaries[np.roll(outside, 1, 0) | np.roll(outside, -1, 0)].any()


def test_views_lie_inside_where_they_can() -> None:
    random = np.random.default_rng(2)
    for _ in range(50):
        view = View.draw((100, 140), 40, (0.8, 1.2), 30, True, random)
        assert (view.drawing(annotation((100, 140))).segments != VOID).all()
