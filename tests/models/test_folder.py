"""A pulled point is what was trained: plain libraries, in a process of their own, give the same logits."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, constants
from mlflow.exceptions import MlflowException
from PIL import Image

from sweeper.cli import main
from sweeper.errors import UserError
from sweeper.models import audit, card, registered
from sweeper.models import folder as hand
from sweeper.record import registry
from sweeper.results import provenance
from sweeper.results.fit import FitResult
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.state import opening
from sweeper.state.atomic import write_json
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial
from tests import finished, hostile
from tests.models import fake_hub
from trainables import backbones, serving
from trainables.audits import AUDITS, Target
from trainables.backbones import BackboneConfig, weights
from trainables.data.images.transform import Transform
from trainables.finetuning import FineTuning
from trainables.params import Params
from trainables.table import Entry

SPEC = """
name: tiny
groups: cell
space: {method: [lora, fft, probe], rank: 4, learning_rate: 2e-3, epochs: 1}
search: {sampler: grid, trials: 3, seeds: 3}
"""
SEEDS = (0, 1, 2)
SCORES = {  # accuracy and delta F1 of each seed: trial 0 is accurate, 1 the fair one, 2 beaten by both
    0: [(0.90, 0.30), (0.80, 0.20), (0.85, 0.25)],
    1: [(0.70, 0.10)] * 3,
    2: [(0.60, 0.40)] * 3,
}


class Sweep:
    """A finished sweep with real weights and made-up numbers, and what the models said when they were saved."""

    def __init__(self, root: Path) -> None:
        self.folder = SweepFolder(root / "tiny", token=1)
        self.folder.path.mkdir()
        self.folder.spec.write_text(loading.dump(loading.parse(SPEC)))
        self.spec = opening.open_spec(self.folder)
        self.described = provenance.describe(self.spec, self.folder.path)
        self.tuning = FineTuning(self.spec.task(), device="cpu", threads=1)
        self.tuning.prepare()
        self.images = self.tuning.dataset.splits["val"].paths[:3]
        self.logits: dict[int, torch.Tensor] = {}
        study = Study(self.spec, opening.study_url(self.spec, self.folder), create=True)
        for number, scores in SCORES.items():
            proposal = study.propose()
            assert proposal is not None
            study.complete(number, [self.train(number, seed, dict(proposal.params), scores[seed]) for seed in SEEDS])

    def train(self, number: int, seed: int, params: dict, score: tuple[float, float]) -> dict[str, float]:
        """One epoch, saved as the actor does; only the seed that will be pulled is really trained."""
        values = dict(zip(("accuracy", "delta_f1"), score, strict=True))
        fit = self.folder.fit(number, seed)
        fit.path.mkdir(parents=True)
        if seed == (2 if number == 0 else 0):
            self.tuning.aim(Params.from_flat(params), seed)
            self.tuning.train_epoch()
            self.tuning.save(fit.path / "made")
            fit.keep_weights(fit.path / "made")
            model = self.tuning.fit.model.eval()
            with torch.no_grad():
                self.logits[number] = model(self.tuning._split("val").take(slice(0, 3)))
        groups = [{"kind": "cell", "name": "8-9|china", "n": 60, "accuracy": 0.8, "loss": 0.5}]
        fit.write_result(
            {"values": values, "groups": groups, "history": [], "provenance": {"device": "a CPU"}, "seconds": 1.0}
            | {"params": params, "reasons": {}, "error": None}
        )
        return values


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return Sweep(tmp_path_factory.mktemp("root"))


PLAIN = """
import json, sys
said = []
for code, images in json.load(sys.stdin):
    said.append([])
    for image in images:
        exec(code.replace('"image.jpg"', repr(image)))
        said[-1].append(logits[0].tolist())
assert not {"sweeper", "trainables", "ray", "optuna", "mlflow"} & set(sys.modules)
print(json.dumps(said))
"""


def plainly(folders: Sequence[Path], images: Sequence[Path]) -> list[torch.Tensor]:
    """The logits of the code in each folder's README, run in a process that does not see this package."""
    told = []
    for folder in folders:
        code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
        assert code is not None
        told.append([code[1].replace('FOLDER = "."', f"FOLDER = {str(folder)!r}"), [str(image) for image in images]])
    command = [sys.executable, "-I", "-c", PLAIN]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.tensor(logits) for logits in json.loads(done.stdout.splitlines()[-1])]


