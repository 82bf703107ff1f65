"""Audits of points of the front: run on this machine, written beside the sweep, never read by what chooses."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboards.figures import exposure
from dashboards.ink import paper
from sweeper.errors import UserError, unknown
from sweeper.front.intervals import t_quantile
from sweeper.models import folder as hand
from sweeper.models.folder import Point
from sweeper.results.results import Results
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial, typical
from trainables import files
from trainables.audits.membership import LEAST
from trainables.methods import METHODS
from trainables.params import Params

MATCHED = 0.1  # training losses that differ by at most this share of the larger are "about the same"
MOST = 4  # fits in one picture


@dataclass(frozen=True)
class Matched:
    """The trials of two methods whose training losses are nearest, and what is to be said of that."""

    trials: tuple[Trial, Trial]
    sentence: str


def membership(
    folder: SweepFolder,
    points: Sequence[str],
    *,
    matched: tuple[str, str] | None = None,
    heard: Callable[[str], None] = lambda done: None,
    **options: Any,
) -> tuple[Path, dict[str, Any]]:
    """Try to tell whom these fits were trained on: the file that was written, beside its pictures, and what it says.

    Instead of `points`, `matched` names two methods: the fits of theirs with like training losses are attacked.
    `options` are those of `trainables.audits.shadows.audit`; `heard` is told of each model that was trained.

    Raises:
        UserError: there is no such point, its weights were not kept, or the data is not what it was trained on.
    """
    from trainables.audits.shadows import check  # loads torch

    check(**options)
    results = Results.open(folder)
    pair = match(results, *matched) if matched else None
    chosen = [hand.point(results, trial) for trial in pair.trials] if pair else _chosen(results, points)
    found = _asked("membership", results, chosen, heard, **options)
    for point, target in zip(chosen, found["targets"], strict=True):
        _with_intervals(target)
        loss = _training_loss(point)
        target |= {"trial": point.trial.number, "label": point.trial.label, "seed": point.seed, "training_loss": loss}
    told = {"sweep": results.spec.name, "matched": pair.sentence if pair else None} | found
    fits = "+".join(f"{point.trial.number}-{point.seed}" for point in chosen)
    place = folder.path / "audits" / f"membership-{found['protocol']}-{found['shadow_method']}-{fits}.json"
    place.parent.mkdir(exist_ok=True)
    labels = [str(target["label"]) for target in found["targets"]]
    methods = dict(zip(names(told), (label.partition(" ")[0] for label in labels), strict=True))
    for attack in found["targets"][0]["attacks"]:
        attacks = {name: target["attacks"][attack] for name, target in zip(names(told), found["targets"], strict=True)}
        numbers = exposure.roc_numbers(attack, attacks, kind_of(told))
        for suffix in (".png", ".pdf"):
            with files.whole(place.with_name(f"{place.stem}-{attack}{suffix}")) as temporary:
                paper.save(exposure.roc_chart(numbers, methods), temporary)
    files.write_text(place, json.dumps(told, indent=2) + "\n")
    return place, told


def other(
    folder: SweepFolder, points: Sequence[str], audit: str, *, heard: Callable[[str], None] = lambda done: None
) -> tuple[Path, dict[str, Any]]:
    """What any line of AUDITS says of these fits, as it says it, and the file that was written.

    Raises:
        UserError: as `membership` does, or there is no such audit.
    """
    results = Results.open(folder)
    chosen = _chosen(results, points)
    fits = [{"trial": point.trial.number, "label": point.trial.label, "seed": point.seed} for point in chosen]
    told = {"sweep": results.spec.name, "audit": audit, "fits": fits} | _asked(audit, results, chosen, heard)
    place = folder.path / "audits" / f"{audit}-{'+'.join(f'{p.trial.number}-{p.seed}' for p in chosen)}.json"
    place.parent.mkdir(exist_ok=True)
    files.write_text(place, json.dumps(told, indent=2) + "\n")
    return place, told


def _asked(
    audit: str, results: Results, chosen: Sequence[Point], heard: Callable[[str], None], **options: Any
) -> dict[str, Any]:
    """The audit's own answer, once weights and data are seen to be those of the fits."""
    from trainables.audits import AUDITS, Target
    from trainables.finetuning import FineTuning  # loads torch

    line = AUDITS[audit]
    for point in chosen:
        point.fit.check_weights()
    tuning = FineTuning(results.spec.task())
    tuning.prepare()
    for point in chosen:
        vouched = (point.fit.result() or {}).get("provenance", {}).get("split_hash")
        if vouched is not None and vouched != tuning.dataset.split_hash:
            raise UserError(f"the data is not what trial {point.trial.number} was trained on. Put it back as it was.")
    targets = [Target(Params.from_flat(dict(point.trial.params)), point.seed, point.fit.weights) for point in chosen]
    found: dict[str, Any] = line.load()(tuning, targets, heard=heard, **options)
    return found


