"""Search for hyperparameters with Optuna, one process for each trial.

    pip install 'rpe[optuna]'
    python docs/optuna_study.py trials=10 folder=outputs/digits/optuna experiment=digits

Each trial is a training in a process of its own. The study is kept in `<folder>/study.db`. After an
interruption, the same command trains until `trials` are finished, and an interrupted trial resumes from its
last checkpoint. Only one process at a time may run a study. Change `suggest` to search other keys.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
from optuna.trial import TrialState

SETTINGS = {"trials": "10", "folder": "outputs/digits/optuna", "seed": "0"}
"""Keys of this script; all others are passed to the training. `seed` is the seed of the search."""


def suggest(trial: optuna.Trial) -> list[str]:
    """Return a trial's overrides."""
    return [
        f"loss.pairwise.margin={trial.suggest_float('loss.pairwise.margin', 0.2, 0.7):.3f}",
        f"grouping.bandwidth={trial.suggest_float('grouping.bandwidth', 0.1, 0.5):.3f}",
        f"optimizer.lr={trial.suggest_float('optimizer.lr', 1e-3, 1e-2, log=True):.5f}",
    ]


def train(folder: Path, overrides: list[str]) -> float:
    """Train in a process of its own, or resume there; return the best validation score."""
    metrics = folder / "metrics.json"
    if not metrics.is_file():
        interrupted = (folder / "checkpoints" / "last.ckpt").is_file()
        if not interrupted:
            shutil.rmtree(folder, ignore_errors=True)
        arguments = [f"resume={folder}"] if interrupted else [*overrides, f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "rpe", "train", *arguments], check=True)
    return float(json.loads(metrics.read_text())["monitored"])


def main(arguments: list[str]) -> optuna.Study:
    """Run trials until enough are finished."""
    given = dict(argument.split("=", 1) for argument in arguments if argument.split("=")[0] in SETTINGS)
    fixed = [argument for argument in arguments if argument.split("=")[0] not in SETTINGS]
    settings = SETTINGS | given
    folder = Path(settings["folder"]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name="rpe",
        direction="maximize",
        load_if_exists=True,
    )
    # a sampler with the seed of the first command would suggest its first trials again
    study.sampler = optuna.samplers.TPESampler(seed=int(settings["seed"]) + len(study.trials))
    for trial in study.get_trials(
        states=[TrialState.RUNNING]
    ):  # of a killed process; its parameters are tried first
        study.tell(trial.number, state=TrialState.FAIL)
        name = trial.user_attrs.get("folder", f"trial-{trial.number}")
        study.enqueue_trial(trial.params, user_attrs={"folder": name})
    while len(study.get_trials(states=[TrialState.COMPLETE])) < int(settings["trials"]):
        trial = study.ask()
        name = trial.user_attrs.get("folder", f"trial-{trial.number}")
        overrides = suggest(trial)
        try:
            score = train(folder / name, [*(fixed or ["experiment=digits"]), *overrides])
        except subprocess.CalledProcessError:
            study.tell(trial, state=TrialState.FAIL)
            raise SystemExit(
                f"error: {name} failed. See {folder / name}; the same command tries other parameters."
            ) from None
        study.tell(trial, score)
        print(f"{name}: {score:.4f}, best {study.best_value:.4f} with {study.best_params}", flush=True)
    return study


if __name__ == "__main__":
    main(sys.argv[1:])
