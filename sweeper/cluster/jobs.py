"""Sweeps on a cluster: the commands that one types here, run on the cluster's head as Ray jobs.

A job that drives a sweep is `sweeper run` or `sweeper resume`, as anywhere; one that looks is, say,
`sweeper status`. So what is told comes from the study and its lease, never from a job's state, and there is
one code path. Only the spec travels, and no secret: token and passwords lie in files on the head.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sweeper.cluster.errand import MODULE, Errand
from sweeper.errors import Paused, UserError
from sweeper.patience import insist, until
from sweeper.spec.model import SweepSpec

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

# A stopped job is asked as Ctrl-C asks, and given time for the pause; Ray's own is TERM, and KILL after 3 s.
STOPPED_GENTLY = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "30"}
SWEEP = "sweep"
LONGEST = 100_000
AGENT_S = 120.0  # a head that has just started takes no jobs yet
READY_S = 60.0  # libraries, data and Ray, on a busy head; and for a job that was refused to end
SETTLE_S = 5.0
EXIT_BAD_INPUT = 2
# What is said by who will not be refused any more: of the data, of what waits for a worker, of what was asked for.
_ON_ITS_WAY = re.compile(r", split hash |no worker has come|fits, of trials|drives the sweep")
_HEADER = "Running entrypoint for job "
Say = Callable[[str], None]


class Cluster:
    """The jobs of a cluster, at its dashboard's `address`."""

    def __init__(self, address: str) -> None:
        self._client = _client(address)

    # --- jobs that drive a sweep

    def submit(self, spec: SweepSpec) -> tuple[str, bool]:
        """Begin the sweep there; gives the job's id, and whether it is new: asking twice begins it once.

        Raises:
            UserError: another sweep of this name was submitted, or the spec is too long.
        """
        text = json.dumps(spec.model_dump(mode="json"))  # JSON is YAML, on one line
        job_id = f"{spec.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        for job in self.of(spec.name):
            if job.driver_exit_code == EXIT_BAD_INPUT:
                if job.submission_id == job_id:  # it was refused, and what was wrong may be mended
                    self._client.delete_job(job_id)
            elif job.submission_id == job_id:
                return job_id, False
            else:
                raise UserError(
                    f"a sweep '{spec.name}' was submitted to this cluster already. Go on with it: "
                    f"'sweeper resume {spec.name} --cluster ...'; or choose another name: --name NAME."
                )
        self._begin(job_id, _fed(text, "sweeper", "run", "-"), spec.name)
        return job_id, True

    def resume(self, name: str, words: Sequence[str], stdin: str | None = None) -> str:
        """Go on with a sweep there, by `words` of the command line and what is to be read; gives the job's id."""
        job_id = f"{name}-resume-{len(self.of(name))}-{time.time_ns() // 1_000_000}"
        self._begin(job_id, _fed(stdin or "", "sweeper", *words), name)
        return job_id

    def of(self, name: str) -> list[JobDetails]:
        """The jobs that drive, or drove, a sweep; the newest first."""
        mine = [job for job in self._client.list_jobs() if (job.metadata or {}).get(SWEEP) == name]
        return sorted(mine, key=lambda job: job.start_time or 0, reverse=True)

    def first_words(self, job_id: str, say: Say) -> int:
        """Tell what a job says until it is on its way, or has ended; the exit code of one that has ended."""
        until(lambda: self._ended(job_id) or self.log(job_id), every_s=1.0)
        until(lambda: self._ended(job_id) or _ON_ITS_WAY.search(self.log(job_id)), READY_S, every_s=1.0)
        ended = until(lambda: self._ended(job_id), SETTLE_S)  # what is refused says so and ends at once
        say(self.log(job_id))
        return self.exit_code(job_id) if ended else 0

    # --- jobs that look

    def carry(self, errand: Errand, hear: Say) -> None:
        """Have an errand carried out on the head; its answer is heard as it comes, and nothing of it stays."""
        job_id = f"look-{time.time_ns()}-{os.getpid()}"
        self._begin(job_id, _fed(errand.line(attended=False), MODULE), None)
        try:
            self.follow(job_id, hear)
        except KeyboardInterrupt:
            self._client.stop_job(job_id)
            raise
        finally:
            if self._ended(job_id):
                self._client.delete_job(job_id)

    # --- what a job says

    def newest(self, name: str) -> str:
        """The job that drives a sweep, or drove it last: one that only asked its driver for something ended sooner.

        Raises:
            UserError: this cluster has none.
        """
        jobs = sorted(self.of(name), key=lambda job: job.end_time or math.inf)
        if not jobs or jobs[-1].submission_id is None:
            raise UserError(
                f"this cluster has no job of a sweep '{name}' (jobs do not outlive its head; sweeps do: sweeper list)."
            )
        return str(jobs[-1].submission_id)

    def log(self, job_id: str) -> str:
        """What a job has said so far."""
        return _without_header(self._client.get_job_logs(job_id))

    def follow(self, job_id: str, say: Say) -> None:
        """Tell what a job says until it ends."""
        asyncio.run(self._follow(job_id, say))
        until(lambda: self._ended(job_id))  # its last line comes before its end

    async def _follow(self, job_id: str, say: Say) -> None:
        held, begun = "", False
        pieces = self._client.tail_job_logs(job_id)
        while (piece := await _next(pieces)) is not None:
            if begun:
                say(piece)
            elif _complete(held := held + piece):  # Ray's own words have passed
                begun = True
                say(_without_header(held))

    def exit_code(self, job_id: str) -> int:
        """Of a job that has ended; 1 where it was killed."""
        code = self._client.get_job_info(job_id).driver_exit_code
        return 1 if code is None else int(code)

    def _ended(self, job_id: str) -> bool:
        return bool(self._client.get_job_status(job_id).is_terminal())

    def _begin(self, job_id: str, entrypoint: str, sweep: str | None) -> None:
        def submit() -> None:
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=job_id,
                runtime_env={"env_vars": dict(STOPPED_GENTLY)},
                metadata={SWEEP: sweep} if sweep else {},
            )

        def meaning(fault: Exception) -> tuple[UserError | None, bool]:
            if not isinstance(fault, RuntimeError):
                return None, False
            return UserError(f"the cluster takes no job: {_last_line(fault)}"), "No available agent" in str(fault)

        insist(submit, meaning, AGENT_S)


