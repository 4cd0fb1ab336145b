"""the third command, as a user has it: files of every kind, tiles, killing and going on; and the same answer as evaluation."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from bsds_miniature import write_bsds
from miniature import write_miniature
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import evaluate
import predict
import rpe.run
import train
from rpe.run import predict as prediction
from rpe.segment import select_instances
from rpe.structures import Proposals

CommandLine = Callable[..., None]
Refused = Callable[..., str]

FAST = [
    "data.num_workers=0",
    "data.batch_size=2",
    "backbone.width=4",
    "backbone.levels=2",
    "callbacks.pictures=null",
    "trainer.check_val_every_n_epoch=10",
    "trainer.max_epochs=10",
]
TINY = [
    "experiment=digits",
    "data=coco",
    "data.crop=32",
    "embedding.coordinates=displaced",
    "embedding.periods=[16]",
    "data.longest_side=48",
    "data.percentile_range=[1,99]",
    *FAST,
]
OPTIONS = [
    "proposal.foreground_thresholds=[0.05]",
    "proposal.score_threshold=0",
    "proposal.min_area=2",
    "proposal.bandwidths=[0.05]",
    "proposal.iterations=[2]",
    "proposal.merge_tolerance=0.05",
]


def through(main: Callable[[], None], *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command.py", *arguments])
        rpe.run.run_command(main)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the miniature, which is not there any more."""
    folder = tmp_path_factory.mktemp("run")
    root = write_miniature(folder / "mini")
    through(train.main, *TINY, f"data.root={root}", f"hydra.run.dir={folder / 'run'}")
    through(evaluate.main, f"run={folder / 'run'}", *OPTIONS)
    (folder / "val").symlink_to(root / "val2017")
    shutil.move(root / "annotations", folder / "elsewhere")
    return folder


