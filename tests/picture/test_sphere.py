from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rpe.grouping import mean_shift
from rpe.overlay import colours_of
from rpe.picture.sphere import (
    BACKGROUND_COLOUR,
    FINAL_FRAMES,
    FRAMES_PER_LOOP,
    MAX_GROUP_POINTS,
    Motion,
    animate_sphere,
    choose_camera,
    choose_points,
    draw_sphere,
    graticule,
    interpolate,
    point_colours,
    point_sizes,
    project_to_space,
    turn_camera,
)
from rpe.sphere import normalise


def motion_of(dimension: int, loops: int = 2) -> Motion:
    labels = torch.arange(60) % 3
    points = normalise(torch.eye(3, dimension)[labels] + 0.2 * torch.randn(60, dimension))
    return Motion([iterate[0] for iterate in mean_shift(points[None], 10.0, loops)], labels, (6, 10))


def test_moves_are_the_cosine_distances() -> None:
    motion = motion_of(3)
    cosines = (motion.iterates[0] * motion.iterates[1]).sum(1)
    assert motion.moves().shape == (2, 60) and torch.allclose(motion.moves()[0], 1 - cosines, atol=1e-6)


def test_three_dimensions_stay_and_more_are_projected_by_one_projection() -> None:
    motion = motion_of(3)
    assert all(
        np.allclose(space, iterate.numpy(), atol=1e-7)
        for space, iterate in zip(project_to_space(motion), motion.iterates, strict=True)
    )
    flat = project_to_space(motion_of(2))
    assert flat[0].shape == (60, 3) and (flat[0][:, 2] == 0).all()
    wide = motion_of(9)
    wide.iterates[1][5] = wide.iterates[0][7]
    space = project_to_space(wide)
    assert (
        np.allclose(space[1][5], space[0][7])
        and np.linalg.norm(np.concatenate(space), axis=1).max() <= 1 + 1e-6
    )
    assert np.linalg.norm(space[2], axis=1).mean() > 0.9, "three groups lie in three dimensions"


def test_a_camera_sees_the_groups_and_turns_about_its_upright_axis() -> None:
    motion = motion_of(3)
    points, labels = motion.iterates[0].numpy().astype(float), motion.labels.numpy()
    camera = choose_camera(points, labels)
    assert np.allclose(camera @ camera.T, np.eye(3), atol=1e-9) and np.linalg.det(camera) == pytest.approx(1)
    assert ((points @ camera[2]) > 0).mean() > 0.9
    behind = turn_camera(camera, 180)
    assert np.allclose(behind, np.diag([-1, 1, -1]) @ camera) and np.allclose(
        turn_camera(turn_camera(camera, 25), -25), camera
    )
    circles = np.concatenate(graticule(turn_camera(camera, 25) @ camera.T))
    assert np.nanmax((circles**2).sum(1)) <= 1 + 1e-9 and np.isnan(circles).any(), (
        "what is behind is not drawn"
    )


def test_points_are_chosen_by_group_and_grow_where_they_meet() -> None:
    labels = np.array([0] * 1000 + [1] * 3)
    some = choose_points(labels)
    assert (labels[some] == 0).sum() == MAX_GROUP_POINTS and (labels[some] == 1).sum() == 3
    here = np.zeros((10, 3))
    here[9] = 1
    sizes = point_sizes(here, np.array([1] * 5 + [2] * 4 + [2]))
    assert (sizes[:5] == sizes[0]).all() and sizes[0] > sizes[5] > sizes[9], (
        "a ring of the first, on it a disc of the second; one alone is small"
    )
    assert (sizes[0] - sizes[5]) / (sizes[5] - 7) == pytest.approx(5 / 4), "their areas are their parts"


def test_colours_are_the_objects_and_the_background_is_quiet() -> None:
    colours = point_colours(np.array([-1, 0, 4]))
    assert (colours[:2] == BACKGROUND_COLOUR).all() and (
        colours[2] == colours_of(np.array([[4]]))[0, 0]
    ).all()


def test_points_move_along_great_circles() -> None:
    quarter = [np.array([[1.0, 0, 0]]), np.array([[0, 1.0, 0]])]
    half = interpolate(quarter, 0.5)
    assert (
        np.allclose(half, [[0.5**0.5, 0.5**0.5, 0]])
        and interpolate(quarter, 1.0) is quarter[1]
        and interpolate(quarter, 0.0) is quarter[0]
    )
    inside = [0.5 * quarter[0], quarter[1]]
    assert np.linalg.norm(interpolate(inside, 0.5)) == pytest.approx(0.75), "project points keep their depth"


def test_still_and_animation_show_the_objects(tmp_path: Path) -> None:
    motion = motion_of(3)
    draw_sphere(motion, [0, 1, 2], tmp_path / "still.png")
    pixels = {
        tuple(pixel) for pixel in np.asarray(Image.open(tmp_path / "still.png").convert("RGB")).reshape(-1, 3)
    }
    for label in (1, 2):
        assert tuple(np.round(255 * colours_of(np.array([[label]]))[0, 0]).astype(np.uint8)) in pixels
    animate_sphere(motion, colours_of(motion.labels.numpy().reshape(6, 10)), tmp_path / "moving.gif")
    with Image.open(tmp_path / "moving.gif") as film:
        frames = []
        for index in range(film.n_frames):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    assert len(frames) == 2 * FRAMES_PER_LOOP + FINAL_FRAMES
    assert (frames[0] != frames[FRAMES_PER_LOOP]).any()
