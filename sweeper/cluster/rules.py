"""What Ray accepts in silence and a cluster of ours must not have: a function for each, enrolled in RULES.

Each says what it found and how to mend it. They look at the file alone, and at the token's file beside it.
"""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sweeper.cluster.cloud_keys import KNOWN
from sweeper.cluster.file import HEAD, PLACEHOLDER, ClusterFile, Finding
from sweeper.errors import nearest
from sweeper.spec.faults import KeyPath

Rule = Callable[[ClusterFile], Iterator[Finding]]

TOKEN = "~/.ray/auth_token"
NAME: KeyPath = ("cluster_name",)
OWN_NAME = "Name it after you and the project, such as ana-fairness."
CLOUDS = ("aws", "gcp")
START = {"head": "head_start_ray_commands", "worker": "worker_start_ray_commands"}
_SECRET = re.compile(
    r"(secret_access_key|password|auth_token|hf_token|api_key)\s*[=:]\s*[^\s$<]|://[^/@\s]+:[^/@\s]+@", re.I
)
_NIGHTLY = re.compile(r"ray-wheels|nightly|\.dev0|/latest/")
_MOUNT = re.compile(r"\bmount\s+(?P<options>(?:-\S+\s+\S+\s+)*)(?P<source>[^\s/]\S*:\S*)\s+(?P<target>/[^\s)]+)")
_VERSION = re.compile(r"\bray(?:\[[\w,]+\])?==(\S+?)(?=[\s'\"]|$)|\bray:(\d+\.\d+\.\d+)")
_PYTHON = re.compile(r"--python[= ](\d+\.\d+(?:\.\d+)?)")
_SHARED = re.compile(r"\bsweeper head up (\S+)")


def findings(file: ClusterFile) -> list[tuple[str, Finding]]:
    """All that the rules have against the file, each with its rule's name, in the order of the file."""
    found = [(rule.__name__.replace("_", " "), finding) for rule in RULES for finding in rule(file)]
    return sorted(found, key=lambda one: file.document.line(one[1].keys) or 0)


# --- who can reach it


def open_port(file: ClusterFile) -> Iterator[Finding]:
    if file.get("provider", "security_group") is not None:
        yield Finding(
            ("provider", "security_group"),
            "is set, which adds to a rule of Ray's own that opens port 22 to the world",
            "Take it out, and give each node type the SecurityGroupIds of a group of your own.",
        )
    for key in ("run_options", "head_run_options", "worker_run_options"):
        for option in file.get("docker", key) or ():
            if re.search(r"(^|\s)(-p|--publish)\b", str(option)):
                yield Finding(
                    ("docker", key),
                    f"publishes a port ({option})",
                    "Take it out; 'ray dashboard' and 'sweeper ui' tunnel.",
                )


def all_interfaces(file: ClusterFile) -> Iterator[Finding]:
    for keys, text in file.texts():
        if "0.0.0.0" in text or "=::" in text:
            yield Finding(keys, "says 0.0.0.0: everybody who reaches the machine reaches it", "Use 127.0.0.1.")
    for keys, command in _starts(file, "head"):
        if "--dashboard-host=" not in command:
            yield Finding(keys, "does not say where the dashboard listens", "Add --dashboard-host=127.0.0.1.")


def public_addresses(file: ClusterFile) -> Iterator[Finding]:
    if file.provider in CLOUDS and file.get("provider", "use_internal_ips") is not True:
        yield Finding(("provider",), "gives the nodes public addresses", "Add use_internal_ips: true.")
    for _, keys, config in file.node_types():
        for interface in config.get("networkInterfaces") or ():
            if "accessConfigs" in interface:
                yield Finding((*keys, "networkInterfaces"), "asks for a public address", "Take accessConfigs out.")


def token_mode(file: ClusterFile) -> Iterator[Finding]:
    for role, name in START.items():
        if role == "worker" and not file.has_workers:
            continue
        starts = list(_starts(file, role))
        if not starts:
            yield Finding(
                (name,), "has no `ray start`; Ray's own asks for no token", "Write it out, as cluster.yaml does."
            )
        for keys, command in starts:
            if "RAY_AUTH_MODE=token" not in command:
                yield Finding(
                    keys, "starts Ray without asking for a token", "Begin it with `export RAY_AUTH_MODE=token &&`."
                )


