"""`python -m rpe.tools.train`, which train.py and `rpe train` are: it returns the score, on which Hydra's sweepers build."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import yaml
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from tiny import tiny

from rpe.tools import train


class Climber(Sweeper):
    """A sweeper that chooses each job by the score of the one before."""

    scores: ClassVar[list[Any]] = []

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        for number, margin in enumerate((0.3, 0.6)):
            (done,) = self.launcher.launch(
                [[*arguments, f"loss.pairwise.margin={margin}"]], initial_job_idx=number
            )
            assert isinstance(done, JobReturn)
            self.scores.append(done.return_value)


def test_a_sweeper_gets_the_best_validation_score(
    command_line: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("hydra_plugins.climber")  # Hydra takes plugins from there alone
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Climber, "__module__", module.__name__)
    module.Climber = Climber  # type: ignore[attr-defined]
    Plugins.instance().register(Climber)
    climbing = ["hydra.sweeper._target_=hydra_plugins.climber.Climber", f"hydra.sweep.dir={tmp_path}"]
    for _ in range(2):  # the second time both jobs are done
        command_line(
            train.main, "-m", *tiny(4, 2, 1), "trainer.max_epochs=1", "callbacks.pictures=null", *climbing
        )
    record = yaml.safe_load((tmp_path / "sweep.yaml").read_text())
    assert (
        sorted(point["loss.pairwise.margin"] for point in record["jobs"].values()) == [0.3, 0.6]
        and len(record["commands"]) == 1
    )
    written = [
        yaml.safe_load((tmp_path / name / "metrics.json").read_text())["monitored"] for name in record["jobs"]
    ]
    assert Climber.scores == [*written, *written] and all(0 <= score <= 1 for score in written)