def match(results: Results, first: str, second: str) -> Matched:
    """The best pair of fits of two methods with about the same training loss; without one, the nearest pair.

    The loss is that of the last epoch, of the fit that stands for its trial. Of several such pairs the one whose first
    objective is best on average is taken.

    Raises:
        UserError: no such method, or no complete trial of it whose weights were kept.
    """
    for method in (first, second):
        if method not in METHODS:
            raise UserError(unknown(f"--matched: the method '{method}'", method, METHODS))
    if first == second:
        raise UserError(f"--matched names '{first}' twice. Use two methods, such as lora fft.")
    losses: dict[str, list[tuple[Trial, float]]] = {first: [], second: []}
    gone: Counter[str] = Counter()
    for trial in results.trials:
        method = str(trial.params.get("method"))
        if method not in losses or trial.state is not State.COMPLETE:
            continue
        fits = {fit.seed: fit for fit in results.fits_of(trial.number)}
        fit = fits[typical({seed: fit.values for seed, fit in fits.items()}, results.spec.objectives)]
        if fit.weights is None or not fit.history:
            gone[method] += 1
        else:
            losses[method].append((trial, float(fit.history[-1]["train_loss"])))
    for method, kept in losses.items():
        if not kept:
            raise UserError(
                f"sweep '{results.spec.name}' has no fit of {method} to attack (complete trials without weights: "
                f"{gone[method]}). Use storage.keep_weights: all, and '{method}' in space.method or search.baselines."
            )
    name, sense = next(iter(results.spec.objectives.items()))
    pairs = [(one, other, _gap(a, b), a, b) for one, a in losses[first] for other, b in losses[second]]
    alike = [pair for pair in pairs if pair[2] <= MATCHED]
    sign = 1 if sense == "max" else -1
    best = (
        max(alike, key=lambda pair: sign * (pair[0].values[name] + pair[1].values[name]))
        if alike
        else min(pairs, key=lambda pair: pair[2])
    )
    one, other, gap, a, b = best
    sentence = (
        f"Training losses: #{one.number} {one.label} {a:.3g}, #{other.number} {other.label} {b:.3g}. "
        + (
            f"Pairs within {MATCHED:.0%} of each other: {len(alike)}; this is the best of them in {name}."
            if alike
            else f"No pair is within {MATCHED:.0%}; this one is nearest ({gap:.0%}), and the fit with the smaller loss "
            "may give away more for that alone."
        )
        + (f" Trials left out because their weights were not kept: {sum(gone.values())}." if gone else "")
    )
    return Matched((one, other), sentence)


def _chosen(results: Results, points: Sequence[str]) -> list[Point]:
    if len(points) > MOST:
        raise UserError(f"{len(points)} points are asked for. Use at most {MOST} at a time.")
    chosen = [hand.find(results, which) for which in points]
    twice = [n for n, count in Counter(point.trial.number for point in chosen).items() if count > 1]
    if twice:
        raise UserError(f"trial {twice[0]} is asked for twice, as {' and '.join(points)}. Name each trial once.")
    return chosen


def _training_loss(point: Point) -> float | None:
    history = (point.fit.result() or {}).get("history") or [{}]
    loss: float | None = history[-1].get("train_loss")
    return loss


def _gap(a: float, b: float) -> float:
    larger = max(a, b)
    return abs(a - b) / larger if larger else 0.0


