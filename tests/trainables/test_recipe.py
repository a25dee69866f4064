from __future__ import annotations

import json

import pytest

from trainables.recipe import BackboneError, Normalisation, Part, Recipe, one_line, three

OLD = {
    "architecture": "test_vit",
    "arguments": {"img_size": 32},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_dict_of_an_older_version_is_a_plain_recipe_and_comes_back_the_same() -> None:
    recipe = Recipe.from_dict(OLD)
    assert recipe == Recipe("test_vit", {"img_size": 32}, HALF)
    assert recipe.is_plain
    assert recipe.to_dict() == OLD


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("a", second=Part("b", {"img_size": 64})),
        Recipe("a", head="cosine", scale=30.0),
        Recipe("a", {"x": 1}, HALF, second=Part("b"), head="cosine", scale=16.0),
    ],
)
def test_a_composed_recipe_travels_as_json(recipe: Recipe) -> None:
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert not recipe.is_plain


def test_the_parts_are_the_models_in_order() -> None:
    assert Recipe("a", {"x": 1}, second=Part("b")).parts == (Part("a", {"x": 1}), Part("b"))
    assert Recipe("a").parts == (Part("a"),)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ValueError, match="the head 'square' is none of linear, cosine"):
        Recipe.from_dict({**OLD, "head": "square"})


def test_three_numbers_are_three() -> None:
    assert three([1, 2, 3]) == (1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="unpack"):
        three([1, 2])


def test_an_error_becomes_one_line() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(BackboneError("x" * 1000))) == 300
