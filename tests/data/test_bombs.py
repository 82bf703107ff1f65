"""Input from outside cannot become code: a pickle that would run something does not, in any kind of file."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from sweeper.cli import doctor
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.state.atomic import read_json
from sweeper.state.sweep_folder import SweepFolder
from trainables import data
from trainables.backbones import weights
from trainables.data import DataConfig
from trainables.data.images.cache import decoded
from trainables.data.images.transform import Transform
from trainables.errors import FitError, UserError
from trainables.training import checkpoint

MARK = "it-ran"


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def bomb(folder: Path) -> bytes:
    return pickle.dumps(Bomb(folder / MARK))


def text_bomb(folder: Path) -> str:
    return f"name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{folder / MARK}]]\n"


def spec(folder: Path) -> None:
    (folder / "sweep.yaml").write_text(text_bomb(folder))
    loading.load(folder / "sweep.yaml")


def cluster(folder: Path) -> None:
    (folder / "cluster.yaml").write_text(text_bomb(folder).replace("name", "cluster_name"))
    refused = [check.found for check in doctor.examine_cluster(folder / "cluster.yaml") if check.verdict == "bad"]
    if refused:
        raise UserError("\n".join(refused))


def weights_safetensors(folder: Path) -> None:
    (folder / "w.safetensors").write_bytes(bomb(folder))
    weights.read(folder / "w.safetensors")


def weights_torch(folder: Path) -> None:
    (folder / "w.pt").write_bytes(bomb(folder))
    weights.read(folder / "w.pt")


def a_checkpoint(folder: Path) -> None:
    fit = SweepFolder(folder / "s", token=1).fit(0, 0)
    fit.save_checkpoint(1, bomb(folder))  # with the right checksum, as an attacker could make it
    checkpoint.unpack(fit.newest_checkpoint() or b"")


def a_result(folder: Path) -> None:
    (folder / "result.json").write_bytes(bomb(folder))
    read_json(folder / "result.json")


def an_image(folder: Path) -> None:
    for name in ("0", "1"):
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "a.png").write_bytes(bomb(folder))
    dataset = data.load(DataConfig(name="folder", root=folder / "images"))
    decoded(dataset, "train", Transform())


def a_database(folder: Path) -> None:
    (folder / "s").mkdir()
    (folder / "s" / "spec.yaml").write_text("name: s\n")
    (folder / "s" / "study.db").write_bytes(bomb(folder))
    Results.open(SweepFolder(folder / "s"))


KINDS = [spec, cluster, weights_safetensors, weights_torch, a_checkpoint, a_result, an_image, a_database]


def test_the_bomb_is_live(tmp_path: Path) -> None:
    pickle.loads(bomb(tmp_path))  # noqa: S301  # what nobody else here does
    assert (tmp_path / MARK).exists()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_bomb_in_a_file_is_refused_and_does_not_run(kind: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises((UserError, FitError, SafetensorError, ValueError)):
        kind(tmp_path)
    assert not (tmp_path / MARK).exists()
