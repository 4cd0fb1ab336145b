"""What the class of each pixel and of each mask comes to: examined image by image, concluded to figures, tables and pictures."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from rpe.data.module import Truth, classes_of, distinct_names, normal_name
from rpe.metric.class_ap import at_thresholds, class_precision, mean_over_classes
from rpe.metric.class_map import class_png, find_maps, read_map, read_png
from rpe.metric.semantic import Confusion, class_ious, empty_confusion, semantic_figures, true_class_maps
from rpe.picture.classes import draw_classes, draw_confusion
from rpe.segment import class_components, classified
from rpe.structures import Proposals, UserError
from rpe.task.predictions import Row

BACKGROUND_NAME = "background"

OF_COMPONENTS = "components-"
"""Before the figures of the masks that the class map makes by itself, without the grouping."""


@dataclass
class Examined:
    """One image: its class map as a PNG, its classified proposals (None without a grouping), and the connected parts of its class map."""

    png: bytes
    instances: Proposals | None
    components: Proposals


@dataclass
class ClassReport:
    """All images together. `columns` are the figures of each class, the background first, NaN where there is none; `results` by file and `maps` by path
    are those of a run."""

    figures: dict[str, float]
    names: list[str]
    columns: dict[str, Float[np.ndarray, " class"]]
    confusion: Confusion
    results: dict[str, list[Row]] = field(default_factory=dict)
    maps: dict[str, bytes] = field(default_factory=dict)

    def files(self) -> dict[str, str | bytes]:
        """`classes.csv` and `classes.md`, a row a class; of a run also `instances.json`, `components.json` and `classes/<image>.png`."""
        rows = [["class", *self.columns]]
        rows += [
            [name, *(written(values[number]) for values in self.columns.values())]
            for number, name in enumerate(self.names)
        ]
        ruled = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
        tables = {
            "classes.csv": "".join(",".join(row) + "\n" for row in rows),
            "classes.md": "".join("| " + " | ".join(row) + " |\n" for row in ruled),
        }
        return tables | {f"{name}.json": json.dumps(rows) for name, rows in self.results.items()} | self.maps

    def draw(self, folder: Path) -> None:
        """`classes.png`, the figures of each class, and `confusion.png`."""
        draw_classes(self.names, self.columns, folder / "classes.png")
        if self.confusion.any():
            draw_confusion(self.confusion, self.names, folder / "confusion.png")


def written(value: float) -> str:
    """A figure in a table; nothing where there is none."""
    return "" if np.isnan(value) else f"{value:.6g}"


class ClassExaminer(nn.Module):
    """Keeps the confusion matrix of the images that it is shown, and makes the report of all ranks' images.

    Args:
        classes: without the background.
        min_area: of a connected part, in original pixels.

    `categories` are the ids and names of the training's classes 1, 2, .., once they are known.
    """

    def __init__(self, classes: int, min_area: int) -> None:
        super().__init__()
        self.classes, self.min_area = classes, min_area
        self.categories: dict[int, str] = {}
        self.confusion = empty_confusion(classes)

    def check_classes(self, names: dict[int, str]) -> None:
        """Refuse data with another number of classes, or with others than those of the training, or of the split that was shown before.

        Raises:
            UserError: naming both numbers, or the class.
        """
        if len(names) != self.classes:
            some = ", ".join(list(names.values())[:5])
            raise UserError(
                f"head.classes is {self.classes}, but the data have {len(names)} categories ({some} ..): set head.classes={len(names)}"
            )
        known_names = self.categories or names
        for number, (name, known) in enumerate(
            zip(names.values(), known_names.values(), strict=True), start=1
        ):
            if normal_name(name) != normal_name(known):
                raise UserError(
                    f"class {number} of the data is {name!r}, but {known!r} in the training or in another split: all must list the same names"
                )
        self.categories = known_names

    def examine(
        self, probability: Float[np.ndarray, "class height width"], proposals: Proposals | None
    ) -> Examined:
        """Return what one image comes to by its classes' probabilities and its proposals."""
        instances = None if proposals is None else classified(proposals, probability)
        return Examined(
            class_png(probability.argmax(0)), instances, class_components(probability, self.min_area)
        )

    def count(self, truth: Truth, examined: dict[int, Examined]) -> None:
        """Add the class maps of this rank's images to its confusion matrix."""
        for image_id, classes in true_class_maps(truth, list(classes_of(truth))):
            pair = torch.from_numpy(np.stack([read_png(examined[image_id].png), classes])).to(
                self.confusion.device
            )
            self.confusion.update(pair[:1], pair[1:])

    def counted(self) -> Confusion:
        """The confusion matrix of all ranks, which then is empty again."""
        counts: Confusion = self.confusion.compute().cpu().numpy()
        self.confusion.reset()
        return counts

    def report(
        self, truth: Truth, examined: dict[int, Examined], confusion: Confusion, backend: str
    ) -> ClassReport:
        """Of all images of the truth."""
        categories = list(classes_of(truth))
        results: dict[str, list[Row]] = {"components": []}
        if any(one.instances is not None for one in examined.values()):
            results["instances"] = []
        for image_id, one in sorted(examined.items()):
            results["components"] += one.components.to_coco(image_id, categories)
            if one.instances is not None:
                results["instances"] += one.instances.to_coco(image_id, categories)
        report = report_of(truth, results, confusion, backend)
        report.results = results
        report.maps = {
            f"classes/{name}.png": examined[image_id].png for image_id, name in map_names(truth).items()
        }
        return report


