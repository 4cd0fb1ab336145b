"""What stands beside the trained network on the 500 test scenes: `python benchmarks/digits_baselines.py`.

Connected components of the true foreground, mean shift on the colours of the true foreground, and the untrained network.
"""

from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from scipy import ndimage
from sklearn.cluster import MeanShift

import rpe.run
from rpe.data.digits import DigitScenes
from rpe.metric.average_recall import average_recall
from rpe.proposal import image_of
from rpe.structures import encode_mask

CONF = Path(__file__).resolve().parent.parent / "conf"
COLOUR_BANDWIDTHS = (0.1, 0.2, 0.3)


def rows(image_id: int, labels: np.ndarray) -> list[dict]:
    """Each group a mask; the larger first."""
    return [
        {"image_id": image_id, "category_id": 1, "segmentation": encode_mask(labels == k), "score": float((labels == k).sum())}
        for k in range(1, int(labels.max()) + 1)
    ]


def by_colour(image: np.ndarray, foreground: np.ndarray, bandwidth: float) -> np.ndarray:
    """Mean shift in RGB."""
    labels = np.zeros(foreground.shape, dtype=int)
    labels[foreground] = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(image[:, foreground].T).labels_ + 1
    return labels


def untrained() -> list[dict]:
    """The shipped experiment before its first step."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train")
    torch.manual_seed(0)
    task, data = rpe.run.build_task(config).eval(), rpe.run.build_data(config)
    results = []
    with torch.no_grad():
        for batch in data.test_dataloader():
            embedded = task.model.embed(batch.images)
            for index, image_id in enumerate(batch.image_ids):
                results += task.proposal(image_of(embedded, index), (64, 64), (64, 64)).as_results(image_id, 1)
    return results


def main() -> None:
    scenes = DigitScenes("test", 500, 0)
    truth = scenes.truth()
    samples = [(scene[2], scene[0].numpy(), scene[1].numpy()) for scene in (scenes[index] for index in range(len(scenes)))]
    table = {"connected components of the true foreground": [row for i, _, y in samples for row in rows(i, ndimage.label(y > 0)[0])]}
    for bandwidth in COLOUR_BANDWIDTHS:
        table[f"colour mean shift on the true foreground, bandwidth {bandwidth}"] = [
            row for i, x, y in samples for row in rows(i, by_colour(x, y > 0, bandwidth))
        ]
    table["untrained network"] = untrained()
    for name, results in table.items():
        figures = average_recall(truth, results)
        print(
            f"| {name} | {figures['AR@1']:.3f} | {figures['AR@10']:.3f} | {figures['AR@100']:.3f} | {len(results) / len(samples):.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
