import numpy as np
import pytest
import torch

from rpe.rle import encode_mask
from rpe.structures import (
    FeatureMap,
    Geometry,
    Proposals,
    UserError,
    check_count,
    pixel_centres,
    reflect_indices,
)


def test_feature_map_is_exact_at_cell_centres_and_linear_between() -> None:
    values = torch.arange(12, dtype=torch.float32).reshape(1, 1, 3, 4)
    feature = FeatureMap(values, stride=2)
    centres = pixel_centres((3, 4), torch.device("cpu")) * 2
    assert torch.allclose(feature.at(centres[None])[0, :, 0], values.flatten(), atol=1e-5)
    # half way between cells (0, 0) and (0, 1); a quarter between (0, 0) and (1, 0); beyond the corner
    positions = torch.tensor([[[1.0, 2.0], [1.5, 1.0], [0.0, 0.0]]])
    assert torch.allclose(feature.at(positions)[0, :, 0], torch.tensor([0.5, 1.0, 0.0]))


def test_pixel_centres_go_row_by_row() -> None:
    assert pixel_centres((2, 3), torch.device("cpu")).tolist() == [
        [0.5, 0.5],
        [0.5, 1.5],
        [0.5, 2.5],
        [1.5, 0.5],
        [1.5, 1.5],
        [1.5, 2.5],
    ]


def test_proposals_as_results_rows() -> None:
    proposals = Proposals([encode_mask(np.ones((2, 2), dtype=bool))], np.array([0.5]), (2, 2))
    (row,) = proposals.to_coco(7, [3])
    assert (
        row["image_id"] == 7
        and row["category_id"] == 3
        and row["score"] == 0.5
        and row["segmentation"]["size"] == [2, 2]
    )
    (row,) = proposals.to_coco(7, [3, 4])
    assert "category_id" not in row, "nothing has predicted which of the two it is"
    proposals.classes = np.array([2])
    assert [row["category_id"] for row in proposals.to_coco(7, [3, 4])] == [4]


def test_original_pixels_lie_in_the_networks_image() -> None:
    geometry = Geometry((4, 6), (2, 3))
    assert geometry.ratio(torch.device("cpu")).tolist() == [2, 2]
    assert geometry.centres(torch.device("cpu")).tolist() == [[1, 1], [1, 3], [1, 5], [3, 1], [3, 3], [3, 5]]


def test_reflection_mirrors_at_both_ends() -> None:
    assert reflect_indices(-2, 9, 3).tolist() == [1, 0, 0, 1, 2, 2, 1, 0, 0]
    assert reflect_indices(1, 2, 3).tolist() == [1, 2]


@pytest.mark.parametrize("value", [0, 8.0, "8", None, True])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"backbone\.width must be an integer >= 1, got .*\. Use e\.g\. 32\."):
        check_count("backbone.width", value, 1, "Use e.g. 32")
