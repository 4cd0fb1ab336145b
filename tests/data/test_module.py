import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir

import rpe.run
from rpe.data.digits import Digits
from rpe.data.module import (
    EpochSampler,
    collate,
    data_root,
    distinct_names,
    list_classes,
    make_generator,
    prepare_loading,
    resolve_names,
)
from rpe.structures import UserError


def make_digits(**change: int) -> Digits:
    options = dict(
        batch_size=4, eval_batch_size=4, num_workers=0, seed=0, train_scenes=16, val_scenes=6, test_scenes=4
    )
    return Digits(name="digits", **(options | change))


def test_order_is_a_function_of_seed_and_epoch() -> None:
    sampler = EpochSampler(10, seed=3, shuffle=True, rank=0, ranks=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert (
        sorted(first) == list(range(10))
        and sorted(second) == list(range(10, 20))
        and [i - 10 for i in second] != first
    )
    again = EpochSampler(10, seed=3, shuffle=True, rank=0, ranks=1)
    again.set_epoch(1)
    assert list(again) == second != list(range(10, 20))


@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_without_overlap(shuffle: bool) -> None:
    shares = [list(EpochSampler(11, 0, shuffle, rank, 2)) for rank in range(2)]
    assert not set(shares[0]) & set(shares[1])
    assert [len(share) for share in shares] == ([5, 5] if shuffle else [6, 5])
    assert [len(EpochSampler(11, 0, shuffle, rank, 2)) for rank in range(2)] == [
        len(share) for share in shares
    ]


def test_loaders() -> None:
    data = make_digits()
    assert (
        len(data.train_dataloader()) == 4
        and len(data.val_dataloader()) == 2
        and len(data.test_dataloader()) == 1
    )
    batch = next(iter(data.val_dataloader()))
    assert (
        batch.image_ids == [1, 2, 3, 4]
        and batch.images.shape == (4, 3, 64, 64)
        and batch.sizes[0] == (64, 64)
    )
    assert len(data.truth("val")["images"]) == 6


def test_workers_load_the_same_scenes() -> None:
    one, two = (
        next(iter(make_digits().train_dataloader())),
        next(iter(make_digits(num_workers=1).train_dataloader())),
    )
    assert torch.equal(one.images, two.images) and one.image_ids == two.image_ids


def test_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="data.batch_size must be >= 1, got 0"):
        make_digits(batch_size=0)
    with pytest.raises(UserError, match="data.seed must be >= 0, got -1"):
        make_digits(seed=-1)
    with pytest.raises(UserError, match="data.val_scenes must be >= 1, got 0"):
        make_digits(val_scenes=0)
    with pytest.raises(UserError, match="data.batch_size must be at most the images of .* got 20"):
        make_digits(batch_size=20).train_dataloader()
    with pytest.raises(UserError, match="split must be one of train, val, test, got 'tset'"):
        make_digits().dataset("tset")


def test_small_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPE_DATA_DIR", "/somewhere")
    assert str(data_root()) == "/somewhere"
    assert make_generator(1, 2).random() == make_generator(1, 2).random() != make_generator(2, 1).random()
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    prepare_loading(0)
    assert torch.get_num_threads() == 1 and signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)
    sample = make_digits().dataset("val")[0]
    batch = collate([sample, sample])
    assert batch.labels.shape == batch.classes().shape == (2, 64, 64) and torch.equal(
        batch.categories[1], sample.categories
    )
    assert list_classes({"categories": [{"id": 9, "name": "b"}, {"id": 2, "name": "a"}]}) == {2: "a", 9: "b"}
    assert list(list_classes({"categories": [{"id": 9, "name": "b"}, {"id": 2, "name": "a"}]})) == [2, 9]


def test_names_are_text_and_whole_numbers_stand_for_theirs() -> None:
    known = ["0123", "100007", "2018"]
    assert resolve_names(None, known) == known
    assert resolve_names([100007, "0123", "100007"], known) == ["100007", "0123"]


@pytest.mark.parametrize("names", [[83], ["123"], []])
def test_unknown_names_are_refused(names: list) -> None:
    with pytest.raises(UserError, match="names"):
        resolve_names(names, ["0123", "100007"])


def test_fewer_images_than_ranks_are_refused_on_every_rank() -> None:
    data = make_digits(val_scenes=1)
    data.trainer = SimpleNamespace(global_rank=0, world_size=2)
    with pytest.raises(
        UserError,
        match="trainer.devices must be at most the images of digits val, got 2 ranks for 1 images",
    ):
        data.loader("val", training=False)


def test_a_file_is_handled_as_evaluation_handles_it(coco_folder: Path) -> None:
    with initialize_config_dir(str(Path(__file__).parent.parent.parent / "conf"), version_base="1.3"):
        data = rpe.run.build_data(
            compose(
                "train",
                [
                    "data=coco",
                    f"data.root={coco_folder}",
                    "data.longest_side=40",
                    "data.percentile_range=[2,98]",
                ],
            )
        )
    truth = data.truth("val")
    for index, image in enumerate(truth["images"]):
        sample = data.dataset("val")[index]
        read = data.reader.read(coco_folder / "val2017" / image["file_name"])
        assert (read.shape[1], read.shape[2]) == sample.size and torch.equal(
            data.reader.for_network(read), (255 * sample.image).round().to(torch.uint8)
        )


def test_names_are_known_in_either_form_of_their_letters() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for known in (composed, decomposed):
        for name in (composed, decomposed):
            assert resolve_names([name, name], [known, "b"]) == [known], "as the data spell it"


def test_names_of_classes_differ_in_tables() -> None:
    assert distinct_names({2: "a", 9: "b"}, "background") == {2: "a", 9: "b"}
    assert distinct_names({1: "cell", 5: "cell", 7: "Cell"}, "background") == {
        1: "cell (id 1)",
        5: "cell (id 5)",
        7: "Cell",
    }
    assert distinct_names({1: "background", 2: "a"}, "background") == {1: "background (id 1)", 2: "a"}
