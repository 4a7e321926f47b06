"""Image files: decoding beside Pillow and torchvision's ImageFolder, and training from a memory map beside in memory.

Decoding: images per CPU second of one core, from the file to uint8 pixels. Ours includes all that keeps them: hashes of
file and pixels, processes, shards and the map. Numbers: random images as fer2013.csv has them. Training: 100,000 random
images of 96 px; anonymous memory (RssAnon), since pages of a map are the system's to take back.
Last line: one JSON object: our time over Pillow's and over ImageFolder's for small and large JPEGs, and over Python's
for fer2013.csv; time of a step from the map over one in memory, and its memory over theirs.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from common import arguments, cpu_timed, finish, machine, ratio, rounds, spread, table, tell
from memory import resident

ROUNDS, QUICK = 7, 2
SMALL, LARGE, QUICK_SMALL, QUICK_LARGE = 6000, 16, 200, 4
"""Files of each kind."""
ROWS, QUICK_ROWS = 3000, 100
"""Images in fer2013.csv; the real one has 35,887."""
IMAGES, QUICK_IMAGES = 100_000, 2000
SIDE, STEPS, BATCH = 96, 6, 16
GATHERED = 512
"""Images of a step of FixMatch with 64 labelled and 448 unlabelled ones."""


def main() -> None:
    """Decoding, then numbers in text, then training in child processes, then steps in turn."""
    args = arguments(
        __doc__ or "",
        folder={"type": Path, "help": "class folders of small JPEGs, such as CIFAR-10; default: random ones"},
        child={"choices": ("memory", "map"), "help": "used internally, for child processes"},
        map={"type": Path, "help": "used internally: the map of a child process"},
    )
    if args.child:
        print(json.dumps(child(args.child, args.map, 2 if args.quick else STEPS)))
        return
    count = args.rounds or (QUICK if args.quick else ROUNDS)
    with tempfile.TemporaryDirectory() as scratch:
        found = decoding(Path(scratch), args.folder, count, args.quick)
        found |= numbers(Path(scratch), count, args.quick)
        found |= training(Path(scratch), count, args.quick)
    finish(found)


def decoding(scratch: Path, folder: Path | None, count: int, quick: bool) -> dict[str, float | None]:
    """Two tables: small images as they are, photographs at 96 px."""
    small, large = (QUICK_SMALL, QUICK_LARGE) if quick else (SMALL, LARGE)
    found: dict[str, float | None] = {}
    jobs = (
        ("small", folder or jpegs(scratch / "small", small, 32, 32), 32, small),
        ("large", jpegs(scratch / "large", large, 4000, 3000), SIDE, large),
    )
    for name, root, side, most in jobs:
        files = sorted(root.rglob("*.jpg"))[:most]
        variants = decoders(scratch, root, files, side)
        times = rounds(variants, count)
        rows = [
            (what, f"{len(files) / median(seconds):,.0f}", spread(seconds), f"{ratio(times, what, 'ours'):.2f}")
            for what, seconds in times.items()
        ]
        print(f"{machine()}; {count} rounds of {len(files)} files")
        table(f"{name} JPEGs, to {side} px", ("reader", "images per CPU s", "+- %", "times ours"), rows)
        found[f"{name}_pillow"] = ratio(times, "ours", "Pillow")
        found[f"{name}_imagefolder"] = ratio(times, "ours", "ImageFolder")
    return found


def decoders(scratch: Path, root: Path, files: list[Path], side: int) -> dict[str, Callable[[], float]]:
    """Reader -> a function that reads all files once and returns its CPU seconds, those of child processes too."""
    import numpy as np
    from PIL import Image
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, InterpolationMode, PILToTensor, Resize

    from mmctl.image_files.cache import read_pixels
    from mmctl.image_files.files import ImageFile, OnDisk
    from mmctl.image_files.pixels import Decoding, decode

    settings = Decoding((side, side), "stretch")
    listed = [ImageFile(str(p.relative_to(root)), OnDisk(p), "train", None, "") for p in files]
    theirs = ImageFolder(str(root), transform=Compose([Resize((side, side), InterpolationMode.BICUBIC), PILToTensor()]))
    wanted = set(map(str, files))
    chosen = [i for i, (path, _) in enumerate(theirs.samples) if path in wanted]

    def plain() -> None:
        for path in files:
            with Image.open(path) as image:
                np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))

    def pure() -> None:
        for path in files:
            decode(path.read_bytes(), settings)

    def imagefolder() -> None:
        for i in chosen:
            theirs[i]

    def ours() -> float:
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            os.environ["XDG_CACHE_HOME"] = cache
            before = os.times()
            read_pixels(listed, settings, memory="map", progress=lambda done, total: None)
            after = os.times()
        return sum(after[:4]) - sum(before[:4])

    return {
        "ours": ours,
        "ours, decode() alone": lambda: cpu_timed(pure),
        "Pillow": lambda: cpu_timed(plain),
        "ImageFolder": lambda: cpu_timed(imagefolder),
    }


def jpegs(root: Path, n: int, width: int, height: int) -> Path:
    """A class folder of random JPEGs, as smooth as photographs."""
    import numpy as np
    from PIL import Image

    (root / "a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    tell(f"writing {n} JPEGs of {width} x {height} px")
    for i in range(n):
        small = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        (root / "a" / f"{i:06d}.jpg").write_bytes(encoded(image))
    return root


def encoded(image: Any) -> bytes:
    """As JPEG."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def numbers(scratch: Path, count: int, quick: bool) -> dict[str, float | None]:
    """A table: fer2013.csv, in which each image is a row of 2,304 numbers."""
    import csv

    import numpy as np

    from mmctl.datasets._ferplus_files import SIDE as FER_SIDE
    from mmctl.datasets._ferplus_files import read_fer2013

    n, path = QUICK_ROWS if quick else ROWS, scratch / "fer2013.csv"
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for row in rng.integers(0, 256, (n, FER_SIDE * FER_SIDE)):
            file.write(f"6,{' '.join(map(str, row.tolist()))},Training\n")

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            os.environ["XDG_CACHE_HOME"] = cache
            read_fer2013(path)

    def python() -> None:
        with path.open() as file:
            np.array([[int(word) for word in row["pixels"].split()] for row in csv.DictReader(file)], np.uint8)

    times = rounds({"ours": lambda: cpu_timed(ours), "csv and int()": lambda: cpu_timed(python)}, count)
    rows = [
        (what, f"{n / median(seconds):,.0f}", spread(seconds), f"{ratio(times, what, 'ours'):.2f}")
        for what, seconds in times.items()
    ]
    table(f"fer2013.csv, {n:,} images", ("reader", "images per CPU s", "+- %", "times ours"), rows)
    return {"numbers_python": ratio(times, "ours", "csv and int()")}


