"""Random numbers of a run: a pure function of (seed, stream name, step), so that no generator's state is ever saved."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch
from numpy.random import Generator, Philox


def stream_key(seed: int, stream: str) -> int:
    """128 bits that name one stream of random numbers of a run."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=16).digest(), "little")


def generator(seed: int, stream: str, step: int = 0) -> Generator:
    """The numbers of one stream at one step.

    The step is the counter's top word: in the low word, step s + 1 would repeat the numbers of step s, shifted by four.
    """
    return Generator(Philox(key=stream_key(seed, stream), counter=[0, 0, 0, step]))


def rekey_global_generators(seed: int, step: int, use: str = "global") -> None:
    """Seed the global generators from (seed, step, use), so that their state need not be saved.

    mmctl does not use them; dropout and plugins may. use: "global" in a step, "draws" before it, "evaluation" after it.
    """
    number = int(generator(seed, use, step).integers(2**32))
    # Not torch.manual_seed: without CUDA it keeps the stack of each call, a third of a millisecond in every step.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(number)
    np.random.seed(number)
    random.seed(number)


def seed_initialization(seed: int) -> None:
    """Seed the global generators before the parts are built on the CPU: initial weights are equal on every device."""
    key = stream_key(seed, "init")
    torch.manual_seed(key % 2**63)
    np.random.seed(key % 2**32)
    random.seed(key)
