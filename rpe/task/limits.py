"""Find the stage that limits a trained network by replacing each in turn with the truth."""

from collections import Counter
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from rpe.data.module import Sample, collate
from rpe.errors import spell_commands
from rpe.metric.average_recall import average_recall
from rpe.metric.calibration import mask_ious
from rpe.segment import Segmenter, truth_on_grid
from rpe.sphere import normalise
from rpe.structures import BACKGROUND, FeatureMap, NetworkOutput, ResultRow, Truth
from rpe.task.predictions import keep_images

CERTAIN = 20.0
"""Logit of a pixel that is surely an object, or surely background."""

TRUE_DIMENSION = 64
"""Dimension of the random unit vectors that replace the embedding; two of them have a cosine of about 0.1."""

REMEDIES = {
    "ranking": "python -m rpe.tools.ranking run=<this run> fits the ranker again",
    "objectness": "train longer, or raise loss.objectness_weight",
    "embedding": "train longer, raise loss.assignment_weight or embedding.dimension",
    "resolution": "lower backbone.stride, raise head.upscale or data.longest_side",
}
"""What to change, by the stage that limits most."""


@dataclass
class Limits:
    """AR@10 of a trained network, as it is and with stages replaced by the truth.

    Args:
        trained: as it is.
        ranking: its own masks in ideal order, by their IoU with an object.
        objectness: true objectness with the trained embedding.
        embedding: trained objectness with a true embedding, one point for each object.
        both: true objectness and embedding at the network's resolution.
        bound: what ten masks an image can reach at most, less than 1 where images have more objects.
    """

    images: int
    trained: float
    ranking: float
    objectness: float
    embedding: float
    both: float
    bound: float

    def gains(self) -> dict[str, float]:
        """Return the AR@10 that each stage costs: its replacement's gain; of resolution, `bound - both`."""
        stages = ("ranking", "objectness", "embedding")
        gains = {stage: getattr(self, stage) - self.trained for stage in stages}
        return gains | {"resolution": self.bound - self.both}

    def describe(self) -> str:
        """Return one line that names the limiting stage and its remedy."""
        gains = self.gains()
        limiting = max(gains, key=lambda stage: gains[stage])
        remedy = spell_commands(REMEDIES[limiting])
        return (
            f"the {limiting} limits most: {remedy}. AR@10 on {self.images} validation images is "
            f"{self.trained:.3f}; {self.ranking:.3f} with ideal ranking, "
            f"{self.objectness:.3f} with true objectness, "
            f"{self.embedding:.3f} with a true embedding, {self.both:.3f} with both, {self.bound:.3f} at most"
        )


@torch.no_grad()
def measure_limits(segmenter: Segmenter, samples: list[Sample], truth: Truth) -> Limits:
    """Return the limits of a network on some images of a split; `truth` is that of the whole split."""
    seen = keep_images(truth, {sample.image_id for sample in samples})
    category = seen["categories"][0]["id"] if seen["categories"] else 1
    rows: dict[str, list[ResultRow]] = {"trained": [], "objectness": [], "embedding": [], "both": []}
    for sample in samples:
        batch = collate([sample])
        output, geometry = segmenter.embed_one(batch)
        labels = batch.labels[0].to(output.points.values.device)
        gate = with_true_objectness(output, labels)
        outputs = {
            "trained": output,
            "objectness": gate,
            "embedding": with_true_points(output, labels),
            "both": with_true_points(gate, labels),
        }
        for name, changed in outputs.items():
            rows[name] += segmenter.proposer(changed, geometry).to_coco(sample.image_id, [category])
    ious = mask_ious(seen, rows["trained"])
    rows["ranking"] = [
        {**row, "score": float(iou)} for row, iou in zip(rows["trained"], ious, strict=True) if iou == iou
    ]
    recall = {name: average_recall(seen, results, "own")["AR@10"] for name, results in rows.items()}
    counts = Counter(one["image_id"] for one in seen["annotations"] if not one.get("iscrowd", 0))
    bound = sum(min(10, count) for count in counts.values()) / max(1, counts.total())
    return Limits(images=len(samples), bound=bound, **recall)


def with_true_objectness(output: NetworkOutput, labels: Int64[Tensor, "height width"]) -> NetworkOutput:
    """Return the output with the true objectness, at the resolution of its own."""
    is_object = truth_on_grid(labels, output.objectness) > BACKGROUND
    logits = torch.where(is_object, CERTAIN, -CERTAIN)[None, None]
    return replace(output, objectness=FeatureMap(logits, output.objectness.stride))


def with_true_points(output: NetworkOutput, labels: Int64[Tensor, "height width"]) -> NetworkOutput:
    """Return the output with one random point for each object and one for the rest, on the same grid."""
    groups = truth_on_grid(labels, output.points).clamp(min=BACKGROUND)
    generator = torch.Generator().manual_seed(0)
    points = normalise(torch.randn(int(groups.max()) + 1, TRUE_DIMENSION, generator=generator))
    values = points.to(groups.device)[groups].permute(2, 0, 1)[None].contiguous()
    return replace(output, points=FeatureMap(values, output.points.stride))
