"""Where nodes share no disk, the object store holds the truth: a sweep over two disks is the sweep over one."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSystem

from sweeper import patience
from sweeper.engine import driver
from sweeper.engine.attempt import Execute
from sweeper.engine.driver import Outcome
from sweeper.errors import Paused, UserError
from sweeper.spec import amending, loading
from sweeper.spec.model import SweepSpec
from sweeper.spec.sections import Resources
from sweeper.state import mirror
from sweeper.state.mirror import Mirror
from sweeper.state.sweep_folder import Fenced, SweepFolder
from tests.faults import tiny
from tests.faults.tiny import NAME, Silent, Tiny


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """S3 as it is spoken on the wire, served from memory by this process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    yield f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    store.stop()


@pytest.fixture
def url(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket for each test."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = f"b{abs(hash(tmp_path))}"
    FileSystem.from_uri(f"s3://{bucket}{server}&allow_bucket_creation=true")[0].create_dir(bucket)
    return f"s3://{bucket}/all{server}"


def pair(tmp_path: Path, url: str) -> tuple[Mirror, Mirror, Path, Path]:
    """The same sweep's folder on two nodes."""
    here, there = tmp_path / "here" / NAME, tmp_path / "there" / NAME
    return Mirror(here, url), Mirror(there, url), here, there


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_one_node_shares_another_fetches_whatever_it_had(tmp_path: Path, url: str) -> None:
    one, other, here, there = pair(tmp_path, url)
    write(here / "trials" / "0" / "checkpoint-1", "first")
    write(here / "trials" / "0" / "weights" / "w", "learned")
    write(there / "trials" / "0" / "checkpoint-0", "of an order that this node lost")
    one.share(here / "trials" / "0")
    other.fetch(there / "trials")
    assert content(there) == content(here)

    time.sleep(1.1)  # stores count in seconds
    (here / "trials" / "0" / "checkpoint-1").unlink()
    write(here / "trials" / "0" / "checkpoint-2", "other")
    write(here / "trials" / "0" / "weights" / "w", "LEARNED")  # as long as before
    one.share(here / "trials" / "0")
    other.fetch(there / "trials")
    assert content(there) == content(here)


def test_what_has_not_changed_is_not_sent_again(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, here, there = pair(tmp_path, url)
    write(here / "trials" / "a", "text")
    one.share(here / "trials")
    other.fetch(there / "trials")
    for name in ("put", "get"):
        monkeypatch.setattr(Mirror, name, lambda *what: pytest.fail("sent again"))
    one.share(here / "trials")
    other.fetch(there / "trials")


def test_files_in_the_making_and_files_of_one_machine_stay_where_they_are(tmp_path: Path, url: str) -> None:
    one, other, here, there = pair(tmp_path, url)
    for name in (".checkpoint.x", ".weights-1/w", "stuck.txt", "in-flight.json"):
        write(here / "trials" / name, "text")
    one.share(here / "trials")
    write(there / "trials" / "stuck.txt", "another stack")
    other.fetch(there / "trials")
    assert content(there) == {"trials/in-flight.json": "text", "trials/stuck.txt": "another stack"}


def test_a_name_from_the_store_leads_nobody_out_of_the_folder(tmp_path: Path, url: str) -> None:
    one, other, here, there = pair(tmp_path, url)
    write(here / "trials" / "a", "text")
    one.share(here / "trials")
    files, base = FileSystem.from_uri(url)
    for name in ("../../../out", ".hidden", "b/../../../../out"):
        with files.open_output_stream(f"{base}/{NAME}/trials/{name}") as stream:
            stream.write(b"evil")
    other.fetch(there / "trials")
    assert content(tmp_path / "there") == {f"{NAME}/trials/a": "text"}


def test_a_death_between_any_two_objects_leaves_no_result_without_its_weights(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, here, there = pair(tmp_path, url)
    for name in ("weights/a", "weights/b", "checkpoint-1"):
        write(here / "trials" / name, "of this epoch")
    write(here / "trials" / "result.json", "{}")
    put = Mirror.put
    seen = []
    for lasting in range(5):
        left = iter(range(lasting))

        def dies(self: Mirror, file: Path, *, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            put(self, file)

        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(Mirror, "put", dies)
            one.share(here / "trials")
        other.fetch(there / "trials")
        seen.append(set(content(there / "trials")))
        one.drop(here / "trials")
    assert [len(names) for names in seen] == [0, 1, 2, 3, 4]
    assert all("result.json" not in names for names in seen[:4])


def test_a_node_of_an_attempt_that_was_taken_over_changes_nothing(tmp_path: Path, url: str) -> None:
    old = SweepFolder(tmp_path / "old" / NAME, token=1, store=url)
    new = SweepFolder(tmp_path / "new" / NAME, token=2, store=url)
    old.raise_fence()
    old.fit(0, 0).save_checkpoint(1, b"its last word")
    new.raise_fence()
    with pytest.raises(Fenced):
        old.share(0, 0)
    new.fetch(0, 0)
    assert new.fit(0, 0).newest_checkpoint() is None
    with pytest.raises(Fenced):  # it knows now, without asking again
        old.fit(0, 0).save_checkpoint(2, b"one more")


class Flaky:
    """A store that fails so often, then serves."""

    def __init__(self, files: FileSystem, times: int, said: str) -> None:
        self.files, self.times, self.said = files, times, said

    def open_output_stream(self, name: str) -> object:
        self.times -= 1
        if self.times >= 0:
            raise OSError(self.said)
        return self.files.open_output_stream(name)


@pytest.mark.parametrize(
    ("times", "said", "comes"),
    [(3, "NETWORK_CONNECTION", True), (10**6, "NETWORK_CONNECTION", False), (1, "AWS Error ACCESS_DENIED", False)],
)
def test_a_store_that_is_away_is_waited_for_and_one_that_refuses_is_not(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, times: int, said: str, comes: bool
) -> None:
    monkeypatch.setattr(mirror, "PATIENCE_S", 0.2)
    monkeypatch.setattr(patience, "growing", lambda *_: 0.01)
    one, _, here, _ = pair(tmp_path, url)
    flaky = Flaky(one._files, times, said)
    one.__dict__["_store"] = (flaky, one._store[1])
    write(here / "spec.yaml", "name: a")
    with contextlib.nullcontext() if comes else pytest.raises(Paused, match=rf"s3://b\d+/all does not serve .*{said}"):
        one.put(here / "spec.yaml")
    assert (flaky.times < 0) == comes


# --- a sweep whose actors have a disk of their own


def asked(root: Path, url: str, **options: object) -> SweepSpec:
    return loading.changed(tiny.spec(root, **options), {"storage.fits": url})


@contextlib.contextmanager
def elsewhere(resources: Resources) -> Iterator[Execute]:
    """Actors on a node that has nothing but the store in common with the driver."""

    def work_off(queue: object, folder: SweepFolder) -> None:
        tiny.work_off(queue, folder, at=folder.path.parent.parent / "node" / folder.name)

    yield work_off


def front(outcome: Outcome) -> list[tuple[object, object]]:
    return [(trial.params, trial.values) for trial in outcome.results.trials]


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)


@pytest.mark.usefixtures("_tiny")
def test_a_sweep_over_two_disks_is_the_sweep_over_one(tmp_path: Path, url: str) -> None:
    plain = tiny.begin(tmp_path / "plain")
    split = driver.run(asked(tmp_path / "head", url), Silent(), executor=elsewhere)
    assert split.exit_code == 0
    assert front(split) == front(plain)
    head, node = SweepFolder(tmp_path / "head" / NAME), SweepFolder(tmp_path / "node" / NAME)
    for number in split.results.front:
        head.fit(number, 0).check_weights()
        assert head.held_out(number, 0).read_bytes() == node.held_out(number, 0).read_bytes()
    dominated = {trial.number for trial in split.results.trials if not trial.baseline} - set(split.results.front)
    Mirror(node.path, url).fetch(node.path / "trials")
    assert not any(node.fit(number, seed).weights.exists() for number in dominated for seed in tiny.SEEDS)


@pytest.mark.usefixtures("_tiny")
def test_after_the_loss_of_both_disks_a_resume_goes_on_from_the_store(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny.begin(tmp_path / "plain")
    trained = []

    class Dies(Tiny):
        def train_epoch(self) -> dict[str, float]:
            trained.append((str(self._params), self._seed, self.epoch))
            if len(trained) == 6:  # the second epoch of a fit
                raise KeyboardInterrupt
            return super().train_epoch()

    tiny.make_tiny(monkeypatch.setattr, tuning=Dies, record=tiny.Mute)
    with pytest.raises(KeyboardInterrupt):
        driver.run(asked(tmp_path / "head", url), Silent(), executor=elsewhere)
    shutil.rmtree(tmp_path / "node")
    shutil.rmtree(tmp_path / "head" / NAME / "trials")
    listener = Silent()
    outcome = driver.resume(SweepFolder(tmp_path / "head" / NAME), listener, executor=elsewhere)
    assert outcome.exit_code == 0
    assert front(outcome) == front(whole)
    assert len(trained) - len(set(trained)) == 1, "more than the epoch in flight was trained again"
    assert any("1 fit was in flight" in note for note in listener.notes)


@pytest.mark.usefixtures("_tiny")
def test_a_sweep_that_began_on_one_disk_goes_on_over_two(tmp_path: Path, url: str) -> None:
    tiny.begin(tmp_path / "head")
    wanted = asked(tmp_path / "head", url, trials=5)
    outcome = driver.resume(SweepFolder(tmp_path / "head" / NAME), Silent(), wanted=wanted, executor=elsewhere)
    assert outcome.exit_code == 0
    assert len(outcome.results.trials) == 5
    node = SweepFolder(tmp_path / "new-node" / NAME, store=url)
    node.fetch(0, 0)
    assert node.fit(0, 0).result() is not None


@pytest.mark.usefixtures("_tiny")
def test_a_name_that_the_store_knows_is_refused_and_one_that_was_refused_is_free_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*what: object) -> dict[str, object]:
        raise UserError("no data")

    with monkeypatch.context() as patched:
        patched.setattr("sweeper.results.provenance.describe", refuses)
        with pytest.raises(UserError, match="no data"):
            driver.run(asked(tmp_path / "one", url), Silent(), executor=elsewhere)
    driver.run(asked(tmp_path / "one", url), Silent(), executor=elsewhere)
    with pytest.raises(UserError, match=f"has a sweep '{NAME}' already"):
        driver.run(asked(tmp_path / "other", url), Silent(), executor=elsewhere)
    assert not (tmp_path / "other" / NAME).exists()


def test_a_store_cannot_be_left_and_keys_do_not_belong_in_a_spec(tmp_path: Path) -> None:
    old, new = (asked(tmp_path, f"s3://bucket/{name}") for name in ("old", "new"))
    with pytest.raises(UserError, match=r"storage\.fits is s3://bucket/old, and cannot change"):
        amending.amended(old, new)
    assert amending.amended(old, tiny.spec(tmp_path))[0].storage.fits == "s3://bucket/old"
    for wrong, said in {"/mnt/shared": "s3://bucket/sweeps", "s3://key:secret@bucket/a": "Keys do not belong"}.items():
        with pytest.raises(UserError, match=said) as refused:
            asked(tmp_path, wrong)
        assert "secret" not in str(refused.value)


@pytest.mark.usefixtures("_tiny")
def test_a_store_that_goes_away_pauses_the_sweep_and_fails_no_trial(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    share, times = Mirror.share, iter(range(100))

    def away(self: Mirror, folder: Path) -> None:
        if next(times) >= 3:
            raise Paused("the store does not serve")
        share(self, folder)

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "share", away)
        paused = driver.run(asked(tmp_path / "head", url), Silent(), executor=elsewhere)
    assert paused.exit_code == 3
    assert not any(trial.reason for trial in paused.results.trials)
    done = driver.resume(SweepFolder(tmp_path / "head" / NAME), Silent(), executor=elsewhere)
    assert done.exit_code == 0
    assert front(done) == front(tiny.begin(tmp_path / "plain"))
    assert json.loads((tmp_path / "head" / NAME / "fence").read_text())


DIGITS = """
name: cloudy
space: {{method: [lora, fairlora], rank: [4, 8], learning_rate: 2e-3, epochs: 3}}
search: {{sampler: random, trials: 3, seeds: 1, baselines: [lora]}}
storage: {{fits: "{url}"}}
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_sweep_that_is_killed_and_loses_its_fits_disk_goes_on_from_the_store(tmp_path: Path, url: str) -> None:
    (tmp_path / "cloudy.yaml").write_text(DIGITS.format(url=url))
    command = [sys.executable, "-m", "sweeper"]
    run = subprocess.Popen([*command, "run", "cloudy.yaml"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    assert any("trial 1 complete" in line for line in run.stderr)
    run.kill()
    run.communicate()
    shutil.rmtree(tmp_path / "sweeps" / "cloudy" / "trials")
    resume = subprocess.run([*command, "resume", "cloudy"], cwd=tmp_path, capture_output=True, text=True)
    assert resume.returncode == 0, resume.stderr
    assert "trial 0" not in resume.stderr
    assert "trial 1" not in resume.stderr
    assert "trial 2 complete" in resume.stderr
