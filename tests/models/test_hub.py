"""A pulled folder goes to a hub as it is, private, with a token that no message shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from sweeper.errors import UserError
from sweeper.models import hub
from tests.models import fake_hub
from tests.models.fake_hub import FakeHub

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub.running(TOKEN) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "knee"
    made.mkdir()
    (made / "README.md").write_text("---\nlicense: other\n---\n# A card\n")
    (made / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    return made


def test_a_folder_is_pushed_byte_by_byte_to_a_private_repository(there: FakeHub, folder: Path) -> None:
    assert hub.push(folder, "me/birds") == f"{there.url}/me/birds"
    assert there.private == {"me/birds": True}
    assert there.files["me/birds"] == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert list(there.objects.values()) == [(folder / "model.safetensors").read_bytes()]
    hub.push(folder, "me/birds")  # again, into what is there
    hub.push(folder, "me/birds-for-all", public=True)
    assert there.private["me/birds-for-all"] is False


def test_a_public_repository_is_not_written_to_unless_that_was_said(there: FakeHub, folder: Path) -> None:
    there.private["me/open"] = False
    with pytest.raises(UserError, match=r"me/open exists and is public\..* or say --public"):
        hub.push(folder, "me/open")
    assert there.files == {}
    hub.push(folder, "me/open", public=True)
    assert len(there.files["me/open"]) == 2


@pytest.mark.parametrize("name", ["birds", "a/b/c", "../x", "a b/c", "me/..", "me/"])
def test_what_is_no_repository_is_refused_before_anything_is_asked(name: str, there: FakeHub, folder: Path) -> None:
    with pytest.raises(UserError, match="Use OWNER/REPO"):
        hub.push(folder, name)
    assert there.asked == []


def test_without_a_token_the_way_to_one_is_said(
    there: FakeHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"there is no token\. Log in with 'hf auth login', or set HF_TOKEN"):
        hub.push(folder, "me/birds")
    assert there.asked == []


def test_a_token_that_may_not_write_and_a_hub_that_refuses_are_told_without_the_token(
    there: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.broken = True
    with pytest.raises(UserError, match=r"did not take everything \(it answered 400: no, <") as refused:
        hub.push(folder, "me/birds")
    assert TOKEN not in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", "hf_anotherone0123456789abcdefghij")
    with pytest.raises(UserError, match=r"does not let this token write to me/birds \(401\)") as refused:
        hub.push(folder, "me/birds")
    assert "hf_another" not in str(refused.value)


def test_a_hub_that_is_away_is_told_with_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_hub.running(TOKEN) as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match=r"the hub at http://127\.0\.0\.1:\d+ did not take everything .*'hf upload"):
        hub.push(folder, "me/birds")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        hub.push(folder, "me/birds")
