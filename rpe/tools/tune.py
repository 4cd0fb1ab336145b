"""Choose a run's inference settings on its validation split; the weights stay as they are."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import OmegaConf

from rpe.data.module import SplitDataset
from rpe.metric.average_recall import average_recall
from rpe.metric.instance_ap import compute_overlaps, count_matches, true_labels
from rpe.run.fitted import TUNED_FILE, TUNED_KEYS, write_fitted
from rpe.run.folder import checkpoint_of
from rpe.run.trained import iterate_outputs, load_grouping_run
from rpe.segment import Proposer, detach_output, select_instances
from rpe.segment.groups import GroupMap
from rpe.segment.proposer import PartitionSetting
from rpe.structures import Geometry, NetworkOutput, Proposals, Truth, UserError, check_count
from rpe.task.predictions import keep_images
from rpe.tools.command import read_arguments, run_tool

METRICS = ("AP50", "AP", "AR@10")

USAGE = f"""
Choose a run's objectness gate, bandwidth, least area and score threshold on its validation split.
Writes {TUNED_FILE} into the run's folder.

    python -m rpe.tools.tune run=<run folder> [metric=AP50] [images=100]

Then evaluate.py and predict.py use these settings with tuned=true; settings of the command line stay.
metric is the value to raise: AP50 of the label map, AP (its mean over IoU 0.5, 0.55 .. 0.9) or AR@10, which
ignores the score threshold. images bounds the number of validation images, evenly spaced, and the memory.
"""

GATE_SHIFTS = (-1.5, -1.0, -0.5, 0.5, 1.0)
"""Steps of the objectness gates, in their logits."""

BANDWIDTH_FACTORS = (0.5, 0.75, 1.25, 1.5)
AREA_FACTORS = (0.5, 2, 4, 8)
SCORES = tuple(float(score) for score in np.round(np.arange(0.05, 0.951, 0.05), 2))
ROUNDS = 2
"""Passes over gate, bandwidth and area; each varies one and keeps the best others."""

LEAST_GAIN = 1e-6
"""A setting must raise the metric by more, so that of equal ones the run's own stays."""


class Setting(NamedTuple):
    """Settings that need a grouping of their own; the score threshold does not."""

    foreground_thresholds: tuple[float, ...]
    bandwidths: tuple[float, ...]
    min_area: int

    def options(self) -> dict[str, Any]:
        """Return the settings as `Proposer` takes them."""
        return dict(zip(TUNED_KEYS, (*map(list, self[:2]), self.min_area), strict=False))


class TuningImage(NamedTuple):
    """A validation image: id, the network's output, and sizes. `truth` is its label map."""

    image_id: int
    output: NetworkOutput
    geometry: Geometry
    truth: np.ndarray


class Choice(NamedTuple):
    """A setting, its best score threshold, and the metric with both."""

    setting: Setting
    score_threshold: float
    metric: float

    def settings(self) -> dict[str, Any]:
        """Return the settings of `proposal`."""
        return self.setting.options() | {TUNED_KEYS[3]: self.score_threshold}


class RememberingProposer(Proposer):
    """A proposer that keeps the groups of each image: most of the time is spent on them.

    `remembered` holds them by the output's identity, gate and concentration; `min_area` changes none.
    """

    def __init__(self, remembered: dict[tuple[int, PartitionSetting], GroupMap], **settings: Any) -> None:
        super().__init__(**settings)
        self.remembered = remembered

    def group_unsplit(
        self, output: NetworkOutput, network_size: tuple[int, int], setting: PartitionSetting
    ) -> GroupMap:
        """Return the remembered groups, computed at the first call."""
        key = (id(output), setting)
        if key not in self.remembered:
            self.remembered[key] = super().group_unsplit(output, network_size, setting)
        return self.remembered[key]


