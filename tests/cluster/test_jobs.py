"""Sweeps on a cluster: the same commands, run on its head. Against a real head of Ray on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.cli import main
from sweeper.cluster import jobs
from sweeper.cluster.jobs import Cluster, _fed
from sweeper.errors import UserError
from tests.cluster.local_head import LocalHead, local_head

SPEC = """
name: {name}
groups: cell
space: {{method: [lora, fairlora], rank: [4, 8], lambda: {{low: 0.1, high: 10}}, learning_rate: 2e-3, epochs: {epochs}}}
search: {{sampler: random, trials: {trials}, baselines: [lora]}}
"""


def write(folder: Path, name: str, epochs: int = 2, trials: int = 2) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(SPEC.format(name=name, epochs=epochs, trials=trials))
    return str(path)


# --- without a cluster


def test_without_a_cluster_the_way_to_give_one_is_said(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWEEPER_CLUSTER", raising=False)
    assert main.main(["submit", "tiny"]) == 2
    assert "Say --cluster cluster.yaml, or set SWEEPER_CLUSTER." in capsys.readouterr().err
    assert main.main(["logs", "tiny", "--cluster", str(tmp_path / "none.yaml")]) == 2
    assert "there is no cluster file" in capsys.readouterr().err


def test_a_token_is_never_sent_in_the_clear(capsys) -> None:
    assert main.main(["list", "--cluster", "http://10.0.0.7:8265"]) == 2
    assert "would carry the cluster's token in the clear" in capsys.readouterr().err


def test_the_record_of_a_cluster_needs_a_tunnel_and_says_how_to_make_one(tmp_path: Path, capsys) -> None:
    assert main.main(["ui", "a", "--cluster", "http://127.0.0.1:8265"]) == 2
    assert "needs the cluster file; or make one yourself: ssh -L" in capsys.readouterr().err
    assert main.main(["down", "--cluster", "http://127.0.0.1:8265", "--yes"]) == 2
    assert "needs the cluster file; on Kubernetes: kubectl delete raycluster sweeper" in capsys.readouterr().err
    assert main.main(["down", "--cluster", str(tmp_path / "none.yaml"), "--yes"]) == 2
    assert "there is no cluster file" in capsys.readouterr().err


def test_a_sweep_that_nobody_drives_has_nothing_to_stop(tmp_path: Path, capsys) -> None:
    assert main.main(["stop", "nobody", "--root", str(tmp_path)]) == 2
    assert "no sweep in" in capsys.readouterr().err


def test_what_is_too_long_for_a_job_is_not_called_a_spec() -> None:
    with pytest.raises(UserError, match="100,001 letters of text are to be sent, and a job takes 100,000"):
        _fed("x" * 100_001, "sweeper")


class Slow(Cluster):
    """A cluster whose job says a line more each other time that somebody looks, and has ended long after the last."""

    def __init__(self, *lines: str) -> None:
        self._lines, self._looks = lines, 0

    def log(self, job_id: str) -> str:
        return "".join(self._lines[: self._looks // 2])

    def _ended(self, job_id: str) -> bool:
        self._looks += 1
        return self._looks // 2 > len(self._lines) + 9  # and takes its time

    def exit_code(self, job_id: str) -> int:
        return 2


def test_what_is_refused_when_all_is_ready_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(good: Callable[[], object], times: float = 100.0, **every: float) -> object:
        return next(filter(None, (good() for _ in range(int(times)))), False)

    monkeypatch.setattr(jobs, "until", asked)
    lines = [
        "a: starting\n",
        "libraries: ready after 9 s\n",
        "a: data ... 30 s, Ray ... 30 s\n",
        "Ray: ready after 9 s\n",
    ]
    said: list[str] = []
    assert Slow(*lines, "a fit asks for 4 GPUs\n").first_words("job", said.append) == 2
    assert said[0].endswith("a fit asks for 4 GPUs\n")
    assert Slow(*lines, *["digits: 2 classes, split hash 9\n"] * 9).first_words("job", said.append) == 0


class Kept(Cluster):
    """A cluster that knows these jobs of one sweep, each with its beginning and its end."""

    def __init__(self, **times: tuple[int, int | None]) -> None:
        self._times = times

    def of(self, name: str) -> list[Any]:
        listed = sorted(self._times.items(), key=lambda item: -item[1][0])
        return [SimpleNamespace(submission_id=job, start_time=begun, end_time=end) for job, (begun, end) in listed]


def test_logs_are_those_of_who_drives_a_sweep_not_of_who_asked_for_something_meanwhile() -> None:
    assert Kept(run=(1, None), tries=(5, 6)).newest("a") == "run"
    assert Kept(run=(1, 9), tries=(5, 6)).newest("a") == "run"
    assert Kept(run=(1, 4), resume=(5, 6)).newest("a") == "resume"
    with pytest.raises(UserError, match="no job of a sweep 'a'"):
        Kept().newest("a")


# --- with one


@pytest.fixture(scope="module")
def head() -> Iterator[LocalHead]:
    with local_head() as made:
        yield made


def status(head: LocalHead, name: str) -> dict:
    done = head.sweeper("status", name, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def until(good: Callable[[], object], patience_s: float = 240.0) -> None:
    end = time.monotonic() + patience_s
    while not good():
        assert time.monotonic() < end
        time.sleep(0.2)


def until_state(head: LocalHead, name: str, state: str, patience_s: float = 240.0) -> dict:
    """Looks at the study itself, on this machine, so as not to wait for a job each time."""
    from sweeper.results.results import Results
    from sweeper.state.sweep_folder import SweepFolder

    end = time.monotonic() + patience_s
    while (found := Results.open(SweepFolder(head.root / name))).state != state:
        assert time.monotonic() < end, found
        time.sleep(0.5)
    return found.to_json()


def test_a_submitted_sweep_begins_once_keeps_its_name_and_is_told_by_its_study(head: LocalHead, tmp_path: Path) -> None:
    spec = write(tmp_path, "there")
    begun = head.sweeper("submit", spec)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    assert "'there' runs on the cluster" in begun.stdout
    again = head.sweeper("submit", spec)
    assert (again.returncode, "was submitted before, as it is" in again.stdout) == (0, True)
    other = head.sweeper("submit", write(tmp_path, "there", epochs=3))
    assert other.returncode == 2
    assert "a sweep 'there' was submitted to this cluster already" in other.stderr
    assert "Traceback" not in other.stderr
    until_state(head, "there", "finished")
    told = status(head, "there")
    assert (told["state"], told["counts"]["complete"]) == ("finished", 2)
    assert told["front"] == json.loads(head.sweeper("pareto", "there", "--json").stdout)["front"]
    logs = head.sweeper("logs", "there")
    assert "there: finished, 2/2 trials" in logs.stdout
    assert "Running entrypoint" not in logs.stdout
    assert head.answer("/api/jobs/", None) == 401
    assert head.answer("/api/jobs/", "0" * 64) == 403


RELAY = """
import asyncio, sys

