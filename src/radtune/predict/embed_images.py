"""One vector an image, by which similar cases are found: of the model's own vision tower or of another encoder.

    radtune embed-images --model base/ --images images/enhanced/SHARD --media-dir images/ --out SHARD.parquet

A model with a vision tower (Qwen3-VL) gives the mean of an image's tokens, each normed as its language model does; of
another encoder that transformers' AutoModel loads it is its own image features where it has some (CLIP, SigLIP), else
the mean of its last hidden states (DINOv2, ViT), since a pooling head is not in every checkpoint.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radtune import gpu
from radtune.files import UserError, replacing
from radtune.predict.answers import fit

BATCH = 32  # images

Floats = NDArray[np.float32]


def embed_images(
    model: Path,
    images: Path,
    media_dir: Path,
    out: Path,
    *,
    image_max_pixels: int,
    image_min_pixels: int,
    gpus: int = 1,
    gpu_memory_gib: float | None = None,
) -> None:
    """Write a row for each file of the folder `images`, by name: image, its path under `media_dir`, and vector.

    In float32 on every device. The pixel limits are those of training; other encoders have a size of their own. `gpus`:
    those promised, of which one is used, its memory up to `gpu_memory_gib`. With that null, none has to be there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image
    from tqdm import tqdm

    device = gpu.claim(gpus, gpu_memory_gib)
    paths = sorted(path for path in images.iterdir() if path.is_file() and not path.name.startswith("."))
    same = {path: hashlib.sha256(path.read_bytes()).digest() for path in paths}  # one vector for the same bytes
    once = {digest: path for path, digest in same.items()}
    found: dict[bytes, Floats] = {}
    with gpu.explained(gpu_memory_gib, lambda _: f"lower image_max_pixels (now {image_max_pixels})"):
        loaded, processor = load_encoder(model, device)
        digests = list(once)
        for start in tqdm(range(0, len(digests), BATCH), desc=images.name, unit="batch", disable=None):
            some = digests[start : start + BATCH]
            pictures = [_opened(once[digest], Image) for digest in some]
            vectors = embed(
                pictures, loaded, processor, image_max_pixels=image_max_pixels, image_min_pixels=image_min_pixels
            )
            found |= zip(some, vectors, strict=True)
    names = [path.relative_to(media_dir).as_posix() for path in paths]
    values = pa.array([found[same[path]] for path in paths], pa.list_(pa.float32()))
    with replacing(out) as temporary:
        pq.write_table(pa.table({"image": pa.array(names, pa.string()), "vector": values}), temporary)


def _opened(path: Path, image: Any) -> Any:
    try:
        with image.open(path) as opened:
            return opened.convert("RGB")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); prepare the data again.") from None


def load_encoder(model: Path, device: str) -> tuple[Any, Any]:
    """A vision encoder in float32 and its image processor; of a whole Qwen3-VL the tower alone. Nothing is fetched."""
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    given = {"local_files_only": True, "dtype": torch.float32, "output_loading_info": True}
    try:
        processor = AutoImageProcessor.from_pretrained(model, local_files_only=True)
        config = AutoConfig.from_pretrained(model, local_files_only=True)
        if config.model_type == "qwen3_vl":
            from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

            renamed = {r"^model\.visual\.": "model."}  # its base model's prefix, as transformers takes it off again
            loaded, info = Qwen3VLVisionModel.from_pretrained(
                model, config=config.vision_config, key_mapping=renamed, **given
            )
        else:
            loaded, info = AutoModel.from_pretrained(model, **given)
    except (OSError, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"{model}: no vision encoder ({why}); correct retrieval.encoder in the config.") from None
    if missing := sorted(name for name in info["missing_keys"] if "pooler" not in name):  # that of ViT is not used
        raise UserError(f"{model}: {len(missing)} weights are missing, {missing[0]} among them; take another encoder.")
    return loaded.eval().to(device), processor


def embed(pictures: list[Any], model: Any, processor: Any, *, image_max_pixels: int, image_min_pixels: int) -> Floats:
    """(n, d) vectors of length 1 of PIL images, as the model sees them: enhanced and letterboxed.

    `model` and `processor` are those of load_encoder(), or a whole Qwen3-VL and its processor: its tower is used.
    """
    import torch
    from torch.nn.functional import normalize, rms_norm

    processor = getattr(processor, "image_processor", processor)
    tower = getattr(getattr(model, "model", model), "visual", model)
    with torch.inference_mode():
        if hasattr(tower, "spatial_merge_size"):
            fitted = [fit(picture, image_max_pixels, image_min_pixels) for picture in pictures]
            pixels = processor(images=fitted, return_tensors="pt").to(tower.device)
            grid = pixels["image_grid_thw"]
            tokens, _ = tower(pixels["pixel_values"].to(tower.dtype), grid_thw=grid)
            normed = rms_norm(tokens.float(), tokens.shape[-1:])
            counts = (grid.prod(1) // tower.spatial_merge_size**2).tolist()
            pooled = torch.stack([part.mean(0) for part in torch.split(normed, counts)])
        else:
            pixels = processor(images=[picture.convert("RGB") for picture in pictures], return_tensors="pt")
            values = pixels["pixel_values"].to(tower.device, tower.dtype)
            if hasattr(tower, "get_image_features"):
                pooled = tower.get_image_features(pixel_values=values).float()
            else:
                pooled = tower(pixel_values=values).last_hidden_state.float().mean(1)
        return normalize(pooled).cpu().numpy()
