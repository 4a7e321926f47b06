"""Images inside of tar shards and Parquet files are read where they lie."""

from __future__ import annotations

import io
import json
import os
import random
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.image_bytes import age, encoded
from helpers.image_folders import find, make, short
from mmctl.errors import DataError
from mmctl.image_files import parquet as parquet_module
from mmctl.image_files.archives import InArchive
from mmctl.image_files.cache import read_pixels
from mmctl.image_files.found import find_images
from mmctl.image_files.pixels import Decoding


def refused(root: Path, **how: Any) -> str:
    with pytest.raises(DataError) as caught:
        find_images(root, **how)
    return str(caught.value)


def shard(path: Path, form: int = tarfile.PAX_FORMAT, **members: str | bytes) -> Path:
    """A tar file; "__" in a name stands for the dot."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_webdataset_shards(form: int, tmp_path: Path) -> None:
    shard(tmp_path / "train-000000.tar", form, a__jpg=b"AAA", a__cls="0", b__PNG=b"B", b__json='{"Label": 1}')
    shard(tmp_path / "train-000001.tar", form, c__jpg=b"C" * 5000, c__txt="0\n", d__jpg=b"", e__bin=b"x")
    shard(tmp_path / "val-000000.tar", form, a__cls="1", a__jpg=b"V", f__jpg=b"")
    found = find_images(tmp_path)
    assert short(found) == [
        ("train", "train-000000.tar/a.jpg", "0"), ("train", "train-000000.tar/b.PNG", "1"),
        ("train", "train-000001.tar/c.jpg", "0"), ("val", "val-000000.tar/a.jpg", "1"),
        ("unlabeled", "train-000001.tar/d.jpg", None),
    ]  # fmt: skip
    assert [one.source.read() for one in found.files] == [b"AAA", b"B", b"C" * 5000, b"V", b""]
    assert len({one.source.stamp() for one in found.files}) == 5
    assert found.kind == "tar shards"
    assert found.ignored == {"in val or test, without a label": 1, "no image: .bin": 1}


def test_names_inside_of_a_shard(tmp_path: Path) -> None:
    members = {"./x/a.1.jpg": b"1", "x/a.1.cls": b"0", "x/a.2.jpg": b"2", "x/a.2.cls": b"1", "b.left.png": b"3",
               "b.cls": b"1", "._b.jpg": b"", "__MACOSX/c.jpg": b"", "e\u0301.jpg": b"4",
               "e\u0301.cls": "0"}  # fmt: skip
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert find(tmp_path) == [
        ("train", "s.tar/b.left.png", "1"), ("train", "s.tar/x/a.1.jpg", "0"), ("train", "s.tar/x/a.2.jpg", "1"),
        ("train", "s.tar/\u00e9.jpg", "0"),
    ]  # fmt: skip


def test_damaged_shards(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", a__jpg=b"A" * 3000, a__cls="0", b__jpg=b"B" * 3000, b__cls="1")
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    assert "s.tar: is not a tar file that can be read" in refused(tmp_path)
    for at in (512 + 3072, 512 + 3072 + 1024):  # the header of a member
        broken = bytearray(whole)
        broken[at + 100 : at + 160] = b"\xff" * 60
        path.write_bytes(broken)
        assert "s.tar: is not a tar file that can be read (it is damaged at byte" in refused(tmp_path)
    path.write_bytes(b"no tar file")
    assert "is not a tar file" in refused(tmp_path)
    shard(path, a__jpg=b"A", a__json="{")
    assert '"s.tar/a.jpg": its .json: s.tar:1: is not JSON' in refused(tmp_path)
    shard(path, a__jpg=b"A", a__cls="[1, 2]")
    assert '"s.tar/a.jpg": 2 classes' in refused(tmp_path)


def test_links_in_a_shard_and_members_twice(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("b.jpg"))
    said = refused(tmp_path)
    assert '"a.jpg": is a link' in said
    assert '"s.tar/b.jpg": is twice in the archive' in said


def test_a_member_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(tmp_path / "s.tar")
    with pytest.raises(OSError, match="has 1,073,741,825 bytes, more than"):
        InArchive(path, 512, 2**30 + 1).read()
    path.unlink()
    parquet(tmp_path / "s.parquet", [{"bytes": b"AAA", "path": None}, {"bytes": b"B", "path": None}], ["a", "b"])
    monkeypatch.setattr(parquet_module, "LARGEST", 2)
    large, small = (one.source for one in find_images(tmp_path).files)
    assert small.read() == b"B"
    with pytest.raises(OSError, match="has 3 bytes, more than 2"):
        large.read()


def test_an_archive_that_became_shorter(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", a__jpg=b"A" * 100, a__cls="0", b__jpg=b"B", b__cls="1")
    source = find_images(tmp_path).files[0].source
    assert isinstance(source, InArchive)
    os.truncate(path, 550)
    with pytest.raises(OSError, match="ends inside of the image"):
        source.read()


def test_changed_shards_are_read_or_refused(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", a__jpg=b"A" * 100, a__cls="0", b__jpg=b"B", b__json='{"label": "x"}')
    whole, draw = path.read_bytes()[: 512 * 9], random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.choice([None, None, draw.randrange(len(data))])])
        try:
            for one in find_images(tmp_path).files:
                one.source.read()
        except DataError as error:
            said = str(error)
        else:
            said = ""
        assert said.replace("\n", "").isprintable()


def test_a_shard_is_used_whatever_its_name(tmp_path: Path) -> None:
    shard(tmp_path / "part: row 1.tar", a__jpg=b"A", a__cls="0", b__jpg=b"B", b__cls="1")
    shard(tmp_path / "empty.tar", c__bin=b"")
    assert find_images(tmp_path).ignored == {"no image: .bin": 1, "no image: .tar": 1}


def test_shards_beside_images_are_left_out(tmp_path: Path) -> None:
    shard(make(tmp_path, "cat/1.jpg", "dog/1.jpg") / "s.tar", a__jpg=b"")
    assert find_images(tmp_path).ignored == {"no image: .tar": 1}
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/s.tar.gz").touch()
    assert '"s.tar.gz": is compressed' in refused(tmp_path / "packed")


def parquet(
    path: Path, images: list[Any], labels: list[Any] | None, names: list[str] | None = None, **more: Any
) -> Path:
    """A file as the library `datasets` writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    columns |= {"label": pa.array(labels)} if labels is not None else {}
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"} if names else {}}
    table = pa.table(columns | more).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


