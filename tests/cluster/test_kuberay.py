"""The manifests for KubeRay: one version, one storage, no secret in them, nobody root, nothing that is named lacks."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from configparser import ConfigParser
from glob import glob
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper.cluster.head import Head
from sweeper.cluster.jobs import STOPPED_GENTLY
from sweeper.cluster.ray_cli import free_port
from sweeper.engine import machines
from sweeper.patience import until
from sweeper.record.serving import server
from tests.faults.postgres import PASSWORD, serving

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "sweeper" / "cluster" / "variants" / "kuberay"
DOCUMENTS = {
    (document["kind"], document.get("metadata", {}).get("name", "")): document
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
}
CLUSTER = DOCUMENTS["RayCluster", "sweeper"]["spec"]
JOB = DOCUMENTS["RayJob", "sweep"]["spec"]
HEAD = CLUSTER["headGroupSpec"]["template"]
(GROUP,) = CLUSTER["workerGroupSpecs"]
WORKER = GROUP["template"]
PODS: dict[str, dict[str, Any]] = {
    "head": HEAD,
    "worker": WORKER,
    "submitter": JOB["submitterPodTemplate"],
    "postgres": DOCUMENTS["Deployment", "sweeper-postgres"]["spec"]["template"],
    "mlflow": DOCUMENTS["Deployment", "sweeper-mlflow"]["spec"]["template"],
}
PAGE = (ROOT / "docs" / "cluster.md").read_text()
SETTINGS = DOCUMENTS["ConfigMap", "sweeper-settings"]["data"]


def container(pod: str) -> dict[str, Any]:
    (one,) = PODS[pod]["spec"]["containers"]
    return one


def values(pod: str) -> dict[str, str]:
    """The environment that stands in the manifest; what comes from a secret is `secret/key`."""
    found = {}
    for one in container(pod).get("env", ()):
        secret = one.get("valueFrom", {}).get("secretKeyRef", {})
        found[one["name"]] = one["value"] if "value" in one else f"{secret['name']}/{secret['key']}"
    return found


def mounted(pod: str) -> dict[str, dict[str, Any]]:
    """What is mounted, by its path."""
    volumes = {volume["name"]: volume for volume in PODS[pod]["spec"].get("volumes", ())}
    return {mount["mountPath"]: volumes[mount["name"]] for mount in container(pod).get("volumeMounts", ())}


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, all the way down."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield str(key), item
        yield from walk(item)


def test_a_job_has_the_cluster_that_people_start_by_hand() -> None:
    assert JOB["rayClusterSpec"] == CLUSTER


def test_images_and_ray_are_of_the_versions_that_are_installed_by_the_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {container(pod)["image"] for pod in PODS if pod != "postgres"}
    assert ours == {f"CHANGE-ME/sweeper:{project['version']}"}
    assert f"docker build -t sweeper:{project['version']} " in (ROOT / "Dockerfile").read_text()
    assert CLUSTER["rayVersion"] == metadata.version("ray")
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+", container("postgres")["image"]), "a version, not what is newest"


def test_head_workers_and_mlflow_see_one_storage_at_one_path_and_whose_class_is_the_users() -> None:
    assert {mounted(pod)["/shared"]["persistentVolumeClaim"]["claimName"] for pod in ("head", "worker", "mlflow")} == {
        "sweeper-shared"
    }
    assert values("head")["SWEEPER_ROOT"].startswith("/shared/")
    assert "--artifacts-destination=file:///shared/mlartifacts" in container("mlflow")["args"]
    shared = DOCUMENTS["PersistentVolumeClaim", "sweeper-shared"]["spec"]
    assert (shared["accessModes"], shared["storageClassName"]) == (["ReadWriteMany"], "CHANGE-ME")
    assert "storageClassName" not in DOCUMENTS["PersistentVolumeClaim", "sweeper-postgres"]["spec"]


def test_no_secret_is_in_a_manifest_and_workers_have_none_but_the_token() -> None:
    assert not any(kind == "Secret" for kind, _ in DOCUMENTS)
    assert values("worker") == {}
    assert CLUSTER["authOptions"] == {"mode": "token", "secretName": "sweeper-token"}
    for pod in PODS:
        for name, value in values(pod).items():
            if re.search(r"PASSWORD|SECRET|TOKEN", name):
                assert re.match(r"sweeper-(postgres|mlflow)/|/run/secrets/", value), name
    assert not re.search(r"://[^/@\s]+:[^/@\s]+@", "".join(path.read_text() for path in FOLDER.iterdir()))


def test_the_secrets_that_are_named_are_those_that_the_page_makes() -> None:
    named = {(CLUSTER["authOptions"]["secretName"], "auth_token")}
    named |= {tuple(value.split("/")) for pod in PODS for value in values(pod).values() if value.startswith("sweeper-")}
    made = re.findall(r"create secret generic (\S+) (.*)", PAGE)
    assert named == {(name, key) for name, rest in made for key in re.findall(r"--from-file=(\w+)=", rest)}
    secret = mounted("postgres")[str(Path(values("postgres")["POSTGRES_PASSWORD_FILE"]).parent)]["secret"]
    assert (secret["secretName"], "password") in named


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_the_page_makes_secrets_that_are_random_and_a_spec_that_is_the_file(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t" * 64)
    (tmp_path / "sweep.yaml").write_text("name: s\n")
    lines = re.findall(r"(?m)^kubectl create (?:secret|configmap) .*", PAGE)
    made = {}
    for _ in range(2):
        script = "\n".join(f"{line} --dry-run=client -o yaml; echo ---" for line in lines)
        env = os.environ | {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")}
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        for document in filter(None, yaml.safe_load_all(done.stdout)):
            name = document["metadata"]["name"]
            for key, value in document["data"].items():
                text = base64.b64decode(value).decode() if document["kind"] == "Secret" else value
                made.setdefault((name, key), set()).add(text)
    assert made.pop(("sweeper-token", "auth_token")) == {"t" * 64}
    assert made.pop(("sweep", "sweep.yaml")) == {"name: s\n"}
    assert len(made) == 3
    assert all(len(texts) == 2 and min(map(len, texts)) >= 48 for texts in made.values())
    assert not any("\n" in text for (_, key), texts in made.items() for text in texts if key == "password")


def test_everything_else_that_is_named_is_there() -> None:
    for key, value in walk(list(DOCUMENTS.values())):
        if key == "persistentVolumeClaim":
            assert ("PersistentVolumeClaim", value["claimName"]) in DOCUMENTS
        if key == "configMap" and not value.get("optional"):
            assert ("ConfigMap", value["name"]) in DOCUMENTS
            assert {item["key"] for item in value["items"]} <= set(SETTINGS)
    labels = [pod["metadata"]["labels"].items() for pod in PODS.values()]
    selectors = [d["spec"]["selector"] for (kind, _), d in DOCUMENTS.items() if kind == "Service"]
    for (kind, _), document in DOCUMENTS.items():
        if kind == "NetworkPolicy":
            selectors.append(document["spec"]["podSelector"]["matchLabels"])
            sources = [source for rule in document["spec"]["ingress"] for source in rule["from"]]
            selectors += [s["podSelector"]["matchLabels"] for s in sources if "namespaceSelector" not in s]
    assert len(selectors) == 9
    assert all(any(selector.items() <= label for label in labels) for selector in selectors)
    rest = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert {*rest, "kustomization.yaml", "rayjob.yaml"} == {path.name for path in FOLDER.iterdir()}


def test_only_head_and_mlflow_reach_the_databases_and_only_the_head_reaches_mlflow() -> None:
    def sources(name: str) -> list[dict[str, str]]:
        rules = DOCUMENTS["NetworkPolicy", name]["spec"]["ingress"]
        return [source["podSelector"]["matchLabels"] for rule in rules for source in rule["from"]]

    head = {"app": "sweeper-ray", "role": "head"}
    assert sources("sweeper-postgres") == [head, {"app": "sweeper-mlflow"}]
    assert sources("sweeper-mlflow") == [head]


@pytest.mark.parametrize("pod", PODS)
def test_nobody_is_root_or_can_become_it_and_each_has_its_share(pod: str) -> None:
    spec = PODS[pod]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    uid = 999 if pod == "postgres" else int(re.search(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())[1])
    assert spec["securityContext"]["runAsUser"] == uid
    assert container(pod)["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"cpu", "memory"} <= set(container(pod)["resources"]["requests"])
    assert "memory" in container(pod)["resources"]["limits"]
    if pod != "head":  # where Ray's autoscaler asks Kubernetes for workers
        assert spec["automountServiceAccountToken"] is False
    if pod != "submitter":  # which ends
        assert {"readinessProbe", "livenessProbe"} <= set(container(pod))


def test_workers_have_gpus_come_when_fits_wait_and_are_what_the_sweep_is_told(tmp_path: Path) -> None:
    resources = container("worker")["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
    assert (CLUSTER["enableInTreeAutoscaling"], GROUP["minReplicas"]) == (True, 0)
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    told = tmp_path / "machines.yaml"
    told.write_text(SETTINGS["machines.yaml"])
    limits = resources["limits"]
    there = machines.Machines(GROUP["maxReplicas"], float(limits["cpu"]), float(limits["nvidia.com/gpu"]))
    assert machines.promised(told) == [there]
    assert values("head")["SWEEPER_MACHINES"] == "/etc/sweeper/machines.yaml"
    assert mounted("head")["/etc/sweeper"]["configMap"]["items"] == [{"key": "machines.yaml", "path": "machines.yaml"}]


def test_mlflow_is_started_as_on_any_head_but_for_its_place(tmp_path: Path) -> None:
    head = Head(tmp_path / "shared", tmp_path)
    database = values("head")["SWEEPER_STUDY"].rpartition("/")[0]
    elsewhere = {"--host", "--allowed-hosts", "--artifacts-destination"}
    typed = server.serve_command(f"{database}/mlflow", Path("/shared/mlartifacts"), head.port)
    flags = typed[typed.index("--backend-store-uri") :]
    ours = dict(zip(flags[::2], flags[1::2], strict=True))
    theirs = dict(argument.split("=", 1) for argument in container("mlflow")["args"])
    assert theirs.pop("--app-name") == "basic-auth"
    assert theirs.keys() == ours.keys()
    assert {name for name in ours if ours[name] != theirs[name]} <= elsewhere
    assert theirs["--allowed-hosts"].split(",")[0] == values("head")["SWEEPER_MLFLOW"].removeprefix("http://")
    assert server.environment({}).items() <= values("mlflow").items()
    head.own.mkdir(parents=True)
    (head.shared / "secrets").mkdir(parents=True)
    head._keep_secrets()
    here, there = ConfigParser(), ConfigParser()
    here.read(head.own / "basic_auth.ini")
    there.read_string(SETTINGS["basic_auth.ini"])
    assert {**here["mlflow"], "database_uri": f"{database}/mlflow_auth"} == dict(there["mlflow"])


@pytest.mark.slow
def test_mlflow_over_that_postgresql_answers_those_who_know_the_password_and_is_healthy_to_all(tmp_path: Path) -> None:
    """The commands of the manifests, on this machine: other addresses, nothing else."""
    secret, port = "s" * 48, free_port()
    with serving() as database, contextlib.ExitStack() as ends:
        with database.connect() as connection:
            for line in SETTINGS["databases.sql"].splitlines():
                connection.execute(line)

        def here(text: str) -> str:
            for there, place in (
                ("sweeper-postgres:5432", f"127.0.0.1:{database.port}"),
                ("0.0.0.0", "127.0.0.1"),
                ("=5000", f"={port}"),
                ("/shared/", f"{tmp_path}/"),
                ("/etc/sweeper/", f"{tmp_path}/"),
                ("sweeper-postgres/password", PASSWORD),
            ):
                text = text.replace(there, place)
            return re.sub("sweeper-mlflow/(password|key)", secret, text)

        (tmp_path / "basic_auth.ini").write_text(here(SETTINGS["basic_auth.ini"]))
        os.environ.pop("PGPASSFILE")  # which `serving` sets, and puts back
        _, *module = container("mlflow")["command"]
        served = subprocess.Popen(
            [sys.executable, *module, *map(here, container("mlflow")["args"])],
            env=os.environ | {name: here(value) for name, value in values("mlflow").items()},
            stdout=(tmp_path / "log").open("w"),
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
        ends.callback(served.wait)
        ends.callback(served.terminate)

        def answer(path: str, host: str = "sweeper-mlflow:5000", **more: str) -> int:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host, **more})
            try:
                return int(urllib.request.urlopen(request, timeout=30).status)
            except urllib.error.HTTPError as fault:
                return fault.code
            except OSError:
                return 0

        runs = "/api/2.0/mlflow/experiments/search?max_results=1"
        signed = base64.b64encode(f"{values('head')['MLFLOW_TRACKING_USERNAME']}:{secret}".encode()).decode()
        assert until(lambda: answer("/health", host="10.1.2.3:5000") == 200, 240), (tmp_path / "log").read_text()[
            -3000:
        ]
        assert answer(runs) == 401
        assert answer(runs, Authorization=f"Basic {signed}") == 200
        assert answer(runs, Authorization=f"Basic {signed}", host="evil.example") == 403


def test_a_stopped_job_is_paused_and_a_lost_one_is_gone_on_with() -> None:
    assert yaml.safe_load(JOB["runtimeEnvYAML"]) == {"env_vars": STOPPED_GENTLY}
    script, spec = JOB["entrypoint"].split()[1:]
    assert (ROOT / Path(script).relative_to("/home/ray/sweeper")).name == "begin-or-resume.sh"
    assert (ROOT / Path(script).relative_to("/home/ray/sweeper")).exists()
    assert mounted("head")[str(Path(spec).parent)]["configMap"] == {"name": "sweep", "optional": True}
    assert JOB["backoffLimit"] > 0
    assert JOB["shutdownAfterJobFinishes"] is True


def test_every_variant_is_in_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["sweeper"]
    shipped = {file for pattern in patterns for file in glob(pattern, root_dir=ROOT / "sweeper", recursive=True)}
    files = {str(path.relative_to(ROOT / "sweeper")) for path in FOLDER.parent.rglob("*") if path.is_file()}
    assert {"cluster/variants/slurm.sbatch", "cluster/variants/kuberay/rayjob.yaml"} <= files <= shipped


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_takes_the_folder_as_a_whole() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {document["kind"] for document in yaml.safe_load_all(done.stdout)} == {
        *("ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "RayCluster", "Service")
    }
