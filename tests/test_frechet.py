"""Fréchet distance: against a closed form and scipy's root, with singular covariances, on images, as a command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from sweeper.cli import main
from tests.data.trees import picture
from trainables import backbones, frechet
from trainables.backbones import BackboneConfig, weights
from trainables.errors import UserError
from trainables.training.runtime import Runtime


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no hub's: whether this machine has Inception's weights changes nothing here."""
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda repository, file: None)


def sample(covariance: list[list[float]], mean: list[float], n: int = 50) -> np.ndarray:
    """`n` examples whose own mean and covariance are these."""
    white = np.random.default_rng(n).normal(size=(n, len(mean)))
    white -= white.mean(0)
    white @= np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T
    return white @ np.linalg.cholesky(np.array(covariance)).T + mean


def test_of_two_gaussians_it_is_the_closed_form() -> None:
    """25 between the means; deviations 2 and 1 against 1 and 3: (2 - 1)² + (1 - 3)² = 5."""
    first = sample([[4, 0], [0, 1]], [0, 0])
    assert frechet.distance(first, sample([[1, 0], [0, 9]], [3, 4], n=70)) == pytest.approx(30)
    assert frechet.distance(first, first[::-1]) == pytest.approx(0, abs=1e-9)


def test_it_is_what_the_root_of_scipy_gives() -> None:
    chance = np.random.default_rng(0)
    first = chance.normal(size=(300, 12)) @ chance.normal(size=(12, 12))
    second = chance.normal(size=(200, 12)) @ chance.normal(size=(12, 12)) + 0.3
    covariances = np.cov(first.T), np.cov(second.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(sum(covariances) - 2 * root.real)
    assert frechet.distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_fewer_examples_than_features_are_no_trouble() -> None:
    """A set against itself, moved by 3 in one of 40 features; both covariances have rank 9."""
    first = np.random.default_rng(0).normal(size=(10, 40))
    assert frechet.distance(first, first + 3 * np.eye(40)[0]) == pytest.approx(9)


def test_halves_of_one_set_are_further_apart_the_fewer_they_are() -> None:
    """Features of variance 1, 32 of them: 2 x 32 / n between the means, and more between the covariances."""
    chance = np.random.default_rng(0)
    few, many = (frechet.halves_distance(chance.normal(size=(2 * n, 32))) for n in (50, 800))
    assert few > 10 * many > 10 * 2 * 32 / 800 / 2
    assert np.isnan(frechet.halves_distance(chance.normal(size=(3, 32))))


@pytest.mark.parametrize("broken", [np.ones((1, 3)), np.full((4, 3), np.nan), np.ones((4, 2))])
def test_what_has_no_distance_is_refused(broken: np.ndarray) -> None:
    with pytest.raises(ValueError, match="features"):
        frechet.distance(np.ones((4, 3)), broken)


def test_features_are_what_the_head_is_given() -> None:
    backbone = backbones.load(BackboneConfig(weights="none"), classes=3)
    head, pixels = backbone.model.head, np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    images = (torch.from_numpy(pixels) / 255 - 0.5) / 0.25
    with torch.no_grad():
        logits = backbone.model.eval()(images)
        features = frechet.extract(backbone, pixels, Runtime.choose("cpu", "fp32"))
        assert torch.allclose(head(torch.from_numpy(features).float()), logits, atol=1e-5)


def test_the_command_tells_the_distance_its_bias_what_is_unreadable_and_what_inception_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(8):
        picture(tmp_path / "faces" / "deep" / f"{i}.png")
        picture(tmp_path / "birds" / f"{i}.jpg", size=(30, 20))
    (tmp_path / "birds" / "broken.jpg").write_bytes(b"no image")
    asked = ["data", "distance", str(tmp_path / "faces"), str(tmp_path / "birds"), "--weights", "none"]
    assert main.main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    small, inception = told["distances"]
    assert small["distance"] > 0 < small["halves_of_data"]
    assert (small["n_data"], small["n_other"], small["dimensions"]) == (8, 8, 64)
    assert "1 images cannot be read and are left out: broken.jpg" in told["notes"][0]
    assert "hf download timm/inception_v3.tf_in1k model.safetensors" in inception["reason"]
    assert main.main([*asked, "--most", "4"]) == 0
    shown = capsys.readouterr().out
    assert "4 / 4" in shown
    assert "Inception: backbone.weights: model.safetensors of timm/inception_v3.tf_in1k is not in" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{0}/nowhere", "{0}"], "is neither a folder nor a table"),
        (["{0}", "{0}"], "has no images in it"),
        (["digits-on-scenes", "{0}", "--most", "1"], "--most is 1. Use 2 or more"),
    ],
)
def test_what_is_no_set_of_images_is_said_so(words: list[str], said: str, tmp_path: Path, capsys) -> None:
    assert main.main(["data", "distance", *(word.format(tmp_path) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_a_layout_is_read_with_all_its_splits_and_a_bad_folder_of_one_image_is_told(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for label in "ab":
            for i in range(count):
                picture(tmp_path / "own" / split / label / f"{i}.png")
    own = frechet.images_of(str(tmp_path / "own"))
    assert len(own.splits["all"]) == 16
    one = frechet.images_of(str(picture(tmp_path / "one" / "x" / "0.png").parent.parent))
    (why,), _ = frechet.compare(own, one, [BackboneConfig(weights="none")])
    assert isinstance(why, UserError)
    assert "a set of one image has no covariance" in str(why)
