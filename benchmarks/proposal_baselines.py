"""A run's proposals beside what one has without training, as many masks an image each: a table of average recall, on nuclei also of instances.

`python benchmarks/proposal_baselines.py run=<run folder> [split=val] [data=coco data.root=... any data.key=value]`; the run's own data unless told
otherwise. The rows, each cut to our number of masks an image, its best first:

- multi-scale Felzenszwalb: segments of scikit-image at several scales, ranked by their contrast to what surrounds them;
- connected components of the trained objectness, at several thresholds, ranked by their mean probability x area / (area + 2,000 pixels), as the
  mean alone would put specks first: what remains of the method without embedding and grouping;
- on photographs also ImageNet features alone (the encoder's stage of stride 16, centred in each image) in place of the embedding, and the ceiling:
  the true masks at the resolution of the network's output;
- the untrained network: same settings, no step;
- the trained objectness with random unit vectors in place of the embedding, grouped by the same settings;
- on digits also connected components and colour mean shift on the true foreground, which know more than a network may.
"""

import copy
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy import ndimage
from skimage.segmentation import felzenszwalb
from sklearn.cluster import MeanShift

import rpe.run
from rpe.metric.average_recall import average_recall
from rpe.metric.instance_ap import instance_figures, label_maps
from rpe.metric.object_count import recall_by_object_count
from rpe.network.backbone.decoder import padded, resized
from rpe.run.folder import checkpoint_of
from rpe.run_files import read_run
from rpe.segment import image_of, select_instances
from rpe.sphere import normalise
from rpe.structures import FeatureMap, NetworkOutput, encode_mask, pixel_centres

CONF = Path(__file__).resolve().parent.parent / "conf"
SCALES = (10, 30, 100, 300, 1000)
OBJECTNESS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
COLOUR_BANDWIDTHS = (0.1, 0.2, 0.3)
EVERY = 10.0
"""Seconds between two lines of progress."""

TYPICAL = 2000
"""Pixels of area at which size counts half in the ranking of a component."""

RING = 3
"""Pixels around a segment that count as its surroundings."""

PHOTOGRAPHS = ("voc", "coco")
"""Data sets by name, whose table has more columns and rows."""

Row = dict[str, Any]
Scene = tuple[int, np.ndarray, np.ndarray, NetworkOutput, tuple[int, int]]
"""Id, image [height, width, 3] and labels as the network has them, the trained network's answer, original size."""


# --- the run and its data -------------------------------------------------------------------------------------------------


def read(arguments: list[str]) -> tuple[Any, Any, str]:
    """Config and checkpoint of the run, with the data that are asked for, and the split."""
    asked = dict(argument.split("=", 1) for argument in arguments)
    if "run" not in asked:
        raise SystemExit("run=<run folder> is missing")
    folder, split = Path(asked.pop("run")), asked.pop("split", "val")
    config = OmegaConf.create(read_run(str(folder)))
    if "weights" in config.backbone:
        config.backbone.weights = config.backbone.weights and "checkpoint"
    if "data" in asked:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config.data = OmegaConf.create(
                OmegaConf.to_container(compose("train", [f"data={asked.pop('data')}"]).data, resolve=True)
            )
    for key, value in asked.items():
        OmegaConf.update(config, key, OmegaConf.create(f"x: {value}").x)
    return (
        config,
        torch.load(checkpoint_of(str(folder)), map_location="cpu", weights_only=True)["state_dict"],
        split,
    )


class EpochProgress(lightning.Callback):
    """Images done of a test, on stderr."""

    def __init__(self, what: str) -> None:
        self.what, self.said = what, time.monotonic()

    def on_test_batch_end(
        self, trainer: Any, task: Any, outputs: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        if time.monotonic() - self.said > EVERY:
            self.said = time.monotonic()
            print(
                f"{self.what}: {index + 1} of {trainer.num_test_batches[0]} batches",
                file=sys.stderr,
                flush=True,
            )


def proposals_of(what: str, task: Any, data: Any, split: str) -> list[Row]:
    """What the task proposes, by its own test."""
    print(f"{what}: proposing", file=sys.stderr, flush=True)
    progress = EpochProgress(what)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[progress],
    )
    trainer.test(task, dataloaders=data.loader(split, training=False), verbose=False)
    return list(task.result.results)


@torch.no_grad()
def scenes_of(task: Any, data: Any, split: str) -> Iterator[Scene]:
    for batch in data.loader(split, training=False):
        embedded = task.model.embed(batch.images)
        for index, (image_id, size) in enumerate(zip(batch.image_ids, batch.sizes, strict=True)):
            yield (
                image_id,
                batch.images[index].permute(1, 2, 0).numpy(),
                batch.labels[index].numpy(),
                image_of(embedded, index),
                size,
            )


