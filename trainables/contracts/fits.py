"""The laws of a fit, for every dataset, backbone and method; and those of methods, datasets and audits alone.

A fine-tuning is prepared already; `params` are of two epochs or more.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.audits import AUDITS, Target
from trainables.contracts import Law, hold
from trainables.data.base import SPLITS, Dataset
from trainables.finetuning import FineTuning
from trainables.methods import METHODS
from trainables.methods.base import GroupInfo, Objective
from trainables.options import Chosen, Option
from trainables.params import Params


def moves_its_own(tuning: FineTuning, params: Params) -> None:
    """A fit is finite, and moves the weights of its method and no others."""
    tuning.aim(params, seed=0)
    before = _weights(tuning)
    logs = [tuning.train_epoch() for _ in range(params.epochs)]
    heads, adapter = tuning.backbone.heads, METHODS[params.method].adapter
    moved = {name for name, tensor in _weights(tuning).items() if not torch.equal(tensor, before[name])}
    of_head = {name for name in moved if any(_of_head(name, head) for head in heads)}
    strange = (
        [] if adapter == "full" else [name for name in moved - of_head if adapter == "head" or ".lora_" not in name]
    )
    hold(not strange, f"{params.method} moved {', '.join(sorted(strange)[:3])}, which are not its own.")
    hold(of_head, "the head did not move.")
    hold(adapter == "head" or moved - of_head, "nothing but the head moved.")
    broken = {name for log in logs for name, value in log.items() if not math.isfinite(value)}
    hold(not broken, f"the log's {', '.join(sorted(broken))} is not a finite number.")
    values = tuning.evaluate("val").values
    hold(0 <= values["accuracy"] <= 1 and math.isfinite(values["loss"]), "accuracy or loss are no numbers.")


def goes_on(tuning: FineTuning, params: Params) -> None:
    """A fit that is continued from its state, after an epoch or within one, ends with the bits of an unbroken one."""
    tuning.aim(params, seed=3)
    tuning.train_epoch()
    states = [tuning.state()]

    def keep() -> None:
        if len(states) == 1:  # after the first step of the second epoch
            states.append(tuning.state())

    tuning.between_steps = keep
    try:
        log = _to_the_end(tuning)
    finally:
        del tuning.between_steps
    end, metrics = tuning.state()[0], tuning.evaluate("val").to_json()
    for tensors, meta in states:
        tuning.aim(params, seed=3)  # what is done is not trained again: it comes from the state
        tuning.load_state(tensors, json.loads(json.dumps(meta)))
        hold(_to_the_end(tuning) == log, "its log differs.")
        again = tuning.state()[0]
        hold(again.keys() == end.keys(), "its state has other tensors than that of an unbroken one.")
        differing = [name for name in end if not torch.equal(again[name], end[name])]
        hold(
            not differing, f"{', '.join(differing[:3])} differ: keep in state() whatever is carried from step to step."
        )
        hold(tuning.evaluate("val").to_json() == metrics, "its metrics differ.")


def repeats(tuning: FineTuning, params: Params) -> None:
    """The same seed gives the same numbers, another one others."""
    logs = []
    for seed in (0, 0, 1):
        tuning.aim(params, seed)
        logs.append(_timeless(tuning.train_epoch()))
    hold(logs[0] == logs[1], "two fits with one seed differ. Draw chance from torch or from the seed that is given.")
    hold(logs[0] != logs[2], "a fit with another seed is the same.")


def saves_what_it_measured(tuning: FineTuning, params: Params) -> None:
    """The saved model is the measured one, and what is frozen stays as it was."""
    tuning.aim(params, seed=2)
    still = {name: buffer.clone() for name, buffer in tuning.model.named_buffers()}
    _to_the_end(tuning)
    if METHODS[params.method].adapter != "full":  # the body is frozen, and so are the statistics of its norms
        moved = [name for name, buffer in tuning.model.named_buffers() if not torch.equal(buffer, still[name])]
        hold(not moved, f"the buffers {', '.join(moved[:3])} of the frozen body moved.")
    rows = np.arange(min(8, len(tuning.dataset.splits["val"])))
    measured = tuning.log_probs("val", rows)
    with tempfile.TemporaryDirectory() as folder:
        tuning.save(Path(folder) / "weights")
        tuning.aim(params, seed=5)
        tuning.load_weights(Path(folder) / "weights")
    hold(np.array_equal(tuning.log_probs("val", rows), measured), "what was saved answers otherwise.")


FITS: tuple[Law, ...] = (moves_its_own, goes_on, repeats, saves_what_it_measured)

# --- methods


def declares_what_it_reads(method: str) -> None:
    """Each parameter that it declares has a default of its kind, and a usual range or choices that hold it."""
    declares_its_options(METHODS[method].own, Params)
    for param in METHODS[method].own:
        hold(param.doc and param.source, f"the parameter '{param.name}' does not say what it is, or its source.")
        for end in (param.low, param.high, *param.choices):
            hold(end is None or _is_of(param, end), f"{end!r} is no value of the parameter '{param.name}'.")
        if param.low is not None and param.high is not None:
            hold(param.low < param.high, f"the range of '{param.name}' is empty.")
            hold(not param.log or param.low > 0, f"the log range of '{param.name}' begins at {param.low:g}.")


def declares_its_options(options: Iterable[Option], section: type[Chosen]) -> None:
    """Each option has a default of its kind, and a name that is free."""
    for option in options:
        default = option.default_for({})
        hold(_is_of(option, default), f"the default of '{option.name}', {default!r}, is not of its kind.")
        hold(option.doc, f"the option '{option.name}' does not say what it is.")
        hold(not hasattr(section, option.name), f"'{option.name}' has another meaning there. Choose another name.")


def weighs_any_batch(method: str) -> None:
    """Its loss is a finite number that can be differentiated, also where groups are absent from a batch."""
    for name, loss_N, groups_N in _batches():
        loss_N = loss_N.clone().requires_grad_(True)
        loss, log = _objective(method)(loss_N, groups_N)
        hold(loss.ndim == 0 and bool(loss.isfinite()), f"on {name} the loss is {loss.tolist()}.")
        (grad_N,) = torch.autograd.grad(loss, loss_N)
        hold(bool(grad_N.isfinite().all()), f"on {name} the gradient is not finite.")
        hold(all(not value.requires_grad for value in log.values()), "what it logs must be detached.")


def does_not_mind_the_order(method: str) -> None:
    """The order of a batch changes nothing."""
    for name, loss_N, groups_N in _batches():
        order_N = torch.randperm(len(loss_N), generator=torch.Generator().manual_seed(0))
        one, other = _objective(method)(loss_N, groups_N)[0], _objective(method)(loss_N[order_N], groups_N[order_N])[0]
        hold(torch.allclose(one, other, rtol=1e-5), f"on {name} the loss is {one:g}, and {other:g} in another order.")


def does_not_mind_the_names(method: str) -> None:
    """Which number a group has changes nothing."""
    rename = torch.tensor([2, 0, 3, 1])
    for name, loss_N, groups_N in _batches():
        one, other = _objective(method)(loss_N, groups_N)[0], _objective(method, rename)(loss_N, rename[groups_N])[0]
        hold(torch.allclose(one, other, rtol=1e-5), f"on {name} the loss is {one:g}, and {other:g} with other numbers.")


def remembers(method: str) -> None:
    """What it carries from batch to batch is in its state."""
    first, second = _objective(method), _objective(method)
    batches = list(_batches())
    for _, loss_N, groups_N in batches:
        first(loss_N, groups_N)
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    _, loss_N, groups_N = batches[0]
    one, other = first(loss_N, groups_N)[0], second(loss_N, groups_N)[0]
    hold(torch.equal(one, other), f"the next loss is {one:g}, and {other:g} from its state.")


def takes_groups_that_overlap(method: str) -> None:
    """If it says that groups may overlap: where none do, its loss is that of the partition."""
    if not METHODS[method].overlapping:
        return
    members = tuple(tuple(g == p for g in range(4)) for p in range(4))
    for name, loss_N, groups_N in _batches():
        one, other = _objective(method)(loss_N, groups_N)[0], _objective(method, members=members)(loss_N, groups_N)[0]
        hold(torch.equal(one, other), f"on {name} the loss is {one:g}, and {other:g} of groups that could overlap.")


METHOD: tuple[Law, ...] = (
    declares_what_it_reads,
    weighs_any_batch,
    does_not_mind_the_order,
    does_not_mind_the_names,
    remembers,
    takes_groups_that_overlap,
)
_COUNTS = (40, 30, 20, 10)


def _objective(method: str, rename: Tensor | None = None, members: tuple[tuple[bool, ...], ...] = ()) -> Objective:
    counts = _COUNTS if rename is None else tuple(_COUNTS[int(i)] for i in rename.argsort())
    groups = GroupInfo(("a", "b", "c", "d"), counts, members)
    made: Objective = METHODS[method].objective.load()(params=Params(method=method), groups=groups, reduction="sum")
    return made


def _batches() -> list[tuple[str, Tensor, Tensor]]:
    chance = torch.Generator().manual_seed(0)
    groups_N = torch.arange(16) % 4
    return [
        ("a batch of all groups", torch.rand(16, generator=chance), groups_N),
        ("a batch without two of the groups", torch.rand(16, generator=chance), groups_N % 2),
        ("a batch of one group", torch.rand(16, generator=chance), groups_N * 0 + 2),
        ("one example", torch.rand(1, generator=chance), groups_N[:1]),
        ("losses of 0", torch.zeros(16), groups_N),
    ]


# --- datasets


def is_whole(dataset: Dataset, again: Dataset) -> None:
    """Each split has examples, each class is trained on, and every index has a name."""
    for name in SPLITS:
        part = dataset.splits.get(name)
        hold(part is not None and len(part), f"the split {name} has no examples.")
        assert part is not None
        hold(set(part.labels_N.tolist()) <= set(range(len(dataset.classes))), f"a label of {name} has no class.")
        hold(
            (part.attributes_N is None) == (not dataset.attributes),
            f"{name} has attributes, or their names, alone.",
        )
        if part.attributes_N is not None:
            values = set(part.attributes_N.tolist())
            hold(values <= set(range(len(dataset.attributes))), f"an attribute of {name} has no name.")
        sizes = {len(part.labels_N), len(part.paths), len(part.ids or part.paths)}
        hold(len(sizes) == 1, f"{name} has {sorted(sizes)} labels, paths and ids.")
        members = None if part.members_NG is None else part.members_NG.shape
        wanted = (len(part), len(dataset.overlapping)) if dataset.overlapping else None
        hold(members == wanted, f"the members of the overlapping groups in {name} are {members}, not {wanted}.")
    for facet in dataset.facets:
        whole = len(facet.of_joint) == len(dataset.attributes) and set(facet.of_joint) <= set(range(len(facet.values)))
        hold(whole, f"the attribute '{facet.name}' does not have a value for each joint one.")
    untrained = set(range(len(dataset.classes))) - set(dataset.splits["train"].labels_N.tolist())
    hold(not untrained, f"nobody trains on {', '.join(dataset.classes[i] for i in sorted(untrained))}.")
    hold(len(set(dataset.classes)) == len(dataset.classes) >= 2, f"the classes are {dataset.classes}.")


def has_each_example_once(dataset: Dataset, again: Dataset) -> None:
    """No example is in two splits, or twice in one."""
    ids = [id_ for name in SPLITS for id_ in dataset.ids(name)]
    twice = sorted({id_ for id_ in ids if ids.count(id_) > 1}) if len(set(ids)) < len(ids) else []
    hold(not twice, f"{', '.join(twice[:3])} is there more than once.")


def has_its_files(dataset: Dataset, again: Dataset) -> None:
    """Every image is a file below the dataset's root."""
    for name in SPLITS:
        for path in dataset.splits[name].paths:
            hold(path.is_absolute() and path.is_relative_to(dataset.root), f"{path} is not below {dataset.root}.")
            hold(path.is_file(), f"{path} is not there.")


