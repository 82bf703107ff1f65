"""What the service costs: the same fits in a bare loop, under `sweeper run`, and under plain Ray Tune.

    python benchmarks/overhead.py --fit-s 10 --repetitions 5

Four arms, interleaved, each in a fresh process, on the same slots (one thread each):
  a  bare       one Python loop per slot, no service at all
  b  sweeper    `sweeper run`
  c  plain      Ray Tune + OptunaSearch + MLflowLoggerCallback with a function trainable, as documented
  d  plain+     the same with reuse_actors=True, its best honest setting

cold: from the process's start to its end. warm: from the first training step of the first fit to the end
of the last fit, so that no arm is charged for its imports. A ratio counts only where the final metrics of
all arms agree, which is checked.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ARMS = ("bare", "sweeper", "plain", "plain+")
POINTS = [{"lambda": value, "rank": rank} for value in (0.1, 1.0, 10.0) for rank in (4, 8)]


def main() -> None:
    """Measure, or (as a child) be one arm."""
    asked = _parser().parse_args()
    if asked.arm:
        _be(asked)
        return
    epochs = asked.epochs or _epochs_for(asked.fit_s)
    print(
        f"{asked.fits} fits of {epochs} epochs (about {asked.fit_s:g} s), {asked.slots} slots on {os.cpu_count()} cores"
    )
    times: dict[str, list[dict[str, float]]] = {arm: [] for arm in asked.arms}
    for repetition in range(asked.repetitions):
        for arm in asked.arms if repetition % 2 == 0 else asked.arms[::-1]:
            times[arm].append(_child(arm, asked, epochs))
            last = times[arm][-1]
            print(f"  {repetition} {arm:8} cold {last['cold']:7.2f} s  warm {last['warm']:7.2f} s", flush=True)
    _report(times)


def _report(times: dict[str, list[dict[str, float]]]) -> None:
    metrics = {arm: {json.dumps(run["metrics"], sort_keys=True) for run in runs} for arm, runs in times.items()}
    agree = len(set().union(*metrics.values())) == 1
    print(f"final metrics agree between arms and repetitions: {agree}")
    for kind in ("warm", "cold"):
        for arm, runs in times.items():
            values = [run[kind] for run in runs]
            ratios = [mine[kind] / base[kind] for mine, base in zip(runs, times[next(iter(times))], strict=True)]
            print(
                f"{kind} {arm:8} median {statistics.median(values):7.2f} s ({min(values):.2f} to {max(values):.2f})"
                f"   ratio to bare {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            )
    if not agree:
        sys.exit("the metrics differ, so the ratios do not count")


def _child(arm: str, asked: argparse.Namespace, epochs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        command = [sys.executable, __file__, "--arm", arm, "--folder", folder, "--epochs", str(epochs)]
        command += ["--fits", str(asked.fits), "--slots", str(asked.slots)]
        began = time.time()
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        cold = time.time() - began
        if done.returncode:
            sys.exit(f"{arm} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        stamps = [json.loads(line) for line in (Path(folder) / "stamps.jsonl").read_text().splitlines()]
    warm = max(s["end"] for s in stamps) - min(s["begin"] for s in stamps)
    return {"cold": cold, "warm": warm, "metrics": {s["key"]: s["accuracy"] for s in stamps}}


# --- the fits: the same function in every arm


def _task():
    from trainables.task import Task

    return Task(groups="cell")


def _params(point: dict, epochs: int) -> dict:
    return {"method": "fairlora", "learning_rate": 2e-3, "epochs": epochs, **point}


def _stamp(folder: str, point: dict, begin: float, end: float, accuracy: float) -> None:
    """One appended line, whole or absent."""
    line = json.dumps({"key": f"{point['lambda']}/{point['rank']}", "begin": begin, "end": end, "accuracy": accuracy})
    handle = os.open(Path(folder) / "stamps.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (line + "\n").encode())
    os.close(handle)


def _train(tuning, point: dict, epochs: int, folder: str, report=lambda metrics: None) -> None:
    from trainables.params import Params

    tuning.aim(Params.from_flat(_params(point, epochs)), seed=0)
    begin = time.time()
    while not tuning.done:
        tuning.train_epoch()
        values = tuning.evaluate("val").values
        report({"accuracy": values["accuracy"], "delta_f1": values["delta_f1"], "epoch": tuning.epoch})
    _stamp(folder, point, begin, time.time(), values["accuracy"])


def _prepared():
    from trainables.finetuning import FineTuning

    tuning = FineTuning(_task(), device="cpu", threads=1)
    tuning.prepare()
    return tuning


# --- the arms


def _be(asked: argparse.Namespace) -> None:
    points = [POINTS[i % len(POINTS)] for i in range(asked.fits)]
    if len({str(p) for p in points}) < len(points):
        sys.exit(f"--fits may be at most {len(POINTS)}")
    arms = {"bare": _bare, "sweeper": _sweeper, "plain": _plain, "plain+": lambda *a: _plain(*a, reuse=True)}
    arms[asked.arm](points, asked.epochs, asked.folder, asked.slots)


def _loop(points: list[dict], epochs: int, folder: str) -> None:
    tuning = _prepared()
    for point in points:
        _train(tuning, point, epochs, folder)


def _bare(points: list[dict], epochs: int, folder: str, slots: int) -> None:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    loops = [context.Process(target=_loop, args=(points[i::slots], epochs, folder)) for i in range(slots)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()


def _sweeper(points: list[dict], epochs: int, folder: str, slots: int) -> None:
    from sweeper.engine import driver
    from sweeper.screen import live
    from sweeper.spec import loading

    lambdas, ranks = sorted({p["lambda"] for p in points}), sorted({p["rank"] for p in points})
    text = f"""