PULLED = {  # what is asked for, its trial, merged or not, and the files of its weights
    "lora": ("most-accurate", 0, False, {"adapter_config.json", "adapter_model.safetensors", "base.safetensors"}),
    "lora-merged": ("most-accurate", 0, True, {"model.safetensors"}),
    "fft": ("fairest", 1, False, {"model.safetensors"}),
    "probe": ("2", 2, False, {"head.safetensors", "base.safetensors"}),
}


@pytest.fixture(scope="module")
def pulled(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("pulled")
    return {
        name: hand.pull(sweep.folder, which, place / name, merge=merge) for name, (which, _, merge, _) in PULLED.items()
    }


def test_plain_libraries_say_what_the_fits_said(sweep: Sweep, pulled: dict[str, Path]) -> None:
    said = plainly(list(pulled.values()), sweep.images)
    for (_, number, _, _), logits in zip(PULLED.values(), said, strict=True):
        torch.testing.assert_close(logits, sweep.logits[number], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PULLED)
def test_predict_says_what_the_fit_said_of_exactly_the_files_there_must_be(
    sweep: Sweep, pulled: dict[str, Path], name: str
) -> None:
    _, number, _, files = PULLED[name]
    always = {
        "README.md",
        "LICENSE.md",
        "front.png",
        "fit.json",
        "labels.json",
        "preprocessing.json",
        "results.json",
        "sweep.yaml",
    }
    assert {file.name for file in pulled[name].iterdir()} == always | files
    said = [list(answer.probabilities.values()) for answer in serving.predict(pulled[name], sweep.images)]
    torch.testing.assert_close(torch.tensor(said), sweep.logits[number].softmax(1), rtol=1e-4, atol=1e-5)


def test_the_typical_seed_is_pulled_and_nothing_names_this_machine(sweep: Sweep, tmp_path: Path) -> None:
    folder = hand.pull(sweep.folder, "most-accurate", tmp_path / "out")
    assert "Seed 2." in (folder / "README.md").read_text()  # .85 of .90, .80, .85; the best is seed 0
    for file in folder.glob("*.[jmy]*"):
        assert str(tmp_path.parent.parent) not in file.read_text(), file
        assert "/.cache" not in file.read_text(), file


def test_the_card_gives_groups_with_counts_and_intervals_and_test_numbers_apart(sweep: Sweep, tmp_path: Path) -> None:
    tested = {"values": {"accuracy": 0.75, "delta_f1": 0.4}, "groups": [{"kind": "cell", "name": "a", "n": 0}]}
    write_json(sweep.folder.held_out(0, 2), tested)
    folder = hand.pull(sweep.folder, "0", tmp_path / "out")
    text = (folder / "README.md").read_text()
    assert "| cell | 8-9\\|china | 60 | 0.800 | 0.682 … 0.882 |  |" in text
    assert "| accuracy (max) | 0.850 | 0.750 | 0.850 ± 0.050 |" in text
    assert "test numbers chose nothing" in text
    assert "| cell | a | 0 | – | – |  |" in text
    assert "licence: scikit-learn's digits (UCI, CC BY 4.0)" in text
    assert json.loads((folder / "results.json").read_text())["test"] == tested
    loading.load(folder / "sweep.yaml")


def test_a_card_without_test_numbers_says_so(sweep: Sweep, tmp_path: Path) -> None:
    text = (hand.pull(sweep.folder, "fairest", tmp_path / "out") / "README.md").read_text()
    assert "it was not measured on the test split" in text


def card_of(name: str) -> str:
    """A card with the name wherever one comes from outside."""
    return card.write(facts_of(name))


def facts_of(name: str, repository: str = "") -> card.CardFacts:
    """Facts with the name wherever one comes from outside."""
    values = {"accuracy": 0.8, "delta_f1": None, "eod": math.nan}
    groups = [{"kind": "class", "name": name, "n": 60, "accuracy": 0.8, "f1": 0.7}]
    dataset = {"licence": name, "classes": [name, "b"], "split_hash": name, "splits": {"val": {"n": 60}}}
    return card.CardFacts(
        spec=loading.parse(SPEC),
        trial=Trial(0, State.COMPLETE, {"method": "lora", "alpha": name}),
        seed=0,
        asked="knee",
        tried=3,
        merged=False,
        code="model = load(FOLDER)",
        library="peft",
        base=name,
        repository=repository,
        weights=(1, 2),
        dataset=dataset,
        provenance={"device": name, "precision": name, "versions": {"torch": name}},
        commit=name,
        splits=[card.SplitMetrics("validation", values, groups), card.SplitMetrics("test", {"accuracy": 0.7}, [])],
    )


def test_a_hub_reads_the_cards_metadata_with_the_metrics_of_both_splits() -> None:
    data = ModelCard(card_of("name")).data
    assert (data.library_name, data.base_model, data.tags) == ("peft", None, ["fairness", "lora"])  # of no hub
    assert (data.license, data.license_name, data.license_link) == ("other", "data-and-base-model", "LICENSE.md")
    assert (data.metrics, data.datasets) == (["accuracy"], None)
    assert data.model_name == "tiny, trial 0"
    results = [(row.dataset_split, row.metric_type, row.metric_value) for row in data.eval_results]
    assert results == [("validation", "accuracy", 0.8), ("test", "accuracy", 0.7)]  # what is undefined has no number


@pytest.mark.parametrize(
    "name", [*hostile.NAMES, 'a: "b"\n---\nc', "yes", "1.5", "{a: [", "- a", "? x", "# c", "%a", "!!x"]
)
def test_a_name_is_text_in_the_card_and_in_its_metadata(name: str) -> None:
    harmless, hub = hostile.rendered(ModelCard(card_of("name")).text), ModelCard(card_of(name))
    page = hostile.rendered(hub.text)
    assert set(hub.data.to_dict()) == set(ModelCard(card_of("name")).data.to_dict())
    assert page.tags == harmless.tags
    assert page.addresses == harmless.addresses
    assert " ".join(page.text.split()) == " ".join(harmless.text.split()).replace("name", " ".join(name.split()))


def test_a_card_names_the_hubs_own_base_and_what_loads_it(
    pulled: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = {}
    for name, place in pulled.items():
        hub = ModelCard.load(place / "README.md")
        libraries[name] = hub.data.library_name
        assert ("peft" in hub.text.split("```python")[1].split("```")[0]) == (name == "lora")
        assert "![the Pareto front of the sweep, of which this is a point](front.png)" in hub.text
        assert Image.open(place / "front.png").size[0] > 800
        assert "licence: scikit-learn" in (place / "LICENSE.md").read_text()
    assert libraries == {"lora": "peft", "lora-merged": "timm", "fft": "timm", "probe": "timm"}
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda *_: None)
    named = {
        "timm:vit_base_patch16_224.augreg_in21k": "timm/vit_base_patch16_224.augreg_in21k",
        "open_clip:ViT-B-32/laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    }
    for name, repository in named.items():
        with pytest.raises(UserError, match=f"of {re.escape(repository)} is not in the hub cache"):
            backbones.load(BackboneConfig(name=name), classes=2)
        facts = facts_of(name, repository=repository)
        data = ModelCard(card.write(facts)).data
        assert (data.base_model, data.to_dict()["base_model_relation"]) == (repository, "adapter")


@pytest.mark.parametrize(
    ("which", "said"),
    [("nee", r"'nee' of 'tiny'.*Did you mean 'knee'"), ("7", r"'7' of 'tiny' is unknown"), ("../x", "is unknown")],
)
def test_an_unknown_point_is_refused_with_those_there_are(sweep: Sweep, tmp_path: Path, which: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        hand.pull(sweep.folder, which, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_never_touched(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UserError, match="holds something already"):
        hand.pull(sweep.folder, "knee", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_weights_that_were_not_kept_are_told_with_the_mend(sweep: Sweep, tmp_path: Path) -> None:
    folder = SweepFolder(sweep.folder.path, token=1)
    moved = folder.fit(2, 0).weights.rename(tmp_path / "weights")
    with pytest.raises(UserError, match=r"weights of trial 2 were not kept.*keep_weights: all"):
        hand.pull(folder, "2", tmp_path / "out")
    moved.rename(folder.fit(2, 0).weights)


def test_pull_and_predict_from_the_command_line(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(sweep.folder.path.parent)
    assert main.main(["pull", "tiny@fairest", "-o", str(tmp_path / "out"), "--root", root]) == 0
    assert "Read its README.md" in capsys.readouterr().out
    assert main.main(["predict", str(tmp_path / "out"), str(sweep.images[0]), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_a_point_is_pulled_and_pushed_and_nothing_is_written_where_it_could_not_be(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pull", "tiny@fairest", "-o", str(tmp_path / "out"), "--root", str(sweep.folder.path.parent)]
    assert main.main([*words, "--public"]) == 2
    assert main.main([*words, "--push", "nobody"]) == 2
    assert not (tmp_path / "out").exists()
    with fake_hub.running("hf_of_mine") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_mine")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        capsys.readouterr()
        assert main.main([*words, "--push", "me/tiny", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["pushed"] == f"{hub.url}/me/tiny"
    assert hub.private == {"me/tiny": True}
    assert hub.files["me/tiny"] == {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}


def test_predict_takes_folders_and_counts_and_names_what_is_no_image(
    sweep: Sweep, pulled: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    (photos / "inner").mkdir(parents=True)
    for place in ("a.png", "inner/b.png"):
        (photos / place).write_bytes(sweep.images[0].read_bytes())
    (photos / "inner" / "c.jpg").write_text("not an image")
    (photos / "notes.txt").write_text("not used")
    (photos / ".hidden").mkdir()
    (photos / "out.png").symlink_to(sweep.images[0])
    assert main.main(["predict", str(pulled["fft"]), str(photos), str(sweep.images[1])]) == 1
    told = capsys.readouterr()
    names = [line.rsplit(": ", 1)[0] for line in told.out.splitlines()]
    assert names == [str(photos / "a.png"), str(photos / "inner" / "b.png"), str(sweep.images[1])]
    assert f"{photos / 'inner' / 'c.jpg'}: is not an image" in told.err
    assert f"{photos / 'out.png'}: is a link out of the folder" in told.err
    assert "files not used, for their endings are not of images: 1: 1 .txt (notes.txt)" in told.err
    assert "hidden files and folders not used: 1: .hidden" in told.err
    assert "answers: 3; without one: 2, named above" in told.err
    assert main.main(["predict", str(pulled["fft"]), str(photos), "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["image"] for row in rows] == names[:2]
    shares = {name: float(share) for name, share in rows[0].items() if name.startswith("probability of ")}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert f"probability of {rows[0]['label']}" == max(shares, key=shares.get)
    assert main.main(["predict", str(pulled["fft"]), str(photos / "inner" / "c.jpg"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == []
    assert main.main(["predict", str(pulled["fft"]), str(photos), "--csv", "--json"]) == 2
    assert "use one of them" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_an_audit_is_said_and_written_beside_the_sweep(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(sweep.folder.path.parent)
    few = ["--shadows", "3", "--twins", "2", "--root", root]
    assert main.main(["audit", "tiny@0", "tiny@1", "--protocol", "code", *few]) == 0
    said = capsys.readouterr().out
    assert "shadow model 3 of 3 (lora)" in said
    assert "Asked about 75 examples of the training split and 300 of the test split (protocol code)" in said
    number, lead = r"[01]\.\d{3}", r"[+-][01]\.\d{3} \[[+-][01]\.\d{3}, [+-][01]\.\d{3}\]"
    first, second = re.findall(r"^  lira: (.*)$", said, re.MULTILINE)
    unknown = "at 0.1% and 1.0% false alarms unknown (300 non-members are too few, 5 must lie above)"
    assert re.fullmatch(rf"area {number}, placebo {number}, {lead}; {re.escape(unknown)}", first)
    assert re.fullmatch(rf"area {number}, .*; {lead} above the first fit; {re.escape(unknown)}", second)
    assert len(re.findall(rf"^    china: area {number}, placebo {number}, ", said, re.MULTILINE)) == 2
    assert "0.5" not in re.sub(r"0\.5\d", "", said)
    place = sweep.folder.path / "audits" / "membership-code-lora-0-2+1-0.json"
    written = json.loads(place.read_text())
    assert (written["sweep"], written["shadows"], written["twins"]) == ("tiny", 3, 2)
    assert [(fit["trial"], fit["seed"], fit["label"]) for fit in written["targets"]] == [
        (0, 2, "lora r=4"),
        (1, 0, "fft"),
    ]
    lead = written["targets"][1]["attacks"]["lira"]["lead"]
    low, high = lead["interval"]
    assert low < lead["value"] < high
    for attack in ("loss", "lira", "lira-two-sided"):
        assert place.with_name(f"{place.stem}-{attack}.png").stat().st_size > 3000
        assert place.with_name(f"{place.stem}-{attack}.pdf").read_bytes().startswith(b"%PDF")


def test_an_audit_of_a_package_is_run_and_written_as_it_says_it(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(AUDITS._lines, "sizes", Entry(f"{__name__}:sizes", "how many weights a fit has", "a test"))
    assert main.main(["audit", "tiny@0", "--audit", "sizes", "--root", str(sweep.folder.path.parent)]) == 0
    place = sweep.folder.path / "audits" / "sizes-0-2.json"
    assert capsys.readouterr().out == f"looked\n{place}: what sizes says, as JSON\n"
    told = json.loads(place.read_text())
    assert told["fits"] == [{"trial": 0, "label": "lora r=4", "seed": 2}]
    assert (told["audit"], told["files"]) == ("sizes", [1])


def sizes(tuning: FineTuning, targets: Sequence[Target], *, heard: Callable[[str], None]) -> dict[str, Any]:
    """An audit as a package would have it."""
    heard("looked")
    return {"files": [len(list(target.weights.glob("*.safetensors"))) for target in targets]}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tiny@0", "--audit", "membrship"], "audit 'membrship' is unknown. Did you mean 'membership'?"),
        (
            ["tiny@0", "--protocol", "papers"],
            "--protocol 'papers' is unknown. Did you mean 'paper'? Known: code, paper.",
        ),
        (["tiny@0", "--shadow-method", "fft"], "--shadow-method 'fft' is unknown. Known: lora, own."),
        (["tiny@0", "--shadows", "2"], "--shadows is 2. Use 3 or more; the paper's authors use 16."),
        (["tiny@0", "--twins", "-3"], "--twins is -3. Use 2 or more (4 by default), or 0 for no placebo."),
        (["tiny@0", "other@1"], "the points are of 2 sweeps (tiny@0, other@1). Use points of one."),
        (["tiny@0", "tiny@most-accurate"], "trial 0 is asked for twice, as 0 and most-accurate. Name each trial once."),
        ([f"tiny@{n}" for n in range(5)], "5 points are asked for. Use at most 4 at a time."),
        (["tiny@../1"], "the point '../1' of 'tiny' is unknown."),
        (["../tiny@0"], "'../tiny' is not a sweep's name."),
        (["tiny@0", "--matched", "lora", "fft"], "--matched finds the fits itself. Use the sweep's name alone: tiny."),
        (["tiny", "--matched", "lora", "lora"], "--matched names 'lora' twice. Use two methods, such as lora fft."),
        (["tiny", "--matched", "lora", "fff"], "--matched: the method 'fff' is unknown. Did you mean 'fft'?"),
        (
            ["tiny", "--matched", "lora", "fft"],
            "sweep 'tiny' has no fit of lora to attack (complete trials without weights: 1).",
        ),
    ],
)
def test_an_audit_that_cannot_be_is_refused_in_a_sentence(
    sweep: Sweep, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["audit", *words, "--root", str(sweep.folder.path.parent)]) == 2
    assert told in capsys.readouterr().err


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Trial 0 is by lora, 2 to 5 are by fairlora, and 3 is the most accurate of them, then 2."""
    path = tmp_path_factory.mktemp("finished") / "made"
    finished.sweep(path)
    return Results.open(SweepFolder(path))


@pytest.mark.parametrize(
    ("losses", "gone", "number", "told"),
    [
        ([0.20, 9, 0.19, 0.30, 0.205, 0.20, 9], None, 2, "Pairs within 10% of each other: 3; this is the best of them"),
        ([0.20, 9, 0.19, 0.30, 0.205, 0.20, 9], 2, 4, "Trials left out because their weights were not kept: 1."),
        ([0.10, 9, 0.20, 0.30, 0.15, 0.40, 9], None, 4, "No pair is within 10%; this one is nearest (33%)"),
    ],
)  # fmt: skip
def test_fits_of_two_methods_are_matched_by_their_training_loss(
    results: Results, losses: list[float], gone: int | None, number: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fits_of(self: Results, number: int) -> list[FitResult]:
        weights = None if number == gone else Path("weights")
        row = {"epoch": 1, "train_loss": losses[number]}
        return [replace(fit, history=[row], weights=weights) for fit in kept(self, number)]

    kept = Results.fits_of
    monkeypatch.setattr(Results, "fits_of", fits_of)
    found = audit.match(results, "lora", "fairlora")
    assert [trial.number for trial in found.trials] == [0, number]
    assert re.search(rf"#0 lora r=\d+ {losses[0]:g}, #{number} fairlora .* {losses[number]:g}\. ", found.sentence)
    assert told in found.sentence


def test_what_is_no_image_and_what_is_no_model_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no pulled model"):
        list(serving.predict(tmp_path, []))
    (tmp_path / "x.jpg").write_text("not an image")
    assert serving._pixels(tmp_path / "x.jpg", Transform()).problem.startswith("is not an image")


def test_a_photo_is_turned_for_a_prediction_as_it_was_for_training(tmp_path: Path) -> None:
    stored = np.zeros((32, 32, 3), np.uint8)
    stored[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif.tobytes())
    assert (serving._pixels(tmp_path / "photo.png", Transform(32)) == stored.transpose(2, 0, 1)).all()
    turned = serving._pixels(tmp_path / "photo.png", Transform(32, upright=True))
    assert (turned == stored[::-1].transpose(2, 0, 1)).all()


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "open_clip:ViT-B-32"])
@pytest.mark.slow
def test_the_families_leave_home_too(name: str, tmp_path: Path) -> None:
    config, params = BackboneConfig(name=name, weights="none"), Params.from_flat({"method": "lora", "rank": 4})
    from trainables import adapters

    built = backbones.load(config, classes=3)
    model = adapters.wrap(built.model, built, params)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(0.02 * torch.randn_like(weights))
    adapters.save_adapter(model, tmp_path / "weights", built)
    packed = serving.pack(config, params, ["a", "b", "c"], tmp_path / "weights", tmp_path / "out", merge=True)
    (tmp_path / "out" / "README.md").write_text(f"```python\n{packed.code}```")
    Image.effect_noise((300, 260), 80).save(tmp_path / "noise.png")
    (answer,) = serving.predict(tmp_path / "out", [tmp_path / "noise.png"])
    (said,) = plainly([tmp_path / "out"], [tmp_path / "noise.png"])
    assert list(answer.probabilities.values()) == pytest.approx(said.softmax(1)[0].tolist(), abs=1e-4)


# --- registered in MLflow


def registered_folder(sweep: Sweep, number: int, out: Path) -> Path:
    """What the record registers of a trial's fit."""
    results = Results.open(sweep.folder)
    (fit,) = (fit for fit in results.fits_of(number) if fit.weights is not None)
    registered.write(out, results, results.by_number[number], fit)
    registry.describe(out, "m-1", "r-1")
    return out


@pytest.mark.parametrize("number", SCORES)
def test_a_registered_fit_is_a_model_of_mlflow_that_answers_as_when_it_was_trained(
    sweep: Sweep, tmp_path: Path, number: int
) -> None:
    model = mlflow.pyfunc.load_model(str(registered_folder(sweep, number, tmp_path / "model")))
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sweep.images])
    answers = model.predict(images)
    expected = sweep.logits[number].softmax(1).numpy()
    labels = list(sweep.described["dataset"]["classes"])
    assert answers[labels].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert list(answers["label"]) == [labels[row] for row in expected.argmax(1)]
    assert model.metadata.signature.outputs.input_names() == ["label", *labels]
    with pytest.raises(MlflowException, match="uint8"):  # never silently in another range
        model.predict(images / 255)


def test_a_registered_fit_has_a_card_and_no_pickle_and_names_no_place_of_this_machine(
    sweep: Sweep, tmp_path: Path
) -> None:
    out = registered_folder(sweep, 0, tmp_path / "model")
    assert "models:/tiny@knee" in (out / "README.md").read_text(encoding="utf-8")
    assert {path.suffix for path in out.rglob("*.*")} == {
        ".json",
        ".md",
        ".py",
        ".safetensors",
        ".txt",
        ".yaml",
        ".zip",
    }
    for path in (*out.glob("*.json"), *out.glob("*.md"), *out.glob("*.yaml"), out / "MLmodel"):
        assert str(Path.home()) not in path.read_text(encoding="utf-8")


FRESH = """
import mlflow, numpy, sys
from PIL import Image
images = numpy.stack([numpy.asarray(Image.open(path).convert("RGB")) for path in sys.argv[2:]])
print(mlflow.pyfunc.load_model(sys.argv[1]).predict(images).to_json(orient="records"))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_registered_fit_answers_in_a_fresh_environment_with_the_packages_that_it_names(
    sweep: Sweep, tmp_path: Path
) -> None:
    out, python = registered_folder(sweep, 0, tmp_path / "model"), tmp_path / "fresh" / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(python.parents[1])], check=True, timeout=60)
    install = [*uv, "pip", "install", "-q", "--python", str(python), "-r", str(out / "requirements.txt")]
    subprocess.run(install, check=True, timeout=600)
    asked = [str(python), "-P", "-c", FRESH, str(out), *map(str, sweep.images)]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(asked, env=plain, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    labels = list(sweep.described["dataset"]["classes"])
    told = [[row[label] for label in labels] for row in json.loads(done.stdout.splitlines()[-1])]
    assert told == pytest.approx(sweep.logits[0].softmax(1).numpy(), abs=1e-5)