async def pump(reader, writer):
    while piece := await reader.read(65536):
        writer.write(piece)
    writer.close()

async def relayed(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

async def main():
    server = await asyncio.start_server(relayed, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def test_logs_are_followed_live_and_a_head_that_dies_meanwhile_is_one_sentence(head: LocalHead, tmp_path: Path) -> None:
    """The job says its second line when we have heard the first; then dies what is between us and the head.

    A sweep takes longer than two seconds to its first word; one that is quicker may come before Ray's own.
    """
    line = f"sleep 2; echo first; until [ -e {tmp_path}/heard ]; do sleep 0.1; done; echo second; "
    line += f"until [ -e {tmp_path}/end ]; do sleep 0.1; done"
    begin = f"from sweeper.cluster.jobs import Cluster; Cluster({head.address!r})._begin('job', {line!r}, 'live')"
    subprocess.run([sys.executable, "-c", begin], env=head.environment, check=True)
    relay = [sys.executable, "-c", RELAY, head.address.rpartition(":")[2]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(relay, **pipes) as between:
        address = f"http://127.0.0.1:{between.stdout.readline().strip()}"
        follow = [sys.executable, "-m", "sweeper", "logs", "live", "-f", "--cluster", address]
        with subprocess.Popen(follow, env=head.environment, **pipes) as followed:
            try:
                assert followed.stdout.readline() == "first\n"
                (tmp_path / "heard").touch()
                assert followed.stdout.readline() == "second\n"
            finally:
                between.kill()  # then it ends, and so does this test
            said = followed.communicate()[1]
    (tmp_path / "end").touch()
    assert followed.returncode == 3
    assert said.startswith("the cluster stopped answering (")
    assert len(said.splitlines()) == 1
    assert "goes on with 'sweeper resume NAME', once there is a head again" in said


@pytest.mark.slow
def test_a_stop_is_graceful_and_a_resume_goes_on(head: LocalHead, tmp_path: Path) -> None:
    assert head.sweeper("submit", write(tmp_path, "paused", epochs=40, trials=3)).returncode == 0
    until(lambda: list((head.root / "paused").rglob("checkpoint-*.safetensors")))
    stopped = head.sweeper("stop", "paused")
    assert "asked process" in stopped.stdout, stopped.stderr
    until_state(head, "paused", "paused")
    before = {path.parent.relative_to(head.root): path.name for path in head.root.rglob("checkpoint-*")}
    assert head.sweeper("resume", "paused").returncode == 0
    followed = head.sweeper("logs", "paused", "-f", patience_s=600)
    assert "paused: finished, 3/3 trials" in followed.stdout
    assert before
    for fit in before:
        result = json.loads(json.loads((head.root / fit / "result.json").read_text())["body"])
        assert [row["epoch"] for row in result["history"]] == list(range(1, 41))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_there_is_asked_for_points_less_space_and_more_seeds(head: LocalHead, tmp_path: Path) -> None:
    assert head.sweeper("submit", write(tmp_path, "asked", epochs=40, trials=3)).returncode == 0
    until(lambda: list((head.root / "asked").rglob("checkpoint-*.safetensors")))
    tried = head.sweeper("try", "asked", "method=fairlora", "--seeds", "2")
    assert (tried.returncode, "drives the sweep, and takes it up" in tried.stdout) == (0, True), tried
    refused = head.sweeper("try", "asked", "rank=5")
    assert (refused.returncode, "rank is 5, outside 4, 8" in refused.stdout) == (2, True), refused
    less = head.sweeper("narrow", "asked", "rank=4")
    assert (less.returncode, "from the next trial on: rank 4" in less.stdout) == (0, True), less
    followed = head.sweeper("logs", "asked", "-f", patience_s=600)  # not those of who only asked
    assert "asked: finished, 4/4 trials" in followed.stdout
    told = status(head, "asked")
    assert told["counts"]["complete"] == 4
    assert "rank 4 (before: 4, 8)" in told["changes"][0]
    assert "was asked for by hand" in told["changes"][1]
    assert head.sweeper("more", "asked@0", "--seeds", "2").returncode == 0
    until(lambda: (head.root / "asked" / "trials" / "00000" / "1" / "result.json").exists(), 600)
    until_state(head, "asked", "finished", 600)
    assert head.sweeper("try", "asked", "rank=4", "method=lora").returncode == 0  # nobody drives it: it goes on
    until_state(head, "asked", "finished", 600)
    assert "asked: finished, 5/5 trials" in head.sweeper("logs", "asked").stdout


@pytest.mark.slow
def test_what_the_cluster_can_never_give_is_said_at_once(head: LocalHead, tmp_path: Path) -> None:
    path = Path(write(tmp_path, "greedy"))
    path.write_text(path.read_text() + "resources: {gpus: 4}\n")
    done = head.sweeper("submit", str(path))
    assert done.returncode == 2
    assert (
        "a fit asks for 1 CPUs and 4 GPUs; no machine of this Ray has or will have that (1 of 2 CPUs and 0 GPUs)"
        in done.stdout
    )
    path.write_text(path.read_text().replace("gpus: 4", "gpus: 0"))
    assert head.sweeper("submit", str(path)).returncode == 0, "a refused name is free again"


@pytest.mark.slow
def test_a_name_whose_folder_is_there_is_refused_by_the_head(head: LocalHead, tmp_path: Path) -> None:
    (head.root / "elsewhere").mkdir(parents=True)
    (head.root / "elsewhere" / "mine.txt").touch()
    done = head.sweeper("submit", write(tmp_path, "elsewhere"))
    assert done.returncode == 2
    assert "Choose another name" in done.stdout
