"""Commands on a head over one SSH connection that is kept: against a real SSH server, on the loopback address."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.cluster import ray_cli, ssh
from sweeper.cluster.errand import Errand
from sweeper.errors import UserError
from sweeper.state.asking.inbox import Inbox
from sweeper.state.lease import Lease
from tests import finished
from tests.cluster import sshd
from tests.cluster.sshd import SshHead, ssh_head

pytestmark = pytest.mark.skipif(sshd.missing() != "", reason=sshd.missing())


@pytest.fixture(scope="module")
def head() -> Iterator[SshHead]:
    with ssh_head() as made:
        finished.sweep(made.sweeps / "birds")
        yield made


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where connections are kept; what a test has left open is closed."""
    with tempfile.TemporaryDirectory(prefix="sw-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder, "sweeper")
        for note in Path(folder).glob("sweeper/*.address"):
            subprocess.run(["ssh", "-S", note.with_suffix(""), "-O", "exit", "head"], capture_output=True)


@contextlib.contextmanager
def driven(head: SshHead, name: str) -> Iterator[Path]:
    """A sweep that we drive, so that it is running; its folder."""
    finished.sweep(head.sweeps / name, right={0: (29, 4), 1: (28, 4)}, **{"search.trials": 7})
    lease = Lease(f"sqlite:///{head.sweeps / name}/study.db", name)
    lease.acquire()
    yield head.sweeps / name
    lease.release()
    lease.close()


def until(good: Callable[[], object], patience_s: float = 30.0) -> None:
    end = time.monotonic() + patience_s
    while not good():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_second_command_goes_over_the_connection_of_the_first(
    head: SshHead, sockets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = head.file(tmp_path / "cluster.yaml")
    before = head.logins
    assert main.main(["list", "--cluster", file]) == 0
    assert "birds: finished, 7/7 trials" in capsys.readouterr().out.replace("\n  ", " ")
    assert main.main(["export", "birds", "-o", "all.csv", "--cluster", file]) == 0
    told = capsys.readouterr()
    assert "wrote all.csv" in told.out
    assert "a word from" not in told.out + told.err
    assert len(list(tmp_path.glob("all*.csv"))) == 4
    assert main.main(["status", "none", "--cluster", file]) == 2
    assert "no sweep" in capsys.readouterr().err
    assert head.logins == before + 1
    assert (sockets.stat().st_mode & 0o777, len(list(sockets.glob("*.address")))) == (0o700, 1)


def test_a_sweep_that_lives_there_is_asked_to_search_less(
    head: SshHead, sockets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = head.file(tmp_path / "cluster.yaml")
    with driven(head, "asked") as folder:
        assert main.main(["narrow", "asked", "lambda=0.5..5", "rank=8", "--cluster", file]) == 0
        assert "from the next trial on: lambda 0.5 to 5 (before: " in capsys.readouterr().out
        [request] = Inbox(folder).waiting()
        assert request.body["axes"] == {"lambda": {"low": 0.5, "high": 5}, "rank": [8]}
        assert main.main(["narrow", "asked", "lambda=0.5..5000", "--cluster", file]) == 2
        assert "what the sweep began with" in capsys.readouterr().err


def test_a_tunnel_goes_through_it_and_ends_with_its_command(head: SshHead, sockets: Path, tmp_path: Path) -> None:
    file, port = head.file(tmp_path / "cluster.yaml"), ray_cli.free_port()
    before = head.logins
    for _ in range(2):
        with ray_cli.opened(file, head.port, port), socket.create_connection((ssh.HOST, port)) as through:
            assert through.recv(7) == b"SSH-2.0"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((ssh.HOST, port))
    assert head.logins == before + 1


def test_it_ends_with_the_terminal(head: SshHead, sockets: Path, tmp_path: Path) -> None:
    """The shell here leads a session, as that of a terminal does."""
    command = [sys.executable, "-m", "sweeper", "list", "--cluster", head.file(tmp_path / "cluster.yaml")]
    shell = subprocess.Popen(
        ["sh", "-c", '"$@"; echo done; cat', "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    until(lambda: shell.stdout.readline() == "done\n")
    (kept,) = (note.with_suffix("") for note in sockets.glob("*.address"))
    assert kept.is_socket()
    shell.kill()
    shell.communicate()
    until(lambda: not any(sockets.iterdir()))


def test_one_that_broke_is_opened_again(head: SshHead, sockets: Path, tmp_path: Path) -> None:
    file = ray_cli._read(head.file(tmp_path / "cluster.yaml"))
    ray_cli._connection(file).close()
    before = head.logins
    assert ray_cli._connection(file).run("true") == 0
    (note,) = sockets.glob("*.address")
    os.utime(note, (0, 0))  # unused for a long time: the other end is asked
    assert ray_cli._connection(file).run("exit 3") == 3
    assert head.logins == before + 1


def test_lines_come_as_they_are_written_and_ctrl_c_ends_the_command_on_the_head(
    head: SshHead, sockets: Path, tmp_path: Path
) -> None:
    with driven(head, "open") as folder:
        log = folder / "trials" / "00000" / "0" / "log.txt"
        log.write_text("2026-01-01T00:00:00.000Z INFO first\n")
        told: list[str] = []

        def hear(line: str) -> None:
            told.append(line)
            if "INFO first" in line:
                log.write_text(f"{log.read_text()}2026-01-01T00:00:01.000Z INFO second\n")
            if "INFO second" in line:
                os.kill(os.getpid(), signal.SIGINT)

        there = ray_cli._connection(ray_cli._read(head.file(tmp_path / "cluster.yaml")))
        with pytest.raises(KeyboardInterrupt):
            there.carry(Errand(["logs", "open", "0", "-f"]), hear)
    assert '{"exit": 130}' in told[-1]


def test_what_is_not_to_be_reached_is_one_sentence_with_the_way_to_try_it(
    head: SshHead, sockets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = head.file(tmp_path / "cluster.yaml")
    text = Path(file).read_text()
    Path(file).write_text(text.replace(f"{head.folder}/key", "/dev/null"))
    assert main.main(["list", "--cluster", file]) == 2
    said = capsys.readouterr().err
    assert f"no way to the head of {file}, 127.0.0.1: " in said
    assert re.search(r"Permission denied \(.*\)\. Try by hand: ssh -i /dev/null ", said)
    assert "ray up" not in said
    sockets.chmod(0o755)
    with pytest.raises(UserError, match="not a folder of yours alone"):
        ray_cli._connection(ray_cli._read(file))


@pytest.fixture
def never_started(head: SshHead) -> Iterator[None]:
    """The head has forgotten where its sweeps are."""
    settings = head.folder / "home" / ".sweeper" / "head.env"
    kept = settings.read_text()
    settings.unlink()
    yield
    settings.write_text(kept)


@pytest.mark.usefixtures("never_started")
def test_a_head_that_was_never_started_says_so(head: SshHead, sockets: Path, tmp_path: Path, capsys) -> None:
    assert main.main(["list", "--cluster", head.file(tmp_path / "cluster.yaml")]) == 2
    assert "cluster.yaml' makes it a head.\n" in (said := capsys.readouterr().err)
    assert said.startswith("no sweeps are kept on the head of ")


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Ray's own command on this desk; the file in which it notes what was typed."""
    script = tmp_path / "ray"
    script.write_text(f'#!/bin/sh\necho "ray $*" >> {tmp_path}/typed\n')
    script.chmod(0o700)
    monkeypatch.setattr(ray_cli, "ray", lambda: str(script))
    return tmp_path / "typed"


@pytest.mark.usefixtures("never_started")
def test_down_that_cannot_ask_says_so(
    head: SshHead, sockets: Path, tmp_path: Path, launcher: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main.main(["down", "--cluster", head.file(tmp_path / "cluster.yaml")]) == 1
    said = capsys.readouterr().out
    assert "whether a sweep runs there is not known: no sweeps are kept on the head" in said
    assert "left as it is. Without a terminal: --yes" in said
    assert not launcher.exists()


def test_down_ends_ray_on_a_host_that_the_launcher_has_forgotten(
    head: SshHead, sockets: Path, tmp_path: Path, launcher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = head.file(tmp_path / "cluster.yaml")
    with driven(head, "going"):
        assert main.main(["down", "--yes", "--cluster", file]) == 0
    said = capsys.readouterr().out
    assert "running there: going. Pause first" in said
    assert "not known" not in said
    assert (head.folder / "home" / "typed").read_text() == "ray stop\n"
    assert launcher.read_text() == f"ray down -y {file}\n"
    Path(file).write_text(Path(file).read_text().replace(f"{head.folder}/key", "/dev/null"))
    assert main.main(["down", "--yes", "--cluster", file]) == 2
    told = capsys.readouterr()
    assert "is not known: no way to the head" in told.out
    assert "no way to the head" in told.err
    assert "down. Sweeps" not in told.out


def test_two_clusters_from_one_desk_are_two_also_by_one_name(
    head: SshHead, sockets: Path, tmp_path: Path, launcher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ssh_head() as other, driven(other, "theirs"):
        files = [each.file(tmp_path / f"{number}.yaml") for number, each in enumerate((head, other))]
        assert [ray_cli.running(file) for file in files] == [([], ""), (["theirs"], "")]
        ray_cli.take_down(files[1])
        assert ray_cli._connection(ray_cli._read(files[0])).alive()
        assert len(list(sockets.glob("*.address"))) == 2
        assert (other.folder / "home" / "typed").read_text() == "ray stop\n"


@pytest.mark.slow
def test_two_desks_share_a_cluster_and_nothing_else(
    head: SshHead, sockets: Path, tmp_path: Path, launcher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has the file and the key alone, and takes down what the first one works on."""
    first = ray_cli._connection(ray_cli._read(head.file(tmp_path / "first.yaml")))
    before = head.logins
    with tempfile.TemporaryDirectory(prefix="sw-") as elsewhere, driven(head, "shared"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", elsewhere)
        second = head.file(tmp_path / "second.yaml")
        assert ray_cli.running(second) == (["shared"], "")
        ray_cli.take_down(second)
        monkeypatch.undo()
    assert head.logins == before + 1
    assert first.run("true") == 0
