"""Measure whether loops in training pay, by the authors' protocol: a base without loops, then fine-tuning.

    python benchmarks/grouping_pays.py folder=<folder> [experiment=digits] [base=<run>] [seeds=0,1,2]
        [loops=0,1,3] [margins=0.5] [epochs=2] [longer=0] [metrics=AR@10,ARI-modes] [images=100]
        [key=value of train.py ..]

For each seed, a base is trained without loops (or `base` is taken for all seeds), and then fine-tuned for
`epochs` with each number of loops and each margin, at the paper's bandwidth (1 - margin) / 3. Inference is
the same for all. `longer` adds a fine-tuning without loops for that many epochs, to compare at equal time.
`from_scratch=1:0.3` also trains from scratch with one loop at bandwidth 0.3. Finished runs are read, not
repeated, so an interrupted measurement resumes.

Prints each run's test metrics, and for each setting the mean paired difference from no loops with its 95 %
interval (Student's t over seeds). Then the sensitivity to inference: AR@10 and the adjusted Rand index of
each run on `images` validation images for several bandwidths, after one loop and after ten.
"""

import copy
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from scipy import stats

from rpe.data.module import collate
from rpe.metric.average_recall import average_recall
from rpe.run import build_data
from rpe.run.trained import load_run
from rpe.segment.proposer import PartitionSetting
from rpe.sphere import concentration_of_bandwidth
from rpe.structures import Geometry
from rpe.task.embedding_metrics import embedding_metrics
from rpe.tools.report.jobs import read_metrics

ROOT = Path(__file__).resolve().parent.parent
BANDWIDTHS = (0.1, 0.167, 0.3, 0.5)
LOOPS = (1, 10)
OPTIONS = {
    "experiment": "digits",
    "seeds": "0,1,2",
    "loops": "0,1,3",
    "margins": "0.5",
    "epochs": "2",
    "longer": "0",
    "metrics": "AR@10,ARI-modes",
    "from_scratch": "",
    "images": "100",
}


def train(folder: Path, *overrides: str) -> Path:
    """Train one run, or find it finished."""
    if not (folder / "metrics.json").exists():
        print(f"training {folder.name}", file=sys.stderr, flush=True)
        command = [sys.executable, str(ROOT / "train.py"), *overrides, f"hydra.run.dir={folder}"]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            raise SystemExit(f"{folder.name} must train, but train.py ended with the error above.")
    return folder


def train_all(options: dict[str, str], overrides: list[str]) -> dict[str, dict[int, Path]]:
    """Return the run of each setting and seed; the first setting is the one without loops."""
    folder = Path(options["folder"])
    common = [f"experiment={options['experiment']}", *overrides]
    runs: dict[str, dict[int, Path]] = {}
    for seed in map(int, options["seeds"].split(",")):
        scratch = [*common, f"seed={seed}"]
        base = options.get("base") or train(folder / f"base-{seed}", *scratch, "grouping.iterations=0")
        tuned = [*common, f"seed={100 + seed}", f"init_from={base}", "grouping.bandwidth=null"]
        for margin in options["margins"].split(","):
            for loops in filter(None, options["loops"].split(",")):
                name = f"{loops} loops, margin {margin}"
                settings = [f"grouping.iterations={loops}", f"loss.pairwise.margin={margin}"]
                target = folder / f"loops{loops}-margin{margin}-{seed}"
                runs.setdefault(name, {})[seed] = train(
                    target, *tuned, *settings, f"trainer.max_epochs={options['epochs']}"
                )
        if int(options["longer"]):
            runs.setdefault(f"0 loops, {options['longer']} epochs", {})[seed] = train(
                folder / f"longer-{seed}",
                *tuned,
                "grouping.iterations=0",
                f"trainer.max_epochs={options['longer']}",
            )
        for setting in filter(None, options["from_scratch"].split(",")):
            loops, bandwidth = setting.split(":")
            runs.setdefault("0 loops, from scratch", {})[seed] = Path(base)
            runs.setdefault(f"{loops} loops of {bandwidth}, from scratch", {})[seed] = train(
                folder / f"scratch{loops}-{bandwidth}-{seed}",
                *scratch,
                f"grouping.iterations={loops}",
                f"grouping.bandwidth={bandwidth}",
            )
    return runs


