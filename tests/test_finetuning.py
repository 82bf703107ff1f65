"""A whole fine-tuning on a third of the digits: exact, repeatable, and nothing leaks from fit to fit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables import data, finetuning
from trainables.data import DataConfig
from trainables.data.base import Dataset
from trainables.errors import FitError, UserError
from trainables.finetuning import FineTuning
from trainables.methods import METHODS
from trainables.methods.variance import VariancePenalty
from trainables.metrics import METRICS, Predictions, evaluate
from trainables.params import Params, exists
from trainables.task import MetricsConfig, Task, TrainConfig

EPOCHS = 3
TASK = Task(groups="cell", train=TrainConfig(flip=True))
load = data.load


def third(config: DataConfig) -> Dataset:
    """Every third example of each split."""
    whole = load(config)
    return replace(whole, splits={name: part.part(np.arange(0, len(part), 3)) for name, part in whole.splits.items()})


@pytest.fixture(scope="module", autouse=True)
def little_data() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning.data, "load", third)
        yield


def prepared(task: Task = TASK) -> FineTuning:
    tuning = FineTuning(task, device="cpu", threads=1)
    tuning.prepare()
    return tuning


@pytest.fixture(scope="module")
def tuning(little_data: None) -> FineTuning:
    return prepared()


def params(method: str, **more: Any) -> Params:
    """Fast to learn; with dropout wherever the method knows it, so that its chance is tested too."""
    flat = {"method": method, "lambda": 1.0, "rank": 4, "dropout": 0.1, "learning_rate": 2e-3, "epochs": EPOCHS}
    return Params.from_flat({name: value for name, value in flat.items() if exists(name, method)} | more)


def trained(tuning: FineTuning, aim: Params, seed: int = 0) -> dict[str, Tensor]:
    tuning.aim(aim, seed)
    while not tuning.done:
        tuning.train_epoch()
    return tuning.state()[0]


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Bit for bit: weights, moments and all."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def without_time(log: dict[str, float]) -> str:
    return repr({name: value for name, value in log.items() if name != "seconds"})


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_stopped_after_any_epoch_and_continued_elsewhere_ends_with_the_same_bits(
    tuning: FineTuning, method: str
) -> None:
    tuning.aim(params(method), seed=7)
    states, logs = [tuning.state()], []
    while not tuning.done:
        logs.append(without_time(tuning.train_epoch()))
        states.append(tuning.state())
    metrics = tuning.evaluate("val").to_json()
    other = prepared()
    for k in range(EPOCHS + 1):
        other.aim(params(method), seed=7)
        other.load_state(states[k][0], json.loads(json.dumps(states[k][1])))
        assert other.epoch == k
        again = [without_time(other.train_epoch()) for _ in range(EPOCHS - k)]
        assert again == logs[k:]
        assert same(other.state()[0], states[-1][0])
        assert other.evaluate("val").to_json() == metrics


ELSEWHERE = """
import json, sys
from pathlib import Path
from safetensors.torch import load_file, save_file
from tests import test_finetuning as here
here.finetuning.data.load = here.third
folder = Path(sys.argv[1])
tuning = here.prepared()
tuning.aim(here.params("fairlora"), seed=7)
tuning.load_state(load_file(folder / "state.safetensors"), json.loads((folder / "meta.json").read_text()))
while not tuning.done:
    tuning.train_epoch()
