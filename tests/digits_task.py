"""The task and the data of experiment=digits, seeded."""

import torch
from hydra import compose, initialize_config_dir

import rpe.run
from rpe.data.module import InstanceData
from rpe.run_files import CONF
from rpe.task.instance import InstanceTask


def make_task(*overrides: str) -> tuple[InstanceTask, InstanceData]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=digits", *overrides])
        torch.manual_seed(0)
        task, data = rpe.run.build_task(config), rpe.run.build_data(config)
    assert isinstance(task, InstanceTask) and isinstance(data, InstanceData)
    return task, data
