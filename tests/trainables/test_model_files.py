from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainables.model_files import find_weights, read_state
from trainables.recipe import BackboneError

KEY = "backbone.weights"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_tensors_are_read_whatever_the_format(tmp_path: Path, suffix: str) -> None:
    state = {"a": torch.arange(3.0)}
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert torch.equal(read_state(path, KEY)["a"], state["a"])


def test_what_is_no_weights_file_names_the_key_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "words.pth").write_text("words")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    for name, said in (("words.pth", "cannot be read"), ("empty.pth", "holds no tensors"),
                       ("lost.pth", "no such file")):  # fmt: skip
        with pytest.raises(BackboneError, match=f"backbone.second_weights=.*{said}") as caught:
            read_state(tmp_path / name, "backbone.second_weights")
        assert "\n" not in str(caught.value)


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_weights(tmp_path / "x.pth", ["resnet18"], KEY) == tmp_path / "x.pth"


def test_the_first_name_wins_and_then_the_safest_format(tmp_path: Path) -> None:
    names = ["resnet18.a1_in1k", "resnet18"]
    for file in ("resnet18.safetensors", "resnet18.bin", "resnet18.a1_in1k.bin", "other.pth"):
        (tmp_path / file).touch()
    assert find_weights(tmp_path, names, KEY).name == "resnet18.a1_in1k.bin"
    (tmp_path / "resnet18.a1_in1k.pth").touch()
    assert find_weights(tmp_path, names, KEY).name == "resnet18.a1_in1k.pth"
    assert find_weights(tmp_path, ["resnet18"], KEY).name == "resnet18.safetensors"


def test_a_folder_without_the_model_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"it holds nothing; rename"):
        find_weights(tmp_path, ["a"], KEY)
    for number in range(10):
        (tmp_path / f"m{number}.pth").touch()
    expected = (
        r"backbone.weights=.*: the folder has no a\.t\.safetensors or a\.safetensors "
        r"\(nor \.pth, \.bin\); it holds m0\.pth, .*m7\.pth and 2 more; rename"
    )
    with pytest.raises(BackboneError, match=expected) as caught:
        find_weights(tmp_path, ["a.t", "a"], KEY)
    assert "\n" not in str(caught.value)
