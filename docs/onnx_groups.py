"""Find objects with a run's exported network, without torch: numpy, onnxruntime and Pillow are enough.

    python -m rpe.tools.export run=weights/digits output=exported onnx=true
    python docs/onnx_groups.py exported image.png labels.png

Seeds far apart climb to their modes, and each foreground cell joins the nearest. predict.py also ranks the
groups, tries several bandwidths, and has the masks in full size.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SEEDS, LOOPS, SAME = 30, 20, 0.95  # modes of a cosine above SAME are one


def find_groups(folder: Path, image: np.ndarray, bandwidth: float = 0.3) -> np.ndarray:
    """Return the label map [rows, columns] of an image [height, width, 3] in 0..255; 0 is the background."""
    about = json.loads((folder / "export.json").read_text())["embedding.onnx"]
    network = onnxruntime.InferenceSession(folder / "embedding.onnx", providers=["CPUExecutionProvider"])
    pad = [(0, max(-side % about["multiple"], 2 * about["multiple"] - side)) for side in image.shape[:2]]
    padded = np.pad(image, [*pad, (0, 0)]).transpose(2, 0, 1)[None].astype(np.float32) / 255
    points, objectness = network.run(["points", "objectness"], {network.get_inputs()[0].name: padded})
    finer = objectness.shape[-1] // points.shape[-1]
    foreground = objectness[0, 0, ::finer, ::finer] > 0
    stride = padded.shape[-1] // points.shape[-1]
    foreground[-(-image.shape[0] // stride) :] = foreground[:, -(-image.shape[1] // stride) :] = False
    labels = np.zeros(foreground.shape, dtype=np.uint8)
    cells = points[0][:, foreground].T
    if not len(cells):
        return labels
    modes, nearest = cells[:1], cells @ cells[0]
    for _ in range(min(SEEDS, len(cells)) - 1):  # the next seed is the point that is farthest from all
        modes = np.vstack([modes, cells[nearest.argmin()]])
        nearest = np.maximum(nearest, cells @ modes[-1])
    for _ in range(LOOPS):
        weights = np.exp((modes @ cells.T - 1) / bandwidth**2)
        modes = weights @ cells
        modes /= np.linalg.norm(modes, axis=1, keepdims=True)
    leaders = (modes @ modes.T > SAME).argmax(1)  # the first mode that is the same
    labels[foreground] = 1 + np.unique(leaders, return_inverse=True)[1][(cells @ modes.T).argmax(1)]
    return labels


if __name__ == "__main__":
    program, source, output = sys.argv[1:]
    Image.fromarray(find_groups(Path(program), np.asarray(Image.open(source).convert("RGB")))).save(output)
