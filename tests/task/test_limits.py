"""Each stage replaced by the truth, on scenes where it is known which stage is wrong."""

from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir

import rpe.run
from rpe.data.digits import DigitScenes
from rpe.run_files import CONF
from rpe.segment import Segmenter
from rpe.structures import FeatureMap, NetworkOutput
from rpe.task.limits import Limits, measure_limits, with_true_objectness, with_true_points

SCENES = DigitScenes("val", 3, 0)
SAMPLES = [SCENES[index] for index in range(3)]


class Painted(Segmenter):
    """A segmenter with perfect network outputs, to which a change is applied."""

    change = staticmethod(lambda output: output)

    def embed(self, images: torch.Tensor) -> NetworkOutput:
        (sample,) = [sample for sample in SAMPLES if torch.equal(sample.image, images[0])] or [None]
        assert sample is not None
        blank = FeatureMap(torch.zeros(1, 4, *sample.labels.shape), 1)
        perfect = with_true_points(
            with_true_objectness(NetworkOutput(blank, blank, blank), sample.labels), sample.labels
        )
        return self.change(perfect)


def limits_of(change) -> Limits:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=digits", "ranker=heuristic"])
        task = rpe.run.build_task(config)
    segmenter = Painted(task.model, task.proposal)
    segmenter.change = change
    return measure_limits(segmenter, SAMPLES, SCENES.truth())


def test_a_perfect_network_is_limited_by_nothing() -> None:
    found = limits_of(lambda output: output)
    assert (found.trained, found.objectness, found.embedding, found.both) == (1, 1, 1, 1)
    assert max(found.gains().values()) == 0 and found.images == 3


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        (
            "embedding",
            lambda output: replace(
                output,
                points=FeatureMap(
                    torch.eye(4)[0]
                    .expand(*output.points.values.shape[2:], 4)
                    .permute(2, 0, 1)[None]
                    .contiguous(),
                    1,
                ),
            ),
        ),
        (
            "objectness",
            lambda output: replace(output, objectness=FeatureMap(-output.objectness.values.abs(), 1)),
        ),
    ],
)
def test_the_wrong_stage_is_named(stage: str, change) -> None:
    found = limits_of(change)
    gains = found.gains()
    assert max(gains, key=lambda name: gains[name]) == stage, found
    assert getattr(found, stage) == found.both == 1 and found.trained < 0.9
    assert found.describe().startswith(f"the {stage} limits most: ") and "\n" not in found.describe()


def test_coarse_output_is_a_matter_of_resolution() -> None:
    found = Limits(8, trained=0.5, ranking=0.55, objectness=0.55, embedding=0.6, both=0.61, bound=1.0)
    assert found.describe().startswith("the resolution limits most: lower backbone.stride")
    assert "AR@10 on 8 validation images is 0.500; 0.550 with ideal ranking" in found.describe()


def test_more_objects_than_masks_are_no_matter_of_resolution() -> None:
    found = Limits(8, trained=0.3, ranking=0.32, objectness=0.35, embedding=0.45, both=0.5, bound=0.6)
    assert found.gains()["resolution"] == pytest.approx(0.1)
    assert found.describe().startswith("the embedding limits most: ")
    assert found.describe().endswith("0.500 with both, 0.600 at most")
