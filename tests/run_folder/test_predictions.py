"""What was predicted for each image: a file that comes back whole, that others can read, and that shows damage."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from mmctl.run_folder.predictions import read_predictions, write_predictions

IDS = ["a.png", "b\n\u00e9.png", "c"]


def written(folder: Path, classes: int = 3, name: str = "test-ema-000000012") -> str:
    names = [f"class {k}" for k in range(classes)]
    last = classes - 1
    said = {"head": ([0, last, 1], [0.5, 0.999, 1.0]), "centroid": ([last, last, 0], None)}
    return write_predictions(folder, name, IDS, names, [0, 1, last], said)


@pytest.mark.parametrize("classes", [3, 256, 257, 70_000])
def test_what_was_written_is_read(tmp_path: Path, classes: int) -> None:
    path = written(tmp_path, classes)
    head, centroid = (read_predictions(tmp_path, path, predictor) for predictor in ("head", "centroid"))
    assert (list(head.ids), len(head.classes)) == (IDS, classes)
    assert (list(head.true), list(head.predicted)) == ([0, 1, classes - 1], [0, classes - 1, 1])
    assert head.probability == pytest.approx([0.5, 0.999, 1.0], abs=5e-4)
    assert (list(centroid.predicted), centroid.probability) == ([classes - 1, classes - 1, 0], None)
    assert written(tmp_path, classes) == path, "the same content has the same name"


def test_other_programs_read_it(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    found = load_file(tmp_path / written(tmp_path))
    assert found["head/predicted"].tolist() == [0, 2, 1]
    assert found["head/probability"].dtype == "float16"
    assert json.loads(zlib.decompress(found["ids"].tobytes())) == IDS


def test_ten_thousand_images_take_little_room(tmp_path: Path) -> None:
    n = 10_000
    said = {"head": ([1] * n, [0.9] * n), "centroid": ([1] * n, None)}
    path = write_predictions(tmp_path, "test", [f"test/{i:05d}.png" for i in range(n)], list("ab"), [0] * n, said)
    assert (tmp_path / path).stat().st_size < 8 * n


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    path = written(tmp_path, name="../../x y")
    assert (tmp_path / path).is_file()
    assert path.count("/") == 1
    for odd in ("/etc/passwd", "../run.json", "predictions/../run.json", "", path.replace("/", "//")):
        with pytest.raises(ValueError, match="not the name"):
            read_predictions(tmp_path, odd, "head")


def test_damage_is_told(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = (tmp_path / path).read_bytes()
    (tmp_path / path).write_bytes(whole[:-1] + b"!")
    with pytest.raises(ValueError, match="damaged"):
        read_predictions(tmp_path, path, "head")
    (tmp_path / path).write_bytes(whole)
    with pytest.raises(ValueError, match="no file of predictions"):
        read_predictions(tmp_path, path, "nearest")
    (tmp_path / path).unlink()
    with pytest.raises(FileNotFoundError):
        read_predictions(tmp_path, path, "head")


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"{}", b"\x02" + b"\0" * 7 + b"[]"])
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    import hashlib

    (tmp_path / "predictions").mkdir()
    path = f"predictions/x-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    (tmp_path / path).write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ
        read_predictions(tmp_path, path, "head")
