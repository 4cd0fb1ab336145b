"""Fit the scores of a run's masks to their IoU."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from rpe.data.module import InstanceData, SplitDataset
from rpe.metric.calibration import fit_calibration, reliability, scored_ious
from rpe.run.fitted import CALIBRATION_FILE, write_fitted
from rpe.run.folder import checkpoint_of
from rpe.run.trained import iterate_outputs, load_grouping_run
from rpe.structures import Truth
from rpe.task.instance import InstanceTask
from rpe.tools.command import read_arguments, run_tool

USAGE = f"""
Fit the scores of a run's masks to their IoU, by isotonic regression on the validation split.
Writes {CALIBRATION_FILE} into the run's folder.

  python -m rpe.tools.calibrate run=outputs/digits/<time>

Then evaluate.py and predict.py give expected IoUs as scores with calibrated=true. The order of the masks
of an image stays, and with it average recall. proposal.score_threshold is then an expected IoU.
"""


def main(arguments: list[str]) -> None:
    """Fit and write the calibration, and print the calibration error before and after.

    Raises:
        UserError: the run does not group pixels, has no validation data, or has too few masks.
    """
    options = read_arguments(arguments, {"run": None}, USAGE)
    config, task, data = load_grouping_run(options["run"])
    folder = Path(str(options["run"]))
    truth, results = validation_masks(task, data)
    scores, ious = scored_ious(truth, results)
    knots = fit_calibration(scores, ious)
    before, after = reliability(scores, ious).calibration_error(), error_of_halves(truth, results)
    about: dict[str, Any] = {
        "data": data.name,
        "split": "val",
        "images": len(truth["images"]),
        "masks": len(scores),
    }
    about |= {"ECE": before, "ECE_calibrated": after}
    file, curve = folder / CALIBRATION_FILE, dict(zip(("scores", "ious"), knots.tolist(), strict=True))
    write_fitted(file, curve, config, checkpoint_of(str(folder)), about)
    print(f"{len(scores):,} masks of {len(truth['images']):,} images of {data.name} val: {file}")
    halves = (
        ""
        if after is None
        else f", {after:.4f} calibrated (fitted on every other image, measured on the rest, and vice versa)"
    )
    print(f"expected calibration error {before:.4f}{halves}")


@torch.no_grad()
def validation_masks(task: InstanceTask, data: InstanceData) -> tuple[Truth, list[dict[str, Any]]]:
    """Return the truth of the validation split, and the masks that evaluation finds in its images."""
    dataset = data.dataset("val")
    assert isinstance(dataset, SplitDataset)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = task.to(device)
    results: list[dict[str, Any]] = []
    for batch, output, geometry in iterate_outputs(task, dataset, len(dataset)):
        results += task.proposal(output, geometry).to_coco(batch.image_ids[0], [1])
    return dataset.truth(), results


def error_of_halves(truth: Truth, results: list[dict[str, Any]]) -> float | None:
    """Return the calibration error on images that the map was not fitted on; None with too few masks."""
    second = {image["id"] for image in truth["images"][1::2]}
    halves = [
        scored_ious(truth, [row for row in results if (row["image_id"] in second) == chosen])
        for chosen in (False, True)
    ]
    mapped: list[Float[np.ndarray, "2 mask"]] = []
    for (scores, ious), (others, theirs) in zip(halves, halves[::-1], strict=True):
        if len(np.unique(others)) < 2:
            return None
        mapped.append(np.stack([np.interp(scores, *fit_calibration(others, theirs)), ious]))
    return reliability(*np.concatenate(mapped, axis=1)).calibration_error()


if __name__ == "__main__":
    run_tool(main)