def labels_of(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.mode == "I;16"
        return np.array(image).astype(np.int64)


def test_the_label_map_is_that_of_evaluation(run: Path, command_line: CommandLine, tmp_path: Path) -> None:
    command_line(
        predict.main, f"run={run / 'run'}", f"images={run / 'val'}", f"output={tmp_path / 'out'}", *OPTIONS
    )
    rows = json.loads((run / "run" / "evaluation" / "coco-val" / "proposals.json").read_text())
    objects = 0
    for number in range(4):
        name = f"{101 + number:012d}"
        mine = [row for row in rows if row["image_id"] == 101 + number]
        size = (48 + 8 * number, 64)
        theirs = select_instances(
            Proposals([row["segmentation"] for row in mine], np.array([row["score"] for row in mine]), size),
            0.0,
        )
        ours = labels_of(tmp_path / "out" / "labels" / f"{name}.png")
        assert np.array_equal(ours, theirs)
        assert Image.open(tmp_path / "out" / "overlays" / f"{name}.png").size == (64, 48 + 8 * number)
        objects += int(ours.max())
    assert objects > 4
    table = list(csv.DictReader((tmp_path / "out" / "objects.csv").open()))
    assert len(table) == len(json.loads((tmp_path / "out" / "results.json").read_text())) == objects
    assert all(
        int(row["area"])
        == (labels_of(tmp_path / "out" / "labels" / f"{row['image']}.png") == int(row["label"])).sum()
        for row in table
    )
    about = yaml.safe_load((tmp_path / "out" / "predictions.yaml").read_text())
    assert (
        about["settings"]["proposal"]["score_threshold"] == 0
        and about["run"] == str(run / "run")
        and {"commit", "config"} <= about.keys()
    )


def test_an_answer_lies_upright_as_viewers_show_the_image(
    run: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, size=(48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "upright.png")
    stored = {3: pixels[::-1, ::-1], 6: np.rot90(pixels), 8: np.rot90(pixels, -1)}
    for orientation, turned in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(turned).save(tmp_path / f"{orientation}.png", exif=exif)
    command_line(
        predict.main, f"run={run / 'run'}", f"images={tmp_path}/*.png", f"output={tmp_path / 'out'}", *OPTIONS
    )
    expected = labels_of(tmp_path / "out" / "labels" / "upright.png")
    assert expected.any()
    for orientation in stored:
        assert np.array_equal(labels_of(tmp_path / "out" / "labels" / f"{orientation}.png"), expected)
        assert Image.open(tmp_path / "out" / "overlays" / f"{orientation}.png").size == (64, 48)


def endless() -> PngInfo:
    """A text that unpacks to more than Pillow takes."""
    text = PngInfo()
    text.add_text("comment", "a" * 3_000_000, zip=True)
    return text


def strange(folder: Path) -> Path:
    """One file of every kind that a folder may hold."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, size=(40, 50, 3), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    (folder / "text.jpg").write_text("no image at all")
    (folder / "empty.png").write_bytes(b"")
    colour.save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:3000])
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 11).save(folder / "deep.tiff")
    colour.convert("L").save(folder / "grey.png")
    colour.convert("RGBA").save(folder / "alpha.png")
    colour.convert("P").save(folder / "palette.gif")
    colour.convert("1").save(folder / "bits.png")
    Image.new("F", (5, 5), 1e9).save(folder / "float.tiff")
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    colour.save(folder / "möwe im Wind, 1=2.png")
    colour.save(folder / "same.png")
    colour.save(folder / "same.jpg")
    Image.new("RGB", (4, 4)).save(folder / "bomb.png", pnginfo=endless())
    colour.save(folder / "pages.tiff", save_all=True, append_images=[colour])
    colour.save(folder / ("long" * 61 + ".png"))
    (folder / "notes.txt").write_text("not asked for")
    return folder


def test_every_file_has_its_answer_or_its_named_error(
    run: Path, command_line: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = strange(tmp_path / "strange ones")
    with pytest.raises(SystemExit) as stop:
        command_line(
            predict.main, f"run={run / 'run'}", f"images={folder}", f"output={tmp_path / 'a place'}", *OPTIONS
        )
    assert stop.value.code == 1
    told = capsys.readouterr()
    said = told.err
    assert "skipped, as their suffix is not of an image: 1 *.txt" in told.out
    assert (
        "  one: constant, all values are 0 of 255" in told.out
        and "grey" not in told.out.split("may show nothing:")[1]
    )
    assert "error: 6 of 16 images failed, all others are done" in said and "Traceback" not in said
    log = (tmp_path / "a place" / "predict.log").read_text()
    assert "error: 6 of 16 images failed" in log and "may show nothing:" in log and "Traceback" not in log
    for name, reason in {
        "text.jpg": "must decode",
        "empty.png": "must decode",
        "cut.png": "must decode",
        "bomb.png": "must decode",
        "pages.tiff": "must have one page, got 2 pages",
        "float.tiff": "must have integers of 8 or 16 bits",
    }.items():
        assert any(str(folder / name) in line and reason in line for line in said.splitlines()), name
    done = {file.stem for file in (tmp_path / "a place" / "labels").iterdir()}
    assert done == {
        "deep",
        "grey",
        "alpha",
        "palette",
        "bits",
        "one",
        "möwe im Wind, 1=2",
        "same_png",
        "same_jpg",
        ("long" * 61)[:242],
    }
    for name in done:
        assert labels_of(tmp_path / "a place" / "labels" / f"{name}.png").shape == (
            (1, 1) if name == "one" else (40, 50)
        ), name
    assert np.array_equal(
        *(labels_of(tmp_path / "a place" / "labels" / f"{name}.png") for name in ("same_png", "alpha"))
    )
    assert set(yaml.safe_load((tmp_path / "a place" / "predictions.yaml").read_text())["images"]) == done


def test_an_answer_that_cannot_be_written_stops_no_other(
    run: Path, command_line: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "labels" / f"{101:012d}.png").mkdir(parents=True)
    with pytest.raises(SystemExit):
        command_line(
            predict.main,
            f"run={run / 'run'}",
            f"images={run / 'val'}",
            f"output={tmp_path / 'out'}",
            *OPTIONS,
        )
    said = capsys.readouterr().err
    assert (
        "1 of 4 images failed" in said
        and "cannot be read, or its output not be written (Is a directory)" in said
    )
    assert len(list((tmp_path / "out" / "objects").iterdir())) == 3


def test_what_was_finished_is_not_done_again(
    run: Path,
    command_line: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = [f"run={run / 'run'}", f"images={run / 'val'}/*.png", f"output={tmp_path / 'out'}", *OPTIONS]
    real, asked = prediction.predict_objects, []

    def killed(*given: object) -> object:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(given)
        return real(*given)

    monkeypatch.setattr(prediction, "predict_objects", killed)
    with pytest.raises(SystemExit) as stop:
        command_line(predict.main, *named)
    assert stop.value.code == 130 and "the same command a prediction" in capsys.readouterr().err
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "labels").iterdir()}
    assert len(before) == 2 and {
        row["image_id"] for row in json.loads((tmp_path / "out" / "results.json").read_text())
    } == {1, 2}
    monkeypatch.setattr(prediction, "predict_objects", lambda *given: asked.append(given) or real(*given))
    command_line(predict.main, *named)
    assert len(asked) == 4 and "2 of 4 images are done already" in capsys.readouterr().out
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())
    command_line(
        predict.main, f"run={run / 'run'}", f"images={run / 'val'}", f"output={tmp_path / 'once'}", *OPTIONS
    )
    for file in ("results.json", "objects.csv"):
        assert (tmp_path / "out" / file).read_text() == (tmp_path / "once" / file).read_text()


def test_a_large_image_is_cut_and_the_batch_changes_nothing(
    run: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 255, size=(200, 150, 3), dtype=np.uint8)).save(
        tmp_path / "large.png"
    )
    named = [f"run={run / 'run'}", f"images={tmp_path / 'large.png'}", *OPTIONS, "tile=128", "overlap=32"]
    for batch in (1, 4):
        command_line(
            predict.main,
            *named,
            "data.longest_side=null",
            f"batch={batch}",
            f"output={tmp_path / str(batch)}",
        )
    one, four = (labels_of(tmp_path / batch / "labels" / "large.png") for batch in "14")
    assert one.shape == (200, 150) and np.mean((one > 0) != (four > 0)) < 0.01 and one.max() > 0
    command_line(
        predict.main,
        *named,
        "data.longest_side=180",
        f"output={tmp_path / 'smaller'}",
        "precision=bf16",
        "device=cpu",
    )
    assert labels_of(tmp_path / "smaller" / "labels" / "large.png").shape == (200, 150)


def test_slips(run: Path, refused: Refused, tmp_path: Path) -> None:
    named = [f"run={run / 'run'}", f"output={tmp_path / 'out'}"]
    assert "images=None. Add run=" in refused(predict.main, f"run={run / 'run'}")
    assert "Name a file, a folder of images" in refused(predict.main, *named, f"images={tmp_path}/*.none")
    image = f"images={run / 'val'}"
    assert "device must be cpu, cuda or auto, got tpu" in refused(predict.main, *named, image, "device=tpu")
    assert "batch must be an integer >= 1, got 0" in refused(predict.main, *named, image, "batch=0")
    assert "tile must be an integer >= 1, got 0" in refused(predict.main, *named, image, "tile=0")
    assert "tile must be >= 164, got 64. Tiles of overlap 100" in refused(
        predict.main, *named, image, "tile=64", "overlap=100"
    )
    through(predict.main, f"run={run / 'run'}", image, f"output={tmp_path / 'first'}")
    said = refused(
        predict.main,
        f"run={run / 'run'}",
        image,
        f"output={tmp_path / 'first'}",
        "proposal.foreground_thresholds=[0.1]",
        "tile=null",
    )
    assert "its prediction has other settings and tile" in said
    assert "run folder must be one that train.py wrote, got nowhere, which does not exist" in refused(
        predict.main, "run=nowhere", image
    )


def test_boundary_maps(command_line: CommandLine, tmp_path: Path) -> None:
    root = write_bsds(tmp_path / "bsds", images=2)
    tiny = [
        "experiment=bsds_scratch",
        "data.crop=32",
        "loss.pairwise.num_pixels=64",
        *FAST[:-1],
        "trainer.max_epochs=1",
        "trainer.check_val_every_n_epoch=1",
    ]
    command_line(train.main, *tiny, f"data.root={root}", f"hydra.run.dir={tmp_path / 'run'}")
    command_line(evaluate.main, f"run={tmp_path / 'run'}", "split=test")
    for tile in ("null", "64"):
        command_line(
            predict.main,
            f"run={tmp_path / 'run'}",
            f"images={root / 'images' / 'test'}",
            f"output={tmp_path / tile}",
            f"tile={tile}",
            "overlap=0",
        )
    for file in (tmp_path / "run" / "evaluation" / "bsds-test" / "maps").iterdir():
        theirs = np.array(Image.open(file))
        assert np.array_equal(np.array(Image.open(tmp_path / "null" / "boundaries" / file.name)), theirs)
        assert np.array(Image.open(tmp_path / "64" / "boundaries" / file.name)).shape == theirs.shape
    assert (
        not (tmp_path / "null" / "results.json").exists()
        and (tmp_path / "null" / "predictions.yaml").is_file()
    )


def as_truth(run: Path, root: Path, order: list[int], folders: bool) -> Path:
    """The validation images as a data set whose ids count in another order than the names, in folders of their own or not."""
    truth = json.loads((run / "elsewhere" / "instances_val2017.json").read_text())
    number = {image["id"]: 7 + place for place, image in zip(order, truth["images"], strict=True)}
    (root / "annotations").mkdir(parents=True)
    for image in truth["images"]:
        name = f"f{image['id'] % 2}/{'ab'[image['id'] > 102]}.png" if folders else image["file_name"]
        (root / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / "val" / image["file_name"], root / "val" / name)
        image |= {"id": number[image["id"]], "file_name": name}
    truth["annotations"] = [one | {"image_id": number[one["image_id"]]} for one in truth["annotations"]]
    (root / "annotations" / "instances_val.json").write_text(json.dumps(truth))
    return root


@pytest.mark.parametrize("folders", [False, True])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_what_was_predicted_scores_as_the_run_when_it_is_handed_back(
    run: Path, command_line: CommandLine, tmp_path: Path, order: list[int], folders: bool
) -> None:
    root = as_truth(run, tmp_path / "set", order, folders)
    data = ["data=coco", f"data.root={root}"]
    images = f"images={root / 'val'}/**/*.png"
    options = [*OPTIONS, "proposal.bandwidths=[0.3]"]
    command_line(predict.main, f"run={run / 'run'}", images, f"output={tmp_path / 'out'}", *options)
    for name in ("results", "proposals"):
        command_line(
            evaluate.main,
            f"predictions={tmp_path / 'out' / name}.json",
            *data,
            "score_threshold=0",
            f"hydra.run.dir={tmp_path / name}",
        )
    handling = ["data.longest_side=48", "data.percentile_range=[1,99]", "data.num_workers=0"]
    command_line(
        evaluate.main, f"run={run / 'run'}", *data, *handling, *options, f"hydra.run.dir={tmp_path / 'ours'}"
    )
    theirs, proposed, ours = (
        json.loads((tmp_path / who / "metrics.json").read_text())["metrics"]
        for who in ("results", "proposals", "ours")
    )
    same = [name for name in ours if name.startswith(("AP", "PQ", "SQ", "RQ", "recall50"))]
    assert len(same) > 20 and {name: theirs[name] for name in same} == pytest.approx(
        {name: ours[name] for name in same}, abs=1e-9
    )
    assert theirs["AR@10"] > 0 < ours["AR@10"], (theirs["AR@10"], ours["AR@10"], theirs["masks-per-image"])
    # those of the embedding need the network
    ours = {name: value for name, value in ours.items() if name in proposed}
    assert proposed == pytest.approx(ours, abs=1e-9) and {"AR@10", "AR@1000", "score-ECE"} <= ours.keys()


def test_a_prediction_without_any_object_says_so(
    run: Path, command_line: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [f"run={run / 'run'}", f"images={run / 'val'}"]
    command_line(predict.main, *named, f"output={tmp_path / 'none'}", *OPTIONS, "proposal.min_area=100000")
    assert (
        "note: no image has an object under proposal.foreground_thresholds [0.05], proposal.score_threshold 0, proposal.min_area 100000"
        in capsys.readouterr().out
    )
    command_line(predict.main, *named, f"output={tmp_path / 'some'}", *OPTIONS)
    assert "note: no object" not in capsys.readouterr().out
