import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_sweep import picture
from PIL import Image

from rpe.errors import UserError
from rpe.tools.gallery.__main__ import main, read_labels


@pytest.fixture
def prediction(tmp_path: Path) -> Path:
    """As predict.py leaves it: an image with two objects, one whose source is gone, one without a label map."""
    folder = tmp_path / "predicted"
    for part in ("labels", "overlays"):
        (folder / part).mkdir(parents=True)
    labels = np.zeros((1200, 1800), dtype=np.uint16)
    labels[100:500, 200:700], labels[700:900, 900:1700] = 1, 300
    names = {name: str(tmp_path / f"{name}.png") for name in ("a b ü", "gone", "torn")}
    for name in names:
        Image.fromarray(labels).save(folder / "labels" / f"{name}.png")
        (folder / "overlays" / f"{name}.png").write_bytes(picture(1, 1200, 1800))
    for name in ("a b ü", "torn"):
        (tmp_path / f"{name}.png").write_bytes(picture(0, 1200, 1800))
    (folder / "labels" / "torn.png").write_bytes(b"\x89PNG")
    rows = [
        "image,label,class,score,area,left,top,width,height",
        "a b ü,1,cat,0.75,200000,0,0,1,1",
        "a b ü,300,,0.5,160000,0,0,1,1",
    ]
    (folder / "objects.csv").write_text("\n".join(rows))
    (folder / "predictions.yaml").write_text(
        yaml.safe_dump({"run": "x", "images": names}, allow_unicode=True)
    )
    return folder


def test_the_page_of_a_prediction(prediction: Path) -> None:
    assert main([f"run={prediction}"]) == 0
    page = (prediction / "gallery.html").read_text()
    assert page.count("<section>") == 3 and page.count("data:image/jpeg") == 5
    assert (
        "object 1: area 200,000 px, score 0.750, cat" in page
        and "object 300: area 160,000 px, score 0.500" in page
    )
    assert (
        "gone.png cannot be read" in page and page.count('viewBox="0 0 900 600"') == 3
    )  # 2 of the first image, 1 of the second
    assert not [
        address
        for address in re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
        if not address.startswith("data:")
    ]


def test_how_many_and_where_to(prediction: Path, tmp_path: Path) -> None:
    main([f"run={prediction}", "images=1", f"output={tmp_path / 'page.html'}"])
    assert (tmp_path / "page.html").read_text().count("<section>") == 1 and not (
        prediction / "gallery.html"
    ).exists()


def test_a_prediction_in_the_order_of_its_evaluation(prediction: Path, tmp_path: Path) -> None:
    head = "image_id,file_name,objects,proposals,instances,matched,missed,extra,split,merged,AP50"
    decomposed = unicodedata.normalize("NFD", "sub/a b ü.tif")
    table = tmp_path / "images.csv"
    table.write_text(
        "\n".join([head, "3,torn.png,9,9,9,0,9,9,2,1,0.0000", f"1,{decomposed},2,2,2,1,1,1,0,0,0.3333"]),
        encoding="utf-8",
    )
    main([f"run={prediction}", f"order={table}"])
    page = (prediction / "gallery.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["torn", "a b ü", "gone"], (
        "what the evaluation did not see comes last"
    )
    assert (
        "evaluation: 9 objects, 9 missed, 9 extra, 2 split, 1 merged" in page
        and page.count("evaluation: ") == 2
    )
    table.write_text("image_id,file_name\n1,a\n")
    with pytest.raises(UserError, match="order must be as evaluate.py wrote it, got .*images.csv .KeyError"):
        main([f"run={prediction}", f"order={table}"])


def test_label_maps_of_sixteen_bits_are_shrunk_without_mixing(prediction: Path) -> None:
    labels = read_labels(prediction / "labels" / "a b ü.png")
    assert labels is not None and labels.shape == (600, 900) and set(np.unique(labels)) == {0, 1, 300}
    assert np.count_nonzero(labels == 1) == 200 * 250
    assert read_labels(prediction / "labels" / "torn.png") is None


def test_a_run_without_objects_shows_what_it_has_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(Path(__file__).parent.parent.parent.parent / "conf"), version_base="1.3"):
        config = compose("train", ["experiment=bsds_scratch", f"data.root={tmp_path}"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(config, resolve=True)))
    with pytest.raises(UserError, match="run must find objects or hold pictures"):
        main([f"run={tmp_path}"])
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "val-100.png").write_bytes(picture(0))
    (tmp_path / "pictures" / "val-200.png").write_bytes(b"no picture")
    main([f"run={tmp_path}"])
    assert (tmp_path / "gallery.html").read_text().count("<section>") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run must be a folder that train.py or predict.py wrote, got none"),
        (["run=nowhere"], "run folder must be one that train.py wrote, got nowhere, which does not exist"),
        (["run=nowhere", "images=0"], "images must be an integer >= 1, got 0"),
        (["run={prediction}", "output=/nowhere/page.html"], "output must be in an existing folder"),
    ],
)
def test_slips(arguments: list[str], message: str, prediction: Path) -> None:
    with pytest.raises(UserError, match=message):
        main([argument.format(prediction=prediction) for argument in arguments])


def test_an_unfinished_or_foreign_prediction(prediction: Path) -> None:
    (prediction / "objects.csv").write_text("image,label\na,b\n")
    with pytest.raises(UserError, match=r"objects.csv must be as predict.py wrote it"):
        main([f"run={prediction}"])
    (prediction / "predictions.yaml").write_text("run: x\n")
    with pytest.raises(UserError, match="predictions.yaml must list images, got none"):
        main([f"run={prediction}"])
