"""Cluster files: every shipped one passes Ray's schema and our rules; each bad one is refused with its own message."""

from __future__ import annotations

import difflib
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from sweeper.cli import doctor, main

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster.yaml"
VARIANTS = ROOT / "sweeper" / "cluster" / "variants"
SHIPPED = [CLUSTER, *sorted(VARIANTS.glob("*.yaml"))]
TOKEN = "TOKEN-FILE"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "auth_token"
    path.write_text("a" * 64)
    path.chmod(0o600)
    return path


def examine(text: str, token: Path) -> list[doctor.Check]:
    """The checks of a file whose token is `token`, and which has a name of its own."""
    path = token.parent / "cluster.yaml"
    named = text.replace("cluster_name: CHANGE-ME", "cluster_name: ana-fairness")
    path.write_text(named.replace(": ~/.ray/auth_token", f": {token}"))
    return doctor.examine_cluster(path)


def bad(text: str, token: Path) -> list[doctor.Check]:
    return [check for check in examine(text, token) if check.verdict == "bad"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_file_passes_ray_and_our_rules_with_notes_for_what_is_to_be_filled_in(
    path: Path, token: Path
) -> None:
    checks = examine(path.read_text(), token)
    assert [check.found for check in checks if check.verdict == "bad"] == []
    assert checks[-1].verdict == "good"
    assert {check.name for check in checks if check.verdict == "note"} == {"placeholders"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["CHANGE-ME", "sweeper"])
def test_a_name_that_others_may_have_is_refused_with_its_line_and_a_mend(path: Path, name: str, token: Path) -> None:
    text = path.read_text()
    assert "\ncluster_name: CHANGE-ME " in text
    copy = token.parent / path.name
    named = text.replace("cluster_name: CHANGE-ME", f"cluster_name: {name}")
    copy.write_text(named.replace(": ~/.ray/auth_token", f": {token}"))
    (check,) = [one for one in doctor.examine_cluster(copy) if one.verdict == "bad"]
    assert re.match(rf"{path.name}:\d+: cluster_name .*{name}", check.found)
    assert "Name it after you and the project" in check.mend


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_prometheus_finds_every_node_at_one_port(path: Path) -> None:
    starts = [line for line in path.read_text().splitlines() if "ray start" in line and not line.startswith("#")]
    assert len(starts) == 2
    assert all(" --metrics-export-port=8080 " in start for start in starts)


CLOUD, OWN = [5, 10, 20, 40, 80], [5, 10, 20, 40, 80, 80, 80, 80, 80]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
@pytest.mark.parametrize(("failing", "pauses"), [(0, 0), (2, 2), (9, 9)])
def test_a_worker_whose_start_fails_is_tried_again_with_growing_pauses(
    path: Path, failing: int, pauses: int, tmp_path: Path
) -> None:
    """A cloud puts another machine in the place of one that fails six times. For a host of one's own there is none."""
    file = yaml.safe_load(path.read_text())
    wanted = (OWN if file["provider"]["type"] == "local" else CLOUD)[:pauses]
    code, tries = int(len(wanted) < failing), len(wanted) + 1
    said = started(file, tmp_path, f"[ $(grep -c ^start ray.log) -gt {failing} ]", joined="false")
    assert (said.code, said.pauses, said.tries, said.stops) == (code, wanted, tries, len(wanted))


def test_a_host_that_another_attempt_has_joined_is_left_as_it_is(tmp_path: Path) -> None:
    """So that it is in the cluster once."""
    file = yaml.safe_load(next(path for path in SHIPPED if path.name == "own-hosts.yaml").read_text())
    said = started(file, tmp_path, "false", joined="[ -e sleep.log ]")
    assert (said.code, said.pauses, said.tries) == (0, [5], 1)


def started(file: dict, folder: Path, start: str, joined: str) -> SimpleNamespace:
    """What the last of a file's worker_start_ray_commands does, beside a `ray start` and a `pgrep` of our own."""
    ray = f'echo "$*" >> ray.log; [ "$1" = stop ] || {start}'
    stubs = {"ray": ray, "sleep": "echo $1 >> sleep.log", "pgrep": joined}
    for name, text in stubs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    own = {"PATH": f"{folder}:/usr/bin:/bin", "RAY_HEAD_IP": "10.0.0.1"}
    # in brackets, as Ray's launcher runs it
    line = f"true && ({file['worker_start_ray_commands'][-1]})"
    ended = subprocess.run(["bash", "-c", line], cwd=folder, env=own, timeout=20)
    said = (folder / "ray.log").read_text().splitlines()
    slept = folder / "sleep.log"
    return SimpleNamespace(
        code=ended.returncode,
        pauses=[int(line) for line in slept.read_text().split()] if slept.exists() else [],
        tries=sum(line.startswith("start --address=10.0.0.1:6379 ") for line in said),
        stops=said.count("stop"),
    )


# what is wrong: which words of cluster.yaml become which, and what is said of it
BAD: dict[str, tuple[str, str, str]] = {
    "a key Ray does not know": ("max_workers: 4  ", "max_wokers: 4  ", "'max_wokers' was unexpected"),
    "a number that is text": ("idle_timeout_minutes: 10", "idle_timeout_minutes: ten", "'ten' is not of type"),
    "a head that is no node type": ("head_node_type: head", "head_node_type: hed", "Ray refuses.*head_node_type"),
    "a group that is only added": (
        "  use_internal_ips: true ",
        "  security_group: {GroupName: mine}\n  use_internal_ips: true ",
        "opens port 22 to the world",
    ),
    "a dashboard for everybody": ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "says 0.0.0.0"),
    "a dashboard by default": (" --dashboard-host=127.0.0.1", "", "does not say where the dashboard listens"),
    "public addresses": ("use_internal_ips: true", "use_internal_ips: false", "gives the nodes public addresses"),
    "a head without token": (
        "head.env && export RAY_AUTH_MODE=token &&",
        "head.env &&",
        r"head_start_ray_commands\[2\] starts Ray without asking for a token",
    ),
    "workers without token": (
        "- export RAY_AUTH_MODE=token && ulimit",
        "- ulimit",
        r"worker_start_ray_commands\[1\] starts Ray without asking for a token",
    ),
    "a token that stays at home": (
        '  "~/.ray/auth_token": ~/.ray/auth_token',
        '  "~/x": ~/.ray/auth_token',
        "does not send the token",
    ),
    "a token for all on the node": (" && chmod 600 ~/.ray/auth_token\n", "\n", "leaves the token readable by all"),
    "a missing group": ("      SecurityGroupIds: [sg-CHANGE-ME]\n", "", "has no SecurityGroupIds"),
    "a missing subnet": ("      SubnetIds: [subnet-CHANGE-ME]\n", "", "has no SubnetIds"),
    "a profile of Ray's": (
        "      IamInstanceProfile: {Name: CHANGE-ME-worker}",
        "      #",
        "has no IamInstanceProfile: Ray makes a profile with all rights",
    ),
    "a typo in node_config": (
        "      KeyName:",
        "      KeyNmae:",
        "'KeyNmae' is unknown to aws.*Did you mean 'KeyName'",
    ),
    "a spot head": (
        "      InstanceType: m7i.large ",
        "      InstanceMarketOptions: {MarketType: spot}\n      InstanceType: m7i.large ",
        "is a spot machine, and the sweep's memory is on it",
    ),
    "fits on the head": ("    resources: {CPU: 0} ", "    resources: {CPU: 2} ", "lets fits run on the head"),
    "an image of today": (
        "initialization_commands: []",
        "docker: {image: 'me/sweeper:latest', container_name: s}",
        "me/sweeper:latest is another image tomorrow",
    ),
    "a published port": (
        "initialization_commands: []",
        "docker: {image: 'me/sweeper:1', container_name: s, run_options: [-p 8265:8265]}",
        "publishes a port",
    ),
    "a nightly build": (
        "uv pip install -q --no-deps",
        "uv pip install https://example.org/ray-wheels/latest/ray-3.0.0.dev0.whl #",
        "installs a nightly build",
    ),
    "another Ray": (
        "sync -q --require-hashes",
        "sync -q --require-hashes 'ray[default]==2.1.0'",
        "is of Ray 2.1.0; here",
    ),
    "another Python": ("--python 3.11.14 ", "--python 3.9.1 ", "is of Python 3.9.1; here it is 3.11"),
    "packages as they come": ("--require-hashes ", "", "do not install requirements.txt by its hashes"),
    "a missing mount": ("(mountpoint -q /shared || sudo mount -t", "(true || true -t", "mount no storage that all"),
    "storage of its own": (
        "fs-CHANGE-ME.efs.eu-central-1.amazonaws.com:/",
        "localhost:/",
        "storage of the node",
    ),
    "storage beside the mount": (
        "head up /shared ",
        "head up /data ",
        "keeps things in /data, the shared",
    ),
    "a mount that loses writes": ("nfsvers=4.1,hard", "nfsvers=4.1,soft", "is a soft mount"),
    "no services": ("  - sweeper head up /shared", "  - 'true'", "start neither PostgreSQL nor MLflow"),
    "a password in the file": (
        "initialization_commands: []",
        "initialization_commands: [export PGPASSWORD=swordfish]",
        "holds what looks like a secret",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_at_its_line_and_with_a_mend(what: str, token: Path) -> None:
    old, new, said = BAD[what]
    text = CLUSTER.read_text()
    assert old in text
    found = bad(text.replace(old, new), token)
    assert [check for check in found if re.search(said, f"{check.found}. {check.mend}")], found
    assert all(check.mend for check in found)
    assert all(re.match(r"cluster\.yaml(:\d+)?: ", check.found) for check in found)


def test_tls_as_the_page_describes_it_keeps_the_rules(token: Path) -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    (made,) = re.findall(r"(?m)^(bash sweeper/\S+ node \S+)", page)
    (told,) = re.findall(r"(?m)^(export RAY_USE_TLS.*)", page)
    text = CLUSTER.read_text()
    for old, new in (
        ("file_mounts:\n", 'file_mounts:\n  "~/.ray/tls": ~/.ray/tls\n'),
        ("setup_commands:                 #", f"setup_commands:\n  - {made.replace('bash ', 'bash ~/sweeper/')}\n  #"),
        ("export RAY_AUTH_MODE=token", f"{told} && export RAY_AUTH_MODE=token"),
    ):
        assert old in text
        text = text.replace(old, new)
    assert bad(text, token) == []
    assert text.count("RAY_TLS_CA_CERT") == 2


def test_no_two_bad_files_are_told_the_same(token: Path) -> None:
    assert len({said for _, _, said in BAD.values()}) == len(BAD) >= 12


@pytest.mark.parametrize(
    ("variant", "old", "new", "said"),
    [
        ("gcp", "scheduling: [{on", "scheduling: [{preemptible: true, on", None),
        ("gcp", "      machineType: e2", "      scheduling: [{preemptible: true}]\n      machineType: e2", "is a spot"),
        ("gcp", "networkInterfaces: [{", "networkInterfaces: [{accessConfigs: [{name: x}], ", "a public address"),
        ("gcp", "      networkInterfaces:", "      netwrkInterfaces:", "has no networkInterfaces"),
        ("own-hosts", " RAY_enable_autoscaler_v2=0", "", "autoscaler v2, which never starts workers"),
        ("own-hosts", " --num-cpus=0", "", "lets fits run on the head"),
        ("own-hosts", "  head_ip:", "  hed_ip:", "Ray refuses the file"),
    ],
)
def test_the_variants_are_held_to_the_same_rules(
    variant: str, old: str, new: str, said: str | None, token: Path
) -> None:
    text = (VARIANTS / f"{variant}.yaml").read_text()
    assert old in text
    found = [check.found for check in bad(text.replace(old, new), token)]
    assert found == [] if said is None else any(said in one for one in found), found


def test_a_token_that_others_can_read_is_refused_and_a_missing_one_is_noted(token: Path) -> None:
    token.chmod(0o644)
    (check,) = bad(CLUSTER.read_text(), token)
    assert check.mend == f"Do: chmod 600 {token}"
    token.unlink()
    notes = {check.name for check in examine(CLUSTER.read_text(), token) if check.verdict == "note"}
    assert "token file" in notes


WRONG = {  # what is given as a cluster file, and what is said of it
    "a: [": r"c\.yaml:\d: this is not readable as YAML: .*",
    "just words": "c.yaml:1: a cluster file is a mapping of `key: value` lines. Start with `cluster_name: my-cluster`.",
    "provider: {type: aws}": "cluster_name is missing. See cluster.yaml, which has all that a file needs.",
    "{cluster_name: c, provider: aws}": "provider.type is missing. See cluster.yaml",
    "{name: s, space: {rank: 4}}": r"is a sweep, and --cluster takes .*: sweeper submit \S+c\.yaml --cluster",
    "{apiVersion: v1, kind: Pod}": r"is a manifest of Kubernetes \(Pod\).* --cluster takes the tunnel's URL",
    "{cluster_name: CHANGE-ME, provider: {type: aws}}": "c.yaml:1: cluster_name has a CHANGE-ME",
}


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize("words", [["doctor"], ["list"]], ids=" ".join)
def test_what_is_no_cluster_file_is_told_so_before_anybody_waits_for_a_tunnel(
    text: str, words: list[str], tmp_path: Path, capsys
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert main.main([*words, "--cluster", str(tmp_path / "c.yaml")]) == 2
    told = "".join(capsys.readouterr())
    assert "Traceback" not in told
    assert re.search(WRONG[text], told), told


def lines(path: Path) -> list[str]:
    """What Ray reads: no comments, no empty lines."""
    bare = (re.sub(r"(^|\s+)#.*", "", line).rstrip() for line in path.read_text().splitlines())
    return [line for line in bare if line]


# how many lines of cluster.yaml a variant has otherwise, and how many of its own it has in their place
DIFFERENCE = {"gcp": (22, 16), "own-hosts": (38, 9), "one-machine": (38, 9)}


@pytest.mark.parametrize("variant", DIFFERENCE)
def test_a_variant_differs_in_no_more_lines_than_its_place_demands(variant: str) -> None:
    changes = list(difflib.unified_diff(lines(CLUSTER), lines(VARIANTS / f"{variant}.yaml"), n=0, lineterm=""))[2:]
    removed, added = ([line for line in changes if line.startswith(sign)] for sign in "-+")
    assert (len(removed), len(added)) == DIFFERENCE[variant]


def test_the_doctor_tells_a_cluster_file_on_the_command_line(token: Path, capsys) -> None:
    path = token.parent / "cluster.yaml"
    path.write_text(CLUSTER.read_text().replace(": ~/.ray/auth_token", f": {token}"))
    assert main.main(["doctor", "--cluster", str(path)]) == 2
    assert "cluster.yaml:9: cluster_name has a CHANGE-ME" in capsys.readouterr().out
    path.write_text(path.read_text().replace("cluster_name: CHANGE-ME", "cluster_name: ana-fairness"))
    assert main.main(["doctor", "--cluster", str(path)]) == 0
    assert "good  cluster.yaml: passes Ray's schema and" in capsys.readouterr().out
    path.write_text(path.read_text().replace("127.0.0.1", "0.0.0.0"))
    assert main.main(["doctor", "--cluster", str(path)]) == 2
    assert "Use 127.0.0.1." in capsys.readouterr().out
    assert main.main(["doctor", "--cluster", str(path.parent / "nothing.yaml")]) == 2
