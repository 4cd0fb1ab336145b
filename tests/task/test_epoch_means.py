import io

import torch

from rpe.task.epoch_means import EpochMeans


def test_means_are_those_of_all_steps_also_of_steps_before_a_checkpoint() -> None:
    steps = [
        (torch.rand(()).to(dtype), images) for dtype, images in ((torch.float32, 3), (torch.bfloat16, 1))
    ]
    steps.append((torch.rand(()), 2))
    whole, first, rest = EpochMeans(), EpochMeans(), EpochMeans()
    first.add({"once": torch.tensor(5.0)}, 1)
    for place, (value, images) in enumerate(steps):
        for means in (whole, first if place < 2 else rest):
            if means is rest:
                file = io.BytesIO()
                torch.save(first.state(), file)
                file.seek(0)
                rest.sums = torch.load(file, weights_only=True)
            means.add({"loss": value}, images)
    found = rest.pop(torch.device("cpu"))
    assert found == whole.pop(torch.device("cpu")) | {"once": torch.tensor(5.0)} and not rest.sums
    wanted = sum(float(value) * images for value, images in steps) / 6
    assert found["loss"].dtype == torch.float32 and abs(float(found["loss"]) - wanted) < 1e-6
