"""The public recipe's preparation, rebuilt from its description to be measured against: never used by the workflow.

python bench/reference_recipe.py FOLDER OUT PROCESSES

As a tutorial would write it: `datasets.map` in batches of 64 enhances every row's image (each one six times over), a
loop then saves the images row by row and collects one ShareGPT file a split. What it saves is the original, as there.
"""

import ast
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from datasets import disable_progress_bars, load_dataset
from PIL import Image

SIZE = 448


def enhance(image: Image.Image) -> Image.Image:
    grey = cv2.cvtColor(np.array(image.convert("RGB")), cv2.COLOR_RGB2GRAY)
    grey = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(grey)
    scale = SIZE / max(grey.shape)
    width, height = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
    canvas = Image.new("L", (SIZE, SIZE))
    resized = Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC)
    canvas.paste(resized, ((SIZE - width) // 2, (SIZE - height) // 2))
    return canvas.convert("RGB")


def answer(question: str, text: str) -> str:
    body = text.replace(question, "").strip()
    if question == "<JSON_RECORD>":
        return "".join(f"{key}:{value}。" for key, value in ast.literal_eval(body).items())
    return body


def prepare(batch: dict[str, list]) -> dict[str, list]:
    batch["messages"] = []
    for image, question, text in zip(batch["image"], batch["question"], batch["text"], strict=True):
        enhance(image)
        turns = [("user", f"<image>{question}"), ("assistant", answer(question, text))]
        batch["messages"].append([{"role": role, "content": content} for role, content in turns])
    return batch


def main(folder: Path, out: Path, processes: int) -> None:
    cv2.setNumThreads(1)
    disable_progress_bars()
    (out / "images").mkdir(parents=True)
    files = {name: str(folder / f"{name}-*.parquet") for name in ("train", "validation", "test")}
    dataset = load_dataset("parquet", data_files=files, cache_dir=str(out / "cache"))
    dataset = dataset.map(prepare, batched=True, batch_size=64, num_proc=processes)
    for split, rows in dataset.items():
        entries = []
        for row in rows:
            file = f"images/{row['id']}.jpg"
            row["image"].save(out / file, quality=95)  # sic: the enhanced image is lost
            entries.append({"messages": row["messages"], "images": [file]})
        (out / f"{split}.json").write_text(json.dumps(entries, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