def training(scratch: Path, count: int, quick: bool) -> dict[str, float | None]:
    """Memory in child processes, then the time of steps and of gathering."""
    path = written(scratch / "map.npy", QUICK_IMAGES if quick else IMAGES)
    seen: dict[str, dict[str, float]] = {}
    for name in ("memory", "map"):
        tell(f"memory of a run: {name}")
        command = [sys.executable, __file__, "--child", name, "--map", str(path), *(["--quick"] if quick else [])]
        seen[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"\n{machine()}; {path.stat().st_size / 1e9:.2f} GB of pixels")
    rows = [(name, *(f"{each[key]:.0f}" for key in ("imports", "built", "peak"))) for name, each in seen.items()]
    table("Anonymous memory of a run, MiB", ("pixels", "after imports", "after build", "peak"), rows)

    import torch

    torch.set_num_threads(1)
    taken = rounds(gathering(path), 4 * count)
    rows = [(name, f"{1e3 * median(s):.1f}", spread(s)) for name, s in taken.items()]
    table(f"Taking {GATHERED} random images", ("from", "ms", "+- %"), rows)

    steps = {name: stepper(name, path) for name in ("memory", "map")}
    times = rounds({name: lambda step=step: cpu_timed(step) for name, step in steps.items()}, 4 * count, 2)
    rows = [
        (name, f"{1e3 * median(s):.0f}", spread(s), f"{ratio(times, name, 'memory'):.3f}") for name, s in times.items()
    ]
    table(f"A step: {BATCH} + {BATCH} images, network small", ("pixels", "CPU ms", "+- %", "times memory"), rows)
    return {"map_step": ratio(times, "map", "memory"), "map_memory": seen["map"]["peak"] / seen["memory"]["peak"]}


