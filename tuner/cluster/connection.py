"""One cluster, spoken to by HTTP: Ray's own job client, and plain requests with the token."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.cluster import trouble
from tuner.cluster.address import ADDRESS_VARIABLES, Address, Token, find_address, find_token
from tuner.errors import UserError

if TYPE_CHECKING:
    import requests
    from ray.job_submission import JobDetails, JobSubmissionClient

# To connect, and between two pieces of an answer. A head under load may take long to answer.
TIMEOUT_SECONDS = (5.0, 60.0)
# Loggers of Ray that tell what its client does.
_CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


@dataclass(frozen=True)
class Node:
    """A living machine of the cluster. `resources`: such as {"CPU": 8.0, "GPU": 1.0}."""

    node_id: str
    ip: str
    is_head: bool
    resources: Mapping[str, float]


class Connection:
    """An answering cluster. Its methods raise UserError: `UnreachableError` where the connection
    breaks (the same Connection works again when the tunnel does), `RefusedError` for tokens."""

    def __init__(self, address: Address, token: Token, ray_version: str) -> None:
        """`ray_version`: the cluster's."""
        self.address, self.token, self.ray_version = address, token, ray_version
        self._client: JobSubmissionClient | None = None

    @classmethod
    def open(cls, given: str | None = None) -> Connection:
        """Find address and token and ask who is there.

        The token goes to what has answered as a Ray dashboard does, and at an address that the user
        gave to a proxy that asks for it first. Nothing else ever receives it."""
        address, token = find_address(given), find_token()
        with trouble.in_words(address, token):
            _check_it_is_ray(address, token)
            answer = _request(address, token, "/api/version")
            return cls(address, token, str(answer.json()["ray_version"]))

    @property
    def client(self) -> JobSubmissionClient:
        """Ray's own client. Call it inside `words()`."""
        if self._client is None:
            with self.words():
                self._client = _job_client(self.address, self.token)
        return self._client

    def words(self) -> Any:
        """A context in which whatever requests or Ray raise becomes one line for the user."""
        return trouble.in_words(self.address, self.token)

    def get(
        self, path: str, params: Mapping[str, Any] | None = None, *, stream: bool = False
    ) -> requests.Response:
        """GET `path` ("/api/…") with the token; an answer of 2xx. `stream`: the body is read by
        the caller (`iter_content`, inside `words()`), who also closes it.

        Raises `HttpError` with the status for what the server does not do."""
        with self.words():
            return _request(self.address, self.token, path, params, stream=stream)

    def nodes(self) -> tuple[Node, ...]:
        """The living nodes, the head first, then by address."""
        asked = {"limit": 1000, "detail": 0, "filter_keys": "state", "filter_predicates": "="}
        with self.words():
            answer = self.get("/api/v0/nodes", {**asked, "filter_values": "ALIVE"}).json()
            rows = [_node(row) for row in answer["data"]["result"]["result"]]
        return tuple(sorted(rows, key=lambda node: (not node.is_head, node.ip, node.node_id)))

    def head(self) -> Node:
        """The node on which jobs run. UserError where the cluster has lost it."""
        for node in self.nodes():
            if node.is_head:
                return node
        raise UserError(f"{self.address.url}: the cluster lists no living head node")

    def jobs(self) -> list[JobDetails]:
        """Every submitted job that the head remembers, oldest first."""
        with self.words():
            found = self.client.list_jobs()
        return sorted((job for job in found if job.submission_id), key=lambda j: j.start_time or 0)

    def job(self, job_id: str) -> JobDetails:
        """One job by its id. NoSuchJobError where there is none."""
        with self.words():
            try:
                return self.client.get_job_info(job_id)
            except RuntimeError as error:
                if not trouble.is_missing(error):
                    raise
        raise trouble.no_such_job(job_id, [str(job.submission_id) for job in self.jobs()])


class HttpError(UserError):
    """An answer that is no success. `status`: of HTTP."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _node(row: Mapping[str, Any]) -> Node:
    resources = {name: float(value) for name, value in (row["resources_total"] or {}).items()}
    return Node(row["node_id"], row["node_ip"], bool(row["is_head_node"]), resources)


def _check_it_is_ray(address: Address, token: Token) -> None:
    """Ask, without the token, whether a token is wanted: every Ray dashboard answers that."""
    import requests

    answer = requests.get(f"{address.url}/api/authentication_mode", timeout=TIMEOUT_SECONDS)
    # A proxy before the dashboard may want the token first. It gets it only where the user named
    # the address: at the default one another program of this machine may be what answers.
    if answer.status_code in (401, 403) and address.is_given:
        return
    kind = answer.headers.get("Content-Type", "").partition(";")[0] or "no content type"
    if answer.status_code != 200 or kind != "application/json":
        raise trouble.no_dashboard(address, f"HTTP {answer.status_code}, {kind}")
    mode = answer.json()
    if not isinstance(mode, dict) or "authentication_mode" not in mode:
        raise trouble.no_dashboard(address, "JSON of something else")
    if mode["authentication_mode"] == "token" and not token.value:
        raise trouble.no_token(address, token)


def _request(
    address: Address,
    token: Token,
    path: str,
    params: Mapping[str, Any] | None = None,
    *,
    stream: bool = False,
) -> requests.Response:
    import requests

    answer = requests.get(
        address.url + path,
        params=params,
        headers=token.headers(),
        timeout=TIMEOUT_SECONDS,
        stream=stream,
    )
    if answer.status_code in (401, 403):
        raise trouble.refused(address, token)
    if not answer.ok:
        with answer:
            said = " ".join(answer.text.split())[: trouble.LONGEST_DETAIL]
        raise HttpError(
            f"{address.url}{path}: HTTP {answer.status_code}: {said}", answer.status_code
        )
    return answer


def _job_client(address: Address, token: Token) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """Ray's, with a bound on how long it waits: a head that is gone would hold it for ever."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
            options.setdefault("timeout", TIMEOUT_SECONDS)
            return super()._do_request(method, endpoint, **options)

    # It logs what it uploads; the terminal belongs to our lines.
    for module in _CHATTY:
        logging.getLogger(module).setLevel(logging.WARNING)
    with _without_addresses():
        return Client(address.url, headers=token.headers())


@contextmanager
def _without_addresses() -> Iterator[None]:
    """Ray's client takes RAY_ADDRESS over the address that it is given."""
    before = {name: os.environ.pop(name) for name in ADDRESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
