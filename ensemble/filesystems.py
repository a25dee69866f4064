"""From a URI to an open `pyarrow` filesystem: S3 with our own settings, what pyarrow knows, and
fsspec for the rest."""

from __future__ import annotations

import os
from functools import lru_cache
from urllib.parse import parse_qsl

import pyarrow as pa
from pyarrow.fs import (
    AwsStandardS3RetryStrategy,
    FileSystem,
    FSSpecHandler,
    LocalFileSystem,
    PyFileSystem,
    S3FileSystem,
    resolve_s3_region,
)

S3_ATTEMPTS = 10  # ride out about a minute of refused connections; pyarrow's own default is 3
S3_OPTIONS = ("endpoint_override", "region", "scheme")


def open_filesystem(uri: str) -> tuple[FileSystem, str]:
    """The filesystem of a URI or absolute local path, and the path within it.

    S3 paths are taken as they stand, as the AWS command line does (`%20` is not decoded). Raises
    ValueError for a scheme that neither pyarrow nor an installed fsspec package knows.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return LocalFileSystem(), uri
    if scheme == "s3":
        path, _, query = rest.partition("?")
        return _s3(path.partition("/")[0], query, _environment(), os.getpid()), path
    return _other(uri)


def _environment() -> tuple[str | None, str | None]:
    """What the environment says about S3: (endpoint, region)."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return endpoint, region


# One client a process (a forked child must not inherit connections: hence `process`) and endpoint.
@lru_cache(maxsize=16)
def _s3(
    bucket: str, query: str, environment: tuple[str | None, str | None], process: int
) -> FileSystem:
    options = _s3_options(bucket, query)
    endpoint = options.get("endpoint_override", environment[0])
    region = options.get("region")
    scheme = options.get("scheme")
    if endpoint is None:
        region = region or resolve_s3_region(bucket)
    else:
        # Without a region the AWS client asks the metadata service of EC2, which may hang for
        # seconds; other S3 servers accept any.
        region = region or environment[1] or "us-east-1"
        prefix, separator, host = endpoint.partition("://")
        scheme, endpoint = (scheme or prefix, host) if separator else (scheme, endpoint)
    return S3FileSystem(
        endpoint_override=endpoint.rstrip("/") if endpoint else None,
        scheme=scheme,
        region=region,
        allow_bucket_creation=False,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS),
    )


def _s3_options(bucket: str, query: str) -> dict[str, str]:
    if "@" in bucket:
        raise ValueError(
            "expected s3://bucket/…, got a user name in it: put the keys into AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY, because a location is written into logs"
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - set(S3_OPTIONS))
    if unknown:
        raise ValueError(
            f"s3://{bucket}: unknown option {unknown[0]!r} after '?', "
            f"expected one of {', '.join(S3_OPTIONS)}"
        )
    return options


def _other(uri: str) -> tuple[FileSystem, str]:
    try:
        return FileSystem.from_uri(uri)
    except pa.ArrowInvalid:
        return _fsspec(uri)


def _fsspec(uri: str) -> tuple[FileSystem, str]:
    try:
        import fsspec  # type: ignore[import-untyped]  # optional: only for schemes such as hf://

        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"{uri}: no filesystem for {uri.partition('://')[0]}:// is installed ({error})"
        ) from error
    return PyFileSystem(FSSpecHandler(filesystem)), path
