"""Every problem of a data set, found in one pass before anything is trained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from trainables.errors import DataProblems, Problem, UnreadableImageError
from trainables.folds import Kind, resolve_kind
from trainables.images import decode_image, in_threads, read_bytes, reading_threads
from trainables.manifest import UNKNOWN_LABEL, Manifest, content_digest, fingerprint


@dataclass(frozen=True)
class CheckedData:
    """A manifest whose every image can be decoded and whose folds can be drawn.

    dropped: the training images left out under `on_bad_image=drop`. digests, test_digests: one
    content digest (hex) a training row and a test row.
    """

    manifest: Manifest
    dropped: tuple[Problem, ...]
    digests: tuple[str, ...]
    test_digests: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """The data fingerprint over training and test images: the decoded cache's key."""
        return fingerprint(self.manifest, self.digests, self.test_digests)


# Decodes row `int` out of a file's bytes, named for errors; raises UnreadableImageError.
Decode = Callable[[int, bytes, str], None]


def _only_decode(_: int, content: bytes, path: str) -> None:
    decode_image(content, path)


def check_data(
    manifest: Manifest,
    *,
    k: int,
    kind: Kind,
    on_bad_image: Literal["error", "drop"],
    progress: Callable[[int, int], None] | None = None,
    decode: Decode = _only_decode,
) -> CheckedData:
    """Decode every image once and check ids, labels, groups and class sizes against k folds.

    `progress(done, total)` is called after each image. `on_bad_image=drop` leaves out bad training
    images and judges class sizes without them; a bad test image is always a problem, as a
    prediction is due for it. `decode(row, content, path)` is called with each file's bytes, by
    several threads; test rows follow training rows. `CacheBuilder.store` keeps what it decodes, so
    that nothing is decoded twice. Raises DataProblems with all problems, DataError for a `kind`
    that needs groups where there are none, UnreachableError where an object store cannot be
    reached or refuses.
    """
    kind = resolve_kind(kind, manifest.groups)
    looks = _look_at_all((*manifest.paths, *manifest.test_paths), decode, progress)
    train_looks, test_looks = looks[: len(manifest.ids)], looks[len(manifest.ids) :]
    bad = {row: look.problem for row, look in enumerate(train_looks) if look.problem}
    dropped: tuple[Problem, ...] = ()
    problems = list(bad.values())
    if on_bad_image == "drop":
        manifest, dropped, problems = manifest.without(bad), tuple(bad.values()), []
        train_looks = [look for look in train_looks if look.problem is None]
    problems += [_of_test(look.problem) for look in test_looks if look.problem]
    problems += _twice(manifest.ids, "duplicate id") + _twice(
        manifest.test_ids, "duplicate test id"
    )
    problems += _unknown_labels(manifest)
    grouped = kind != "stratified"
    if grouped:
        problems += _missing_groups(manifest)
    problems += _too_small(manifest, k, grouped=grouped)
    if problems:
        raise DataProblems(problems)
    return CheckedData(
        manifest,
        dropped,
        tuple(look.digest for look in train_looks),
        tuple(look.digest for look in test_looks),
    )


def problems_table(problems: Iterable[Problem]) -> list[tuple[str, str, str]]:
    """(kind, where, detail) rows for printing, in the order found."""
    return [(problem.kind, problem.where, problem.detail) for problem in problems]


# --- images ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    digest: str
    problem: Problem | None


def _look_at_all(
    paths: Sequence[str], decode: Decode, progress: Callable[[int, int], None] | None
) -> list[_Look]:
    looks: list[_Look] = []
    threads = reading_threads(paths)
    for look in in_threads(lambda row: _look(row, paths[row], decode), range(len(paths)), threads):
        looks.append(look)
        if progress is not None:
            progress(len(looks), len(paths))
    return looks


def _look(row: int, path: str, decode: Decode) -> _Look:
    try:
        content = read_bytes(path)
    except UnreadableImageError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        kind = "missing image" if missing else "unreadable image"
        return _Look("", Problem(kind, path, error.reason))
    digest = content_digest(content)
    try:
        decode(row, content, path)
    except UnreadableImageError as error:
        kind = "unreadable image" if content else "empty image"
        return _Look(digest, Problem(kind, path, error.reason))
    return _Look(digest, None)


def _of_test(problem: Problem) -> Problem:
    kind = problem.kind.replace("image", "test image")
    return Problem(kind, problem.where, f"{problem.detail}, and a prediction is due for it")


# --- rows --------------------------------------------------------------------------------------


def _twice(ids: Sequence[str], kind: str) -> list[Problem]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(ids, start=1):
        rows[name].append(row)
    return [
        Problem(kind, name, f"rows {', '.join(map(str, found))} have this id, expected one")
        for name, found in rows.items()
        if len(found) > 1
    ]


def _unknown_labels(manifest: Manifest) -> list[Problem]:
    problems = []
    for row, label in enumerate(manifest.labels.tolist()):
        if label == UNKNOWN_LABEL:
            text = manifest.label_text[row] if manifest.label_text else ""
            found = f"label {text} is not one of the {manifest.n_classes} classes"
            detail = found if text else "has no label"
            problems.append(Problem("unknown label", manifest.ids[row], detail))
    return problems


def _missing_groups(manifest: Manifest) -> list[Problem]:
    """Rows without a group would all be taken for one group."""
    return [
        Problem("missing group", name, "has no group; give each such row a group of its own")
        for name, group in zip(manifest.ids, manifest.groups or (), strict=False)
        if not group
    ]


def _too_small(manifest: Manifest, k: int, *, grouped: bool) -> list[Problem]:
    """Classes too small to be trained on in every fold, and folds for which there is no group.

    With groups a class may miss in a fold's validation rows, but in two groups it has to be: the
    fold that holds the only one would train without it."""
    labels = manifest.labels.tolist()
    rows = Counter(labels)
    keys = manifest.groups if grouped and manifest.groups else range(len(labels))
    members = set(zip(labels, keys, strict=True))
    counts = Counter(label for label, _ in members)
    problems = []
    for label, name in enumerate(manifest.classes):
        if rows[label] < k:
            problems.append(Problem("small class", name, _shortage(rows[label], "image", k)))
        elif counts[label] < 2:
            problems.append(Problem("small class", name, _ONE_GROUP))
    found = len({key for _, key in members})
    if grouped and found < k:
        problems += [
            Problem("empty fold", f"fold {fold}", f"{_of(found, 'group')} cannot fill {k} folds")
            for fold in range(found, k)
        ]
    return problems


_ONE_GROUP = "all in one group: its fold would train without the class (add images or leave it out)"


def _shortage(found: int, unit: str, k: int) -> str:
    remedy = f"set folds.k={found}" if found > 1 else "add images or leave the class out"
    return f"in {_of(found, unit)}, fewer than {k} folds need ({remedy})"


def _of(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
