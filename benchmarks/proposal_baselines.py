"""Compare a run's proposals with baselines at the same number of masks per image.

    python benchmarks/proposal_baselines.py run=<run folder> [split=val] [data=coco data.root=...]
        [any data.key=value]

Prints a table of average recall, and on nuclei of instance metrics. The data are the run's own unless given.
Each row keeps as many masks per image as the run's proposals, its best first:

- multi-scale Felzenszwalb: segments of scikit-image at several scales, ranked by their contrast to their
  surroundings.
- connected components of the trained objectness, at several thresholds. They show the method without
  embedding and grouping. They are ranked by mean probability x area / (area + 2,000 pixels), as the mean
  alone would rank specks first.
- on photographs, ImageNet features (the encoder's stage of stride 16, centred in each image) in place of the
  embedding.
- on photographs, the ceiling: the true masks at the resolution of the network's output.
- the untrained network with the same settings.
- the trained objectness with random unit vectors in place of the embedding, grouped by the same settings.
- on digits, connected components and colour mean shift on the true foreground, which a network does not know.
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
from object_count import recall_by_object_count
from omegaconf import OmegaConf
from scipy import ndimage
from skimage.segmentation import felzenszwalb
from sklearn.cluster import MeanShift

import rpe.run
from rpe.metric.average_recall import average_recall
from rpe.metric.instance_ap import instance_metrics, label_maps
from rpe.network.backbone.decoder import pad_images, resize_map
from rpe.rle import encode_mask
from rpe.run.folder import checkpoint_of, read_checkpoint
from rpe.run_files import read_run
from rpe.segment import select_image, select_instances
from rpe.sphere import normalise
from rpe.structures import FeatureMap, NetworkOutput, pixel_centres

CONF = Path(__file__).resolve().parent.parent / "conf"
SCALES = (10, 30, 100, 300, 1000)
OBJECTNESS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
COLOUR_BANDWIDTHS = (0.1, 0.2, 0.3)
EVERY = 10.0
"""Seconds between two lines of progress."""

TYPICAL = 2000
"""Area in pixels at which the size factor of a component is 1/2."""

RING = 3
"""Pixels around a segment that count as its surroundings."""

PHOTOGRAPHS = ("voc", "coco")
"""Names of the data sets whose table has more columns and rows."""

Row = dict[str, Any]
Scene = tuple[int, np.ndarray, np.ndarray, NetworkOutput, tuple[int, int]]
"""Id, the network's image [height, width, 3] and labels, the trained network's output, and the original
size."""


def read(arguments: list[str]) -> tuple[Any, Any, str]:
    """Read config and weights of the run, with the requested data, and the split."""
    given = dict(argument.split("=", 1) for argument in arguments)
    if "run" not in given:
        raise SystemExit("run must name a run folder, got nothing. Use run=<run folder>.")
    folder, split = Path(given.pop("run")), given.pop("split", "val")
    config = OmegaConf.create(read_run(str(folder)))
    if "weights" in config.backbone:
        config.backbone.weights = config.backbone.weights and "checkpoint"
    if "data" in given:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config.data = OmegaConf.create(
                OmegaConf.to_container(compose("train", [f"data={given.pop('data')}"]).data, resolve=True)
            )
    for key, value in given.items():
        OmegaConf.update(config, key, OmegaConf.create(f"x: {value}").x)
    return (
        config,
        read_checkpoint(checkpoint_of(str(folder)))["state_dict"],
        split,
    )


class EpochProgress(lightning.Callback):
    """A callback that prints the progress of a test to stderr."""

    def __init__(self, name: str) -> None:
        self.name, self.printed = name, time.monotonic()

    def on_test_batch_end(
        self, trainer: Any, task: Any, outputs: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        if time.monotonic() - self.printed > EVERY:
            self.printed = time.monotonic()
            print(
                f"{self.name}: {index + 1} of {trainer.num_test_batches[0]} batches",
                file=sys.stderr,
                flush=True,
            )


def propose(name: str, task: Any, data: Any, split: str) -> list[Row]:
    """Return the task's proposals, by its own test."""
    print(f"{name}: proposing", file=sys.stderr, flush=True)
    progress = EpochProgress(name)
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
def read_scenes(task: Any, data: Any, split: str) -> Iterator[Scene]:
    for batch in data.loader(split, training=False):
        output = task.segmenter.embed(batch.images)
        for index, (image_id, size) in enumerate(zip(batch.image_ids, batch.sizes, strict=True)):
            yield (
                image_id,
                batch.images[index].permute(1, 2, 0).numpy(),
                batch.labels[index].numpy(),
                select_image(output, index),
                size,
            )


