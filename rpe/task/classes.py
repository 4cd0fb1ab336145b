"""Evaluate the classes of pixels and masks, image by image, and report metrics, tables and pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from rpe.data.module import distinct_names, list_classes, normal_name
from rpe.metric.class_ap import at_thresholds, class_precision, mean_over_classes
from rpe.metric.class_map import class_png, find_maps, read_class_map, read_png
from rpe.metric.semantic import Confusion, class_ious, empty_confusion, semantic_metrics, true_class_maps
from rpe.picture.classes import draw_classes, draw_confusion
from rpe.segment import class_components, classify_masks
from rpe.structures import Proposals, ResultRow, Truth, UserError

BACKGROUND_NAME = "background"

COMPONENTS_PREFIX = "components-"
"""Prefix of the metrics of masks that are connected components of the class map, without grouping."""


@dataclass
class ImageClasses:
    """Classes of one image.

    Args:
        png: the class map as a PNG.
        instances: proposals with classes; None where nothing is grouped.
        components: connected components of the class map.
    """

    png: bytes
    instances: Proposals | None
    components: Proposals


@dataclass
class ClassReport:
    """Metrics of all images together.

    Args:
        metrics: by name.
        names: of the classes, the background first.
        columns: metrics of each class, NaN where undefined.
        confusion: pixels by true and predicted class.
        results: rows of results files by file name, of a run.
        maps: class maps as PNG by path, of a run.
    """

    metrics: dict[str, float]
    names: list[str]
    columns: dict[str, Float[np.ndarray, " class"]]
    confusion: Confusion
    results: dict[str, list[ResultRow]] = field(default_factory=dict)
    maps: dict[str, bytes] = field(default_factory=dict)

    def files(self) -> dict[str, str | bytes]:
        """Return `classes.csv` and `classes.md`, a row a class.

        Of a run also `instances.json`, `components.json` and `classes/<image>.png`.
        """
        rows = [["class", *self.columns]]
        rows += [
            [name, *(format_metric(values[number]) for values in self.columns.values())]
            for number, name in enumerate(self.names)
        ]
        ruled = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
        tables = {
            "classes.csv": "".join(",".join(row) + "\n" for row in rows),
            "classes.md": "".join("| " + " | ".join(row) + " |\n" for row in ruled),
        }
        return tables | {f"{name}.json": json.dumps(rows) for name, rows in self.results.items()} | self.maps

    def draw(self, folder: Path) -> None:
        """Draw `classes.png`, the metrics of each class, and `confusion.png`."""
        draw_classes(self.names, self.columns, folder / "classes.png")
        if self.confusion.any():
            draw_confusion(self.confusion, self.names, folder / "confusion.png")


def format_metric(value: float) -> str:
    """Return a metric as text; empty where it is undefined."""
    return "" if np.isnan(value) else f"{value:.6g}"


class NoClasses:
    """Null object in place of a `ClassEvaluator`, for a head without classes."""

    def __init__(self) -> None:
        self.categories: dict[int, str] = {}

    def check_classes(self, names: dict[int, str]) -> None:
        """Accept all classes, as none are learned."""

    def evaluate_image(self, probability: object, proposals: Proposals | None) -> None:
        """Return None."""

    def count(self, truth: Truth, by_image: dict[int, Any]) -> None:
        """Count nothing."""

    def pop_confusion(self) -> None:
        """Return None."""

    def make_report(self, truth: Truth, by_image: dict[int, Any], confusion: object, backend: str) -> None:
        """Return None."""


class ClassEvaluator(nn.Module):
    """Evaluation of classes: counts the confusion matrix of images, and reports on the images of all ranks.

    Args:
        classes: number of classes, without the background.
        min_area: smallest area of a connected component, in original pixels.

    `categories` holds id and name of each training class, in class order; it is empty before the first
    dataset.
    """

    def __init__(self, classes: int, min_area: int) -> None:
        super().__init__()
        self.classes, self.min_area = classes, min_area
        self.categories: dict[int, str] = {}
        self.confusion = empty_confusion(classes)

    def check_classes(self, names: dict[int, str]) -> None:
        """Check that the data have the classes of the training and of earlier splits, by number and name.

        Raises:
            UserError: they have others.
        """
        if len(names) != self.classes:
            some = ", ".join(list(names.values())[:5])
            raise UserError(
                f"head.classes must be the data's {len(names)} categories ({some} ..), got {self.classes}. "
                f"Set head.classes={len(names)}."
            )
        known_names = self.categories or names
        pairs = zip(names.values(), known_names.values(), strict=True)
        for number, (name, known) in enumerate(pairs, start=1):
            if normal_name(name) != normal_name(known):
                raise UserError(
                    f"class {number} of the data must be {known!r}, as in the training and in other splits, "
                    f"got {name!r}. List the same names in all."
                )
        self.categories = known_names

    def evaluate_image(
        self, probability: Float[np.ndarray, "class height width"] | None, proposals: Proposals | None
    ) -> ImageClasses:
        """Return the class map and the classified masks of one image."""
        assert probability is not None
        instances = None if proposals is None else classify_masks(proposals, probability)
        components = class_components(probability, self.min_area)
        return ImageClasses(class_png(probability.argmax(0)), instances, components)

    def count(self, truth: Truth, by_image: dict[int, ImageClasses]) -> None:
        """Add the class maps of this rank's images to its confusion matrix."""
        for image_id, classes in true_class_maps(truth, list(list_classes(truth))):
            pair = torch.from_numpy(np.stack([read_png(by_image[image_id].png), classes]))
            pair = pair.to(self.confusion.device)
            self.confusion.update(pair[:1], pair[1:])

    def pop_confusion(self) -> Confusion:
        """Return the confusion matrix summed over all ranks; reset it."""
        counts: Confusion = self.confusion.compute().cpu().numpy()
        self.confusion.reset()
        return counts

    def make_report(
        self, truth: Truth, by_image: dict[int, ImageClasses], confusion: Confusion | None, backend: str
    ) -> ClassReport:
        """Return the report of all images of the truth."""
        assert confusion is not None
        categories = list(list_classes(truth))
        results: dict[str, list[ResultRow]] = {"components": []}
        if any(one.instances is not None for one in by_image.values()):
            results["instances"] = []
        for image_id, one in sorted(by_image.items()):
            results["components"] += one.components.to_coco(image_id, categories)
            if one.instances is not None:
                results["instances"] += one.instances.to_coco(image_id, categories)
        report = compute_report(truth, results, confusion, backend)
        report.results = results
        names = name_class_maps(truth)
        report.maps = {f"classes/{name}.png": by_image[image_id].png for image_id, name in names.items()}
        return report