save_file(tuning.state()[0], folder / "end.safetensors")
(folder / "end.json").write_text(json.dumps(tuning.evaluate("val").to_json()))
"""


def test_a_fit_continued_in_another_process_ends_with_the_same_bits(tuning: FineTuning, tmp_path: Path) -> None:
    tuning.aim(params("fairlora"), seed=7)
    tuning.train_epoch()
    tensors, meta = tuning.state()
    save_file(tensors, tmp_path / "state.safetensors")
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], check=True, cwd=Path(__file__).parents[1])
    while not tuning.done:
        tuning.train_epoch()
    assert same(load_file(tmp_path / "end.safetensors"), tuning.state()[0])
    assert json.loads((tmp_path / "end.json").read_text()) == tuning.evaluate("val").to_json()


@pytest.mark.parametrize(("first", "second"), [("fairfft", "fairlora"), ("fairlora", "fft"), ("fairlora", "lora")])
def test_a_reused_object_gives_what_a_fresh_one_gives(tuning: FineTuning, first: str, second: str) -> None:
    trained(tuning, params(first, rank=8, learning_rate=5e-3), seed=1)
    torch.manual_seed(123)  # what happened before must not matter, global chance included
    reused = trained(tuning, params(second)), tuning.evaluate("val").to_json()
    fresh = prepared()
    assert same(reused[0], trained(fresh, params(second)))
    assert reused[1] == fresh.evaluate("val").to_json()


@pytest.mark.parametrize(("fair", "plain"), [("fairlora", "lora"), ("fairfft", "fft")])
def test_lambda_zero_is_the_baseline_bit_for_bit(tuning: FineTuning, fair: str, plain: str) -> None:
    assert same(trained(tuning, params(fair, **{"lambda": 0.0})), trained(tuning, params(plain)))


@pytest.mark.parametrize(("fair", "plain"), [("fairlora", "lora"), ("fairfft", "fft")])
def test_lambda_changes_the_training(tuning: FineTuning, fair: str, plain: str) -> None:
    assert not same(trained(tuning, params(fair, **{"lambda": 1.0})), trained(tuning, params(plain)))


def test_the_seed_decides_and_nothing_else(tuning: FineTuning) -> None:
    first, again, other = (trained(tuning, params("lora", epochs=1), seed) for seed in (0, 0, 1))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.adapter == "lora"])
def test_only_the_adapter_and_the_head_move(tuning: FineTuning, method: str) -> None:
    tuning.aim(params(method), seed=0)
    model = tuning.fit.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuning.train_epoch()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all("lora_" in name or "head.modules_to_save" in name for name in moved)


def test_the_probe_moves_the_head_alone(tuning: FineTuning) -> None:
    tuning.aim(params("probe"), seed=0)
    before = {name: tensor.clone() for name, tensor in tuning.fit.model.state_dict().items()}
    tuning.train_epoch()
    after = tuning.fit.model.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"head.weight", "head.bias"}


@pytest.mark.parametrize(("refitted", "plain"), [("lora-dfr", "lora"), ("fft-dfr", "fft")])
def test_a_refit_is_the_plain_method_but_for_the_last_layer(tuning: FineTuning, refitted: str, plain: str) -> None:
    mine, other = trained(tuning, params(refitted)), trained(tuning, params(plain))
    differing = {name for name in mine if not torch.equal(mine[name], other[name])}
    assert {name.rpartition("head.")[2] for name in differing} == {"weight", "bias"}
    assert all(name.startswith("weights.") for name in differing)  # AdamW's moments are those of the plain method
    assert "refit_converged" not in tuning.provenance()


def test_the_default_refit_converges_on_the_embedded_data_and_provenance_says_so(tuning: FineTuning) -> None:
    trained(tuning, params("lora-dfr"))
    assert tuning.provenance()["refit_converged"] is True


def test_a_refit_is_measured_on_the_other_half_of_validation_and_on_all_of_test(tuning: FineTuning) -> None:
    tuning.aim(params("lora"), seed=0)
    whole = {row["name"]: row["n"] for row in tuning.evaluate("val").groups if row["kind"] == "cell"}
    tuning.aim(params("lora-dfr"), seed=0)
    half = {row["name"]: row["n"] for row in tuning.evaluate("val").groups if row["kind"] == "cell"}
    assert half == {name: n - n // 2 for name, n in whole.items()}
    assert tuning.provenance()["validation_examples"] == sum(half.values())
    tested = [row["n"] for row in tuning.evaluate("test").groups if row["kind"] == "cell"]
    assert sum(tested) == len(third(DataConfig()).splits["test"])


def test_a_method_that_balances_its_groups_does_so_whatever_the_task_says(tuning: FineTuning) -> None:
    for method in ("lora-balanced", "lora-groupdro"):
        tuning.aim(params(method), seed=0)
        assert tuning.train_epoch()["groups_present"] > 3.8  # all four cells, but in the short last batch


def test_balancing_by_the_method_or_by_the_task_is_the_same(tuning: FineTuning) -> None:
    balanced = prepared(Task(groups="cell", train=TrainConfig(sampler="group-balanced", flip=True)))
    mine, other = trained(tuning, params("lora-balanced", epochs=1)), trained(balanced, params("lora", epochs=1))
    assert same(mine, other)


def test_crops_change_the_training_and_come_from_the_seed() -> None:
    cropped = prepared(Task(groups="cell", train=TrainConfig(flip=True, crop=0.5)))
    one, again = (trained(cropped, params("lora", epochs=1)) for _ in range(2))
    assert same(one, again)
    assert not same(one, trained(prepared(), params("lora", epochs=1)))


@pytest.mark.slow
def test_a_compiled_fit_learns_what_a_plain_one_learns() -> None:
    compiled = prepared(Task(groups="cell", train=TrainConfig(flip=True, compile=True)))
    plain, aim = prepared(), params("fairlora", epochs=1, dropout=0.0)
    mine, other = trained(compiled, aim), trained(plain, aim)
    for name in other:
        torch.testing.assert_close(mine[name], other[name], rtol=1e-2, atol=1e-3)
    assert compiled.evaluate("val").values["loss"] == pytest.approx(plain.evaluate("val").values["loss"], abs=1e-3)
    graphs = []
    for rank in (6, 12, 5):  # from the second one on the sizes of weights are inputs of the graph
        trained(compiled, params("fairlora", epochs=1, dropout=0.0, rank=rank))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] == graphs[2] > 0


def test_a_fit_whose_memory_ended_goes_on_with_as_few_examples_at_once_and_says_so() -> None:
    def short(model: torch.nn.Module, given: tuple[Tensor]) -> None:
        if len(given[0]) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def stop() -> None:
        if tuning.fit.step == 3:
            raise KeyboardInterrupt

    auto, aim = Task(groups="cell", train=TrainConfig(micro_batch="auto")), params("fairlora", epochs=1)
    ends = []
    for resumed in (False, True):
        tuning = prepared(auto)
        tuning.aim(aim, seed=0)
        tuning.model.register_forward_pre_hook(short)
        if resumed:
            tuning.between_steps = stop
            with pytest.raises(KeyboardInterrupt):
                tuning.train_epoch()
            state = tuning.state()
            tuning = prepared(auto)  # where there is room
            tuning.aim(aim, seed=0)
            assert "at_once" not in tuning.provenance()
            tuning.load_state(*state)
        tuning.train_epoch()
        assert tuning.provenance()["at_once"] == 8
        ends.append(tuning.state()[0])
    assert same(*ends)


def test_evaluating_between_epochs_does_not_disturb_the_training(tuning: FineTuning) -> None:
    undisturbed = trained(tuning, params("fairlora"))
    tuning.aim(params("fairlora"), seed=0)
    while not tuning.done:
        tuning.train_epoch()
        tuning.evaluate("val")
    assert same(undisturbed, tuning.state()[0])


def test_a_state_is_a_copy_that_later_training_leaves_alone(tuning: FineTuning) -> None:
    tuning.aim(params("fft"), seed=0)
    tuning.train_epoch()
    tensors, _ = tuning.state()
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    tuning.train_epoch()
    assert same(tensors, kept)


class NoWaiting(TorchDispatchMode):
    """Forbids what makes the host wait for the device: `.item()`, `float()`, `bool()`, `nonzero()`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero}, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_device(tuning: FineTuning, method: str) -> None:
    tuning.aim(params(method), seed=0)
    fit, samples = tuning.fit, tuning._split("train")
    images, labels, groups = samples.take(slice(0, 8)), samples.labels_N[:8], samples.groups_N[:8]
    fit._step(images, labels, groups)
    with NoWaiting():
        fit._step(images, labels, groups)


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_that_blows_up_ends_as_diverged_and_says_where(tuning: FineTuning, method: str) -> None:
    tuning.aim(params(method, learning_rate=1e30), seed=0)
    with pytest.raises(FitError, match=rf"loss became (nan|inf) in epoch 1, step \d.*method {method}") as caught:
        tuning.train_epoch()
    assert caught.value.reason == "diverged"