def token_file(file: ClusterFile) -> Iterator[Finding]:
    mounts: Mapping[str, Any] = file.get("file_mounts") or {}
    if TOKEN not in mounts:
        yield Finding(("file_mounts",), "does not send the token to the nodes", f'Add "{TOKEN}": {TOKEN}.')
        return
    if not any("chmod 600" in command and "auth_token" in command for _, command in file.commands("setup_commands")):
        yield Finding(("setup_commands",), "leaves the token readable by all", f"Add `chmod 600 {TOKEN}`.")
    local, keys = Path(str(mounts[TOKEN])).expanduser(), ("file_mounts", TOKEN)
    if not local.exists():
        make = f"`ray get-auth-token --generate > /dev/null && chmod 600 {TOKEN}`"
        yield Finding(keys, f"{local} is not there yet", f"Make it: {make}.", note=True)
    elif stat.S_IMODE(local.stat().st_mode) & 0o077:
        yield Finding(keys, f"{local} can be read by others", f"Do: chmod 600 {local}")


def secrets_in_the_file(file: ClusterFile) -> Iterator[Finding]:
    for keys, text in file.texts():
        if _SECRET.search(text):
            yield Finding(keys, "holds what looks like a secret", "Keep it in a file of mode 600 on the node.")


# --- the machines


def own_network(file: ClusterFile) -> Iterator[Finding]:
    needed = {
        "aws": {
            "SecurityGroupIds": "Ray makes a group that opens port 22 to the world",
            "SubnetIds": "Ray takes any subnet it finds",
            "IamInstanceProfile": "Ray makes a profile with all rights on EC2 and S3",
            "ImageId": "Ray takes an image that changes with its version",
        },
        "gcp": {
            "networkInterfaces": "Ray takes a subnet it finds, with a public address",
            "serviceAccounts": "Ray makes an account with wide rights",
        },
    }.get(file.provider, {})
    for _, keys, config in file.node_types():
        for key, otherwise in needed.items():
            if not config.get(key):
                yield Finding(keys, f"has no {key}: {otherwise}", f"Add {key} of your own.")


def known_keys(file: ClusterFile) -> Iterator[Finding]:
    known = KNOWN.get(file.provider)
    if known is None:
        return
    for _, keys, config in file.node_types():
        for key in config:
            if key not in known:
                close = nearest(key, known)
                mend = f"Did you mean '{close}'?" if close else "Take it out; the cloud knows no such key."
                yield Finding((*keys, key), f"'{key}' is unknown to {file.provider}; Ray would pass it on", mend)


def head_on_demand(file: ClusterFile) -> Iterator[Finding]:
    for role, keys, config in file.node_types():
        if role == HEAD and _is_spot(config):
            mend = "Take it out there; workers may be spot."
            yield Finding(keys, "is a spot machine, and the sweep's memory is on it", mend)


def _is_spot(config: Mapping[str, Any]) -> bool:
    scheduling = config.get("scheduling") or ()
    options = [scheduling] if isinstance(scheduling, Mapping) else scheduling
    google = any(one.get("preemptible") or one.get("provisioningModel") == "SPOT" for one in options)
    return google or (config.get("InstanceMarketOptions") or {}).get("MarketType") == "spot"


def head_without_fits(file: ClusterFile) -> Iterator[Finding]:
    if not file.has_workers:
        return
    if file.provider == "local":
        for keys, command in _starts(file, "head"):
            if "--num-cpus=0" not in command:
                yield Finding(keys, "lets fits run on the head, beside the database", "Add --num-cpus=0 --num-gpus=0.")
        return
    name = str(file.get("head_node_type"))
    resources = file.get("available_node_types", name, "resources")
    if not isinstance(resources, Mapping) or resources.get("CPU") != 0:
        yield Finding(
            ("available_node_types", name), "lets fits run on the head, beside the database", "Add resources: {CPU: 0}."
        )


def autoscaler(file: ClusterFile) -> Iterator[Finding]:
    for keys, command in _starts(file, "head"):
        if file.provider == "local" and "RAY_enable_autoscaler_v2=0" not in command:
            mend = "Begin it with `export RAY_enable_autoscaler_v2=0 &&`."
            yield Finding(keys, "uses autoscaler v2, which never starts workers of type local", mend)


# --- what they run


def latest_image(file: ClusterFile) -> Iterator[Finding]:
    for key in ("image", "head_image", "worker_image"):
        image = file.get("docker", key)
        tag = str(image).rpartition("/")[2].partition(":")[2]
        if image and (not tag or tag.startswith("latest")) and "@sha256:" not in str(image):
            mend = "Name a version, or better a digest."
            yield Finding(("docker", key), f"{image} is another image tomorrow", mend)


