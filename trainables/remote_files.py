"""The user's files on an object store, named by URI: read whole, listed once.

What the store refuses is one line that says what to check. S3 is tried ten times before it is
unreachable (`ensemble/filesystems.py`).
"""

from __future__ import annotations

import errno
import os
import posixpath
import re

import pyarrow as pa
from pyarrow.fs import FileSelector, FileType

from ensemble.files import Location
from ensemble.filesystems import open_filesystem
from trainables.errors import DataError, UnreachableError

LOCAL_SCHEME = "file://"
# Each waits for the network most of the time. pyarrow's S3 client has 25 connections.
FETCH_THREADS = 24

_AWS = re.compile(r"AWS Error (\w+) during \w+ operation: (.*)", re.DOTALL)
_KEYS = "check the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_WORDS = {
    "ACCESS_DENIED": "access denied; check that this machine has credentials (an instance role, "
    "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) that may read and list the bucket",
    "INVALID_ACCESS_KEY_ID": f"the store does not know the access key; {_KEYS}",
    "SIGNATURE_DOES_NOT_MATCH": f"the secret key is wrong; {_KEYS}",
    "NO_SUCH_BUCKET": "no such bucket",
    "NETWORK_CONNECTION": "the store does not answer; check the network and the endpoint",
}


def is_remote(path: str) -> bool:
    """Whether `path` is a URI (s3://…) rather than a path of this machine."""
    return "://" in path and not path.startswith(LOCAL_SCHEME)


def address_of(path: str) -> str:
    """A URI without its options (`?endpoint_override=…`); a path as it is. Suffixes are told by
    this."""
    return path.partition("?")[0] if is_remote(path) else path


def parent_of(path: str) -> str:
    """The folder that a file is in."""
    if not is_remote(path):
        return os.path.dirname(path)
    address, mark, query = path.partition("?")
    return address.rstrip("/").rpartition("/")[0] + mark + query


def joined(root: str, name: str) -> str:
    """The file called `name` in the folder `root`. A `name` that is a URI or an absolute path
    stands for itself."""
    if is_remote(name) or os.path.isabs(name) or not is_remote(root):
        return name if is_remote(name) else os.path.join(root, name)
    address, mark, query = root.partition("?")
    scheme, _, place = address.partition("://")
    return f"{scheme}://{posixpath.normpath(f'{place}/{name}')}{mark}{query}"


def fetch(uri: str) -> bytes:
    """A whole object. FileNotFoundError where there is none, UnreachableError, one line, where the
    store cannot be reached or refuses."""
    try:
        return Location.of(uri).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "no such object", uri) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreachable(uri, error) from error


def kind_of(uri: str, key: str) -> FileType:
    """Whether there is a file, a folder or nothing. DataError that names the setting `key` where
    there is no bucket, or the store cannot be reached or refuses."""
    try:
        filesystem, path = open_filesystem(Location.of(uri).uri)
        kind = filesystem.get_file_info(path).type
        bucket = path.partition("/")[0]
        if kind != FileType.NotFound or not uri.startswith("s3://"):
            return kind
        there = filesystem.get_file_info(bucket).type != FileType.NotFound
    except (OSError, pa.ArrowException) as error:
        raise UnreachableError(f"{key}={uri}: {reason(error)}") from error
    except ValueError as error:  # a scheme or an option that nobody knows
        raise DataError(f"{key}={uri}: {reason(error)}") from error
    if not there:
        raise DataError(f"{key}={uri}: no such bucket: {bucket}")
    return kind


def names_below(uri: str) -> list[str]:
    """Names, relative to the folder `uri` and with "/", of all files below it that are not hidden,
    in the order in which a local folder is walked: a folder's files, then its folders. One
    listing, however many folders. UnreachableError as `fetch`."""
    try:
        filesystem, path = open_filesystem(Location.of(uri).uri)
        found = filesystem.get_file_info(FileSelector(path, recursive=True))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreachable(uri, error) from error
    start = len(path.rstrip("/")) + 1
    names = [info.path[start:] for info in found if info.type == FileType.File]
    visible = [name for name in names if not any(p.startswith(".") for p in name.split("/"))]
    return sorted(visible, key=_as_walked)


def unreachable(uri: str, error: Exception) -> UnreachableError:
    """What a store answered, as one line about `uri`."""
    return UnreachableError(f"{uri}: {reason(error)}")


def reason(error: Exception) -> str:
    """Why a store did not do what it was asked for, in a few words."""
    found = _AWS.search(str(error))
    if found is None:
        return " ".join(str(error).split())[:300] or type(error).__name__
    code, detail = found.groups()
    text = re.sub(r"\(Request ID: .*?\)", "", detail)
    return _WORDS.get(code) or f"{' '.join(text.split())[:200]} ({code})"


def _as_walked(name: str) -> list[tuple[bool, str]]:
    *folders, last = name.split("/")
    return [*((True, folder) for folder in folders), (False, last)]