def with_random_points(embed: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    """The trained network with random unit vectors as its embedding."""
    generator = torch.Generator().manual_seed(0)

    def at_random(images: torch.Tensor) -> Any:
        embedded = copy.copy(embed(images))
        points = torch.randn(embedded.points.values.shape, generator=generator)
        embedded.points = FeatureMap(
            normalise(points.transpose(1, -1)).transpose(1, -1).contiguous(), embedded.points.stride
        )
        return embedded

    return at_random


def pretrained(config: Any) -> torch.nn.Module:
    """The backbone of the run as its training found it."""
    config = config.copy()
    config.backbone.weights = "imagenet"
    return rpe.run.build(config, "backbone").eval()


def with_imagenet_points(
    embed: Callable[[torch.Tensor], Any], backbone: Any
) -> Callable[[torch.Tensor], Any]:
    """The trained network with an ImageNet stage of stride 16, centred in each image, as its embedding."""
    stage = backbone.encoder.strides.index(16)

    def features(images: torch.Tensor) -> Any:
        embedded = copy.copy(embed(images))
        found = backbone.encoder(padded((images - backbone.mean) / backbone.std, backbone.multiple))[stage]
        found = resized(found - found.mean((2, 3), keepdim=True), embedded.points.values.shape[-2:])
        embedded.points = FeatureMap(
            normalise(found.movedim(1, -1)).movedim(-1, 1).contiguous(), embedded.points.stride
        )
        return embedded

    return features


# --- baselines: (mask, score) of one scene --------------------------------------------------------------------------------


def enlarged(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map at the original size."""
    if labels.shape == size:
        return labels
    return labels[
        np.arange(size[0])[:, None] * labels.shape[0] // size[0],
        np.arange(size[1]) * labels.shape[1] // size[1],
    ]


def segments(scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    _, image, _, _, size = scene
    whole = np.stack([enlarged(channel, size) for channel in image.transpose(2, 0, 1)], axis=-1)
    for scale in SCALES:
        labels = felzenszwalb(whole, scale=scale, sigma=0.8, min_size=20)
        for number, box in enumerate(ndimage.find_objects(labels + 1), start=1):
            wider = tuple(slice(max(0, side.start - RING), side.stop + RING) for side in box)
            mask = labels[wider] == number - 1
            ring = ndimage.binary_dilation(mask, iterations=RING) & ~mask
            if ring.any():
                whole_mask = labels == number - 1
                yield (
                    whole_mask,
                    float(np.abs(whole[wider][mask].mean(0) - whole[wider][ring].mean(0)).mean()),
                )


def components(least: int, scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    """Components of `least` pixels or more."""
    _, image, _, embedded, size = scene
    ratio = torch.tensor([image.shape[0] / size[0], image.shape[1] / size[1]])
    centres = pixel_centres(size, torch.device("cpu")) * ratio
    probability = embedded.objectness.at(centres[None])[0, :, 0].sigmoid().reshape(size).numpy()
    for threshold in OBJECTNESS:
        labels, count = ndimage.label(probability > threshold)
        means = np.atleast_1d(ndimage.mean(probability, labels, np.arange(1, count + 1)))
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        for number in np.nonzero(areas >= least)[0]:
            yield labels == number + 1, float(means[number] * areas[number] / (areas[number] + TYPICAL))


def ceiling(stride: int, scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    """The true masks, read where the output's cells have their centres."""
    labels = enlarged(scene[2][stride // 2 :: stride, stride // 2 :: stride], scene[4])
    for number in range(1, int(scene[2].max()) + 1):
        yield labels == number, 1.0


def true_components(scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    labels, count = ndimage.label(scene[2] > 0)
    for number in range(1, count + 1):
        yield labels == number, float((labels == number).sum())


def by_colour(bandwidth: float, scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    """Mean shift in RGB on the true foreground."""
    foreground = scene[2] > 0
    labels = np.zeros(foreground.shape, dtype=int)
    labels[foreground] = (
        MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(scene[1][foreground]).labels_ + 1
    )
    for number in range(1, labels.max() + 1):
        yield labels == number, float((labels == number).sum())


def counted(what: str, scenes: list[Scene]) -> Iterator[Scene]:
    """The scenes, with a line on stderr every so many seconds."""
    started = said = time.monotonic()
    for number, scene in enumerate(scenes):
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            print(
                f"{what}: {number} of {len(scenes)} images, {said - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        yield scene


def rows_of(
    what: str, method: Callable[[Scene], Iterator[tuple[np.ndarray, float]]], scenes: list[Scene]
) -> list[Row]:
    """A baseline's masks, each once."""
    rows = []
    for scene in counted(what, scenes):
        best: dict[str, Row] = {}
        for mask, score in method(scene):
            code = encode_mask(mask)
            if code["counts"] not in best or best[code["counts"]]["score"] < score:
                best[code["counts"]] = {"image_id": scene[0], "segmentation": code, "score": score}
        rows += list(best.values())
    return rows


# --- the table ------------------------------------------------------------------------------------------------------------


def cut(rows: list[Row], counts: dict[int, int]) -> list[Row]:
    """The best rows of each image, as many as ours."""
    kept: dict[int, int] = {}
    result = []
    for row in sorted(rows, key=lambda row: -row["score"]):
        kept[row["image_id"]] = kept.get(row["image_id"], 0) + 1
        if kept[row["image_id"]] <= counts.get(row["image_id"], 0):
            result.append(row)
    return result


def main() -> None:
    config, weights, split = read(sys.argv[1:])
    torch.manual_seed(0)
    task, data = rpe.run.build_task(config).eval(), rpe.run.build_data(config)
    untrained = copy.deepcopy(task.state_dict())
    task.load_state_dict(weights)
    ours = proposals_of("this run", task, data, split)
    numbers = [row["image_id"] for row in ours]
    counts = {number: numbers.count(number) for number in set(numbers)}
    table = Table(data.truth(split), counts, getattr(task.proposal, "score_threshold", 0.5), data.name)
    table.add("this run", ours)
    scenes = list(scenes_of(task, data, split))
    baselines: dict[str, Callable[[Scene], Iterator[tuple[np.ndarray, float]]]] = {
        "connected components of the trained objectness": partial(components, task.proposal.min_area),
        "multi-scale Felzenszwalb": segments,
    }
    if data.name == "digits":
        baselines["connected components of the true foreground"] = true_components
        for bandwidth in COLOUR_BANDWIDTHS:
            baselines[f"colour mean shift on the true foreground, bandwidth {bandwidth}"] = partial(
                by_colour, bandwidth
            )
    if data.name in PHOTOGRAPHS:
        stride = task.model.embed(torch.zeros(1, 3, 64, 64)).objectness.stride
        baselines[f"ceiling: the true masks at stride {stride}"] = partial(ceiling, stride)
    for what, method in baselines.items():
        table.add(what, rows_of(what, method, scenes))
    embed = task.model.embed
    task.model.embed = with_random_points(embed)
    table.add(
        "random unit vectors, trained objectness", proposals_of("random unit vectors", task, data, split)
    )
    if data.name in PHOTOGRAPHS:
        task.model.embed = with_imagenet_points(embed, pretrained(config))
        table.add(
            "ImageNet features alone, trained objectness",
            proposals_of("ImageNet features", task, data, split),
        )
    # last, as a network that knows nothing takes the longest: all pixels may take part, in hundreds of groups
    task.model.embed = embed
    task.load_state_dict(untrained)
    table.add("the untrained network", proposals_of("the untrained network", task, data, split))


class Table:
    """AR of each method, and for nuclei AP and PQ of the label map of the masks that score enough, printed row by row as they are there.

    Args:
        truth: of the split.
        counts: by image id, how many masks of each method count.
        score_threshold: of the masks of a label map (Felzenszwalb's contrast is no probability: all of them).
        name: of the data.
    """

    def __init__(
        self, truth: dict[str, Any], counts: dict[int, int], score_threshold: float, name: str
    ) -> None:
        self.truth, self.counts, self.score_threshold, self.nuclei = (
            truth,
            counts,
            score_threshold,
            name == "nuclei",
        )
        self.columns = ["AR@10", "AR@100", "AR@1000"] + (
            ["AP50", "PQ", "recall50-touching"] if self.nuclei else []
        )
        self.photographs = name in PHOTOGRAPHS
        if self.photographs:
            self.columns += [f"AR@100-{size}" for size in ("small", "medium", "large")]
            self.columns += [
                f"AR@10-{count}" for count in ("1-object", "2-objects", "3+-objects", "2+-objects")
            ]
            self.columns += ["recall50@10-touching", "AP50", "recall50-touching"]
        print(
            "| "
            + " | ".join(["what", *self.columns, "masks per image"])
            + " |\n"
            + "|---" * (len(self.columns) + 2)
            + "|",
            flush=True,
        )

    def add(self, what: str, rows: list[Row]) -> None:
        """A row."""
        kept = cut(rows, self.counts)
        figures = average_recall(self.truth, kept)
        if self.photographs:
            figures |= recall_by_object_count(self.truth, kept)
        if self.nuclei or self.photographs:
            least = -1.0 if "Felzenszwalb" in what else self.score_threshold
            figures |= instance_figures(
                label_maps(self.truth, kept, partial(select_instances, threshold=least))
            )
        values = [f"{figures[column]:.3f}" if column in figures else "-" for column in self.columns]
        print(
            "| " + " | ".join([what, *values, f"{len(kept) / len(self.truth['images']):.1f}"]) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
