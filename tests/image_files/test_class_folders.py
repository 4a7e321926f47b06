"""Class folders: every layout, and every row of what people's folders hold besides images."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import pytest

from helpers.image_folders import find, make, short
from mmctl.errors import DataError
from mmctl.image_files.found import find_images
from mmctl.image_files.tree import walk
from mmctl.image_files.words import natural

CATS = ("cat/1.jpg", "dog/1.jpg")


def refused(root: Path, **how: object) -> str:
    with pytest.raises(DataError) as caught:
        find_images(root, **how)  # type: ignore[arg-type]
    return str(caught.value)


def test_class_folders_alone_are_for_training(tmp_path: Path) -> None:
    found = find_images(make(tmp_path, "dog/2.PNG", "cat/1.jpg", "dog/10.webp"))
    assert short(found) == [
        ("train", "cat/1.jpg", "cat"), ("train", "dog/10.webp", "dog"), ("train", "dog/2.PNG", "dog"),
    ]  # fmt: skip
    assert (found.kind, found.classes, dict(found.ignored), found.notes) == ("class folders", ("cat", "dog"), {}, ())
    assert found.files[0].source.stamp().path == str(tmp_path / "cat/1.jpg")
    assert found.files[0].source.read() == b""


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
@pytest.mark.parametrize("unlabeled", ["unlabeled", "unlabelled", "unsup", "Unlabeled"])
def test_parts_by_any_of_their_names(val: str, unlabeled: str, tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{one}" for one in CATS), f"{val}/cat/2.jpg", "test/dog/3.jpg", f"{unlabeled}/4.jpg",
         f"{unlabeled}/deep/er/5.jpg", f"train/{unlabeled}/6.jpg")  # fmt: skip
    assert find(tmp_path) == [
        ("train", "train/cat/1.jpg", "cat"),
        ("train", "train/dog/1.jpg", "dog"),
        ("val", f"{val}/cat/2.jpg", "cat"),
        ("test", "test/dog/3.jpg", "dog"),
        *sorted(
            ("unlabeled", one, None)
            for one in (f"{unlabeled}/4.jpg", f"{unlabeled}/deep/er/5.jpg", f"train/{unlabeled}/6.jpg")
        ),
    ]


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{one}" for one in CATS), "val/cat/1.jpg", "validation/cat/1.jpg")
    assert '"val" and "validation" are both folders for val' in refused(tmp_path)


def test_images_beside_class_folders_are_unlabelled_but_not_in_test(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{one}" for one in CATS), "train/loose.jpg", "test/loose.jpg", "root.jpg")
    found = find_images(tmp_path)
    assert [one.id for one in found.files if one.part == "unlabeled"] == ["root.jpg", "train/loose.jpg"]
    assert found.ignored == {"in val or test, without a label": 1}
    assert found.notes == ("unlabelled, since they lie beside the class folders: 2 images",)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    found = find_images(make(tmp_path, "1.jpg", "2.jpg"))
    assert (found.kind, found.classes) == ("images without labels", ())
    assert {one.part for one in found.files} == {"unlabeled"}


def test_hidden_files_and_those_of_the_system_are_counted_and_left_out(tmp_path: Path) -> None:
    make(tmp_path, *CATS, ".DS_Store", "cat/._1.jpg", ".ipynb_checkpoints/1.jpg", "cat/.ipynb_checkpoints/1.jpg",
         "cat/Thumbs.db", "desktop.ini", "__MACOSX/cat/1.jpg", "README.md", "cat/notes.TXT", "cat/raw.heic",
         "LICENSE")  # fmt: skip
    found = find_images(tmp_path)
    assert [one.id for one in found.files] == list(CATS)
    assert found.ignored == {
        "hidden (the name begins with a dot)": 4, "of the operating system": 3, "no image: .md": 1,
        "no image: .txt": 1, "no image: .heic": 1, "no image: no suffix": 1,
    }  # fmt: skip


def test_an_empty_class_folder_is_refused_unless_the_classes_are_given(tmp_path: Path) -> None:
    make(tmp_path, *CATS, "bird/raw.heic")
    (tmp_path / "fish").mkdir()
    said = refused(tmp_path)
    assert '"bird": a class folder without an image' in said
    assert '"fish": a class folder without an image' in said
    assert "`classes`" in said
    found = find_images(tmp_path, classes=["fish", "dog", "cat"])
    assert found.classes == ("fish", "dog", "cat")
    assert len(found.files) == 2


def test_classes_of_val_and_test_are_those_of_train(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{one}" for one in CATS), "val/cat/1.jpg")
    assert len(find(tmp_path)) == 3, "fewer classes in val are fine"
    make(tmp_path, "val/Dog/1.jpg")
    said = refused(tmp_path)
    assert 'class "Dog" in val (val/Dog), but not in train; only train has class "dog"' in said
    assert "classes" in said
    assert "Dog" in find_images(tmp_path, classes=["cat", "dog", "Dog"]).classes


def test_a_class_that_is_not_among_those_given(tmp_path: Path) -> None:
    said = refused(make(tmp_path, *CATS), classes=["cat", "bird"])
    assert 'the class "dog" (dog/1.jpg) is none of the given `classes`' in said
    assert "all different" in refused(tmp_path, classes=["cat", "cat"])


def test_a_single_class_cannot_be_learned(tmp_path: Path) -> None:
    assert 'all labels are "images"' in refused(make(tmp_path, "images/1.jpg", "images/2.jpg"))
    make(tmp_path / "more", "2750/Forest/1.jpg", "2750/River/1.jpg")
    assert 'give "2750" instead' in refused(tmp_path / "more")


def test_folders_inside_of_a_class_belong_to_it(tmp_path: Path) -> None:
    found = find_images(make(tmp_path, *CATS, "cat/indoor/a/2.jpg"))
    assert ("train", "cat/indoor/a/2.jpg", "cat") in short(found)
    assert found.notes == ('images in folders inside of a class folder have its class: "cat"',)


def test_folders_beside_train(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{one}" for one in CATS), "samples/1.jpg", "docs/readme.md")
    found = find_images(tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.ignored['in "samples", which is no part beside train/'] == 1
    make(tmp_path, "vaild/cat/1.jpg")
    assert 'Did you mean "valid"?' in refused(tmp_path)


def test_a_test_folder_beside_class_folders(tmp_path: Path) -> None:
    assert find(make(tmp_path, *CATS, "test/cat/2.jpg"))[-1] == ("test", "test/cat/2.jpg", "cat")


def test_links_are_followed_inside_of_the_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "data", *(f"train/{one}" for one in CATS), "test/cat/3.jpg")
    (root / "val").symlink_to("test")
    (root / "train/cat/2.jpg").symlink_to("../dog/1.jpg")
    assert ("val", "val/cat/3.jpg", "cat") in find(root)
    assert ("train", "train/cat/2.jpg", "cat") in find(root)
    (tmp_path / "name").symlink_to("data")
    assert find(tmp_path / "name") == find(root), "the folder itself may be a link"


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    make(tmp_path, *CATS)
    (tmp_path / "cat/again").symlink_to("..")
    (tmp_path / "dog/x").symlink_to("../cat")
    (tmp_path / "cat/y").symlink_to("../dog")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    said = refused(tmp_path)
    assert '"cat/again/": a loop: this link leads back to the folder itself' in said
    assert 'a loop: this link leads back to "dog"' in said
    assert '"self.jpg": is a link that leads to itself' in said


def test_links_to_links_do_not_multiply(tmp_path: Path) -> None:
    make(tmp_path, *CATS)
    for i in range(30):
        folder = tmp_path / f"cat/l{i:02d}"
        folder.mkdir()
        for side in "ab":
            (folder / side).symlink_to(f"../l{i + 1:02d}")
    (tmp_path / "cat/l30").mkdir()
    assert "leads to the same folder as the link" in refused(tmp_path)


def test_links_that_lead_out_or_nowhere_are_named(tmp_path: Path) -> None:
    root = make(tmp_path / "data", *CATS)
    make(tmp_path, "elsewhere/1.jpg")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "cat/out.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")
    (root / "cat/gone.jpg").symlink_to("nothing.jpg")
    (root / "gone").symlink_to("nothing")
    (root / "notes.md").symlink_to("nothing.md")
    said = refused(root)
    assert "4 problems" in said
    assert '"out": is a link that leads out of the folder' in said
    assert '"cat/out.jpg": is a link that leads out of the folder' in said
    assert '"cat/gone.jpg": is a link that leads to nothing' in said
    assert '"gone": is a link that leads to nothing' in said


def test_pipes_and_sockets_are_named_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, *CATS)
    os.mkfifo(tmp_path / "cat/pipe.jpg")
    os.mkfifo(tmp_path / "labels")
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "cat/link.png").symlink_to("pipe.jpg")
    (tmp_path / "cat/null.png").symlink_to("/dev/null")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("cat/s.jpg")
        said = refused(tmp_path)
    assert "5 problems" in said
    assert '"cat/pipe.jpg": is a named pipe (FIFO)' in said
    assert '"cat/link.png": is a named pipe (FIFO)' in said
    assert '"cat/s.jpg": is a socket' in said
    assert '"cat/null.png": is a device' in said


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, *CATS)
    real = os.scandir

    def scan(path: str) -> object:
        if path.endswith("cat/"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert '"cat/": the folder cannot be read (Permission denied)' in refused(tmp_path)


def test_ids_are_in_one_unicode_form(tmp_path: Path) -> None:
    make(tmp_path, *CATS, "cat/e\u0301.jpg")
    assert ("train", "cat/\u00e9.jpg", "cat") in find(tmp_path)
    assert find_images(tmp_path).files[1].source.read() == b"", "it is read by its own name"
    make(tmp_path, "cat/\u00e9.jpg")
    assert "two files have this name in different Unicode forms" in refused(tmp_path)


def test_any_bytes_may_be_in_a_name(tmp_path: Path) -> None:
    names = [
        "-rf.jpg",
        "new\nline.jpg",
        "esc\x1b[31m.jpg",
        "CAT.jpg",
        "cat.jpg",
        "x" * 251 + ".jpg",
        " .jpg",
        "'\".jpg",
    ]
    make(tmp_path, *CATS, *(f"cat/{name}" for name in names))
    with open(os.fsencode(tmp_path) + b"/cat/\xff\xfe.jpg", "wb"):  # noqa: PTH123
        pass
    found = find_images(tmp_path)
    ids = {one.id for one in found.files}
    assert {f"cat/{name}" for name in names} <= ids
    assert "cat/\\xff\\xfe.jpg" in ids
    assert all(one.source.read() == b"" for one in found.files)
    "".join(ids).encode()


def test_messages_hold_no_control_characters(tmp_path: Path) -> None:
    make(tmp_path, *CATS)
    (tmp_path / "cat/\x1b[31m\n.jpg").symlink_to("nothing")
    said = refused(tmp_path)
    assert "\x1b" not in said
    assert "\n" not in said


def test_no_images_no_folder_no_name(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.txt", "b.zip")
    assert "Unpack it" in refused(tmp_path)
    (tmp_path / "b.zip").unlink()
    assert "there are no images in it (left out: 1 no image: .txt)" in refused(tmp_path)
    assert "there is no such folder" in refused(tmp_path / "nothing")
    assert "a file, not a folder" in refused(tmp_path / "cat/1.txt")


def test_classes_are_in_natural_order() -> None:
    names = ["class2", "class10", "Class1", "a", "10", "9", "", "class02", "9" * 5000, "\u0663"]
    wanted = ["", "9", "10", "9" * 5000, "a", "Class1", "class02", "class2", "class10", "\u0663"]
    for _ in range(5):
        random.shuffle(names)
        assert sorted(names, key=natural) == wanted


def test_a_walk_looks_at_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No system call for a file: a hundred thousand of them take a second."""
    make(tmp_path, *(f"cat/{i}.jpg" for i in range(200)))
    calls = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda *args, **how: calls.append(args) or real(*args, **how))
    assert len(walk(tmp_path).files) == 200
    assert len(calls) < 10
