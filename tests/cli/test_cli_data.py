"""`mmctl data import` writes what is known about images to labels.csv, once and whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command import Result
from helpers.image_folders import find, make
from mmctl.image_files.found import find_images

Mm = Callable[..., Result]


def test_import_writes_labels_that_read_the_same(tmp_path: Path, mm: Mm) -> None:
    names = ("train/a,b/1.jpg", 'train/"q"/\u00e9.jpg', "train/10/new\nline.jpg", "train/10/-1.jpg", "val/10/2.jpg")
    make(tmp_path / "photos", *names, "unlabeled/3.jpg", "train/10/notes.txt")
    before = find(tmp_path / "photos")
    done = mm("data", "import", "photos")
    assert done.code == 0, done.err
    assert "class folders: 6 images (4 train, 1 val, 1 unlabeled), 3 classes" in done.out
    assert "left out: 1 no image: .txt" in done.out
    assert "photos/labels.csv: 6 images written" in done.out
    text = (tmp_path / "photos/labels.csv").read_text()
    assert text.startswith('path,label,split\ntrain/"q"'.replace('train/"q"', '"train/""q""'))
    found = find_images(tmp_path / "photos")
    assert found.kind == "labels.csv"
    assert [(one.part, one.id, one.label) for one in found.files] == before
    again = mm("data", "import", "photos", "--to", "photos/again.csv", "--json")
    assert (tmp_path / "photos/again.csv").read_text() == text
    said = json.loads(again.out)
    assert said["parts"] == {"train": 4, "val": 1, "unlabeled": 1}
    assert said["classes"]["10"] == {"train": 2, "val": 1}


def test_import_never_replaces_a_file_unless_told(tmp_path: Path, mm: Mm) -> None:
    make(tmp_path / "photos", "cat/1.jpg", "dog/1.jpg")
    make(tmp_path, labels__csv="mine")
    words = ("data", "import", "photos", "--to", "labels.csv")
    done = mm(*words)
    assert (done.code, (tmp_path / "labels.csv").read_text()) == (2, "mine")
    assert "labels.csv: exists already. --force replaces it." in done.err
    assert "2 images would be written, with --force" in mm(*words, "--dry-run").out
    assert (tmp_path / "labels.csv").read_text() == "mine"
    assert mm(*words, "--force").code == 0
    assert find(tmp_path / "photos", labels=tmp_path / "labels.csv") == find(tmp_path / "photos")
    assert "there is no folder" in mm("data", "import", "photos", "--to", "no/labels.csv").err


def test_import_says_what_changes_with_the_file(tmp_path: Path, mm: Mm) -> None:
    make(tmp_path / "photos", "train/cat/1.jpg", "train/dog/1.jpg", "samples/1.jpg")
    done = mm("data", "import", "photos")
    assert 'left out: 1 in "samples", which is no part beside train/' in done.out
    assert "images left out here are unlabelled with this file, which has no row for them: 1" in done.out


def test_import_of_an_export_elsewhere_with_groups(tmp_path: Path, mm: Mm) -> None:
    make(tmp_path / "photos", "in/1.jpg", "in/2.jpg", "in/3.jpg")
    text = "file;species;bird\n1.jpg;Kea;x\n2.jpg;Owl;y\n"
    make(tmp_path, export__csv=text)
    words = ("data", "import", "export.csv", "--images", "photos", "--label-column", "species")
    assert "no column" in mm(*words[:-2]).err
    done = mm(*words, "--group-column", "bird", "--to", "labels.csv")
    assert done.code == 0, done.err
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines == ["path,label,split,group", "in/1.jpg,Kea,train,x", "in/2.jpg,Owl,train,y", "in/3.jpg,,unlabeled,"]


@pytest.mark.parametrize("words", [("nothing",), ("photos",), ("photos", "--path-column", "x"), ("photos/1.jpg",)])
def test_what_cannot_be_imported_is_refused(words: tuple[str, ...], tmp_path: Path, mm: Mm) -> None:
    make(tmp_path / "photos", "1.jpg", labels__csv="path,label\n2.jpg,cat\n")
    done = mm("data", "import", *words, "--to", "new.csv")
    assert done.code == 2
    assert done.err.startswith("mmctl: ")
    assert not (tmp_path / "new.csv").exists()


def test_class_names_that_a_csv_file_would_change(tmp_path: Path, mm: Mm) -> None:
    make(tmp_path / "photos", "cat /1.jpg", "dog/1.jpg")
    done = mm("data", "import", "photos")
    assert done.code == 2
    assert 'the class name "cat " would read differently' in done.err
