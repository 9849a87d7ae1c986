"""Teach the tiny model's vision tower to see, as a hub's model has been taught long before it is tuned.

    radtune teach-to-see --model random/ --practice train.json --media-dir images/ --image-pixels 9216 --out seeing/

From random weights, a language model takes thousands of steps to find out where in the picture its answer lies. A
linear head for each fact (place, density, level, size) on the mean of the image tokens teaches the tower in some
hundred; what lies in the mean is what uniform attention reads first. The heads are thrown away.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from tqdm import tqdm

from radtune import files, gpu

BATCH = 32
LEARNING_RATE = 2e-3
PATCH_GAIN = 3  # so that what a patch shows weighs as much as where it lies


def teach(
    model: Path,
    practice: Path,
    media_dir: Path,
    out: Path,
    *,
    image_pixels: int,
    steps: int,
    seed: int = 0,
    gpus: int = 1,
    gpu_memory_gib: float | None = None,
) -> None:
    """Write `model` with a trained vision tower to the folder `out`.

    `practice`: ShareGPT with `facts` ({name: word}) a record. `image_pixels`: of a picture in training. `gpus`: those
    promised, of which one is used, its memory up to `gpu_memory_gib`. With that null, none has to be there.
    """
    device = gpu.claim(gpus, gpu_memory_gib)
    import torch
    from torch.nn import CrossEntropyLoss, Linear, ModuleDict
    from torch.nn.functional import rms_norm
    from torch.nn.utils import clip_grad_norm_
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.manual_seed(seed)
    records = files.read_json(practice)
    processor = AutoProcessor.from_pretrained(model)
    pixels, grid = _pixels(processor, [media_dir / record["images"][0] for record in records], image_pixels)
    words = {name: sorted({record["facts"][name] for record in records}) for name in records[0]["facts"]}
    targets = {
        name: torch.tensor([choices.index(record["facts"][name]) for record in records], device=device)
        for name, choices in words.items()
    }
    loaded = AutoModelForImageTextToText.from_pretrained(model)
    tower = loaded.model.visual
    _spread(tower)
    tower.to(device)
    width = tower.config.out_hidden_size
    heads = ModuleDict({name: Linear(width, len(choices)) for name, choices in words.items()}).to(device)
    weights = [*tower.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(weights, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps, pct_start=0.05)
    order = random.Random(seed)
    loss_of = CrossEntropyLoss()
    bar = tqdm(range(steps), desc="teach to see", unit="step", disable=None)
    with gpu.explained(gpu_memory_gib, lambda _: f"lower image_max_pixels (now {image_pixels})"), bar:
        for _ in bar:
            chosen = order.sample(range(len(records)), min(BATCH, len(records)))
            patches = pixels[chosen].to(device).float().flatten(0, 1)
            tokens, _ = tower(patches, grid_thw=grid.to(device).expand(len(chosen), 3))
            seen = rms_norm(tokens, (width,)).view(len(chosen), -1, width).mean(1)  # as the language model norms them
            loss = sum(loss_of(head(seen), targets[name][chosen]) for name, head in heads.items())
            optimiser.zero_grad()
            loss.backward()
            clip_grad_norm_(weights, 1.0)
            optimiser.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.2f}")
    with files.replacing(out) as temporary:
        loaded.save_pretrained(temporary)
        processor.save_pretrained(temporary)


def _pixels(processor: Any, paths: list[Path], image_pixels: int) -> tuple[Any, Any]:
    """(n, patches, values) in half precision, to keep thousands in memory, and the grid that all pictures share."""
    import torch
    from PIL import Image

    side = int(math.sqrt(image_pixels))
    done = []
    for path in tqdm(paths, desc="read practice", unit="image", disable=None):
        with Image.open(path) as image:
            small = image.convert("RGB").resize((min(side, image.width), min(side, image.height)))
        done.append(processor.image_processor([small], return_tensors="pt"))
    return torch.stack([one["pixel_values"].half() for one in done]), done[0]["image_grid_thw"]


def _spread(tower: Any) -> None:
    """Weights scaled to their fan-in and position as waves: with transformers' 0.02, tokens start out nearly equal."""
    import torch

    for name, module in tower.named_modules():
        if isinstance(module, torch.nn.Linear):
            into_residual = name.endswith(("attn.proj", "mlp.linear_fc2"))
            torch.nn.init.normal_(module.weight, 0, (0.4 if into_residual else 1) / math.sqrt(module.in_features))
    tower.patch_embed.proj.weight.data *= PATCH_GAIN
    places, width = tower.pos_embed.weight.shape
    line = torch.linspace(-1, 1, math.isqrt(places))
    y, x = (axis.reshape(-1, 1) for axis in torch.meshgrid(line, line, indexing="ij"))
    waves = math.pi * torch.linspace(0.25, 2, width // 4)
    table = torch.cat([torch.sin(y * waves), torch.cos(y * waves), torch.sin(x * waves), torch.cos(x * waves)], 1)
    tower.pos_embed.weight.data[:, : table.shape[1]] = table
