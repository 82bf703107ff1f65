"""The script for Slurm begins a sweep or goes on with it, pauses it before time is over, and queues itself again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VARIANTS = ROOT / "sweeper" / "cluster" / "variants"
SCRIPT, BEGIN = VARIANTS / "slurm.sbatch", VARIANTS / "begin-or-resume.sh"

# What a node has, as far as the scripts see it. Each says what it was asked for in a line of `said`.
PROGRAMS = {
    "sweeper": """
        if [ "$1" = validate ]; then
          grep -q ^name: "$4" || exit 2
          echo '{"name": "s", "storage": {"root": "'"$SWEEPER_ROOT"'"}}'
          exit
        fi
        echo "sweeper $* at ${RAY_ADDRESS:-nowhere}" >> "$SAID"
        trap '[ "${DEAF:-}" ] && DEAF= || exit ${ASKED:-143}' TERM
        [ "${LONG:-}" ] && for _ in $(seq 400); do sleep 0.05; done
        exit "${CODE:-0}" """,
    "srun": """echo "srun $*" >> "$SAID"; shift; exec "$@" """,
    "ray": """
        [ "${NO_RAY:-}" ] && exit 0  # as symmetric-run ends then
        stat -c %a "$RAY_AUTH_TOKEN_PATH" >> "$SAID"
        while [ "$1" != -- ]; do shift; done
        shift
        "$@" """,
    "scontrol": """[ "$1" = show ] && printf 'node-1\\nnode-2\\n' || echo "scontrol $*" >> "$SAID" """,
}


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """The environment of a job; `SAID` is what its programs were asked for."""
    (tmp_path / "bin").mkdir()
    for name, lines in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    activate = tmp_path / "sweeper" / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("")
    (tmp_path / "sweep.yaml").write_text("name: s\n")
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    own = {"HOME": tmp_path, "SWEEPER_ROOT": tmp_path / "my sweeps", "SAID": tmp_path / "said", "PATH": path}
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node-[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    slurm |= {"SLURM_CPUS_PER_TASK": "32", "SLURM_GPUS_ON_NODE": "8"}
    return {name: str(value) for name, value in own.items()} | slurm | {"PYTHONPATH": str(ROOT)}


def run(node: dict[str, str], **more: str) -> tuple[int, str]:
    """The exit code of a job, and what its programs were asked for."""
    command = ["bash", str(SCRIPT), "sweep.yaml"]
    done = subprocess.run(command, env=node | more, cwd=node["HOME"], capture_output=True, text=True, timeout=60)
    return done.returncode, Path(node["SAID"]).read_text() + done.stdout


def until(good: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not good():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("script", [SCRIPT, BEGIN], ids=lambda path: path.name)
def test_bash_takes_the_scripts(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_a_job_begins_the_sweep_on_the_ray_of_its_nodes_with_a_token_of_its_own(node: dict[str, str]) -> None:
    code, said = run(node)
    assert code == 0
    srun, mode, sweeper, told = said.splitlines()
    assert srun.startswith(
        "srun --cpus-per-task=32 ray symmetric-run --address node-1:20007 --min-nodes 2 --num-cpus=32"
    )
    assert " --num-gpus=8 " in srun
    assert not re.search("--(head|port|block|node-ip-address|include-dashboard)", srun), "workers take none of these"
    assert mode == "600"
    assert sweeper == f"sweeper run {node['HOME']}/sweep.yaml at node-1:20007"
    assert told.startswith("exit code 0 of the sweep (")
    assert not Path(node["HOME"], ".sweeper", "slurm-7").exists(), "the token goes with the job"


def test_a_job_goes_on_with_what_was_begun_and_its_code_is_the_sweeps(node: dict[str, str]) -> None:
    begun = Path(node["SWEEPER_ROOT"], "s")
    begun.mkdir(parents=True)
    (begun / "spec.yaml").touch()
    code, said = run(node, CODE="3")
    assert code == 3
    assert f"sweeper resume --root {begun.parent} s at node-1:20007\n" in said
    assert "requeue" not in said, "only a pause that was asked for is"


def test_before_its_time_is_over_the_sweep_is_paused_and_the_job_queued_again(node: dict[str, str]) -> None:
    job = subprocess.Popen(["bash", str(SCRIPT), "sweep.yaml"], env=node | {"LONG": "yes"}, cwd=node["HOME"])
    said = Path(node["SAID"])
    until(lambda: said.exists() and "sweeper run" in said.read_text())
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 143
    assert said.read_text().splitlines()[-1] == "scontrol requeue 7"


def test_epochs_that_are_longer_than_the_time_left_are_not_waited_for(node: dict[str, str]) -> None:
    Path(node["HOME"], "hasty.sbatch").write_text(re.sub(r"(?m)^patience_s=\d+", "patience_s=1", SCRIPT.read_text()))
    more = {"LONG": "yes", "DEAF": "to the first", "ASKED": "130"}
    job = subprocess.Popen(["bash", "hasty.sbatch", "sweep.yaml"], env=node | more, cwd=node["HOME"])
    said = Path(node["SAID"])
    until(lambda: said.exists() and "sweeper run" in said.read_text())
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 130
    assert said.read_text().splitlines()[-1] == "scontrol requeue 7"


def test_a_ray_that_did_not_start_is_no_success(node: dict[str, str]) -> None:
    code, said = run(node, NO_RAY="yes")
    assert code == 4
    assert "4: it never ran" in said


NEEDED = ("unshare", "ip", "ss", "openssl")
# Two nodes, each with its network, processes, name and /dev/shm, in namespaces that end with the test.
NODES = """
set -e
mount -t tmpfs tmpfs /run && mkdir -p /run/netns /tmp/ray && mount --bind hosts /etc/hosts
for node in a b; do ip netns add $node; ip -n $node link set lo up; done
ip link add to-b netns a type veth peer name to-a netns b
ip -n a addr add 10.79.0.1/24 dev to-b && ip -n a link set to-b up
ip -n b addr add 10.79.0.2/24 dev to-a && ip -n b link set to-a up
exec ip netns exec a bash {script} sweep.yaml
"""
SRUN = """
shift
for node in a b; do
  mkdir -p ray-$node && cp -r tls tls-$node
  ip netns exec $node unshare --kill-child --pid --fork --mount-proc --mount --ipc --uts bash -c '
    hostname node-$0 && mount -t tmpfs tmpfs /dev/shm && mount --bind ray-$0 /tmp/ray
    bash {certificates} node tls-$0
    export RAY_TLS_SERVER_CERT=$PWD/tls-$0/node.crt RAY_TLS_SERVER_KEY=$PWD/tls-$0/node.key
    exec "$@"' $node "$@" > $node.log 2>&1 &