@dataclass
class Tuner:
    """Metrics of settings, each grouped once.

    Args:
        scenes: the validation images.
        truth: their annotations in COCO format.
        proposal: the run's settings and ranker, as `Proposer` takes them.
        metric: one of `METRICS`.
        scores: the score thresholds to try.
    """

    scenes: list[TuningImage]
    truth: Truth
    proposal: dict[str, Any]
    metric: str
    scores: list[float]
    tried: dict[Setting, Any] = field(default_factory=dict)
    remembered: dict[tuple[int, PartitionSetting], GroupMap] = field(default_factory=dict)

    def measure(self, setting: Setting, chosen: slice) -> Float[np.ndarray, " score"]:
        """Return the metric on the chosen images, for each score threshold."""
        if setting not in self.tried:
            changed = setting.options() | {"score_threshold": 0.0}
            proposer = RememberingProposer(self.remembered, **self.proposal | changed)
            found = [proposer(scene.output, scene.geometry) for scene in self.scenes]
            self.tried[setting] = found if self.metric == "AR@10" else self.precisions(found)
        answer = self.tried[setting]
        if self.metric != "AR@10":
            # an image without objects and masks has no AP, as in evaluation
            return np.nan_to_num(np.nanmean(answer[chosen], axis=0))
        scenes = self.scenes[chosen]
        pairs = zip(scenes, answer[chosen], strict=True)
        rows = [row for scene, proposals in pairs for row in proposals.to_coco(scene.image_id, [1])]
        kept = keep_images(self.truth, [scene.image_id for scene in scenes])
        return np.full(len(self.scores), average_recall(kept, rows).get("AR@10", 0.0))

    def precisions(self, found: list[Proposals]) -> Float[np.ndarray, "image score"]:
        """Return AP50, or the mean AP over IoU, of each image's label map for each score threshold."""
        rows = []
        for scene, proposals in zip(self.scenes, found, strict=True):
            kept = [int((proposals.scores >= score).sum()) for score in self.scores]
            # label maps of equally many masks are the same
            of_count = {
                count: self.precision(scene.truth, select_instances(proposals, score))
                for count, score in zip(kept, self.scores, strict=True)
            }
            rows.append([of_count[count] for count in kept])
        return np.array(rows)

    def precision(self, truth: np.ndarray, labels: np.ndarray) -> float:
        """Return the metric of one label map."""
        overlaps = compute_overlaps(truth, labels)
        everything = [np.ones(n, dtype=bool) for n in (overlaps.truth_count, overlaps.prediction_count)]
        values = count_matches(overlaps, *everything).average_precision()
        return float(values[0] if self.metric == "AP50" else values.mean())

    def choose(self, setting: Setting, own: float, chosen: slice) -> Choice:
        """Return a setting with its best score threshold; `own` stays where no other is better."""
        values = self.measure(setting, chosen)
        first = self.scores.index(own)
        best = int(values.argmax())
        place = best if values[best] > values[first] + LEAST_GAIN else first
        return Choice(setting, self.scores[place], float(values[place]))

    def search(
        self, own: Setting, score: float, chosen: slice, show: Callable[[Choice], None] = lambda choice: None
    ) -> Choice:
        """Vary one setting after the other and return the best choice for some images.

        `show` is called with each new try.
        """
        best = self.choose(own, score, chosen)
        shown = {own}
        show(best)
        for _ in range(ROUNDS):
            before = best
            for key, values in candidates(own).items():
                for value in values:
                    setting = best.setting._replace(**{key: value})
                    tried = self.choose(setting, score, chosen)
                    if setting not in shown:
                        shown.add(setting)
                        show(tried)
                    best = tried if tried.metric > best.metric + LEAST_GAIN else best
            if best == before:
                break
        return best


def candidates(own: Setting) -> dict[str, list[Any]]:
    """Return the values of each setting that are tried beside the run's own; lists move as a whole."""
    gates = np.array(own.foreground_thresholds)
    logits = np.log(gates / (1 - gates))
    shifted = [tuple(np.round(1 / (1 + np.exp(-logits - shift)), 3).tolist()) for shift in GATE_SHIFTS]
    scaled = [
        tuple(np.round(np.clip(np.array(own.bandwidths) * factor, 0.02, 2), 4).tolist())
        for factor in BANDWIDTH_FACTORS
    ]
    areas = sorted({max(1, round(own.min_area * factor)) for factor in AREA_FACTORS} - {own.min_area})
    within = [gate for gate in shifted if 0 < min(gate) <= max(gate) < 1]
    return {"foreground_thresholds": within, "bandwidths": scaled, "min_area": areas}


