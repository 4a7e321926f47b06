"""What a network predicted for each image of a split: one small file for each evaluation, in predictions/ of a run.

The layout is that of safetensors, so that any program reads it: `ids` (zlib, a JSON list), `true` (class numbers, a
byte or two each), and for each predictor `head/predicted`, `head/probability` (float16, of the predicted class). The
name of a file ends with the beginning of the SHA-256 of its content, so that damage is seen, and evaluations never
overwrite each other. Standard library alone: reading commands use it.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmctl.filesystem import read_file, share, write_atomic
from mmctl.run_folder.values import text, words
from mmctl.text import to_json

FOLDER = "predictions"
SIZE = 2**28
"""A larger file, or a larger list of ids, is not read, in bytes."""
TYPES = {"U8": "B", "U16": "H", "U32": "I"}
"""Names of safetensors -> type codes of Python."""
NAME = re.compile(rf"{FOLDER}/[\w.-]+-([0-9a-f]{{16}})\.safetensors", re.ASCII)


@dataclass(frozen=True)
class Predictions:
    """Of N images: ids, true and predicted classes (numbers of `classes`), and the probability of the predicted one."""

    ids: Sequence[str]
    true: Sequence[int]
    predicted: Sequence[int]
    probability: Sequence[float] | None  # None: the predictor gives none
    classes: Sequence[str]


def write_predictions(
    folder: Path,
    name: str,
    ids: Sequence[str],
    classes: Sequence[str],
    true: Sequence[int],
    predictors: Mapping[str, tuple[Sequence[int], Sequence[float] | None]],
) -> str:
    """Write what each predictor said of each image; returns the path of the file, relative to the run folder.

    name: the beginning of the file name; predictors: predicted classes and their probabilities.
    """
    kind = next(kind for kind, code in TYPES.items() if len(classes) <= 256 ** array(code).itemsize)
    parts: list[tuple[str, str, int, bytes]] = [("true", kind, len(true), _packed(TYPES[kind], true))]
    for predictor, (predicted, probability) in predictors.items():
        parts.append((f"{predictor}/predicted", kind, len(predicted), _packed(TYPES[kind], predicted)))
        if probability is not None:
            half = struct.pack(f"<{len(probability)}e", *probability)
            parts.append((f"{predictor}/probability", "F16", len(probability), half))
    packed = zlib.compress(to_json(list(ids)).encode())
    parts.append(("ids", "U8", len(packed), packed))
    header: dict[str, object] = {"__metadata__": {"format": "mmctl predictions 1", "classes": to_json(list(classes))}}
    at = 0
    for key, dtype, n, data in parts:
        header[key] = {"dtype": dtype, "shape": [n], "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = to_json(header).encode()
    head += b" " * (-len(head) % 8)
    content = struct.pack("<Q", len(head)) + head + b"".join(data for *_, data in parts)
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = folder / FOLDER / f"{re.sub('[^A-Za-z0-9_.-]', '_', name)}-{digest}.safetensors"
    path.parent.mkdir(exist_ok=True)
    share(path.parent)
    write_atomic(path, content)
    return f"{FOLDER}/{path.name}"


def read_predictions(folder: Path, path: str, predictor: str) -> Predictions:
    """The predictions of a file that a journal names; OSError or ValueError (which says why) where it is not whole."""
    named = NAME.fullmatch(path)
    if named is None:
        raise ValueError("is not the name of a file of predictions")
    content = read_file(folder / path, SIZE)
    if hashlib.sha256(content).hexdigest()[:16] != named[1]:
        raise ValueError("is damaged (its SHA-256 is not that of its name)")
    try:
        return _decoded(content, predictor)
    except (KeyError, TypeError, IndexError, AttributeError, struct.error, zlib.error, RecursionError) as error:
        raise ValueError(f"is no file of predictions ({type(error).__name__}: {error})") from None


def _decoded(content: bytes, predictor: str) -> Predictions:
    size = struct.unpack_from("<Q", content)[0]
    header = json.loads(content[8 : 8 + size])

    def part(key: str) -> tuple[str, bytes]:
        begin, end = header[key]["data_offsets"]
        return header[key]["dtype"], content[8 + size + begin : 8 + size + end]

    unpacking = zlib.decompressobj()
    ids = words(json.loads(unpacking.decompress(part("ids")[1], SIZE)))
    classes = words(json.loads(header["__metadata__"]["classes"]))
    true, predicted = (_unpacked(*part(key)) for key in ("true", f"{predictor}/predicted"))
    probability = None
    if f"{predictor}/probability" in header:
        probability = struct.unpack(f"<{len(ids)}e", part(f"{predictor}/probability")[1])
    if not len(ids) == len(true) == len(predicted):
        raise ValueError(f"has {len(ids)} ids, {len(true)} true and {len(predicted)} predicted classes")
    if ids and max(max(true), max(predicted)) >= len(classes):
        raise ValueError(f"has classes beyond its {len(classes)}")
    return Predictions([text(one) for one in ids], true, predicted, probability, classes)


def _packed(code: str, values: Sequence[int]) -> bytes:
    made = array(code, values)
    if sys.byteorder == "big":
        made.byteswap()
    return made.tobytes()


def _unpacked(dtype: str, data: bytes) -> array[int]:
    made: array[int] = array(TYPES[dtype])
    made.frombytes(data)
    if sys.byteorder == "big":
        made.byteswap()
    return made