def test_answers_that_are_not_numbers_end_as_diverged(tuning: FineTuning) -> None:
    tuning.aim(params("fft"), seed=0)
    with torch.no_grad():
        next(iter(tuning.fit.weights.values())).fill_(float("nan"))
    with pytest.raises(FitError, match="answers are not finite after epoch 0"):
        tuning.evaluate("val")


def test_an_evaluation_has_every_metric_and_every_group(tuning: FineTuning) -> None:
    tuning.aim(params("lora"), seed=0)
    found = tuning.evaluate("val")
    assert found.values.keys() == METRICS.keys()
    assert not found.reasons
    assert [row["kind"] for row in found.groups] == ["class"] * 2 + ["attribute"] * 2 + ["cell"] * 4
    cells = {row["name"]: row["n"] for row in found.groups if row["kind"] == "cell"}
    assert sum(cells.values()) == len(third(DataConfig()).splits["val"])


@pytest.fixture(scope="module")
def otherwise(little_data: None) -> FineTuning:
    """Where the task says something else than the defaults."""
    train = TrainConfig(reduction="mean", precision="bf16")
    return prepared(Task(groups="attribute", train=train, metrics=MetricsConfig(min_group=3, ece_bins=7)))


def test_an_evaluation_is_every_metric_of_the_answers_as_the_task_asks_for_them(otherwise: FineTuning) -> None:
    otherwise.aim(params("lora"), seed=0)
    whole = third(DataConfig())
    part = whole.splits["val"]
    log_probs_NC = otherwise.log_probs("val", np.arange(len(part)))
    expected = Predictions(
        part.labels_N,
        log_probs_NC.argmax(1),
        log_probs_NC,
        whole.classes,
        part.attributes_N,
        whole.attributes,
        shared_labels=True,
        train_cell_counts=whole.groups("train", "cell").counts_G,
        penalised="attribute",
        min_group=3,
        ece_bins=7,
    )
    assert otherwise.evaluate("val").to_json() == evaluate(expected).to_json()
    few = np.array([5, 2, 9])
    np.testing.assert_allclose(otherwise.log_probs("val", few), log_probs_NC[few], atol=0.02)  # bfloat16's batches


