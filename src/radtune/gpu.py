"""What a process may take of a machine's GPUs: those that it was promised, no more of their memory than the config
allows, and one sentence where that is not enough.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from radtune.files import UserError

GIB = 2**30
CONTEXT = GIB // 2  # for CUDA's own context and libraries, which torch's fraction does not count
MARGIN = 0.9  # the share of its memory that torch can use before gaps between its blocks are too small
# torch.OutOfMemoryError's words, the driver's, cuBLAS's; on the CPU those of torch's allocator and of oneDNN
OUT_OF_MEMORY = re.compile(r"(?i)out of memory|ALLOC_FAILED|can't allocate memory|could not create a primitive")


def claim(gpus: int, memory_gib: float | None) -> str:
    """Take one device and cap its memory; the name of the device for a stage that uses only one."""
    if not claim_one(gpus, memory_gib):
        return "cpu"
    cap(memory_gib, 0)
    return "cuda:0"


def claim_one(gpus: int, memory_gib: float | None) -> int:
    """check() for a command that uses one device, of however many there are: the first that no other such command has
    taken; the rest are hidden from torch, which must not have used CUDA yet. None is taken where none was promised.
    """
    import torch

    seen = torch.cuda.device_count()
    if gpus and seen > 1:
        names = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(seen)))).split(",")[:seen]
        os.environ["CUDA_VISIBLE_DEVICES"] = next(filter(_is_free, names), names[0]).strip()
    return check(min(gpus, 1), memory_gib)


def _is_free(name: str) -> bool:
    """Whether no other process holds the lock of the device with that name, which is then this one's until it ends."""
    path = Path(tempfile.gettempdir(), f"radtune-gpu-{re.sub('[^A-Za-z0-9-]', '-', name.strip())}.lock")
    try:
        fcntl.flock(os.open(path, os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or another user's
        return False
    return True


def check(gpus: int, memory_gib: float | None) -> int:
    """How many GPUs torch sees: as many as were promised or, where no memory is asked of one, none at all.

    Snakemake cuts a request above its limit in silence, and LLaMA-Factory takes every GPU that it sees; so both too few
    and too many are a UserError.
    """
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen > gpus:
        few = ",".join(str(n) for n in range(gpus))
        raise UserError(
            f"torch sees {seen} GPUs, but {gpus} was promised to this job; set CUDA_VISIBLE_DEVICES={few!r}, or ask "
            "for more in the profile's resources."
        )
    if memory_gib is not None and seen < max(gpus, 1):
        raise UserError(
            f"torch sees {seen} GPUs, but {gpus} was promised to this job; check nvidia-smi, CUDA_VISIBLE_DEVICES and "
            "the container's --nv, or set limits.gpu_memory_gib: null to do without."
        )
    return seen


def cap(memory_gib: float | None, device: int) -> None:
    """Let torch take no more than that of the device; null leaves it all."""
    import torch

    if memory_gib is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(allowed(memory_gib, total) / total, device)


def allowed(memory_gib: float, total: int) -> float:
    """The bytes that torch may hold for the whole process to fit into `memory_gib`, on a card of `total` bytes.

    A 24 GB card has a little less than 24 GiB, so that the smaller of the two counts.
    """
    return max(min(memory_gib * GIB, total) - CONTEXT, 0)


def meter(memory_gib: float | None) -> Callable[[], bool]:
    """A function that says whether twice the memory would have been there for what was done since its last call.

    That is beside what torch holds of the first GPU now, such as a model's weights. Without a GPU nothing is known, and
    the answer is yes.
    """
    import torch

    if not torch.cuda.is_available():
        return lambda: True
    total = torch.cuda.get_device_properties(0).total_memory
    limit = MARGIN * allowed(math.inf if memory_gib is None else memory_gib, total)
    held = torch.cuda.memory_allocated(0)
    torch.cuda.reset_peak_memory_stats(0)

    def roomy() -> bool:
        peak = torch.cuda.max_memory_allocated(0)
        torch.cuda.reset_peak_memory_stats(0)
        return held + 2 * (peak - held) <= limit

    return roomy


@contextmanager
def explained(memory_gib: float | None, advice: Callable[[RuntimeError], str]) -> Iterator[None]:
    """Turn too little memory, of the GPU or the machine, into a UserError that ends with the advice."""
    import torch

    try:
        yield
    except RuntimeError as error:
        if not OUT_OF_MEMORY.search(str(error)):
            raise
        peak = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
        raise UserError(sentence(str(error), memory_gib, peak, advice(error))) from error


def sentence(error: str, memory_gib: float | None, peak: int, advice: str) -> str:
    """`error`: torch's own words; `peak`: the most bytes that torch has held on the GPU."""
    asked = re.search(r"tried to allocate (\S+ \w+)", error, re.IGNORECASE)
    parts = [f"asked for {asked[1]} more"] if asked else []
    if "CPU" in error or "primitive" in error:
        where = "the machine's memory"
    else:
        where = "GPU memory"
        parts = [f"torch held {peak / GIB:.1f} GiB at most", *parts]
        parts += [f"limits.gpu_memory_gib is {memory_gib:g}"] if memory_gib is not None else []
    figures = f" ({', '.join(parts)})" if parts else ""
    return f"out of {where}{figures}: {advice}."
