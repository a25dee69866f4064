"""Where files lie: a local path or any `pyarrow.fs` / `fsspec` URI, behind the same few verbs.

Whatever this module writes is complete as soon as it can be seen: local files are written beside
their place and renamed into it, objects are uploaded in one piece.
"""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pyarrow import NativeFile
from pyarrow.fs import FileSelector, FileSystem, FileType

from ensemble.filesystems import open_filesystem

LOCAL_SCHEME = "file://"


@dataclass(frozen=True)
class Location:
    """A file or folder. Holds only its address, so that it travels between processes: a pickled
    `S3FileSystem` would lose its retry strategy.

    `uri` is an absolute local path or a URI such as `s3://bucket/run?endpoint_override=host:port`
    (the query belongs to the store, not to the name, and follows along to every child).
    """

    uri: str

    def __post_init__(self) -> None:
        if self.is_local and not os.path.isabs(self.uri):
            raise ValueError(
                f"a local location is an absolute path, got {self.uri!r}: "
                "make it with Location.of(path)"
            )

    @classmethod
    def of(cls, path_or_uri: str | os.PathLike[str]) -> Location:
        """The location of a path (relative to the working directory, `~` allowed) or URI."""
        text = os.fspath(path_or_uri)
        if not text:
            raise ValueError("expected a path or a URI, got an empty text")
        if text.startswith(LOCAL_SCHEME):
            text = text.removeprefix(LOCAL_SCHEME)
        if "://" not in text:
            return cls(os.path.abspath(os.path.expanduser(text)))
        address, mark, query = text.partition("?")
        return cls(address.rstrip("/") + mark + query)

    def __truediv__(self, name: str) -> Location:
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"expected the name of a child of {self}, got {name!r}")
        if self.is_local:
            return Location(os.path.join(self.uri, name))
        address, mark, query = self.uri.partition("?")
        return Location(f"{address.rstrip('/')}/{name}{mark}{query}")

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.uri.partition("?")[0] if not self.is_local else self.uri).name

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def local_path(self) -> Path:
        """The path on this machine. Raises ValueError for a remote location."""
        if not self.is_local:
            raise ValueError(
                f"expected a local path, got {self.uri}: copy it to this machine first"
            )
        return Path(self.uri)

    def exists(self) -> bool:
        if self.is_local:
            return os.path.exists(self.uri)
        return self._kind() != FileType.NotFound

    def is_dir(self) -> bool:
        """On an object store a folder is there while something has its prefix."""
        if self.is_local:
            return os.path.isdir(self.uri)
        return self._kind() == FileType.Directory

    def size(self) -> int:
        """Bytes of a file. Raises FileNotFoundError."""
        if self.is_local:
            return os.path.getsize(self.uri)
        filesystem, path = self._open()
        size = filesystem.get_file_info(path).size
        if size is None:
            raise FileNotFoundError(2, "No such file", self.uri)
        return int(size)

    def open_input(self) -> NativeFile:
        """A random-access reader, for files of which only a part is needed."""
        filesystem, path = self._open()
        return filesystem.open_input_file(path)

    def read_bytes(self) -> bytes:
        if self.is_local:
            return Path(self.uri).read_bytes()
        filesystem, path = self._open()
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())

    def read_text(self) -> str:
        return self.read_bytes().decode("utf-8")

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode("utf-8"))

    def write_bytes(self, data: bytes) -> None:
        """Put a whole file in place; its folders are made. A reader sees the old file or the new
        one. Raises OSError (a full disk) naming this location, and leaves nothing behind."""
        if self.is_local:
            _replace_local(Path(self.uri), data)
        else:
            self._upload(data)

    def list(self) -> list[Location]:
        """The children by name, without those whose name starts with a dot; [] where missing."""
        if self.is_local:
            names = os.listdir(self.uri) if os.path.isdir(self.uri) else []
        else:
            filesystem, path = self._open()
            found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
            names = [info.base_name for info in found]
        return [self / name for name in sorted(names) if not name.startswith(".")]

    def delete(self) -> None:
        """Remove a file, or a folder with everything in it. Missing is fine."""
        if self.is_local:
            _delete_local(Path(self.uri))
            return
        filesystem, path = self._open()
        kind = filesystem.get_file_info(path).type
        if kind == FileType.Directory:
            filesystem.delete_dir(path)
        elif kind != FileType.NotFound:
            filesystem.delete_file(path)

    def _open(self) -> tuple[FileSystem, str]:
        return open_filesystem(self.uri)

    def _kind(self) -> object:
        filesystem, path = self._open()
        return filesystem.get_file_info(path).type

    def _upload(self, data: bytes) -> None:
        filesystem, path = self._open()
        parent = str(PurePosixPath(path).parent)
        if not _has_prefix_folders(self.uri):
            filesystem.create_dir(parent, recursive=True)
        # Closing the stream publishes whatever it has seen, even on the way out of an exception:
        # so it is opened only now, with every byte ready, and written to once.
        with filesystem.open_output_stream(path, compression=None) as stream:
            stream.write(data)


def _has_prefix_folders(uri: str) -> bool:
    """Whether folders are mere prefixes of names, so that making one would only add an object."""
    return uri.partition("://")[0] in ("s3", "gs", "gcs")


def _replace_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with open(aside, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # write() and fsync() do not say which file
        raise


def _delete_local(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=False)
    else:
        path.unlink(missing_ok=True)
