"""What can go wrong between this machine and a cluster, each as one line and what to do next."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tuner.cluster.address import Address, Token
from tuner.errors import UserError

LONGEST_DETAIL = 200
# How Ray's client begins what it says of an answer that is no success.
FAILED_REQUEST = "Request failed with status code "


class UnreachableError(UserError):
    """Nobody answers at the address: no cluster, a closed tunnel, or a dead head."""


class RefusedError(UserError):
    """The cluster wants a token, or another one."""


class NoSuchJobError(UserError):
    """The cluster knows no such job."""


def no_token(address: Address, token: Token) -> RefusedError:
    return RefusedError(
        f"{address.url} asks for a token and there is none here ({token.source}); copy the "
        "cluster's ~/.ray/auth_token to this machine, or set RAY_AUTH_TOKEN"
    )


def wrong_token(address: Address, token: Token) -> RefusedError:
    return RefusedError(
        f"{address.url} refuses the token of {token.source}: it belongs to another cluster, or the "
        "cluster was started with another one; take the ~/.ray/auth_token that lies on its head"
    )


def refused(address: Address, token: Token) -> RefusedError:
    """For HTTP 401 and 403."""
    return no_token(address, token) if not token.value else wrong_token(address, token)


def unreachable(address: Address, error: Exception | str) -> UnreachableError:
    return UnreachableError(
        f"no Ray cluster answers at {address}: {_cause(error)}; open the tunnel with `ray "
        "dashboard cluster.yaml` and keep it open, or give --address"
    )


def failed_request(address: Address, said: str) -> UserError:
    """`said`: what Ray's client makes of an answer that is no success. From 500 on it is the
    cluster that fails, as a dashboard does whose head has lost its store: worth another try."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    status, _, text = lines[0].removeprefix(FAILED_REQUEST).strip(" .").partition(":")
    why = (lines[-1] if len(lines) > 1 else text.strip())[:LONGEST_DETAIL]
    message = f"{address.url} answers with HTTP {status}: {why}"
    if status.startswith("5"):
        return UnreachableError(f"{message}; the head is ill: look at `ray status` there")
    return UserError(message)


def no_dashboard(address: Address, found: str) -> UserError:
    """`found`: what answered instead, in a few words."""
    return UserError(
        f"{address}: something answers there, but it is no Ray dashboard ({found}); give the "
        "dashboard's address with --address"
    )


def while_away(address: Address, job: str, run: str | None) -> str:
    """Said once, when the connection breaks while a job is followed."""
    return (
        f"the connection to {address.url} is lost; the job goes on without it. Trying again "
        f"(Ctrl-C leaves; `foldblend logs {job} -f{address.option}` comes back). "
        f"{_if_dead(address, run)}"
    )


def lost(address: Address, job: str, run: str | None, error: Exception | str) -> UnreachableError:
    """The connection broke and stayed broken while a job was followed."""
    return UnreachableError(
        f"the connection to {address.url} does not come back ({_cause(error)}); with the tunnel "
        f"open again, `foldblend logs {job} -f{address.option}` goes on. {_if_dead(address, run)}"
    )


def head_anew(address: Address, job: str, run: str | None) -> NoSuchJobError:
    """A job that was there, and that the head no longer knows."""
    return NoSuchJobError(
        f"{address.url} no longer knows {job}: its head was started anew, which ended the job; "
        f"`{_resume(address, run)}` goes on from the last checkpoints"
    )


def _if_dead(address: Address, run: str | None) -> str:
    return (
        "If the head is dead, start the cluster again (`ray up cluster.yaml`) and "
        f"`{_resume(address, run)}` goes on from the last checkpoints"
    )


def _resume(address: Address, run: str | None) -> str:
    """The command, to be pasted into a shell."""
    return f"foldblend resume {shlex.quote(run) if run else 'RUN'}{address.option}"


def check_ray(address: Address, there: str) -> None:
    """UserError where the cluster runs another Ray than this machine has."""
    from importlib.metadata import version

    here = version("ray")
    if here != there:
        raise UserError(
            f"{address.url} runs Ray {there}, this machine has Ray {here}; install the same here "
            f"(`pip install 'ray[default,tune]=={there}'`) or there, or submit with --no-check"
        )


def no_such_job(job: str, known: Iterable[str]) -> NoSuchJobError:
    names = list(known)
    near = [name for name in names if job in name] or difflib.get_close_matches(job, names, n=3)
    if near:
        end = f"did you mean {' or '.join(near[:3])}?"
    elif names:
        end = f"it knows {', '.join(names[-3:])} (`foldblend jobs` lists them)"
    else:
        end = (
            "it knows none (a head that was started anew has forgotten them: "
            "`foldblend resume RUN` goes on with a run)"
        )
    return NoSuchJobError(f"{job}: the cluster has no such job; {end}")


def several_runs(name: str, newest: Sequence[str]) -> UserError:
    """`newest`: of each run of this name, the newest job in words."""
    return UserError(
        f"{name}: {len(newest)} runs of this name are on the cluster: {', '.join(newest)}; give "
        "the job's id or the run directory instead"
    )


@contextmanager
def in_words(address: Address, token: Token) -> Iterator[None]:
    """Whatever the HTTP libraries and Ray's client raise, as one of the lines above.

    A 404 of a job stays what it is (see `is_missing`): only the caller knows the other jobs."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise refused(address, token) from error
    except (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError) as error:
        raise unreachable(address, error) from error
    except requests.JSONDecodeError as error:
        raise no_dashboard(address, "its answer is not JSON") from error
    except requests.RequestException as error:
        raise UserError(f"{address}: {_cause(error)}; check the address") from error
    except RuntimeError as error:
        if not str(error).startswith(FAILED_REQUEST):
            raise
        raise failed_request(address, str(error)) from error


@contextmanager
def cut_in_words(address: Address, token: Token, job: str) -> Iterator[None]:
    """What breaks a log that is being followed, as one of the lines above."""
    import aiohttp

    try:
        yield
    except aiohttp.WSServerHandshakeError as error:
        if error.status in (401, 403):
            raise refused(address, token) from error
        if error.status == 404:
            raise no_such_job(job, []) from error
        raise unreachable(address, error) from error
    except (aiohttp.ClientError, OSError) as error:
        raise unreachable(address, error) from error
    except RuntimeError as error:  # Ray's word for a WebSocket that broke
        if "WebSocket" not in str(error):
            raise
        raise unreachable(address, "the connection was cut") from error


def is_missing(error: Exception) -> bool:
    """Whether Ray's client says that there is no such job."""
    return "does not exist" in str(error) or "status code 404" in str(error)


def _cause(error: Exception | str) -> str:
    """The last and plainest part of a chain such as requests makes."""
    text = " ".join(str(error).split())
    for sign, words in _PLAIN.items():
        if sign in text:
            return words
    return text[:LONGEST_DETAIL]


_PLAIN = {
    "Connection refused": "connection refused",
    "Name or service not known": "unknown host name",
    "Temporary failure in name resolution": "unknown host name",
    "nodename nor servname": "unknown host name",
    "No route to host": "no route to host",
    "Network is unreachable": "network unreachable",
    "timed out": "no answer in time",
    "Connection reset": "the connection was cut",
    "Remote end closed": "the connection was cut",
    "Connection aborted": "the connection was cut",
    "Response ended prematurely": "the connection was cut",
    "IncompleteRead": "the connection was cut",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted here (REQUESTS_CA_BUNDLE)",
    "WRONG_VERSION_NUMBER": "it does not speak https",
}