name: overhead
groups: cell
space: {{method: fairlora, learning_rate: 0.002, epochs: {epochs}, lambda: {lambdas}, rank: {ranks}}}
search: {{sampler: grid, trials: {len(points)}}}
resources: {{max_concurrent: {slots}}}
storage: {{root: {folder}/sweeps}}
"""
    spec = loading.parse(text)
    outcome = driver.run(spec, live.Lines(spec.name))
    for trial in outcome.results.trials:
        from sweeper.state.sweep_folder import SweepFolder

        history = SweepFolder(Path(folder) / "sweeps" / "overhead").fit(trial.number, 0).history()
        begin = history[0]["time_ms"] / 1e3 - history[0]["seconds"] - history[0].get("evaluate_s", 0.0)
        point = {"lambda": trial.params["lambda"], "rank": trial.params["rank"]}
        _stamp(folder, point, begin, history[-1]["time_ms"] / 1e3, trial.metrics["accuracy"])


def _plain(points: list[dict], epochs: int, folder: str, slots: int, reuse: bool = False) -> None:
    import ray
    from optuna.samplers import TPESampler
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict) -> None:
        _train(_prepared(), {"lambda": config["lambda"], "rank": config["rank"]}, epochs, folder, tune.report)

    ray.init(log_to_driver=False, include_dashboard=False)
    search = OptunaSearch(
        {"lambda": tune.loguniform(0.01, 100), "rank": tune.lograndint(4, 129)},
        metric=["accuracy", "delta_f1"],
        mode=["max", "min"],
        points_to_evaluate=points,
        sampler=TPESampler(seed=0),
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, max_concurrent=slots), num_samples=len(points), reuse_actors=reuse
        ),
        run_config=tune.RunConfig(
            name="plain",
            storage_path=f"{folder}/tune",
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="plain")],
            verbose=0,
        ),
    )
    tuner.fit()


def _epochs_for(fit_s: float) -> int:
    """How many epochs make a fit of about `fit_s` seconds here."""
    from trainables.params import Params

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    tuning = _prepared()
    tuning.aim(Params.from_flat(_params(POINTS[0], 4)), seed=0)
    tuning.train_epoch()
    began = time.perf_counter()
    for _ in range(3):
        tuning.train_epoch()
        tuning.evaluate("val")
    return max(1, math.ceil(fit_s / ((time.perf_counter() - began) / 3)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit-s", type=float, default=10.0, help="length of a fit in seconds")
    parser.add_argument("--epochs", type=int, help="epochs of a fit, instead of --fit-s")
    parser.add_argument("--fits", type=int, default=6, help=f"at most {len(POINTS)}")
    parser.add_argument("--slots", type=int, default=2, help="fits at once")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
