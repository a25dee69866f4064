"""A data set on an object store is the same data set: rows, fingerprint and pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.files import Location
from search_spaces.config import DataConfig
from tests.conftest import TinyImages
from tests.trainables.stores import new_place, upload
from trainables.checks import CheckedData, check_data
from trainables.decoded_source import DecodedSource
from trainables.errors import DataError, DataProblems, UnreachableError, UnreadableImageError
from trainables.image_cache import ImageCache
from trainables.image_list import listed_images
from trainables.manifest import Manifest
from trainables.sources import load_manifest


@dataclass(frozen=True)
class Both:
    """The same files here and on the store."""

    here: TinyImages
    there: Location


@pytest.fixture(scope="session")
def both(run_images: TinyImages, s3_endpoint: str) -> Both:
    place = new_place(s3_endpoint)
    upload(run_images.root, place)
    return Both(run_images, place)


def load(**settings: object) -> Manifest:
    return load_manifest(DataConfig.model_validate(settings))


def checked(manifest: Manifest) -> CheckedData:
    return check_data(manifest, k=2, kind="stratified", on_bad_image="error")


def test_folders_of_classes_give_the_same_rows_and_fingerprint(both: Both) -> None:
    there = both.there / both.here.folder.name
    here = load(source="folder", path=str(both.here.folder), test_images=str(both.here.images))
    far = load(
        source="folder", path=there.uri, test_images=(both.there / both.here.images.name).uri
    )
    assert (far.ids, far.classes, far.test_ids) == (here.ids, here.classes, here.test_ids)
    assert far.labels.tolist() == here.labels.tolist()
    assert far.paths[0] == (there / here.ids[0]).uri
    assert checked(far).fingerprint == checked(here).fingerprint


def test_a_table_and_its_images_may_each_lie_anywhere(both: Both) -> None:
    table, images = str(both.here.csv), str(both.here.images)
    far_table = (both.there / both.here.csv.name).uri
    far_images = (both.there / both.here.images.name).uri
    here = load(source="csv", path=table, images=images)
    for path, folder in ((far_table, far_images), (table, far_images), (far_table, images)):
        found = load(source="csv", path=path, images=folder)
        assert found.ids == here.ids
        assert found.labels.tolist() == here.labels.tolist()
        assert checked(found).fingerprint == checked(here).fingerprint


def test_tables_may_name_images_without_extension_or_by_uri(both: Both, tmp_path: Path) -> None:
    images = both.there / both.here.images.name
    frame = pd.read_csv(both.here.csv)
    bare = frame.assign(id=frame["id"].str.removesuffix(".jpg"))
    bare.to_parquet(tmp_path / "bare.parquet")
    expected = tuple((images / name).uri for name in frame["id"])
    found = load(source="parquet", path=str(tmp_path / "bare.parquet"), images=images.uri)
    assert found.paths == expected
    frame.assign(id=list(expected)).to_csv(tmp_path / "uris.csv", index=False)
    assert load(source="csv", path=str(tmp_path / "uris.csv")).paths == expected


def test_a_sample_submission_is_read_from_the_store(both: Both, tmp_path: Path) -> None:
    sample = both.there / "sample_submission.csv"
    names = list(reversed(both.here.ids))[:4]
    sample.write_text("id,label\n" + "".join(f"{name},x\n" for name in names))
    found = load(
        source="csv",
        path=(both.there / both.here.csv.name).uri,
        images=(both.there / both.here.images.name).uri,
        test_images=(both.there / both.here.images.name).uri,
        sample_submission=sample.uri,
    )
    assert found.test_ids == tuple(names)
    assert found.test_paths[0] == (both.there / both.here.images.name / names[0]).uri


def test_new_images_are_listed_from_the_store(both: Both) -> None:
    images = both.there / both.here.images.name
    ids, paths = listed_images(images.uri)
    assert (sorted(ids), len(paths)) == (sorted(both.here.ids), len(both.here.ids))
    one = (images / ids[0]).uri
    assert listed_images(one) == ([ids[0]], [one])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "csv", "path": "no.csv"}, r"^data\.path=.*no such object and nothing below it"),
        ({"source": "csv", "path": "CSV", "images": "imagse"}, r"^data\.images=.*no such object"),
        ({"source": "csv", "path": "CSV"}, r"^none of the 24 images of .*folders in it: "),
        ({"source": "csv", "path": "FOLDER"}, r"^data\.path=s3://.*: cannot be read: no such"),
        ({"source": "csv", "path": "CSV", "images": "CSV"}, r"^data\.images=.*is a file"),
        ({"source": "folder", "path": "CSV"}, r"^data\.path=.*: is a file"),
        ({"source": "folder", "path": "IMAGES"}, r"^data\.path=.*: no folders in it"),
        ({"source": "folder", "path": "FOLDER", "test_images": "*.jpg"}, r"patterns are for local"),
    ],
)
def test_a_wrong_address_is_one_line(both: Both, settings: dict[str, str], message: str) -> None:
    names = {"CSV": both.here.csv.name, "FOLDER": both.here.folder.name}
    names["IMAGES"] = both.here.images.name
    where = {
        key: value if key == "source" else (both.there / names.get(value, value)).uri
        for key, value in settings.items()
    }
    with pytest.raises(DataError, match=message) as caught:
        load(**where)
    assert "\n" not in str(caught.value)


def test_bad_objects_are_listed_by_their_uris(both: Both) -> None:
    place = both.there / "bad"
    for name, content in (("a/0.jpg", b""), ("b/1.jpg", b"no image")):
        (place / name).write_bytes(content)
    for label in ("a", "b"):
        for number in range(2, 4):
            image = both.here.images / both.here.ids[number]
            (place / f"{label}/{number}.jpg").write_bytes(image.read_bytes())
    manifest = load(source="folder", path=place.uri)
    (place / "a/3.jpg").delete()
    with pytest.raises(DataProblems) as caught:
        checked(manifest)
    assert [(one.kind, one.where) for one in caught.value.problems] == [
        ("empty image", (place / "a/0.jpg").uri),
        ("missing image", (place / "a/3.jpg").uri),
        ("unreadable image", (place / "b/1.jpg").uri),
    ]


def test_a_store_that_refuses_drops_no_image(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = load(source="folder", path=(both.there / both.here.folder.name).uri)
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    with pytest.raises(UnreachableError, match=r"^s3://runs/.*access denied"):
        check_data(manifest, k=2, kind="stratified", on_bad_image="drop")


def test_the_cache_holds_the_same_pixels(both: Both, tmp_path: Path) -> None:
    here = load(source="folder", path=str(both.here.folder))
    far = load(source="folder", path=(both.there / both.here.folder.name).uri)
    near_cache = ImageCache.open(here.paths, 16, tmp_path / "near", "key")
    far_cache = ImageCache.open(far.paths, 16, tmp_path / "far", "key")
    uncached = ImageCache.open(far.paths, 16, tmp_path / "none", "key", limit_bytes=0)
    assert isinstance(far_cache, ImageCache)
    assert isinstance(uncached, DecodedSource)
    rows = np.arange(len(here.ids))
    np.testing.assert_array_equal(far_cache[rows], near_cache[rows])
    np.testing.assert_array_equal(uncached[rows], near_cache[rows])
    np.testing.assert_array_equal(uncached.aspects, near_cache.aspects)


def test_the_note_says_what_no_cache_means_for_remote_images(both: Both, tmp_path: Path) -> None:
    far = load(source="folder", path=(both.there / both.here.folder.name).uri)
    source = ImageCache.open(far.paths, 16, tmp_path, "key", limit_bytes=100)
    assert "raise data.cache_gb" in source.why
    assert source.why.endswith(
        "every epoch fetches every image from its store again, which is slow"
    )


def test_a_missing_object_ends_a_build_with_its_uri(both: Both, tmp_path: Path) -> None:
    gone = (both.there / "gone.jpg").uri
    with pytest.raises(UnreadableImageError, match="no such object") as caught:
        ImageCache.open([gone], 16, tmp_path, "key")
    assert caught.value.where == gone
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock", ".lock"]
