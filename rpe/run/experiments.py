"""List the shipped experiments, from the comments and defaults of conf/experiment/*.yaml."""

import re
from typing import Any

import yaml

from rpe.errors import UserError, did_you_mean
from rpe.run_files import CONF

DATA_KEYS = ("experiment", "data", "resume", "sweep")
"""Keys of which a training command must give at least one."""


def options_of_group(group: str) -> list[str]:
    """Return the options of a config group, sorted."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def read_needs() -> dict[str, str]:
    """Return the data that each experiment needs.

    It is in a comment: `# Needs: COCO 2017`.
    """
    found = {}
    for name in options_of_group("experiment"):
        text = (CONF / "experiment" / f"{name}.yaml").read_text()
        needs = re.search(r"^# Needs: (.*)$", text, re.MULTILINE)
        found[name] = needs[1] if needs else ""
    return found


def experiments_of_task(task: str) -> list[str]:
    """Return the experiments of a task.

    Args:
        task: an option of the group `task`, or the `_target_` of one.
    """
    targets = {name: read_option("task", name)["_target_"] for name in options_of_group("task")}
    chosen = {name: task_of_experiment(name) for name in options_of_group("experiment")}
    return [name for name, option in chosen.items() if task in (option, targets[option])]


def task_of_experiment(name: str) -> str:
    """Return the option of the group `task` that an experiment, or the one that it extends, chooses."""
    defaults = read_option("experiment", name).get("defaults", [])
    chosen = [entry["override /task"] for entry in defaults if "override /task" in entry]
    extended = [entry for entry in defaults if entry in options_of_group("experiment")]
    return (chosen or [task_of_experiment(other) for other in extended] or ["instance"])[0]


def read_option(group: str, name: str) -> dict[str, Any]:
    """Return an option's YAML as it is written."""
    return dict(yaml.safe_load((CONF / group / f"{name}.yaml").read_text()))


def list_experiments() -> str:
    """Return what `train.py` prints without arguments: each experiment and the data that it needs."""
    return "\n".join(
        [
            "Choose an experiment:",
            *(
                f"  experiment={name:<16} needs {needed or 'its data'}"
                for name, needed in read_needs().items()
            ),
            "or data alone, without an experiment's settings: "
            f"data={{{','.join(options_of_group('data'))}}} data.root=<folder>",
            "`--help` lists all groups and keys.",
        ]
    )


def check_choice(arguments: list[str]) -> None:
    """Refuse a training command that chooses no data.

    Raises:
        UserError: listing the experiments.
    """
    if any(argument.startswith("-") and argument not in ("-m", "--multirun") for argument in arguments):
        return  # --help and --cfg need no data
    if not any(argument.partition("=")[0].lstrip("+") in DATA_KEYS for argument in arguments):
        raise UserError(describe_missing_data(arguments))


def describe_missing_data(arguments: list[str]) -> str:
    """Return the message for a training without data; the experiments are those of a given task."""
    tasks = [argument.removeprefix("task=") for argument in arguments if argument.startswith("task=")]
    fitting = (experiments_of_task(tasks[-1]) if tasks else []) or options_of_group("experiment")
    keys = [argument.partition("=")[0] for argument in arguments]
    similar = next(filter(None, (did_you_mean(key, DATA_KEYS) for key in keys)), "")
    return (
        f"experiment or data must be given, got neither{similar or '.'} "
        f"Add experiment={' or experiment='.join(fitting)}"
        "; `python train.py` alone says what each needs"
    )