def interval(differences: list[float]) -> str:
    """Return the mean and the half width of the 95 % interval of paired differences."""
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.4f} (one seed)"
    half = stats.t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.4f} ± {half:.4f}"


def print_differences(runs: dict[str, dict[int, Path]], metrics: list[str]) -> None:
    """Print the metrics of each setting, and the differences from no loops of the same start."""
    figures = {
        name: {seed: read_metrics(run / "metrics.json")[0] for seed, run in seeds.items()}
        for name, seeds in runs.items()
    }
    print("| training | metric | each seed | mean | minus no loops, 95 % interval |")
    print("|---|---|---|---|---|")
    for metric in metrics:
        for name, seeds in figures.items():
            reference = next(other for other in figures if ("scratch" in other) == ("scratch" in name))
            values = {seed: found[metric] for seed, found in seeds.items() if metric in found}
            if not values:
                continue
            difference = (
                ""
                if name == reference
                else interval([value - figures[reference][seed][metric] for seed, value in values.items()])
            )
            each = ", ".join(f"{value:.3f}" for value in values.values())
            print(f"| {name} | {metric} | {each} | {statistics.mean(values.values()):.3f} | {difference} |")


@torch.no_grad()
def sensitivity(run: Path, images: int) -> dict[tuple[float, int], tuple[float, float]]:
    """Return AR@10 and ARI of the modes on validation images, by inference's bandwidth and loops."""
    config, task = load_run(str(run))
    dataset = build_data(config).dataset("val")
    places = range(min(len(dataset), images))
    found = {}
    embedded = []
    for place in places:
        batch = collate([dataset[place]])
        embedded.append((batch, task.segmenter.embed(batch.images)))
    ids = {batch.image_ids[0] for batch, _ in embedded}
    truth = copy.copy(dataset.truth())
    truth["images"] = [image for image in truth["images"] if image["id"] in ids]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] in ids]
    proposer = task.proposal
    for bandwidth in BANDWIDTHS:
        for loops in LOOPS:
            gates = {setting.foreground for setting in proposer.settings}
            kappa = concentration_of_bandwidth(bandwidth)
            proposer.settings = [PartitionSetting(gate, kappa, loops, False) for gate in sorted(gates)]
            results, agreements = [], []
            for batch, output in embedded:
                geometry = Geometry((batch.images.shape[2], batch.images.shape[3]), batch.sizes[0])
                proposals = proposer(output, geometry)
                results += proposals.to_coco(batch.image_ids[0], [truth["categories"][0]["id"]])
                metrics = embedding_metrics(
                    output, batch.labels[0], task.model.grouping, proposer, task.loss.pairwise.margin
                )
                agreements.append(metrics.get("ARI-modes", float("nan")))
            recall = average_recall(truth, results)["AR@10"]
            known = [value for value in agreements if value == value]
            found[bandwidth, loops] = recall, statistics.mean(known)
    return found


def print_sensitivity(runs: dict[str, dict[int, Path]], images: int) -> None:
    """Print AR@10 / ARI by inference's bandwidth and loops, the mean over seeds."""
    columns = [(bandwidth, loops) for loops in LOOPS for bandwidth in BANDWIDTHS]
    print(
        "\n| training, AR@10 / ARI on validation | "
        + " | ".join(f"b {b}, {t} loops" for b, t in columns)
        + " |"
    )
    print("|---" * (len(columns) + 1) + "|")
    for name, seeds in runs.items():
        each = [sensitivity(run, images) for run in seeds.values()]
        cells = [
            " / ".join(f"{statistics.mean(one[column][part] for one in each):.3f}" for part in (0, 1))
            for column in columns
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if "folder" not in given:
        raise SystemExit("folder must be given, got none. Use folder=<folder>.")
    options = OPTIONS | {key: value for key, value in given.items() if key in {*OPTIONS, "folder", "base"}}
    overrides = [f"{key}={value}" for key, value in given.items() if key not in options]
    runs = train_all(options, overrides)
    print_differences(runs, options["metrics"].split(","))
    if int(options["images"]):
        print_sensitivity(runs, int(options["images"]))


if __name__ == "__main__":
    main()