def _with_intervals(found: Any) -> None:
    """Give each difference its 95 % interval: Student's t, with the degrees of freedom of its variances."""
    for part in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        _with_intervals(part)
    if isinstance(found, dict) and "variances" in found:
        parts = [(variance, df) for variance, df in found["variances"]]
        half = t_quantile(parts) * math.sqrt(sum(variance for variance, _ in parts))
        found["interval"] = [max(-1.0, found["value"] - half), min(1.0, found["value"] + half)]


# --- for people


def names(told: Mapping[str, Any]) -> list[str]:
    """A name for each fit: its method where these differ, else also its number."""
    labels = [target["label"] for target in told["targets"]]
    methods = [label.partition(" ")[0] for label in labels]
    if len(set(methods)) == len(methods):
        return methods
    return [f"#{target['trial']} {label}" for target, label in zip(told["targets"], labels, strict=True)]


def kind_of(told: Mapping[str, Any]) -> str:
    """Which groups are shown: by attribute, or by class where there is none."""
    groups = next(iter(told["targets"][0]["attacks"].values()))["groups"]
    return "attribute" if "attribute" in groups else "class"


def sentences(told: Mapping[str, Any]) -> Iterator[str]:
    """Who was asked about; for each fit and attack what it reads and what of that is placebo; by group for LiRA."""
    yield (
        f"Asked about {told['members']} examples of the training split and {told['others']} of the test split "
        f"(protocol {told['protocol']}); {told['shadows']} shadow models on halves of the other {told['pool']}."
    )
    if told["matched"]:
        yield told["matched"]
    kind = kind_of(told)
    for name, target in zip(names(told), told["targets"], strict=True):
        right = {who: target[who] for who in ("accuracy", "twins", "shadows") if target[who]}
        right = {{"accuracy": "it"}.get(who, f"its {who}"): share for who, share in right.items()}
        shares = ", ".join(f"{who} {share['members']:.3f} and {share['others']:.3f}" for who, share in right.items())
        which = f"trial {target['trial']}, {target['label']}, seed {target['seed']}"
        yield f"{name}: {which}. Accuracy on members and others: {shares}."
        for attack, found in target["attacks"].items():
            yield f"  {attack}: {_sentence(found)}"
            groups = [group for group in found["groups"][kind] if group["auc"] is not None]
            if attack == "lira":
                yield from (f"    {group['name']}: {_area(group)}" for group in groups[: exposure.MOST])
                if len(groups) > exposure.MOST:
                    yield f"    and {len(groups) - exposure.MOST} more groups, in the file"


def _sentence(found: Mapping[str, Any]) -> str:
    if found["auc"] is None:
        return f"unknown: {found['reasons']['auc']}"
    parts, unknown_at = [_area(found)], []
    for rate, share in found["tpr_at_fpr"].items():
        if share is None:
            unknown_at.append(f"{float(rate):.1%}")
        else:
            placebo = f" (placebo {found['placebo']['tpr_at_fpr'][rate]:.1%})" if "placebo" in found else ""
            parts.append(f"at {float(rate):.1%} false alarms {share:.1%} are found{placebo}")
    if unknown_at:
        few = f"{found['others']} non-members are too few, {LEAST} must lie above"
        parts.append(f"at {' and '.join(unknown_at)} false alarms unknown ({few})")
    return "; ".join(parts)


def _area(found: Mapping[str, Any]) -> str:
    if "placebo" not in found:
        return f"area {found['auc']:.3f}, of the shadow models {found['shadows']:.3f}, without a placebo (--twins)"
    text = f"area {found['auc']:.3f}, placebo {found['placebo']['auc']:.3f}, {_difference(found['lead'])}"
    return text + (f"; {_difference(found['above_first'])} above the first fit" if "above_first" in found else "")


def _difference(lead: Mapping[str, Any]) -> str:
    if "interval" not in lead:
        return f"{lead['value']:+.3f} (too few to say how sure)"
    low, high = lead["interval"]
    return f"{lead['value']:+.3f} [{low:+.3f}, {high:+.3f}]"
