"""The folder of a registered model, without its MLmodel: weights, how to build the model, card, code, requirements.

Light: nothing is imported that trains, since the record's thread writes it beside the trainings.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import shutil
import zipfile
from importlib import metadata, util
from pathlib import Path
from typing import Any

from sweeper.models import card, loader
from sweeper.models.card import CardFacts, SplitMetrics
from sweeper.results.fit import FitResult
from sweeper.results.results import Results
from sweeper.trial import Trial
from trainables.backbones import find
from trainables.files import cache_root

LOADER, CODE = "sweeper_model", "code"
# What trainables imports, at the releases that this fit was trained with.
_PACKAGES = (
    *("mlflow", "torch", "torchvision", "timm", "open_clip_torch", "peft", "transformers"),
    *("safetensors", "huggingface_hub", "scikit-learn", "pillow", "filelock", "numpy", "pandas", "pydantic"),
)
_SOURCE = re.compile(r"weights from (\S+), SHA-256 ([0-9a-f]+)")
USE = """import mlflow, numpy
from PIL import Image

model = mlflow.pyfunc.load_model("models:/{name}@knee")
image = numpy.asarray(Image.open("image.jpg").convert("RGB"))
print(model.predict(image[None]))  # [N, H, W, 3], uint8
"""
USE_TEXT = """import mlflow, pandas

model = mlflow.pyfunc.load_model("models:/{name}@knee")
print(model.predict(pandas.DataFrame({{"text": ["a line of text"]}})))
"""


def requirements() -> list[str]:
    """The packages that a fresh environment needs, with their releases here, without local versions (`+cpu`)."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _PACKAGES]


def write(out: Path, results: Results, trial: Trial, fit: FitResult) -> None:
    """Fill the new folder `out` for one fit of a trial, whose weights were kept."""
    assert fit.weights is not None
    spec, dataset = results.spec, results.dataset
    shutil.copytree(fit.weights, out, ignore=shutil.ignore_patterns("README.md"))  # it names places of this machine
    base = _base(spec.backbone.weights, str(fit.provenance.get("backbone_source", "")))
    build = spec.backbone.model_dump(mode="json")
    if base is not None:
        build["weights"] = f"base{base.suffix}"
        shutil.copyfile(base, out / build["weights"])
    body: dict[str, Any] = {"backbone": build, "whole": False, "params": dict(trial.params)}
    if found := _SOURCE.search(str(fit.provenance.get("backbone_source", ""))):
        body["base_sha256"] = found[2]
    texts = find(spec.backbone.name).texts
    seen = {} if texts else {"crop_bottom": dataset.get("crop_bottom", 0), "upright": dataset.get("upright", False)}
    for name, told in {"fit": body, "labels": list(dataset.get("classes", ())), "preprocessing": seen}.items():
        (out / f"{name}.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "README.md").write_text(_card(results, trial, fit), encoding="utf-8")
    (out / CODE).mkdir()
    shutil.copyfile(loader.__file__, out / CODE / f"{LOADER}.py")
    (out / CODE / loader.ARCHIVE).write_bytes(_trainables())
    (out / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")


def _base(asked: str, source: str) -> Path | None:
    """The pre-trained weights, where they are a file of this machine, and that which the fit says it began from."""
    found = _SOURCE.search(source)
    if found is None:
        return None
    for path in (Path(asked), cache_root() / "backbones" / found[1]):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest().startswith(found[2]):
            return path
    return None


def _card(results: Results, trial: Trial, fit: FitResult) -> str:
    trained, total = (int(fit.provenance.get(f"{which}_parameters", 0)) for which in ("trainable", "total"))
    return card.write(
        CardFacts(
            spec=results.spec,
            trial=trial,
            seed=fit.seed,
            asked="a member of the front",
            tried=len(results.trials),
            merged=False,
            code=(USE_TEXT if find(results.spec.backbone.name).texts else USE).format(name=results.spec.name),
            library="mlflow",
            repository="",
            base=str(fit.provenance.get("backbone_source", "unknown")),
            weights=(trained, total),
            dataset=results.dataset,
            provenance=fit.provenance,
            commit=results.provenance.get("commit"),
            splits=[SplitMetrics("validation", fit.values, fit.groups)],
        )
    )


@functools.cache
def _trainables() -> bytes:
    """The package that trained it, as an archive; the same bytes for the same files."""
    spec = util.find_spec("trainables")
    assert spec is not None
    assert spec.origin is not None
    root, made = Path(spec.origin).parent, io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.writestr(zipfile.ZipInfo(f"trainables/{path.relative_to(root)}"), path.read_bytes())
    return made.getvalue()
