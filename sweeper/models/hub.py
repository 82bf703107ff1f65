"""A pulled folder goes to a model hub, as a repository that is private unless somebody says otherwise.

The token is the one of the hub's own login, or of HF_TOKEN; it is in no message.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sweeper.errors import UserError, without_secrets

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_MEND_TOKEN = "Log in with 'hf auth login', or set HF_TOKEN to a token that may write"


def check_name(repository: str) -> None:
    """Refuse what cannot be a repository, and an upload that could not begin, before anything is written.

    Raises:
        UserError: the name is not of the form OWNER/REPO, there is no token, or the hub is switched off.
    """
    from huggingface_hub import constants, get_token

    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise UserError(f"'{repository}' is no repository. Use OWNER/REPO, in letters, digits, '-', '_' and '.'.")
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it.")
    if not get_token():
        raise UserError(f"the hub wants to know who pushes, and there is no token. {_MEND_TOKEN}.")


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload the files of `folder` to `repository`, which is made if it is missing; gives its address.

    Raises:
        UserError: there is no token or it may not write there, the hub does not answer, or the repository is public
            and `public` was not said.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    check_name(repository)
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    api = HfApi(endpoint=endpoint, token=get_token(), library_name="sweeper")
    try:
        made = api.create_repo(repository, private=not public, exist_ok=True)
        if not public and not api.model_info(repository).private:
            raise UserError(
                f"{repository} exists and is public. Make it private on the hub, choose another, or say --public."
            )
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"sweeper pull: {folder.name}")
    except UserError:
        raise
    except HfHubHTTPError as fault:
        code = fault.response.status_code
        if code in (401, 403):
            raise UserError(f"the hub does not let this token write to {repository} ({code}). {_MEND_TOKEN}.") from None
        raise _refused(endpoint, f"it answered {code}: {fault.server_message or ''}") from None
    except Exception as fault:  # no network, and whatever else the layers below the hub's library raise
        raise _refused(endpoint, f"{type(fault).__name__}: {fault}") from fault
    return str(made)


def _refused(endpoint: str, why: str) -> UserError:
    said = without_secrets(" ".join(why.split()))[:300]
    return UserError(
        f"the hub at {endpoint} did not take everything ({said}). The folder is written: push it again with "
        "'hf upload OWNER/REPO DIR', or see to the network."
    )
