"""Show a run's network on a few validation images."""

from pathlib import Path

import numpy as np
import torch

from rpe.data.module import InstanceData, Sample, SplitDataset, collate
from rpe.overlay import colours_of, encode_png
from rpe.picture.panels import as_bytes
from rpe.picture.sheet import embedding_colours
from rpe.run.building import build_data, check_pair
from rpe.run.trained import load_run, run_task_class
from rpe.structures import UserError
from rpe.task.instance import InstanceTask
from rpe.tools.gallery.outline import GalleryImage, ImageCounts, trace_outlines
from rpe.tools.page import embed_picture


def show_examples(folder: str, images: int, split: str, rows: list[ImageCounts]) -> list[GalleryImage] | None:
    """Show images of a split with the run's best weights; None for a run that finds no objects.

    Args:
        folder: the run folder.
        images: the number of images.
        split: the split of the images.
        rows: the images in their order; empty for the first of the data.

    Raises:
        UserError: the folder holds no trained run, its data are missing, or they lack an image of the rows.
    """
    if not issubclass(run_task_class(folder), InstanceTask):
        return None
    config, task = load_run(folder)
    data = build_data(config)
    check_pair(type(task), data, config)
    assert isinstance(task, InstanceTask) and isinstance(data, InstanceData)
    if not task.uses_grouping:
        return None
    dataset = data.dataset(split)
    assert isinstance(dataset, SplitDataset)
    places = {row.image_id: row for row in rows[:images]}
    indices = find_indices(dataset, list(places)) if rows else list(range(min(images, len(dataset))))
    shown = []
    for index in indices:
        sample = dataset[index]
        with torch.no_grad():
            one = show_example(task, sample)
        if rows:  # by the id of the sample itself
            row = places[sample.image_id]
            one.name, one.note = f"{one.name}: {row.file_name}", f"{one.note}; {row.words()}"
        shown.append(one)
    return shown


def find_indices(dataset: SplitDataset, image_ids: list[int]) -> list[int]:
    """Return the positions of images in a dataset, which is sorted by id.

    Raises:
        UserError: the dataset has no such image.
    """
    ids = sorted(image["id"] for image in dataset.truth()["images"])
    places = {number: index for index, number in enumerate(ids)}
    if missing := [number for number in image_ids if number not in places]:
        raise UserError(
            f"order must name images of the run's own data, got image {missing[0]}. Evaluate the run on them."
        )
    return [places[number] for number in image_ids]


def show_example(task: InstanceTask, sample: Sample) -> GalleryImage:
    """Return image, truth, embedding at X_0 .. X_T, instances, and the outlines of the instances."""
    batch = collate([sample])
    seen, geometry = task.segmenter.embed_one(batch)
    piece = task.segmenter.piece(seen, geometry)
    labels, scores = piece.labels, dict(enumerate(piece.scores.tolist(), start=1))
    panels = [
        ("image", batch.images[0].permute(1, 2, 0).numpy()),
        ("truth", colours_of(batch.labels[0].numpy())),
    ]
    panels += [
        (f"X_{loop}", colours)
        for loop, colours in enumerate(embedding_colours(batch, seen, task.model.grouping))
    ]
    panels += [("instances", colours_of(labels))]
    found = trace_outlines(labels, scores, {})
    truth = len(np.unique(batch.labels[0].numpy().clip(min=0))) - 1
    shown = [(title, embed_picture(encode_png(as_bytes(pixels)))) for title, pixels in panels]
    return GalleryImage(
        f"image {batch.image_ids[0]}",
        (labels.shape[0], labels.shape[1]),
        shown,
        found,
        f"{truth} true objects, {len(found)} found",
    )


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures that the run drew itself."""
    return sorted((folder / "pictures").glob("*.png"))
