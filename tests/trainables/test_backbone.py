from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from search_spaces.config import BackboneConfig
from tests.trainables.made_models import (
    closed_network,
    made_state,
    write_hub_cache,
    write_model_folder,
)
from trainables.backbone import (
    BackboneError,
    Normalisation,
    Recipe,
    build_backbone,
    check_backbone,
    check_backbone_name,
    check_hub_weights,
    normalisation_of,
    rebuild,
)
from trainables.recipe import WeightsNotHereError

RESNET = BackboneConfig(name="test_resnet")
OFFLINE = "connect to the network once, give a local file with backbone.weights=FILE"


def logits(model: torch.nn.Module, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        return model.eval()(torch.rand(2, 3, size, size, generator=generator))


def body(state: dict[str, torch.Tensor], head: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(f"{head}.")}


def assert_holds(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    own = model.state_dict()
    different = [key for key, value in state.items() if not torch.equal(own[key], value)]
    assert different == []


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network; the folder of the hub's cache, which is empty."""
    closed_network(monkeypatch, tmp_path / "hub")
    return tmp_path / "hub"


# --- names -----------------------------------------------------------------------------------


def test_a_misspelt_name_is_told_the_nearest_ones() -> None:
    with pytest.raises(BackboneError, match=r"no such model; did you mean .*resnet18") as caught:
        build_backbone(BackboneConfig(name="resnet_18"), 3, 32)
    assert "\n" not in str(caught.value)
    with pytest.raises(BackboneError, match=r"see timm\.list_models"):
        check_backbone_name("qqqqqqqqqqqq")


def test_unknown_weights_of_a_known_model_are_told_the_known_ones() -> None:
    expected = r"knows test_resnet but not the weights 'r161_in1k'; did you mean .*r160_in1k\?"
    with pytest.raises(BackboneError, match=expected):
        check_backbone_name("test_resnet.r161_in1k")
    with pytest.raises(BackboneError, match="it has none: use lcnet_035"):
        check_backbone_name("lcnet_035.in1k")


def test_known_names_and_places_outside_timm_pass() -> None:
    for name in ("test_resnet", "test_resnet.r160_in1k", "hf_hub:a/b", "local-dir:models/x"):
        check_backbone_name(name)
    with pytest.raises(BackboneError, match="no such model"):
        check_backbone_name("hf_hub:a/b", timm_only=True)


# --- built from nothing ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "test_efficientnet", "lcnet_035"])
def test_a_model_has_as_many_outputs_as_classes(name: str) -> None:
    backbone = build_backbone(BackboneConfig(name=name), 5, 32)
    assert logits(backbone.model, 32).shape == (2, 5)
    assert backbone.recipe.architecture == name.split(".")[0]
    assert backbone.recipe.arguments == {}


@pytest.mark.parametrize("size", [32, 64])
def test_a_vision_transformer_is_built_for_the_size_of_the_image(size: int) -> None:
    backbone = build_backbone(BackboneConfig(name="test_vit"), 4, size)
    assert logits(backbone.model, size).shape == (2, 4)
    assert backbone.recipe.arguments == {"img_size": size}
    positions = backbone.model.state_dict()["pos_embed"]
    assert positions.shape[1] == (size // 16) ** 2 + 1


def test_the_drop_rates_reach_the_model() -> None:
    config = BackboneConfig(name="test_vit", drop_rate=0.3, drop_path_rate=0.2)
    model = build_backbone(config, 3, 32).model
    assert model.head_drop.p == 0.3  # type: ignore[union-attr]
    rates = [float(getattr(module, "drop_prob", 0.0)) for module in model.modules()]
    assert max(rates) == pytest.approx(0.2)
    plain = build_backbone(RESNET, 3, 32).model
    assert plain.drop_rate == 0.0


def test_a_model_without_drop_path_says_so_in_one_line() -> None:
    config = BackboneConfig(name="vgg11", drop_path_rate=0.1)
    with pytest.raises(BackboneError, match=r"backbone.name=vgg11: .*drop_path_rate") as caught:
        build_backbone(config, 3, 32)
    assert "\n" not in str(caught.value)


def test_the_normalisation_is_the_models_own() -> None:
    vit = build_backbone(BackboneConfig(name="test_vit"), 3, 32)
    assert vit.recipe.normalisation == Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation_of(build_backbone(BackboneConfig(name="resnet18"), 3, 32).model) == (
        Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )


def test_a_recipe_builds_the_same_shape_again_and_travels_as_json() -> None:
    backbone = build_backbone(BackboneConfig(name="test_vit"), 3, 64)
    recipe = Recipe.from_dict(json.loads(json.dumps(backbone.recipe.to_dict())))
    assert recipe == backbone.recipe
    again = rebuild(recipe, 3)
    again.load_state_dict(backbone.model.state_dict())
    assert torch.equal(logits(again, 64), logits(backbone.model, 64))


def test_a_recipe_of_a_strange_model_is_refused() -> None:
    for name in ("hf_hub:a/b", "local-dir:/somewhere", "no_such_net"):
        with pytest.raises(BackboneError, match="no such model"):
            rebuild(Recipe(name), 3)
    with pytest.raises(BackboneError, match=r"test_resnet: .*colour"):
        rebuild(Recipe("test_resnet", {"colour": "blue"}), 3)


# --- pretrained ------------------------------------------------------------------------------


def test_out_of_reach_weights_are_one_line_at_once(offline: Path) -> None:
    config = BackboneConfig(name="test_resnet.r160_in1k", pretrained=True)
    for build in (lambda: build_backbone(config, 3, 32), lambda: check_hub_weights(config.name)):
        with pytest.raises(BackboneError, match=OFFLINE) as caught:
            build()
        assert "127.0.0.1: [Errno 111] Connection refused" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_offline_mode_is_told_as_such(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = BackboneConfig(name="hf_hub:owner/model", pretrained=True)
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE is set"):
        build_backbone(config, 3, 32)
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE is set"):  # nor its shape
        build_backbone(BackboneConfig(name="hf_hub:owner/model"), 3, 32)


def test_a_model_without_any_weights_says_so_before_training(offline: Path) -> None:
    with pytest.raises(BackboneError, match="timm has no pretrained weights of it; set backbone"):
        check_hub_weights("lcnet_035")


def test_cached_weights_are_used_without_asking_the_hub(offline: Path) -> None:
    """1000 classes on the hub, 3 here: all but the head is loaded."""
    state = made_state("test_resnet")
    write_hub_cache(offline, "timm/test_resnet.r160_in1k", {"model.safetensors": save(state)})
    for name in ("test_resnet.r160_in1k", "test_resnet"):
        check_hub_weights(name)
        backbone = build_backbone(BackboneConfig(name=name, pretrained=True), 3, 32)
        assert_holds(backbone.model, body(state, "fc"))
        assert logits(backbone.model, 32).shape == (2, 3)
        assert backbone.recipe == Recipe(
            "test_resnet", {}, Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        )


def test_cached_positions_are_resized_to_the_image(offline: Path) -> None:
    state = made_state("test_vit")
    write_hub_cache(offline, "timm/test_vit.r160_in1k", {"model.safetensors": save(state)})
    backbone = build_backbone(BackboneConfig(name="test_vit", pretrained=True), 3, 32)
    own = backbone.model.state_dict()
    assert own["pos_embed"].shape != state["pos_embed"].shape
    assert torch.equal(own["blocks.0.mlp.fc1.weight"], state["blocks.0.mlp.fc1.weight"])


def test_a_model_of_the_hub_is_used_from_its_cache(offline: Path, tmp_path: Path) -> None:
    """Its architecture, its arguments and its normalisation are in its own configuration."""
    state = made_state("test_vit", 7, img_size=64, global_pool="avg")
    folder = write_model_folder(
        tmp_path / "made", state, "test_vit", 7, img_size=64, global_pool="avg"
    )
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_hub_cache(offline, "owner/model", files)
    for prefix in ("hf_hub:", "hf-hub:"):
        config = BackboneConfig(name=f"{prefix}owner/model", pretrained=True)
        backbone = build_backbone(config, 7, 64)
        assert_holds(backbone.model, state)
        assert backbone.recipe == Recipe(
            "test_vit",
            {"img_size": 64, "global_pool": "avg"},
            Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        )
        again = rebuild(backbone.recipe, 7)
        again.load_state_dict(backbone.model.state_dict())
        assert torch.equal(logits(again, 64), logits(backbone.model, 64))


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_folder_brings_model_and_weights(offline: Path, tmp_path: Path, pretrained: bool) -> None:
    state = made_state("test_resnet", 7)
    folder = write_model_folder(tmp_path / "made", state, "test_resnet", 7)
    config = BackboneConfig(name=f"local-dir:{folder}", pretrained=pretrained)
    backbone = build_backbone(config, 3, 32)
    assert backbone.recipe.architecture == "test_resnet"
    assert logits(backbone.model, 32).shape == (2, 3)
    own = backbone.model.state_dict()["conv1.0.weight"]
    assert torch.equal(own, state["conv1.0.weight"]) == pretrained


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    config = BackboneConfig(name=f"local-dir:{tmp_path}/none", pretrained=True)
    with pytest.raises(BackboneError, match=r"cannot be loaded \(.*none") as caught:
        build_backbone(config, 3, 32)
    assert "\n" not in str(caught.value)


# --- a local file ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".safetensors", ".pth", ".pth of a training"])
@pytest.mark.parametrize("n_classes", [3, 1000])
def test_a_local_file_is_loaded_instead_of_the_hub(
    offline: Path, tmp_path: Path, kind: str, n_classes: int
) -> None:
    """A head of as many classes is loaded as well, another one is left fresh."""
    state = made_state("test_resnet", n_classes)
    path = tmp_path / f"weights{kind.split()[0]}"
    if kind == ".safetensors":
        save_file(state, path)
    elif kind == ".pth":
        torch.save(state, path)
    else:
        wrapped = {f"module.{key}": value for key, value in state.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, path)
    config = BackboneConfig(name="test_resnet", pretrained=True, weights=str(path))
    backbone = build_backbone(config, 3, 32)
    assert_holds(backbone.model, state if n_classes == 3 else body(state, "fc"))
    assert logits(backbone.model, 32).shape == (2, 3)
    assert "state_dict" not in backbone.model.pretrained_cfg  # type: ignore[operator]


def test_positions_of_a_local_file_are_resized_to_the_image(tmp_path: Path) -> None:
    state = made_state("test_vit", 5)  # for 160 px
    save_file(state, tmp_path / "vit.safetensors")
    config = BackboneConfig(name="test_vit", weights=str(tmp_path / "vit.safetensors"))
    backbone = build_backbone(config, 5, 64)
    assert_holds(
        backbone.model,
        body(body(state, "pos_embed"), "head")
        | {
            "head.weight": state["head.weight"],
            "pos_embed": backbone.model.state_dict()["pos_embed"],
        },
    )
    assert backbone.recipe.arguments == {"img_size": 64}


def test_local_weights_go_into_a_local_architecture(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "made", made_state("test_resnet", 7), "test_resnet", 7)
    other = made_state("test_resnet", 3, seed=2)
    save_file(other, tmp_path / "other.safetensors")
    config = BackboneConfig(
        name=f"local-dir:{folder}", pretrained=True, weights=str(tmp_path / "other.safetensors")
    )
    assert_holds(build_backbone(config, 3, 32).model, other)


def test_a_fresh_head_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    save_file(made_state("test_resnet"), tmp_path / "w.safetensors")
    config = BackboneConfig(name="test_resnet", weights=str(tmp_path / "w.safetensors"))
    heads = []
    for _ in range(2):
        torch.manual_seed(5)
        heads.append(build_backbone(config, 3, 32).model.state_dict()["fc.weight"])
    assert torch.equal(heads[0], heads[1])
    assert float(heads[0].std()) > 0


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    save_file(made_state("test_vit"), tmp_path / "vit.safetensors")
    config = BackboneConfig(name="test_resnet", weights=str(tmp_path / "vit.safetensors"))
    expected = r"vit\.safetensors: does not fit test_resnet: .*is it another backbone's file\?"
    with pytest.raises(BackboneError, match=expected) as caught:
        build_backbone(config, 3, 32)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_with_one_tensor_missing_is_refused(tmp_path: Path) -> None:
    state = made_state("test_resnet")
    del state["conv1.0.weight"]
    save_file(state, tmp_path / "most.safetensors")
    config = BackboneConfig(name="test_resnet", weights=str(tmp_path / "most.safetensors"))
    with pytest.raises(BackboneError, match=r"does not fit .*conv1\.0\.weight"):
        build_backbone(config, 3, 32)


def test_what_is_no_weights_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "words.safetensors").write_text("words")
    (tmp_path / "words.pth").write_text("words")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    for name, said in (
        ("words.safetensors", "cannot be read"),
        ("words.pth", "cannot be read"),
        ("empty.pth", "holds no tensors"),
        ("lost.pth", r"no such file; give a \.safetensors or \.pth"),
    ):
        config = BackboneConfig(name="test_resnet", weights=str(tmp_path / name))
        with pytest.raises(BackboneError, match=f"backbone.weights=.*{name}: {said}") as caught:
            build_backbone(config, 3, 32)
        assert "\n" not in str(caught.value)


def test_a_pickled_file_executes_nothing(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'exploded')!r}, 'w')",))

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    config = BackboneConfig(name="test_resnet", weights=str(tmp_path / "bomb.pth"))
    with pytest.raises(BackboneError, match="cannot be read"):
        build_backbone(config, 3, 32)
    assert not (tmp_path / "exploded").exists()


def test_weights_that_are_not_here_are_told_from_a_configuration_that_cannot_be(
    offline: Path, tmp_path: Path
) -> None:
    """The search ends for the first, and is resumed when they are there; the second are recorded
    as failures of their own."""
    save_file(made_state("test_vit"), tmp_path / "vit.safetensors")
    absent = (
        BackboneConfig(name="test_resnet", pretrained=True),
        BackboneConfig(name=f"local-dir:{tmp_path}/none"),
        BackboneConfig(name="test_resnet", weights=str(tmp_path / "lost.pth")),
        BackboneConfig(name="test_resnet", weights=str(tmp_path)),
    )
    impossible = (
        BackboneConfig(name="lcnet_035", pretrained=True),
        BackboneConfig(name="vgg11", drop_path_rate=0.1),
        BackboneConfig(name="dla46_c", grad_checkpointing=True),
        BackboneConfig(name="test_resnet", weights=str(tmp_path / "vit.safetensors")),
    )
    for config in (*absent, *impossible):
        with pytest.raises(BackboneError) as caught:
            build_backbone(config, 3, 32)
        assert isinstance(caught.value, WeightsNotHereError) == (config in absent), config


# --- a folder of files -----------------------------------------------------------------------


def test_a_folder_gives_each_backbone_its_own_file(tmp_path: Path) -> None:
    states = {name: made_state(name, 3) for name in ("test_resnet", "test_byobnet")}
    save_file(states["test_resnet"], tmp_path / "test_resnet.safetensors")
    torch.save(states["test_byobnet"], tmp_path / "test_byobnet.r160_in1k.pth")
    for name, state in states.items():
        for tag in ("", ".r160_in1k"):
            config = BackboneConfig(name=f"{name}{tag}", pretrained=True, weights=str(tmp_path))
            check_backbone(config)
            assert_holds(build_backbone(config, 3, 32).model, state)


def test_a_folder_without_the_backbone_lists_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").touch()
    config = BackboneConfig(name="test_vit", second="test_vit", second_weights=str(tmp_path))
    for refused in (lambda: check_backbone(config), lambda: build_backbone(config, 3, 32)):
        expected = r"backbone\.second_weights=.*has no test_vit\..*; it holds resnet18\.pth; rename"
        with pytest.raises(BackboneError, match=expected) as caught:
            refused()
        assert "\n" not in str(caught.value)