def test_in_bfloat16_the_answers_are_float32(otherwise: FineTuning) -> None:
    otherwise.aim(params("lora"), seed=0)
    with otherwise.runtime.autocast():
        logits_NC = otherwise.fit.model(otherwise._split("val").take(slice(0, 8)))
    assert logits_NC.dtype == torch.float32
    assert not torch.equal(logits_NC, logits_NC.bfloat16().float())


def test_the_method_sees_the_groups_of_the_task_as_often_as_the_rows_have_them(otherwise: FineTuning) -> None:
    part = third(DataConfig()).splits["train"]
    rows = np.concatenate([np.flatnonzero(part.attributes_N == 0)[:30], np.flatnonzero(part.attributes_N == 1)[:10]])
    otherwise.aim(params("lora-reweight"), seed=0, rows={"train": rows})
    torch.testing.assert_close(otherwise.fit.objective.weight_G, torch.tensor([40 / 60, 40 / 20]))
    otherwise.aim(params("fairlora", **{"lambda": 2.0}), seed=0)
    assert otherwise.fit.objective == VariancePenalty(weight=2.0, groups=2, reduction="mean")


def test_images_are_normalised_with_the_backbones_own_numbers(tuning: FineTuning) -> None:
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (tuning._backbone.mean, tuning._backbone.std))
    samples = tuning._split("train")
    pixels = samples.images_N3HW[:4]
    torch.testing.assert_close(samples.take(slice(0, 4)), (pixels / 255 - mean) / std)


def test_a_head_is_drawn_from_the_seed_and_the_body_is_the_backbones(tuning: FineTuning) -> None:
    pristine, heads = tuning._backbone.model.state_dict(), []
    for seed in (0, 1, 0):
        tuning.aim(params("fft"), seed)
        begun = tuning.fit.model.state_dict()
        assert all(torch.equal(begun[name], pristine[name]) for name in begun if not name.startswith("head."))
        heads.append(begun["head.weight"].clone())
    assert torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], pristine["head.weight"])
    assert heads[0].abs().max() <= 1 / 64**0.5  # nn.Linear's own range for 64 features


def test_an_epoch_reports_penalty_groups_and_losses(tuning: FineTuning) -> None:
    tuning.aim(params("lora"), seed=0)
    log = tuning.train_epoch()
    assert {"seconds", "train_loss", "penalty", "groups_present", "groups_singleton", "gradient_norm"} <= log.keys()
    cells = [name for name in log if name.startswith("train_loss/")]
    assert len(cells) == 4
    assert 0 < log["groups_present"] <= 4


def test_the_balanced_sampler_brings_every_group_into_every_batch() -> None:
    tuning = prepared(Task(groups="cell", train=TrainConfig(sampler="group-balanced")))
    tuning.aim(params("fairlora"), seed=0)
    log = tuning.train_epoch()
    assert log["groups_present"] > 3.8  # all four, but in the short last batch
    tuning.aim(params("fairlora"), seed=0)
    assert without_time(tuning.train_epoch()) == without_time(log)


