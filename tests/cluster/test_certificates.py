"""Certificates for TLS between nodes: signed by one authority, for the node and for no other eyes."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "sweeper" / "cluster" / "variants" / "certificates.sh"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def typed(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_a_node_is_known_by_its_addresses_and_cannot_make_others(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    for what in ("ca", "node"):
        typed("bash", str(SCRIPT), what, str(folder))
    node, authority = str(folder / "node.crt"), str(folder / "ca.crt")
    for address in ("127.0.0.1", *typed("hostname", "-I").split()):
        assert "OK" in typed("openssl", "verify", "-CAfile", authority, "-verify_ip", address, node)
    other = subprocess.run(["openssl", "verify", "-CAfile", authority, "-verify_ip", "192.0.2.99", node])
    assert other.returncode != 0
    text = typed("openssl", "x509", "-in", node, "-noout", "-text")
    assert "CA:FALSE" in text
    assert all(ipaddress.ip_address(found) for found in re.findall(r"IP Address:([^,\s]+)", text))
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_a_slip_is_told(tmp_path: Path) -> None:
    done = subprocess.run(["bash", str(SCRIPT), "nodes", str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "usage: certificates.sh ca|node FOLDER\n")


def test_the_page_names_the_files_that_are_made_by_rays_own_names() -> None:
    from ray._common import tls_utils

    page = (ROOT / "docs" / "cluster.md").read_text()
    named = dict(re.findall(r"(RAY_TLS_\w+)=~/\.ray/tls/(\S+)", page))
    assert named == {
        "RAY_TLS_CA_CERT": "ca.crt",
        "RAY_TLS_SERVER_CERT": "node.crt",
        "RAY_TLS_SERVER_KEY": "node.key",
    }
    code = Path(tls_utils.__file__).read_text()
    assert all(f'"{name}"' in code for name in (*named, "RAY_USE_TLS"))