def report_of(truth: Truth, results: dict[str, list[Row]], confusion: Confusion, backend: str) -> ClassReport:
    """Figures and columns of results by name, "instances" or "components", and of a confusion matrix, which may be empty."""
    categories = distinct_names(classes_of(truth), BACKGROUND_NAME)
    names = [BACKGROUND_NAME, *categories.values()]
    objects = np.array(
        [
            sum(a["category_id"] == one and not a.get("iscrowd", 0) for a in truth["annotations"])
            for one in categories
        ],
        dtype=np.float64,
    )
    figures = semantic_figures(confusion, names)
    columns = {"objects": np.append(np.nan, objects)}
    if confusion.any():
        columns["IoU"] = class_ious(confusion)
    for name, rows in sorted(results.items(), reverse=True):
        prefix = OF_COMPONENTS if name == "components" else ""
        of_class = at_thresholds(class_precision(truth, rows, categories, backend))
        columns |= {prefix + key: np.append(np.nan, values) for key, values in of_class.items()}
        figures |= {prefix + key: value for key, value in mean_over_classes(of_class).items()}
        if not prefix:
            figures |= {
                f"APr50-{one}": float(value)
                for one, value in zip(categories.values(), of_class["APr50"], strict=True)
                if not np.isnan(value)
            }
    return ClassReport(figures, names, columns, confusion)


def score_maps(truth: Truth, folder: Path) -> ClassReport:
    """Anybody's class maps, a PNG for each image of the truth.

    Raises:
        UserError: what `find_maps` or `read_map` refuses.
    """
    categories = list(classes_of(truth))
    files, metric = find_maps(folder, map_names(truth)), empty_confusion(len(categories))
    for image_id, classes in true_class_maps(truth, categories):
        predicted = read_map(files[image_id], (classes.shape[0], classes.shape[1]), len(categories))
        metric.update(torch.from_numpy(predicted)[None], torch.from_numpy(classes)[None])
    return report_of(truth, {}, metric.compute().numpy(), "pycocotools")


def score_results(truth: Truth, results: list[Row], backend: str) -> ClassReport:
    """Anybody's masks with their categories.

    Raises:
        UserError: what `class_precision` refuses.
    """
    nothing = np.zeros((1 + len(classes_of(truth)),) * 2, dtype=np.int64)
    return report_of(truth, {"instances": results}, nothing, backend)


def shared_categories(truth: Truth, results: list[Row]) -> list[str]:
    """Return a line where no mask is of a category that has an object, or where there is no mask; their figures are 0."""
    if not results:
        return ["there is no mask at all: every figure counts none"]
    there = {
        annotation["category_id"] for annotation in truth["annotations"] if not annotation.get("iscrowd", 0)
    }
    named = {int(row["category_id"]) for row in results}
    if there & named:
        return []
    some = [", ".join(map(str, sorted(ids)[:5])) for ids in (named, there)]
    return [
        f"no mask is of a category that has an object: masks are of {some[0]}, objects of {some[1] or 'none'}"
    ]


def map_names(truth: Truth) -> dict[int, str]:
    """The name of each image's class map: that of the image without folder and suffix, or where two share one, its id."""
    stems = {image["id"]: Path(image["file_name"]).stem for image in truth["images"]}
    return (
        stems if len(set(stems.values())) == len(stems) else {image_id: str(image_id) for image_id in stems}
    )
