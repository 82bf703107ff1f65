"""Sweeps on a cluster: the same commands, run on its head. Against a real head of Ray on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.cluster.jobs import _fed
from sweeper.errors import UserError
from tests.cluster.local_head import LocalHead, local_head

SPEC = """
name: {name}
groups: cell
space: {{method: [lora, fairlora], rank: [4, 8], learning_rate: 2e-3, epochs: {epochs}}}
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


# --- with one


@pytest.fixture(scope="module")
def head() -> Iterator[LocalHead]:
    with local_head() as made:
        yield made


def status(head: LocalHead, name: str) -> dict:
    done = head.sweeper("status", name, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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
    end = time.monotonic() + 240
    while not list((head.root / "paused").rglob("checkpoint-*.safetensors")):
        assert time.monotonic() < end
        time.sleep(0.2)
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