def replace_by_random(embed: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    """Return the trained network with random unit vectors in place of its embedding."""
    generator = torch.Generator().manual_seed(0)

    def embed_randomly(images: torch.Tensor) -> Any:
        output = copy.copy(embed(images))
        points = torch.randn(output.points.values.shape, generator=generator)
        output.points = FeatureMap(
            normalise(points.transpose(1, -1)).transpose(1, -1).contiguous(), output.points.stride
        )
        return output

    return embed_randomly


def build_pretrained(config: Any) -> torch.nn.Module:
    """Build the run's backbone with the weights from which training started."""
    config = config.copy()
    config.backbone.weights = "imagenet"
    return rpe.run.build(config, "backbone").eval()


def replace_by_imagenet(embed: Callable[[torch.Tensor], Any], backbone: Any) -> Callable[[torch.Tensor], Any]:
    """Return the trained network with an ImageNet stage in place of its embedding.

    The stage has stride 16 and is centred in each image.
    """
    stage = backbone.encoder.strides.index(16)

    def features(images: torch.Tensor) -> Any:
        output = copy.copy(embed(images))
        found = backbone.encoder(pad_images((images - backbone.mean) / backbone.std, backbone.multiple))[
            stage
        ]
        found = resize_map(found - found.mean((2, 3), keepdim=True), output.points.values.shape[-2:])
        output.points = FeatureMap(
            normalise(found.movedim(1, -1)).movedim(-1, 1).contiguous(), output.points.stride
        )
        return output

    return features


def resize_image(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize labels or a channel to the original size, by nearest neighbour."""
    if labels.shape == size:
        return labels
    return labels[
        np.arange(size[0])[:, None] * labels.shape[0] // size[0],
        np.arange(size[1]) * labels.shape[1] // size[1],
    ]


def segments(scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    _, image, _, _, size = scene
    whole = np.stack([resize_image(channel, size) for channel in image.transpose(2, 0, 1)], axis=-1)
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


def components(min_area: int, scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    """Yield components of at least `min_area` pixels."""
    _, image, _, output, size = scene
    ratio = torch.tensor([image.shape[0] / size[0], image.shape[1] / size[1]])
    centres = pixel_centres(size, torch.device("cpu")) * ratio
    probability = output.objectness.at(centres[None])[0, :, 0].sigmoid().reshape(size).numpy()
    for threshold in OBJECTNESS:
        labels, count = ndimage.label(probability > threshold)
        means = np.atleast_1d(ndimage.mean(probability, labels, np.arange(1, count + 1)))
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        for number in np.nonzero(areas >= min_area)[0]:
            yield labels == number + 1, float(means[number] * areas[number] / (areas[number] + TYPICAL))


def ceiling(stride: int, scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the true masks, sampled at the centres of the output's cells."""
    labels = resize_image(scene[2][stride // 2 :: stride, stride // 2 :: stride], scene[4])
    for number in range(1, int(scene[2].max()) + 1):
        yield labels == number, 1.0


def true_components(scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    labels, count = ndimage.label(scene[2] > 0)
    for number in range(1, count + 1):
        yield labels == number, float((labels == number).sum())


def colour_groups(bandwidth: float, scene: Scene) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the groups of mean shift in RGB on the true foreground."""
    foreground = scene[2] > 0
    labels = np.zeros(foreground.shape, dtype=int)
    labels[foreground] = (
        MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(scene[1][foreground]).labels_ + 1
    )
    for number in range(1, labels.max() + 1):
        yield labels == number, float((labels == number).sum())


def show_progress(name: str, scenes: list[Scene]) -> Iterator[Scene]:
    """Yield the scenes, and print progress to stderr every `EVERY` seconds."""
    started = printed = time.monotonic()
    for number, scene in enumerate(scenes):
        if time.monotonic() - printed > EVERY:
            printed = time.monotonic()
            print(
                f"{name}: {number} of {len(scenes)} images, {printed - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        yield scene


def list_objects(
    name: str, method: Callable[[Scene], Iterator[tuple[np.ndarray, float]]], scenes: list[Scene]
) -> list[Row]:
    """Return a baseline's distinct masks, each with its best score."""
    rows = []
    for scene in show_progress(name, scenes):
        best: dict[str, Row] = {}
        for mask, score in method(scene):
            code = encode_mask(mask)
            if code["counts"] not in best or best[code["counts"]]["score"] < score:
                best[code["counts"]] = {"image_id": scene[0], "segmentation": code, "score": score}
        rows += list(best.values())
    return rows


def keep_best(rows: list[Row], counts: dict[int, int]) -> list[Row]:
    """Keep the best rows of each image, as many as `counts` gives."""
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
    ours = propose("this run", task, data, split)
    numbers = [row["image_id"] for row in ours]
    counts = {number: numbers.count(number) for number in set(numbers)}
    table = BaselineTable(
        data.truth(split), counts, getattr(task.proposal, "score_threshold", 0.5), data.name
    )
    table.add("this run", ours)
    scenes = list(read_scenes(task, data, split))
    baselines: dict[str, Callable[[Scene], Iterator[tuple[np.ndarray, float]]]] = {
        "connected components of the trained objectness": partial(components, task.proposal.min_area),
        "multi-scale Felzenszwalb": segments,
    }
    if data.name == "digits":
        baselines["connected components of the true foreground"] = true_components
        for bandwidth in COLOUR_BANDWIDTHS:
            baselines[f"colour mean shift on the true foreground, bandwidth {bandwidth}"] = partial(
                colour_groups, bandwidth
            )
    if data.name in PHOTOGRAPHS:
        stride = task.model.embed(torch.zeros(1, 3, 64, 64)).objectness.stride
        baselines[f"ceiling: the true masks at stride {stride}"] = partial(ceiling, stride)
    for name, method in baselines.items():
        table.add(name, list_objects(name, method, scenes))
    embed = task.model.embed
    task.model.embed = replace_by_random(embed)
    table.add("random unit vectors, trained objectness", propose("random unit vectors", task, data, split))
    if data.name in PHOTOGRAPHS:
        task.model.embed = replace_by_imagenet(embed, build_pretrained(config))
        table.add(
            "ImageNet features alone, trained objectness",
            propose("ImageNet features", task, data, split),
        )
    # last, as it takes longest: all pixels may be foreground, in hundreds of groups
    task.model.embed = embed
    task.load_state_dict(untrained)
    table.add("the untrained network", propose("the untrained network", task, data, split))


class BaselineTable:
    """A table of AR, for nuclei also AP and PQ of label maps, printed row by row.

    Args:
        truth: truth of the split.
        counts: number of masks kept of each image id.
        score_threshold: least score of masks in a label map. Felzenszwalb's contrast is not a probability, so
            all its masks are used.
        name: name of the data.
    """

    def __init__(
        self, truth: dict[str, Any], counts: dict[int, int], score_threshold: float, name: str
    ) -> None:
        self.truth, self.counts, self.score_threshold = truth, counts, score_threshold
        self.nuclei = name == "nuclei"
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
            + " | ".join(["method", *self.columns, "masks per image"])
            + " |\n"
            + "|---" * (len(self.columns) + 2)
            + "|",
            flush=True,
        )

    def add(self, name: str, rows: list[Row]) -> None:
        """Measure a method and print its row."""
        kept = keep_best(rows, self.counts)
        metrics = average_recall(self.truth, kept)
        if self.photographs:
            metrics |= recall_by_object_count(self.truth, kept)
        if self.nuclei or self.photographs:
            least = -1.0 if "Felzenszwalb" in name else self.score_threshold
            metrics |= instance_metrics(
                label_maps(self.truth, kept, partial(select_instances, threshold=least))
            )
        values = [f"{metrics[column]:.3f}" if column in metrics else "-" for column in self.columns]
        print(
            "| " + " | ".join([name, *values, f"{len(kept) / len(self.truth['images']):.1f}"]) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