def nightly_wheel(file: ClusterFile) -> Iterator[Finding]:
    for keys, command in file.commands():
        if _NIGHTLY.search(command):
            yield Finding(keys, "installs a nightly build, another one each day", "Install from requirements.txt.")
    if file.provider in CLOUDS and not file.get("setup_commands"):
        yield Finding(
            ("setup_commands",), "are Ray's own, which install a nightly build", "Copy those of cluster.yaml."
        )


def same_versions(file: ClusterFile) -> Iterator[Finding]:
    ours = metadata.version("ray")
    texts = [*file.texts()]
    for keys, text in texts:
        for named in (first or second for first, second in _VERSION.findall(text)):
            if named != ours:
                yield Finding(keys, f"is of Ray {named}; here, and in requirements.txt, it is {ours}", f"Use {ours}.")
    pythons = [(keys, found) for keys, text in texts for found in _PYTHON.findall(text)]
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for keys, found in pythons:
        if found != pythons[0][1] or not f"{found}.".startswith(f"{minor}."):
            yield Finding(keys, f"is of Python {found}; here it is {minor}", f"Use one Python {minor} on every node.")
    if not any("--require-hashes" in command for _, command in file.commands("setup_commands")):
        mend = "Copy the line with --require-hashes from cluster.yaml."
        yield Finding(("setup_commands",), "do not install requirements.txt by its hashes", mend)


# --- where it keeps things


def kept_in(file: ClusterFile) -> str | None:
    """The shared folder of the head's services."""
    return next((place for _, place in _kept(file)), None)


def _kept(file: ClusterFile) -> list[tuple[KeyPath, str]]:
    return [(keys, m[1]) for keys, c in file.commands(START["head"]) if (m := _SHARED.search(c))]


def shared_storage(file: ClusterFile) -> Iterator[Finding]:
    kept = _kept(file)
    if not kept:
        mend = "Add `sweeper head up /shared` before `ray start`."
        yield Finding((START["head"],), "start neither PostgreSQL nor MLflow", mend)
        return
    common = ("initialization_commands", "setup_commands")
    mounts = [(keys, m) for keys, c in file.commands(*common) if (m := _MOUNT.search(c))]
    if not mounts and file.has_workers:
        mend = f"Mount shared storage at {kept[0][1]} in setup_commands."
        yield Finding(("setup_commands",), "mount no storage that all nodes see", mend)
    for keys, mount in mounts:
        yield from _reachable(keys, mount, kept[0])


def _reachable(
    keys: tuple[str | int, ...], mount: re.Match[str], kept: tuple[tuple[str | int, ...], str]
) -> Iterator[Finding]:
    target, place = mount["target"].rstrip("/"), kept[1].rstrip("/")
    if mount["source"].startswith(("localhost", "127.", "[::1]")):
        mend = "Name the server by an address that every node reaches."
        yield Finding(keys, "mounts storage of the node itself: no other node sees it", mend)
    if not f"{place}/".startswith(f"{target}/"):
        yield Finding(kept[0], f"keeps things in {place}, the shared storage is {target}", f"Use a folder in {target}.")
    if re.search(r"\bsoft\b", mount["options"]):
        yield Finding(keys, "is a soft mount, which loses writes in silence", "Use hard.")


def placeholders(file: ClusterFile) -> Iterator[Finding]:
    for keys, text in file.texts():
        if PLACEHOLDER in text and keys == NAME:
            yield Finding(keys, f"has a {PLACEHOLDER}", OWN_NAME)
        elif PLACEHOLDER in text:
            yield Finding(keys, f"has a {PLACEHOLDER}", "Fill it in.", note=True)


def own_name(file: ClusterFile) -> Iterator[Finding]:
    if file.get("cluster_name") == "sweeper":  # what the shipped files once said
        found = "is 'sweeper', which others may have: Ray would take their cluster for yours"
        yield Finding(NAME, found, f"{OWN_NAME} If it is up, `sweeper down` first.")


def _starts(file: ClusterFile, role: str) -> Iterator[tuple[KeyPath, str]]:
    return ((keys, command) for keys, command in file.commands(START[role]) if "ray start" in command)


RULES: tuple[Rule, ...] = (
    *(open_port, all_interfaces, public_addresses, token_mode, token_file, secrets_in_the_file),
    *(own_network, known_keys, head_on_demand, head_without_fits, autoscaler),
    *(latest_image, nightly_wheel, same_versions, shared_storage, placeholders, own_name),
)
