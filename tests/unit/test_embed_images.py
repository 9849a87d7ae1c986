"""Vectors of images: of any vision encoder that transformers loads, and of a Qwen3-VL's own tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from radtune.files import UserError, write_json
from radtune.predict import embed_images

pytestmark = pytest.mark.slow  # loads torch
LIMITS = {"image_max_pixels": 96 * 96, "image_min_pixels": 32 * 32}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in the folder enhanced/a, two of them of the same bytes, one of another size."""
    root = tmp_path_factory.mktemp("media")
    folder = root / "enhanced" / "a"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("1", 64), ("2", 64), ("4", 96)):
        Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(folder / f"{name}.png")
    (folder / "3.png").write_bytes((folder / "1.png").read_bytes())
    return root


def build(kind: str, out: Path) -> Path:
    """A small random encoder of the kind, with its processor."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    if kind in ("clip", "siglip"):
        text = SMALL | {"vocab_size": 99, "max_position_embeddings": 8}
        name = {"clip": "CLIP", "siglip": "Siglip"}[kind]
        vision = SMALL | {"patch_size": 8}
        parts = {"text_config": text, "vision_config": vision} | ({"projection_dim": 24} if kind == "clip" else {})
        model = getattr(t, f"{name}Model")(getattr(t, f"{name}Config")(**parts))
        processor = getattr(t, f"{name}ImageProcessor")(size={"height": 32, "width": 32}, do_center_crop=False)
    elif kind == "dinov2":
        model = t.Dinov2Model(t.Dinov2Config(**SMALL, patch_size=8))
        processor = t.BitImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    else:
        model = t.ViTModel(t.ViTConfig(**SMALL, patch_size=8), add_pooling_layer=False)
        processor = t.ViTImageProcessor(size={"height": 32, "width": 32})
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from radtune.train import tiny

    folder = tmp_path_factory.mktemp("qwen")
    write_json(folder / "corpus.json", [{"text": "an area of low density"}])
    tiny.build(folder / "tiny", [folder / "corpus.json"])
    return folder / "tiny"


def vectors(model: Path, media: Path, out: Path) -> dict[str, np.ndarray]:
    embed_images.embed_images(model, media / "enhanced" / "a", media, out, gpus=0, **LIMITS)
    table = pq.read_table(out)
    return dict(zip(table["image"].to_pylist(), np.array(table["vector"].to_pylist(), np.float32), strict=True))


@pytest.mark.parametrize(("kind", "width"), [("clip", 24), ("siglip", 32), ("dinov2", 32), ("vit", 32)])
def test_any_vision_encoder_gives_a_unit_vector_an_image(kind: str, width: int, media: Path, tmp_path: Path) -> None:
    model = build(kind, tmp_path / kind)
    found = vectors(model, media, tmp_path / "a.parquet")
    assert list(found) == [f"enhanced/a/{n}.png" for n in (1, 2, 3, 4)]
    one, two, three, _ = found.values()
    assert one.shape == (width,)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert (one == three).all()
    assert abs(one - two).max() > 1e-3
    again = vectors(model, media, tmp_path / "b.parquet")  # no weights are drawn
    assert all((again[name] == vector).all() for name, vector in found.items())


def test_the_tower_alone_is_the_whole_models(qwen: Path, media: Path, tmp_path: Path) -> None:
    from radtune.predict.generate import load

    found = vectors(qwen, media, tmp_path / "a.parquet")
    model, processor = load(qwen, None, "cpu", "dynamic")
    pictures = [Image.open(media / name) for name in found]
    together = embed_images.embed(pictures, model, processor, **LIMITS)
    assert together == pytest.approx(np.stack(list(found.values())), abs=1e-5)
    one = embed_images.embed(pictures[3:], model, processor, **LIMITS)
    assert one[0] == pytest.approx(together[3], abs=1e-5)  # whatever else is in its batch
    large = embed_images.embed(pictures[3:], model, processor, image_max_pixels=4096, image_min_pixels=1024)
    assert abs(large[0] - one[0]).max() > 1e-3  # the limits are those of training


def test_images_of_the_same_bytes_are_embedded_once(
    qwen: Path, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = embed_images.embed

    def counted(pictures: list[Any], *given: Any, **more: Any) -> Any:
        seen.append(len(pictures))
        return real(pictures, *given, **more)

    monkeypatch.setattr(embed_images, "embed", counted)
    monkeypatch.setattr(embed_images, "BATCH", 2)
    vectors(qwen, media, tmp_path / "a.parquet")
    assert seen == [2, 1]


def test_a_shard_without_images_has_no_vectors(qwen: Path, tmp_path: Path) -> None:
    (tmp_path / "media" / "enhanced" / "a").mkdir(parents=True)
    assert vectors(qwen, tmp_path / "media", tmp_path / "a.parquet") == {}


def test_a_folder_without_an_encoder_is_one_sentence(media: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"none: no vision encoder \(.*\); correct retrieval\.encoder in the config\.$"):
        vectors(tmp_path / "none", media, tmp_path / "a.parquet")
    whole = build("vit", tmp_path / "vit")
    import safetensors.torch

    weights = safetensors.torch.load_file(whole / "model.safetensors")
    weights.pop("layernorm.weight")
    safetensors.torch.save_file(weights, whole / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"vit: 1 weights are missing, layernorm.weight among them; take another"):
        vectors(whole, media, tmp_path / "a.parquet")
