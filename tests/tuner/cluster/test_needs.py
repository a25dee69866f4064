from __future__ import annotations

import pytest

from search_spaces.space import load_study
from tuner.cluster.needs import Need, Needs, data_needs, is_absolute, needs_of
from tuner.errors import UserError

TABLE = ("experiment=csv", "name=cars", "data.path=/d/train.csv", "data.images=/d/train")


def needs(*overrides: str) -> Needs:
    return needs_of(load_study([*TABLE, "storage=s3://bucket/runs", *overrides]))


def test_a_table_is_needed_on_the_head_and_images_everywhere() -> None:
    found = needs("data.test_images=/d/test", "data.classes=/d/meta.csv")
    assert found.run == "s3://bucket/runs/cars"
    assert {(need.key, need.everywhere) for need in found.paths} == {
        ("data.path", False),
        ("data.images", True),
        ("data.classes", False),
        ("data.test_images", True),
    }


def test_a_folder_of_images_is_needed_everywhere() -> None:
    assert data_needs({"source": "folder", "path": "/d"}) == (Need("data.path", "/d", True),)


def test_the_digits_need_nothing() -> None:
    assert data_needs({"source": "digits"}) == ()


def test_a_file_of_weights_is_needed_everywhere() -> None:
    found = needs("backbone.weights=/w/a.safetensors")
    assert Need("backbone.weights", "/w/a.safetensors", True) in found.paths


@pytest.mark.parametrize(
    ("storage", "run"),
    [
        ("/shared/runs/", "/shared/runs/cars"),
        ("~/runs", "~/runs/cars"),
        ("'s3://b/r?endpoint_override=h:1'", "s3://b/r/cars?endpoint_override=h:1"),
    ],
)
def test_the_run_directory_lies_below_the_storage_as_the_cluster_names_it(
    storage: str, run: str
) -> None:
    assert needs(f"storage={storage}").run == run


def test_storage_in_the_jobs_own_folder_is_refused() -> None:
    with pytest.raises(UserError, match=r"storage=runs would lie .* give storage=s3://"):
        needs_of(load_study(TABLE))


def test_a_path_that_only_this_machine_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.images=train is relative to this machine's folder"):
        needs("data.images=train")


def test_needs_travel_as_text() -> None:
    found = needs("data.cache_dir=/scratch")
    assert Needs.from_json(found.to_json()) == found
    assert found.cache == "/scratch"


def test_what_is_absolute() -> None:
    assert all(map(is_absolute, ("/a", "~/a", "s3://b/a")))
    assert not any(map(is_absolute, ("a", "./a", "../a")))
