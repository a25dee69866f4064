"""A cluster of plain Python: what is submitted is remembered, and answered from a table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from ray.job_submission import JobDetails, JobStatus, JobType

from tuner.cluster import trouble
from tuner.cluster.address import Address, Token
from tuner.cluster.names import metadata

# What a command ends with: its exit code (None: Ray could not run it) and its log.
Reply = tuple[int | None, str]


def made_job(job_id: str, status: str = "RUNNING", run: str | None = None, **more: Any) -> Any:
    """A job as Ray describes it; `run`: one of ours."""
    values: dict[str, Any] = {
        "type": JobType.SUBMISSION,
        "submission_id": job_id,
        "status": JobStatus(status),
        "entrypoint": "foldblend search",
        "metadata": metadata(run) if run else {},
    }
    return JobDetails(**(values | more))


ADDRESS = Address("http://head:8265", "--address")
TOKEN = Token("secret", "a test")


@dataclass
class MadeCluster:
    """Stands for a `Connection` and for Ray's client at once. `reply`: by command line. `submitted`
    is in order and complete; what was deleted is no longer among `known`. `tails`: one for each
    time a log is followed: pieces, and an exception that ends them, or None for a connection that
    says nothing any more."""

    known: list[Any] = field(default_factory=list)
    reply: Callable[[str], Reply] = lambda command: (0, "")
    tails: list[Sequence[str | Exception | None]] = field(default_factory=list)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    ray_version: str = version("ray")
    address: Address = ADDRESS
    token: Token = TOKEN

    @property
    def client(self) -> MadeCluster:
        return self

    @contextmanager
    def words(self) -> Iterator[None]:
        yield

    def jobs(self) -> list[Any]:
        return list(self.known)

    def job(self, job_id: str) -> Any:
        for job in self.known:
            if job.submission_id == job_id:
                return job
        raise trouble.no_such_job(job_id, [])

    def submit_job(self, *, entrypoint: str, submission_id: str, **more: Any) -> str:
        self.submitted.append({"entrypoint": entrypoint, "submission_id": submission_id, **more})
        code, log = self.reply(entrypoint)
        status = "SUCCEEDED" if code == 0 else "FAILED"
        self.logs[submission_id] = f"Running entrypoint for job {submission_id}: …\n{log}"
        ended = made_job(submission_id, status, driver_exit_code=code, metadata=more["metadata"])
        self.known.append(ended)
        return submission_id

    def get_job_logs(self, job_id: str) -> str:
        return self.logs[job_id]

    def stop_job(self, job_id: str) -> bool:
        self.stopped.append(job_id)
        return True

    def delete_job(self, job_id: str) -> bool:
        self.deleted.append(job_id)
        self.known = [job for job in self.known if job.submission_id != job_id]
        return True

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for piece in self.tails.pop(0):
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                await asyncio.Event().wait()
            else:
                yield piece