def test_parquet_of_hugging_face(tmp_path: Path) -> None:
    images = [{"bytes": bytes([65 + i]) * (i + 1), "path": "0.png"} for i in range(5)]
    parquet(tmp_path / "data/train-00000-of-00001.parquet", images, [0, 1, -1, 1, 0], ["Cat", "Dog"])
    parquet(tmp_path / "data/validation-00000-of-00001.parquet", images[:1], [1], ["Cat", "Dog"])
    found = find_images(tmp_path)
    start = "data/train-00000-of-00001.parquet"
    assert short(found) == [
        ("train", f"{start}/000001", "Cat"), ("train", f"{start}/000002", "Dog"), ("train", f"{start}/000004", "Dog"),
        ("train", f"{start}/000005", "Cat"), ("val", "data/validation-00000-of-00001.parquet/000001", "Dog"),
        ("unlabeled", f"{start}/000003", None),
    ]  # fmt: skip
    assert [one.source.read() for one in found.files] == [b"A", b"BB", b"DDDD", b"EEEEE", b"A", b"CCC"]
    assert len({one.source.stamp() for one in found.files}) == 6
    assert found.kind == "Hugging Face Parquet"
    assert not found.ignored


def test_parquet_with_text_labels_and_files_beside(tmp_path: Path) -> None:
    images = [{"bytes": None, "path": "a.jpg"}, {"bytes": b"B", "path": None}, {"bytes": b"C", "path": "gone.jpg"}]
    parquet(tmp_path / "s.parquet", images, ["Cat", "Dog", ""])
    said = refused(tmp_path)
    assert 's.parquet: row 1: there is no image "a.jpg"' in said
    images[0]["bytes"] = b"A"
    parquet(tmp_path / "s.parquet", images, ["Cat", "Dog", ""])
    assert [one[2] for one in find(tmp_path)] == ["Cat", "Dog", None]


def test_two_columns_of_images_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns = {
        name: arrow.array([{"bytes": encoded(np.full((8, 8), v, np.uint8))} for v in values], kind)
        for name, values in (("image", (1, 2)), ("mask", (101, 102)))
    }
    path = tmp_path / "data" / "train.parquet"
    path.parent.mkdir()
    parquet.write_table(arrow.table({**columns, "label": ["x", "y"]}), path)
    age(path)
    for _ in range(2):
        for column, values in (("image", [1, 2]), ("mask", [101, 102])):
            files = find_images(path.parent, path_column=column).files
            assert read_pixels(files, Decoding((8, 8), channels=1)).pixels[:, 0, 0, 0].tolist() == values


def test_wrong_parquet_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = [{"bytes": b"A", "path": None}]
    path = parquet(tmp_path / "s.parquet", image, None, species=["Cat"])
    assert 'no column for the label among "image", "species"' in refused(tmp_path)
    assert "all labels are" in refused(tmp_path, label_column="species")
    assert 'no column "x" among' in refused(tmp_path, label_column="x")
    parquet(path, image, [2], ["Cat", "Dog"])
    assert "row 1: the class 2 is none of the 2 names in the metadata" in refused(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    assert "s.parquet: is not a Parquet file that can be read" in refused(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'mmctl[parquet]'" in refused(tmp_path)


def test_a_parquet_file_that_changed(tmp_path: Path) -> None:
    path = parquet(tmp_path / "s.parquet", [{"bytes": b"A", "path": None}] * 4, ["a", "b", "a", "b"])
    found = find_images(tmp_path)
    parquet(path, [{"bytes": b"A", "path": None}], ["a"])
    os.utime(path, ns=(1, 1))
    parquet_module._row_group.cache_clear()
    with pytest.raises(OSError, match="parquet"):
        found.files[-1].source.read()


def test_a_parquet_file_of_paths_and_labels(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    make(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    pq.write_table(pa.table({"file_name": ["a.jpg", "b.jpg"], "label": [1, 0]}), tmp_path / "metadata.parquet")
    assert find(tmp_path) == [("train", "a.jpg", "1"), ("train", "b.jpg", "0"), ("unlabeled", "c.jpg", None)]
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1")
    assert "metadata.parquet: is not a Parquet file" in refused(tmp_path)
