"""Milliseconds to find the burned-in rectangle and to take it out, against decoding the same image, on one core.

And how much of it is left then, on phantoms and, where RADTUNE_REAL_DATA is set, on real slices.

python bench/overlay.py
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from residue import detectable, residue

from radtune.data.phantom import encode
from radtune.data.phantom_draw import draw, draw_patient
from radtune.images import inpaint, overlay, read

IMAGES, ROUNDS = 20, 9


def milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * min(times)


def main() -> None:
    cv2.setNumThreads(1)
    times: dict[str, list[float]] = {"decode": [], "find": [], "find in grey": [], "inpaint": []}
    for k in range(IMAGES):
        rng = np.random.default_rng(k)
        drawn = draw(draw_patient(rng), rng.uniform(0, 1), rng)
        data = encode(drawn)
        raw = np.frombuffer(data, np.uint8)
        pixels = np.ascontiguousarray(read.decode(data).pixels)
        grey = np.repeat(drawn.pixels[..., None], 3, axis=2)
        found = overlay.find_box(pixels)
        assert found is not None
        box = found.box
        times["decode"].append(milliseconds(lambda raw=raw: cv2.imdecode(raw, cv2.IMREAD_COLOR)))
        times["find"].append(milliseconds(lambda pixels=pixels: overlay.find_box(pixels)))
        times["find in grey"].append(milliseconds(lambda grey=grey: overlay.find_box(grey)))
        times["inpaint"].append(milliseconds(lambda pixels=pixels, box=box: inpaint.inpaint(pixels, box)))
    decode = np.median(times["decode"])
    for name, each in times.items():
        print(
            f"{name:13s} {np.median(each):.3f} ms (slowest {max(each):.3f}), {np.median(each) / decode:.2f} of decoding"
        )
    real = os.environ.get("RADTUNE_REAL_DATA")
    for name, folder in [("phantoms", None), *([("real slices", Path(real))] if real else [])]:
        plain, enhanced, left_in = residue(folder)
        print(
            f"{name}: residue {plain:.2f} of the local variation, after CLAHE {enhanced:.2f}, left in {left_in:.2f}; "
            "a detector's AUC {:.3f}, left in {:.3f}".format(*detectable(folder, 120))
        )


if __name__ == "__main__":
    main()