def compute_report(
    truth: Truth, results: Mapping[str, Sequence[ResultRow]], confusion: Confusion, backend: str
) -> ClassReport:
    """Return the report of masks and of a confusion matrix.

    Args:
        truth: annotations of the evaluated images.
        results: rows of results files by name, "instances" or "components".
        confusion: all 0 where class maps are not evaluated.
        backend: computes average precision.
    """
    categories = distinct_names(list_classes(truth), BACKGROUND_NAME)
    names = [BACKGROUND_NAME, *categories.values()]
    objects = np.array(
        [
            sum(a["category_id"] == one and not a.get("iscrowd", 0) for a in truth["annotations"])
            for one in categories
        ],
        dtype=np.float64,
    )
    metrics = semantic_metrics(confusion, names)
    columns = {"objects": np.append(np.nan, objects)}
    if confusion.any():
        columns["IoU"] = class_ious(confusion)
    for name, rows in sorted(results.items(), reverse=True):
        prefix = COMPONENTS_PREFIX if name == "components" else ""
        of_class = at_thresholds(class_precision(truth, rows, categories, backend))
        columns |= {prefix + key: np.append(np.nan, values) for key, values in of_class.items()}
        metrics |= {prefix + key: value for key, value in mean_over_classes(of_class).items()}
        if not prefix:
            metrics |= {
                f"APr50-{one}": float(value)
                for one, value in zip(categories.values(), of_class["APr50"], strict=True)
                if not np.isnan(value)
            }
    return ClassReport(metrics, names, columns, confusion)


def score_class_maps(truth: Truth, folder: Path) -> ClassReport:
    """Return the report of a folder of class maps, a PNG for each image of the truth.

    Raises:
        UserError: see `find_maps` and `read_class_map`.
    """
    categories = list(list_classes(truth))
    files, metric = find_maps(folder, name_class_maps(truth)), empty_confusion(len(categories))
    for image_id, classes in true_class_maps(truth, categories):
        predicted = read_class_map(files[image_id], (classes.shape[0], classes.shape[1]), len(categories))
        metric.update(torch.from_numpy(predicted)[None], torch.from_numpy(classes)[None])
    return compute_report(truth, {}, metric.compute().numpy(), "pycocotools")


def score_results(truth: Truth, results: Sequence[ResultRow], backend: str) -> ClassReport:
    """Return the report of masks with categories.

    Raises:
        UserError: see `class_precision`.
    """
    nothing = np.zeros((1 + len(list_classes(truth)),) * 2, dtype=np.int64)
    return compute_report(truth, {"instances": results}, nothing, backend)


def explain_zero_precision(truth: Truth, results: Sequence[ResultRow]) -> list[str]:
    """Return a line that explains metrics of 0: no mask, or no mask with the category of an object."""
    if not results:
        return ["the predictions hold no mask, so recall and precision are 0"]
    there = {
        annotation["category_id"] for annotation in truth["annotations"] if not annotation.get("iscrowd", 0)
    }
    named = {int(row["category_id"]) for row in results}
    if there & named:
        return []
    some = [", ".join(map(str, sorted(ids)[:5])) for ids in (named, there)]
    return [f"no mask has the category of an object: masks have {some[0]}, objects {some[1] or 'none'}"]


def name_class_maps(truth: Truth) -> dict[int, str]:
    """Return the name of each image's class map by image id.

    It is the image's file name without folder and suffix. If two images share one, all are named by their
    ids.
    """
    stems = {image["id"]: Path(image["file_name"]).stem for image in truth["images"]}
    return (
        stems if len(set(stems.values())) == len(stems) else {image_id: str(image_id) for image_id in stems}
    )
