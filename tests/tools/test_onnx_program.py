"""ONNX files in the real onnxruntime, and the short program of docs/ that needs nothing else."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from sklearn.metrics import adjusted_rand_score
from written_run import SMALL, write_run

import rpe
from rpe.data.digits import DigitScenes
from rpe.run.trained import load_run
from rpe.structures import UserError
from rpe.tools.export import ExportedNetwork, largest_difference, main
from rpe.tools.onnx_program import OPSET, open_onnx

pytestmark = pytest.mark.usefixtures("plain")
ROOT = Path(__file__).parents[2]


ALONE = """
import sys, torch
torch.set_grad_enabled(False)
embedding, grouping = (torch.export.load(f"{name}.pt2").module() for name in ("embedding", "grouping"))
found = []
for images in torch.load("given.pt"):
    points, objectness = embedding(images)
    cells = points.flatten(2).transpose(1, 2)
    found.append((points, objectness, grouping(cells, torch.ones(cells.shape[:2], dtype=torch.bool))))
torch.save(found, "found.pt")
assert not [name for name in sys.modules if name.split(".")[0] in ("rpe", "lightning", "hydra")]
"""


def test_the_programs_find_what_the_network_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both kinds of files, on sizes that were not seen; torch's in a process without this package."""
    run = write_run(
        tmp_path / "run",
        *SMALL,
        "backbone.norm_window=32",
        "embedding.coordinates=periodic",
        "grouping.iterations=4",
    )
    output = tmp_path / "a folder"
    assert main([f"run={run}", f"output={output}", "onnx=true", "pixels=60"]) == 0
    names = ["embedding.onnx", "embedding.pt2", "export.json", "grouping.onnx", "grouping.pt2"]
    assert sorted(file.name for file in output.iterdir()) == names, "no partial files"
    about = json.loads((output / "export.json").read_text())
    assert about["embedding.pt2"]["outputs"] == ["points", "objectness"]
    assert about["embedding.pt2"]["height, width"].startswith("multiples of 8")
    for name, part in about.items():
        most = 1e-4 if name.endswith("onnx") else 1e-5
        assert part["differences"] and all(0 <= one <= most for one in part["differences"].values()), name
    assert "largest difference" in capsys.readouterr().out
    for name in ("embedding.onnx", "grouping.onnx"):
        loaded = onnx.load(output / name)
        (opset,) = (one.version for one in loaded.opset_import if not one.domain)
        assert opset == OPSET == about[name]["opset"]
    model = load_run(str(run)).task.model
    network, grouping = (
        open_onnx((output / name).read_bytes()) for name in ("embedding.onnx", "grouping.onnx")
    )
    images = [torch.rand(*shape) for shape in ((1, 3, 24, 56), (1, 3, 136, 48), (5, 3, 16, 16))]
    torch.save(images, output / "given.pt")
    subprocess.run([sys.executable, "-c", ALONE], cwd=output, check=True, timeout=120)
    for image, alone in zip(images, torch.load(output / "found.pt"), strict=True):
        with torch.no_grad():
            embedded = model.embed(image)
            cells = embedded.points.values.flatten(2).transpose(1, 2)
            wanted = (embedded.points.values, embedded.objectness.values, model.grouping(cells)[-1])
        by_onnx = (*network(image), *grouping(cells, torch.ones(cells.shape[:2], dtype=torch.bool)))
        for one, other, expected in zip(by_onnx, alone, wanted, strict=True):
            assert one.shape == other.shape == expected.shape
            assert float((one - expected).abs().max()) <= 1e-4
            assert float((other - expected).abs().max()) <= 1e-5
        assert float((wanted[2] - cells).abs().max()) > 1e-3, "the loops move something"


def test_the_program_of_docs_finds_digits_without_torch(tmp_path: Path) -> None:
    """On four scenes it groups true digits as well as `rpe.load` does; on one of another height it runs."""
    weights = ROOT / "weights" / "digits"
    assert main([f"run={weights}", f"output={tmp_path / 'out'}", "onnx=true"]) == 0
    segmenter = rpe.load(weights, device="cpu")
    picture, output, pairs = tmp_path / "scene.png", tmp_path / "labels.png", []
    for number in range(5):
        scene = DigitScenes("test", 4, 0)[number % 4]
        height = 64 if number < 4 else 46
        pixels = (scene.image.permute(1, 2, 0).numpy()[:height] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(picture)
        command = [sys.executable, "-X", "importtime", str(ROOT / "docs" / "onnx_groups.py")]
        done = subprocess.run(
            [*command, str(tmp_path / "out"), str(picture), str(output)],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
        assert "onnxruntime" in imported and not imported & {"torch", "rpe", "scipy", "skimage"}
        labels = np.asarray(Image.open(output))
        assert labels.any()
        if number < 4:
            truth = scene.labels.numpy()[::2, ::2]
            digits, found = truth > 0, segmenter(pixels).labels[::2, ::2]
            pairs.append([adjusted_rand_score(truth[digits], one[digits]) for one in (labels, found)])
    program, own = np.mean(pairs, axis=0)
    assert own > 0.5 and program > own - 0.05, pairs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nuclei", "photographs", "boundaries"])
def test_networks_with_an_encoder_of_timm_are_written(name: str, tmp_path: Path) -> None:
    """The trace of their free sizes once took over four minutes."""
    started = time.process_time()
    assert main([f"run={ROOT / 'weights' / name}", f"output={tmp_path}", "onnx=true"]) == 0
    assert time.process_time() - started < 90
    about = json.loads((tmp_path / "export.json").read_text())["embedding.onnx"]
    assert about["height, width"].startswith("multiples of 32")
    task = load_run(str(ROOT / "weights" / name)).task
    network = ExportedNetwork(task.model)
    program = open_onnx((tmp_path / "embedding.onnx").read_bytes())
    for shape in ((1, 3, 96, 352), (2, 3, 288, 64)):
        images = torch.rand(*shape)
        with torch.no_grad():
            assert largest_difference(program(images), network(images)) <= 1e-4


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", *SMALL)
    monkeypatch.setattr("rpe.tools.export.find_missing", lambda: ["onnxscript"])
    with pytest.raises(UserError, match=r"onnx must be false, got true without onnxscript. .*'rpe.onnx.'"):
        main([f"run={run}", f"output={tmp_path / 'out'}", "onnx=true"])