def written(path: Path, n: int) -> Path:
    """A map of n random images."""
    import numpy as np

    tell(f"writing {n} images of {SIDE} px")
    rng = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (n, 3, SIDE, SIDE))
    for start in range(0, n, 1000):
        pixels[start : start + 1000] = rng.integers(0, 256, pixels[start : start + 1000].shape, dtype=np.uint8)
    pixels.flush()
    return path


def run_of(name: str, path: Path) -> Any:
    """A training run on these pixels."""
    import numpy as np
    import product
    import torch

    from mmctl.plugin import Images

    pixels = np.load(path, mmap_mode="r" if name == "map" else None)
    targets = np.arange(len(pixels)) % len(product.CLASSES)
    parts = {
        split: Images(pixels[:n], targets[:n], product.CLASSES, range(n), f"benchmark-{n}")
        for split, n in (("train", len(pixels)), ("test", 500))
    }
    return product.training(
        parts, product.shipped("mixmatch"), "fp32", torch.device("cpu"), BATCH, "backbone.name=small"
    )


def stepper(name: str, path: Path) -> Callable[[], None]:
    """A function that runs one step."""
    import product

    step: Callable[[], None] = product.stepper(run_of(name, path))
    return step


def child(name: str, path: Path, steps: int) -> dict[str, float]:
    """Build a run, train some steps, and read all its images once; MiB of anonymous memory."""
    import product
    import torch

    from mmctl.data.images import Pictures

    torch.set_num_threads(1)
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], resident(what="RssAnon"))

    found = {"imports": resident(what="RssAnon")}
    thread = threading.Thread(target=watch)
    thread.start()
    run = run_of(name, path)
    found["built"] = resident(what="RssAnon")
    step = product.stepper(run)
    for _ in range(steps):
        step()
    for _ in Pictures(run.labeled.images, run.loader.norm, run.device, batch=256):
        pass
    ended.set()
    thread.join()
    return found | {"peak": peak[0]}


def gathering(path: Path) -> dict[str, Callable[[], float]]:
    """Wall time: in memory, from a map in the page cache, from the disk with and without announcing the rows."""
    import numpy as np
    import torch

    from mmctl.data.gather import gather

    memory = torch.from_numpy(np.array(fresh(path)[:10_000]))
    rng = np.random.default_rng(0)

    def timed(source: Any, take: Callable[[Any, Any], object], cold: bool) -> float:
        rows = rng.choice(len(source), min(len(source), GATHERED), replace=False)
        if cold:
            evict(path)
        else:
            take(source, rows)
        start = time.perf_counter()
        take(source, rows)
        return time.perf_counter() - start

    def direct(pixels: Any, rows: Any) -> Any:
        return pixels[rows]

    return {
        "memory": lambda: timed(memory, lambda pixels, rows: pixels.index_select(0, torch.from_numpy(rows)), False),
        "map, in the page cache": lambda: timed(fresh(path), gather, False),
        "map, on the disk": lambda: timed(fresh(path), gather, True),
        "map, on the disk, not announced": lambda: timed(fresh(path), direct, True),
    }


def fresh(path: Path) -> Any:
    """The map as a new process has it; the system forgets no page that another map holds."""
    import numpy as np

    return np.load(path, mmap_mode="r")


def evict(path: Path) -> None:
    """Ask the system to forget the pages of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