def test_saved_weights_give_the_same_answers_again(tuning: FineTuning, tmp_path: Path) -> None:
    for method in METHODS:
        trained(tuning, params(method))
        expected = tuning.evaluate("test").to_json()
        tuning.save(tmp_path / method)
        tuning.aim(params(method), seed=0)
        assert tuning.evaluate("test").to_json() != expected
        tuning.load_weights(tmp_path / method)
        assert tuning.done
        assert tuning.evaluate("test").to_json() == expected


def test_weights_of_another_shape_are_refused(tuning: FineTuning, tmp_path: Path) -> None:
    tuning.aim(params("lora", rank=8), seed=0)
    tuning.save(tmp_path)
    tuning.aim(params("lora", rank=4), seed=0)
    with pytest.raises(UserError, match="does not fit this model"):
        tuning.load_weights(tmp_path)


def test_a_folder_without_weights_is_refused(tuning: FineTuning, tmp_path: Path) -> None:
    tuning.aim(params("lora"), seed=0)
    with pytest.raises(UserError, match="holds 0 weight files"):
        tuning.load_weights(tmp_path)


@pytest.mark.parametrize(
    ("aim", "seed", "differs"), [(params("lora", rank=8), 0, "params"), (params("lora"), 1, "seed")]
)
def test_the_state_of_another_fit_is_refused(tuning: FineTuning, aim: Params, seed: int, differs: str) -> None:
    tuning.aim(params("lora"), seed=0)
    tensors, meta = tuning.state()
    tuning.aim(aim, seed)
    with pytest.raises(ValueError, match=rf"of another fit \({differs} differ\)"):
        tuning.load_state(tensors, meta)


def test_provenance_is_json_and_tells_sizes_hashes_and_versions(tuning: FineTuning) -> None:
    tuning.aim(params("fairlora", rank=8), seed=5)
    found = json.loads(json.dumps(tuning.provenance()))
    assert found["params"]["lambda"] == 1.0
    assert found["seed"] == 5
    assert found["precision"] == "fp32"
    assert found["threads"] == 1
    assert found["split_hash"] == third(DataConfig()).split_hash
    assert found["versions"]["torch"] == torch.__version__
    assert (found["method"], found["dataset"], found["backbone"]) == ("fairlora", "digits-on-scenes", "small-vit")
    assert found["backbone_source"] == tuning._backbone.source
    assert found["adapted_attention_blocks"] == "3 of 3"
    assert found["validation_examples"] == len(third(DataConfig()).splits["val"])
    assert found["total_parameters"] == found["trainable_parameters"] + sum(
        tensor.numel() for tensor in tuning._backbone.model.parameters()
    )
    # rank 8 on three qkv of 64 -> 192: 3 * 8 * (64 + 192); head 64 * 2 + 2
    assert found["trainable_parameters"] == 3 * 8 * 256 + 130


def test_the_test_split_is_not_read_before_it_is_asked_for() -> None:
    tuning = prepared()
    tuning.aim(params("lora"), seed=0)
    assert tuning.provenance()["content_hash"].keys() == {"train", "val"}
    tuning.evaluate("test")
    assert tuning.provenance()["content_hash"].keys() == {"train", "val", "test"}


def test_groups_that_the_data_does_not_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(config: DataConfig) -> Dataset:
        whole = third(config)
        parts = {name: replace(part, attributes_N=None) for name, part in whole.splits.items()}
        return replace(whole, splits=parts, attributes=())

    monkeypatch.setattr(finetuning.data, "load", blind)
    with pytest.raises(UserError, match=r"groups is 'cell': .* has no attribute.* Use 'class'"):
        prepared()


def test_without_an_aim_there_is_nothing_to_train() -> None:
    with pytest.raises(RuntimeError, match=r"Call prepare\(\), then aim"):
        FineTuning(TASK, device="cpu").train_epoch()


def test_a_dead_adapter_is_found_once_for_each_wiring(tuning: FineTuning, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    check: Callable[..., None] = finetuning.adapters.check_effect
    monkeypatch.setattr(finetuning.adapters, "check_effect", lambda *args: (seen.append(1), check(*args)))
    fresh = prepared()
    for rank in (4, 8):
        fresh.aim(params("lora", rank=rank), seed=0)
    assert len(seen) == 1
    fresh.aim(params("lora", layers="attention"), seed=0)
    assert len(seen) == 2