done
(until ip netns exec a ss -Hltn | grep -q :20007; do sleep 1; done; sleep 4
 ip netns exec a openssl s_client -connect 10.79.0.1:20007 -alpn h2 -CAfile tls/ca.crt < /dev/null > seen 2>&1) &
wait %1
cat a.log
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0 or not all(map(shutil.which, NEEDED)), reason=f"needs root and {NEEDED}")
def test_the_real_symmetric_run_on_two_nodes_with_token_and_tls_sees_a_sweep_to_its_end(
    node: dict[str, str], tmp_path: Path
) -> None:
    """In namespaces of its own: it ends with `ray stop`, which ends every Ray that it sees."""
    programs = {
        "sweeper": 'exec python3 -m sweeper "$@"',
        "scontrol": "printf 'node-a\\nnode-b\\n'",
        "srun": SRUN.replace("{certificates}", str(VARIANTS / "certificates.sh")),
    }
    for name, lines in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{lines}\n")
    (tmp_path / "bin" / "ray").unlink()
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.79.0.1 node-a\n10.79.0.2 node-b\n")
    spec = "name: s\ngroups: cell\nspace: {method: [lora], rank: [4, 8], learning_rate: 2e-3, epochs: 3}\n"
    (tmp_path / "sweep.yaml").write_text(spec + "search: {sampler: random, trials: 2, seeds: 1, baselines: []}\n")
    subprocess.run(["bash", str(VARIANTS / "certificates.sh"), "ca", str(tmp_path / "tls")], check=True)
    own = {
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_GPUS_ON_NODE": "0",
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    own |= {"RAY_USE_TLS": "1", "RAY_TLS_CA_CERT": f"{tmp_path}/tls/ca.crt", "PATH": f"{node['PATH']}:/usr/sbin:/sbin"}
    alone = ["unshare", "--kill-child", "--pid", "--fork", "--mount-proc", "--mount", "--net", "--ipc", "bash", "-c"]
    command = [*alone, NODES.replace("{script}", str(SCRIPT))]
    done = subprocess.run(command, env=node | own, cwd=tmp_path, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "s: finished, 2/2 trials" in done.stdout
    log = "".join(path.read_text() for path in Path(node["SWEEPER_ROOT"]).glob("s/trials/*/*/log*.txt"))
    assert set(re.findall(r"begins on (\S+) ", log)) == {"node-a", "node-b"}
    assert "Verify return code: 0 (ok)" in (tmp_path / "seen").read_text()


def test_a_spec_that_is_none_begins_nothing(node: dict[str, str]) -> None:
    Path(node["HOME"], "sweep.yaml").write_text("nothing: here\n")
    code, said = run(node)
    assert code != 0
    assert not re.search(r"sweeper (run|resume)", said)


def test_the_spec_says_where_its_sweep_is_kept(tmp_path: Path) -> None:
    """What the script reads of `sweeper validate`, from the real one."""
    (tmp_path / "a.yaml").write_text("name: a\nstorage: {root: /somewhere else}\n")
    words = ["validate", "--no-data", "--json", str(tmp_path / "a.yaml")]
    bare = {name: value for name, value in os.environ.items() if name != "SWEEPER_ROOT"}
    done = subprocess.run([sys.executable, "-m", "sweeper", *words], capture_output=True, text=True, env=bare)
    told = json.loads(done.stdout)
    assert (told["name"], told["storage"]["root"]) == ("a", "/somewhere else")


def test_what_slurm_is_asked_for_is_what_the_script_counts_on() -> None:
    asked = dict(re.findall(r"(?m)^#SBATCH --([\w-]+)=?(\S*)", SCRIPT.read_text()))
    assert {"requeue", "exclusive"} <= asked.keys()
    assert asked["ntasks-per-node"] == "1", "one Ray on each node"
    assert asked["open-mode"] == "append", "what the job said before it was queued again stays"
    signalled = re.fullmatch(r"B:USR1@(\d+)", asked["signal"])
    assert signalled is not None, "to this script, which knows whom to ask"
    patience_s = re.search(r"(?m)^patience_s=(\d+)", SCRIPT.read_text())
    assert int(patience_s[1]) + 120 <= int(signalled[1]), "time to write the record and to queue"
