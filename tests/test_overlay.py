import numpy as np

from rpe.overlay import ROWS_AT_ONCE, colours_of, overlay, overlay_boundaries


def test_colours_tell_objects_background_and_void_apart() -> None:
    colours = colours_of(np.arange(-1, 40)[None])[0]
    assert (colours[1] == 0).all() and (colours[0] == 0.5).all()
    assert len(np.unique(colours.round(3), axis=0)) == 41 and colours.min() >= 0 and colours.max() <= 1


def test_borders_have_the_objects_colour_the_inside_is_tinted_and_the_rest_is_the_image() -> None:
    labels = np.zeros((ROWS_AT_ONCE + 40, 30), dtype=np.int32)
    labels[10 : ROWS_AT_ONCE + 20, 5:25] = 2
    image = np.full((*labels.shape, 3), 100, dtype=np.uint8)
    drawn = overlay(image, labels)
    colour = np.rint(255 * colours_of(np.array([[2]]))[0, 0])
    assert (drawn[labels == 0] == 100).all() and (image == 100).all()
    for row in (10, ROWS_AT_ONCE + 19):
        assert (drawn[row, 5:25] == colour).all()
    inside = drawn[11 : ROWS_AT_ONCE + 19, 6:24]
    assert (inside == np.rint(0.6 * 100 + 0.4 * colour)).all(), "nor a line where portions meet"


def test_boundaries_are_as_red_as_they_are_strong() -> None:
    drawn = overlay_boundaries(
        np.full((1, 3, 3), 40, dtype=np.uint8), np.array([[0, 255, 51]], dtype=np.uint8)
    )
    assert drawn[0].tolist() == [[40, 40, 40], [255, 0, 0], [83, 32, 32]]
