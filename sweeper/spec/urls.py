"""The URLs of a spec's databases: which are allowed, and SQLite's both ways between a file and its URL."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sweeper.errors import TOKEN

_STUDY = "Use sqlite:///study.db or postgresql://host/name"
_TRACKING = "Use http://host:5000, https://host, sqlite:///mlflow.db or postgresql://host/name"
_PASSWORD = re.compile(r"://[^/@:]*:[^@]+@|[?&]password=")
_HOOKS = re.compile(
    r"^(hooks\.slack\.com/|discord(app)?\.com/api/webhooks|[\w.-]*\.?office\.com/webhook|[\w.-]*webhook\.office\.com/"
    r"|api\.telegram\.org/bot|chat\.googleapis\.com/|hooks\.zapier\.com/|maker\.ifttt\.com/)"
)
_SECRET_QUERY = re.compile(r"(?:^|&)[\w-]*(?:token|key|secret|sig|signature|password|code|auth)=", re.IGNORECASE)
_LONG = re.compile(r"[\w-]{20,}")
_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///")


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite file. SQLAlchemy reads `%` and `?` as a URL's own."""
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F")


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for other databases."""
    found = _SQLITE.match(url)
    return Path(unquote(url[found.end() :].partition("?")[0])) if found else None


def study_url(value: str) -> str:
    """Refuse what the study cannot be kept in."""
    return _checked(value, ("sqlite", "postgresql"), _STUDY)


def tracking_url(value: str) -> str:
    """Refuse what the record cannot be written to: MLflow's files are closed to writers, and Databricks names
    experiments by its own rule."""
    return _checked(value, ("http", "https", "sqlite", "postgresql", "mysql", "mssql"), _TRACKING)


def is_web(url: str) -> bool:
    """Whether it is the URL of something on the web."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def secret_in(url: str) -> str | None:
    """What in a URL looks like a secret; None where nothing does."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        return "a password in it"
    if _HOOKS.search(f"{parts.netloc}{parts.path}"):
        return "a token in it, as all webhooks of that service"
    if TOKEN.search(url) or _SECRET_QUERY.search(parts.query):
        return "a token in it"
    mixed = (word for word in parts.path.split("/") if _LONG.fullmatch(word))
    if any(re.search("[0-9]", word) and re.search("[A-Za-z]", word) for word in mixed):
        return "a long word of letters and digits in it, as a token"
    return None


def _checked(url: str, allowed: tuple[str, ...], mend: str) -> str:
    if _PASSWORD.search(url):
        raise ValueError("A password does not belong in a spec: take it out, and use ~/.pgpass or the environment")
    scheme, colon, rest = url.partition("://")
    kind = scheme.partition("+")[0]  # `postgresql+psycopg` names the driver too
    if not colon or kind not in allowed:
        raise ValueError(mend)
    if kind == "sqlite":
        if not rest.startswith("/"):
            raise ValueError(
                "A file comes after three slashes, one with its full path after four: sqlite:////data/x.db"
            )
        if rest.removeprefix("/").partition("?")[0] in ("", ":memory:"):
            raise ValueError(f"A database in memory ends with its process. {mend}")
        return url
    try:
        parts = urlsplit(url)
        port_is_a_number = parts.port != 0  # reading it raises for text
    except ValueError:
        port_is_a_number = False
    if not port_is_a_number:
        raise ValueError(f"Its host or port cannot be read. {mend}")
    if kind.startswith("http") and not parts.hostname:
        raise ValueError(f"It has no host. {mend}")
    return url
