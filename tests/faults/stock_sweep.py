"""The stock design under the same storm: Ray Tune, OptunaSearch over a database, MLflowLoggerCallback, Tuner.restore.

    python -m tests.faults.stock_sweep FOLDER --trials 8 --epochs 8 --slots 2

It follows the libraries' own documentation: the sampler proposes, every epoch reports its metrics with a
checkpoint, a failed trial is retried, and a folder that can be restored is restored. The work is the same as
sweeper's: digits-on-scenes, the small backbone, the same ranges.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

SPACE = {"method": ["lora", "fairlora"], "lambda": (0.1, 10.0), "rank": [4, 8]}
RETRIES = 1000


def train(config: dict[str, Any]) -> None:
    """One trial: train from the newest checkpoint that Tune kept, report after every epoch."""
    import sitecustomize as ledger  # the ledger's own
    from ray import tune
    from safetensors.torch import load_file, save_file

    from trainables.finetuning import FineTuning
    from trainables.params import Params
    from trainables.task import Task

    ledger.current = (tune.get_context().get_trial_id(), 0)
    tuning = FineTuning(Task(groups="cell"), device="cpu", threads=1)
    tuning.prepare()
    lambda_ = {"lambda": config["lambda"]} if config["method"] == "fairlora" else {}
    settings = {"method": config["method"], "rank": config["rank"], "learning_rate": 2e-3, "epochs": config["epochs"]}
    tuning.aim(Params.from_flat(settings | lambda_), seed=0)
    kept = tune.get_checkpoint()
    if kept is not None:
        with kept.as_directory() as place:
            epoch = int((Path(place) / "epoch").read_text())
            tuning.load_state(load_file(Path(place) / "state.safetensors"), tuning.state()[1] | {"epoch": epoch})
    while not tuning.done:
        tuning.train_epoch()
        values = tuning.evaluate("val").values
        with tempfile.TemporaryDirectory() as place:
            save_file(tuning.state()[0], Path(place) / "state.safetensors")
            (Path(place) / "epoch").write_text(str(tuning.epoch))
            numbers = {"accuracy": values["accuracy"], "delta_f1": values["delta_f1"], "epoch": tuning.epoch}
            tune.report(numbers, checkpoint=tune.Checkpoint.from_directory(place))
    ledger.write("done", *ledger.current, tuning.epoch)


def tuner(asked: argparse.Namespace) -> Any:
    """A new one, or the one that can be restored."""
    import optuna
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    trainable = tune.with_resources(train, {"cpu": 1})
    path = asked.folder / "tune" / "stock"
    if tune.Tuner.can_restore(str(path)):
        return tune.Tuner.restore(str(path), trainable=trainable, resume_unfinished=True, resume_errored=True)
    search = OptunaSearch(
        space={
            "method": optuna.distributions.CategoricalDistribution(SPACE["method"]),
            "lambda": optuna.distributions.FloatDistribution(*SPACE["lambda"], log=True),
            "rank": optuna.distributions.CategoricalDistribution(SPACE["rank"]),
            "epochs": optuna.distributions.IntDistribution(asked.epochs, asked.epochs),
        },
        metric=["accuracy", "delta_f1"],
        mode=["max", "min"],
        storage=optuna.storages.RDBStorage(f"sqlite:///{asked.folder / 'study.db'}"),
        study_name="stock",
        sampler=optuna.samplers.TPESampler(seed=asked.seed),
    )
    record = MLflowLoggerCallback(tracking_uri=f"sqlite:///{asked.folder / 'mlflow.db'}", experiment_name="stock")
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=search, num_samples=asked.trials, max_concurrent_trials=asked.slots),
        run_config=tune.RunConfig(
            name="stock",
            storage_path=str(asked.folder / "tune"),
            callbacks=[record],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    )


def main() -> int:
    """Begin or restore, and run to the end: 0 as Tune sees it, 1 where trials have errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.folder = asked.folder.resolve()
    import ray

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    results = tuner(asked).fit()
    print(f"{len(results)} trials, {len(results.errors)} with errors")
    return 1 if results.errors else 0


if __name__ == "__main__":
    sys.exit(main())