@contextlib.contextmanager
def reached(address: str) -> Iterator[Cluster]:
    """The jobs of the cluster at `address`.

    Raises:
        UserError: nobody answers there, or it does not know our token.
        Paused: it answered, and does no longer.
    """
    from ray.exceptions import AuthenticationError

    cluster = Cluster(address)
    try:
        yield cluster
    except (OSError, RuntimeError, AuthenticationError) as fault:
        theirs = isinstance(fault, RuntimeError | AuthenticationError | ConnectionAbortedError)
        if not theirs and not type(fault).__module__.startswith("requests."):  # a full disk, a closed pipe: ours
            raise
        raise Paused(
            f"the cluster stopped answering ({_last_line(fault)}). What its sweeps have is kept, and one whose head is "
            "dead goes on with 'sweeper resume NAME', once there is a head again. 'sweeper list' says where each is."
        ) from fault


def _client(address: str) -> JobSubmissionClient:
    """Ray reads its way of authentication when it is imported.

    Raises:
        UserError: nobody answers there, or it does not know our token.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as fault:
        raise UserError(
            f"the cluster at {address} refuses us: {_last_line(fault)} Put its token into ~/.ray/auth_token, mode 600."
        ) from None
    except (ConnectionError, RuntimeError) as fault:
        raise UserError(f"no cluster answers at {address}: {_last_line(fault)}") from None


def _fed(text: str, module: str, *words: str) -> str:
    """A line of a shell that runs a module with `text` as its standard input.

    Raises:
        UserError: that is too long for one line.
    """
    if len(text) > LONGEST:
        raise UserError(
            f"{len(text):,} letters of text are to be sent, and a job takes {LONGEST:,}. In a spec, give long lists as "
            "ranges; with a cluster file in place of a URL, all but 'submit' and what trains send more."
        )
    return f"printf %s {shlex.quote(text)} | {shlex.join(['python', '-P', '-m', module, *words])}"


async def _next(pieces: AsyncIterator[str]) -> str | None:
    """The next of them; None after the last."""
    try:
        return await anext(pieces, None)
    except Exception as fault:  # of aiohttp, or of Ray
        raise ConnectionAbortedError(_last_line(fault)) from fault


def _complete(log: str) -> bool:
    return _HEADER in log and "\n" in log.partition(_HEADER)[2]


def _without_header(log: str) -> str:
    """A job's own words: what follows the line in which Ray says that it begins."""
    return log.partition(_HEADER)[2].partition("\n")[2]


def _last_line(fault: Exception) -> str:
    return next((line for line in reversed(str(fault).splitlines()) if line.strip()), type(fault).__name__)
