from types import SimpleNamespace

import pytest
import torch

from rpe.callbacks.collapse import METRIC, CollapseWatch


@pytest.mark.parametrize(("cosine", "told"), [(0.97, True), (0.3, False), (float("nan"), False)])
def test_a_collapsed_embedding_is_told_with_what_to_change(
    cosine: float, told: bool, plain: None, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = SimpleNamespace(
        callback_metrics={METRIC: torch.tensor(cosine)}, is_global_zero=True, current_epoch=3
    )
    CollapseWatch(0.9).on_validation_end(trainer, None)  # type: ignore[arg-type]
    line = capsys.readouterr().out
    assert bool(line) == told
    if told:
        assert "after epoch 4" in line and "0.970" in line and "grouping.iterations=0" in line