def is_the_same_again(dataset: Dataset, again: Dataset) -> None:
    """Loaded again it is the same, split by split."""
    hold(dataset.split_hash == again.split_hash, f"its split hash was {dataset.split_hash}, then {again.split_hash}.")


DATASET: tuple[Law, ...] = (is_whole, is_the_same_again, has_each_example_once, has_its_files)

# --- audits


def is_repeatable(audit: str, tuning: FineTuning, params: Params) -> None:
    """An audit gives strict JSON, and the same for the same fit."""
    tuning.aim(params, seed=0)
    _to_the_end(tuning)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        tuning.save(weights)
        one, again = (AUDITS[audit].load()(tuning, [Target(params, 0, weights)]) for _ in range(2))
    hold(json.loads(json.dumps(one, allow_nan=False)) == one, "what it gives is changed by JSON.")
    hold(one == again, "asked again it gives something else.")


AUDIT: tuple[Law, ...] = (is_repeatable,)


def _timeless(log: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in log.items() if name != "seconds"}


def _to_the_end(tuning: FineTuning) -> dict[str, float]:
    """Train what is left; the log of the last epoch, without times."""
    log: dict[str, float] = {}
    while not tuning.done:
        log = tuning.train_epoch()
    return _timeless(log)


def _weights(tuning: FineTuning) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}


def _of_head(name: str, head: str) -> bool:
    """Whether this tensor of the whole model is of the head that trains."""
    return name.startswith((f"{head}.", f"base_model.model.{head}.modules_to_save."))


def _is_of(option: Option, value: object) -> bool:
    try:
        return bool(option.adapter.validate_python(value) == value) or isinstance(option.default, str)
    except ValueError:
        return False