@torch.no_grad()
def read_scenes(task: Any, dataset: SplitDataset, truth: Truth, images: int) -> Iterable[TuningImage]:
    """Yield evenly spaced images of a split; the network sees each once."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = task.to(device)
    rows: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for row in truth["annotations"]:
        rows[row["image_id"]].append(row)
    for batch, output, geometry in iterate_outputs(task, dataset, images):
        number = batch.image_ids[0]
        truth_map = true_labels(rows[number], geometry.size)
        yield TuningImage(number, detach_output(output, device), geometry, truth_map)


def describe(choice: Choice) -> str:
    """Return a row of the table."""
    gates, widths = (" ".join(f"{value:g}" for value in values) for values in choice.setting[:2])
    area, score = choice.setting.min_area, choice.score_threshold
    return f"| {gates} | {widths} | {area} | {score:g} | {choice.metric:.4f} |"


def main(arguments: list[str]) -> None:
    """Search, print the table, and write the chosen settings.

    Raises:
        UserError: the run does not group pixels, or has no validation data.
    """
    options = read_arguments(arguments, {"run": None, "metric": "AP50", "images": 100}, USAGE)
    if options["metric"] not in METRICS:
        raise UserError(f"metric must be one of {', '.join(METRICS)}, got {options['metric']}.")
    check_count("images", options["images"], 2, "settings are chosen on one half and measured on the other")
    config, task, data = load_grouping_run(options["run"])
    dataset = data.dataset("val")
    assert isinstance(dataset, SplitDataset)
    truth = dataset.truth()
    plain: Any = OmegaConf.to_container(config.proposal, resolve=True)
    proposal = {str(key): value for key, value in plain.items() if key != "_target_"}
    own = Setting(
        tuple(proposal[TUNED_KEYS[0]]), tuple(proposal[TUNED_KEYS[1]]), int(proposal[TUNED_KEYS[2]])
    )
    score = float(proposal[TUNED_KEYS[3]])
    scenes = list(read_scenes(task, dataset, truth, int(options["images"])))
    scores = sorted({score, *SCORES})
    tuner = Tuner(scenes, truth, proposal | {"ranker": task.proposal.ranker}, options["metric"], scores)
    metric = options["metric"]
    print(f"{metric} on {len(scenes)} validation images of {data.name}, each with its best score threshold:")
    print(f"| objectness gates | bandwidths | least area | score threshold | {metric} |\n|{'---|' * 5}")
    everything, halves = slice(None), (slice(0, None, 2), slice(1, None, 2))
    best = tuner.search(own, score, everything, lambda choice: print(describe(choice), flush=True))
    place = scores.index(score)
    before = float(tuner.measure(own, everything)[place])
    apart = np.array(list(measure_apart(tuner, own, score, halves)))
    about = {"data": data.name, "images": len(scenes), "metric": metric, "before": before}
    about |= {"chosen": best.metric, "before_apart": apart[:, 0].mean(), "apart": apart[:, 1].mean()}
    folder = Path(str(options["run"]))
    chosen = {"proposal": best.settings()}
    write_fitted(folder / TUNED_FILE, chosen, config, checkpoint_of(str(folder)), about)
    print(
        f"the run's own settings {before:.4f}, chosen {best.metric:.4f} on the images that they were chosen "
        f"on; chosen on one half and measured on the other, both ways: {about['before_apart']:.4f} before, "
        f"{about['apart']:.4f} after"
    )
    print(f"{folder / TUNED_FILE}: {best.settings()}. Use them with tuned=true")


def measure_apart(
    tuner: Tuner, own: Setting, score: float, halves: tuple[slice, slice]
) -> Iterable[tuple[float, float]]:
    """Yield for each half of the images the metric before, and with the settings chosen on the other half."""
    for chosen, measured in itertools.permutations(halves):
        best = tuner.search(own, score, chosen)
        yield (
            float(tuner.measure(own, measured)[tuner.scores.index(score)]),
            float(tuner.measure(best.setting, measured)[tuner.scores.index(best.score_threshold)]),
        )


if __name__ == "__main__":
    run_tool(main)
