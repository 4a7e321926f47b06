"""Exports of other programs, as they write them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from helpers.image_folders import find, make
from mmctl.errors import DataError
from mmctl.image_files.found import find_images

IMAGES = ("images/cat 1.jpg", "images/dog.jpg", "images/new.jpg")
WANTED = [
    ("train", "images/cat 1.jpg", "Cat"),
    ("train", "images/dog.jpg", "Dog"),
    ("unlabeled", "images/new.jpg", None),
]


def refused(root: Path, **how: Any) -> str:
    with pytest.raises(DataError) as caught:
        find_images(root, **how)
    return str(caught.value)


PREFIXES = (
    "/data/upload/3/0a1b2c3d-", "/data/local-files/?d=", "/data/local-files/?d=photos/images/", "s3://bucket/images/",
    "https://example.org/files/upload/0a1b2c3d-",
)  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_label_studio_csv(prefix: str, tmp_path: Path) -> None:
    name = "cat_1.jpg" if "upload" in prefix else "cat%201.jpg"
    rows = [f"{prefix}{name},1,Cat,1,11,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z,2.5",
            f"{prefix}dog.jpg,2,Dog,1,12,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z,1.5"]  # fmt: skip
    head = "image,id,choice,annotator,annotation_id,created_at,updated_at,lead_time"
    file = tmp_path / "project-1-at-2026-01-01-00-00-0a1b2c3d.csv"
    make(tmp_path, *IMAGES)
    file.write_text("\n".join([head, *rows]))
    assert find(tmp_path) == WANTED
    assert find_images(tmp_path).kind == "Label Studio"
    file.write_text("\n".join([head, *rows, rows[0].replace("Cat,1,11", "Cat,2,13")]))
    assert find(tmp_path) == WANTED, "two people agree"
    file.write_text("\n".join([head, *rows, rows[0].replace("Cat,1,11", "Dog,2,13")]))
    assert 'has the class "Dog" here and "Cat" in' in refused(tmp_path)
    choices = '"{""choices"": [""Cat"", ""Dog""]}"'
    file.write_text("\n".join([head, rows[0].replace("Cat", choices)]))
    assert ":2: 2 classes" in refused(tmp_path)
    file.write_text("\n".join([head, rows[0].replace("cat", "cut")]))
    assert "there is no image in" in refused(tmp_path)


def test_label_studio_json(tmp_path: Path) -> None:
    make(tmp_path, *IMAGES)
    upload = "/data/upload/3/0a1b2c3d-"
    short = [{"image": f"{upload}cat_1.jpg", "id": 1, "choice": "Cat", "annotator": 1, "annotation_id": 11},
             {"image": f"{upload}dog.jpg", "id": 2, "choice": "Dog", "annotator": 1, "annotation_id": 12}]  # fmt: skip
    file = tmp_path / "project-1.json"
    file.write_text(json.dumps(short))
    assert find(tmp_path) == WANTED

    def task(name: str, *choices: str) -> dict[str, Any]:
        result = [{"type": "choices", "from_name": "choice", "to_name": "image", "value": {"choices": list(choices)}}]
        return {"id": 1, "data": {"image": upload + name}, "annotations": [{"id": 1, "result": result}]}

    file.write_text(json.dumps([task("cat_1.jpg", "Cat"), task("dog.jpg", "Dog"), task("new.jpg")]))
    assert find(tmp_path) == WANTED
    file.write_text(json.dumps([task("cat_1.jpg", "Cat", "Dog")]))
    assert "task 1: 2 classes" in refused(tmp_path)


def coco(*labels: int, **how: Any) -> str:
    return json.dumps({
        "images": [{"id": i, "file_name": Path(name).name} for i, name in enumerate(IMAGES)],
        "annotations": [{"id": n, "image_id": i, "category_id": label, "bbox": [0, 0, 1, 1]}
                        for n, (i, label) in enumerate(zip((0, 1, 1, 0), labels, strict=False))],
        "categories": [{"id": 3, "name": "Cat"}, {"id": 5, "name": "Dog"}], **how,
    })  # fmt: skip


def test_coco_with_one_category_an_image(tmp_path: Path) -> None:
    make(tmp_path, *IMAGES, "annotations/x.txt")
    file = tmp_path / "annotations/instances_default.json"
    file.write_text(coco(3, 5, 5))
    assert find(tmp_path) == WANTED
    assert find_images(tmp_path).kind == "COCO"
    file.write_text(coco(3, 5, 5, 5))
    assert 'image 1: "cat 1.jpg" has 2 categories ("Cat", "Dog"), but classification needs one' in refused(tmp_path)
    file.write_text(coco(3, 4))
    assert "annotation 2: there is no" in refused(tmp_path)
    file.write_text(coco(3, annotations=None))
    assert '"annotations" must be a list' in refused(tmp_path)


def test_coco_files_by_part(tmp_path: Path) -> None:
    make(tmp_path, "train2017/a.jpg", "train2017/b.jpg", "val2017/a.jpg", "annotations/x.txt")
    for part, images in (("train", ["a.jpg", "b.jpg"]), ("val", ["val2017/a.jpg"])):
        listed = [
            {"id": i, "file_name": name if part == "val" else f"train2017/{name}"} for i, name in enumerate(images)
        ]
        text = coco(3, 5 if part == "train" else 3, images=listed)
        if part == "val":
            text = coco(3, images=listed)
        (tmp_path / f"annotations/instances_{part}2017.json").write_text(text)
    assert find(tmp_path) == [
        ("train", "train2017/a.jpg", "Cat"), ("train", "train2017/b.jpg", "Dog"), ("val", "val2017/a.jpg", "Cat"),
    ]  # fmt: skip


def test_roboflow_coco(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{Path(one).name}" for one in IMAGES), *(f"valid/{Path(one).name}" for one in IMAGES))
    for part in ("train", "valid"):
        (tmp_path / part / "_annotations.coco.json").write_text(coco(3, 5))
    assert [one[:2] for one in find(tmp_path)] == [
        ("train", "train/cat 1.jpg"), ("train", "train/dog.jpg"), ("val", "valid/cat 1.jpg"), ("val", "valid/dog.jpg"),
        ("unlabeled", "train/new.jpg"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "labels",
    [
        {"cat 1": 0, "dog": 1, "new": None},
        {"cat 1.jpg": {"label": "Cat", "confidence": 0.9}, "images/dog": {"label": 1}},
        {"cat 1": "Cat", "dog": ["Dog"]},
    ],
)
def test_fiftyone(labels: dict[str, Any], tmp_path: Path) -> None:
    make(tmp_path, *IMAGES, labels__json=json.dumps({"classes": ["Cat", "Dog"], "labels": labels}))
    assert find(tmp_path) == WANTED
    assert find_images(tmp_path).kind == "FiftyOne"
    make(tmp_path, labels__json=json.dumps({"classes": ["Cat"], "labels": {"dog": 1, "cat 1": 0}}))
    assert 'image 1: "dog" has the class 1, but 1 are listed' in refused(tmp_path)


def test_cvat_imagenet_list(tmp_path: Path) -> None:
    make(tmp_path, *IMAGES, "images/x.jpg", train__txt='"cat 1".jpg 0\ndog.jpg 1\n\nnew.jpg\n',
         synsets__txt="Cat\nDog\n", val__txt="images/x 1\n", README__txt="read me\n")  # fmt: skip
    assert find(tmp_path) == [*WANTED[:2], ("val", "images/x.jpg", "Dog"), WANTED[2]]
    assert find_images(tmp_path).kind == "CVAT ImageNet"
    make(tmp_path, val__txt="x.jpg 2\n")
    assert 'val.txt:1: "2" is no line of synsets.txt' in refused(tmp_path)
    make(tmp_path, val__txt="x.jpg 0 1\n")
    assert "val.txt:1: 2 classes" in refused(tmp_path)


def test_cvat_imagenet_folders(tmp_path: Path) -> None:
    make(tmp_path, "Cat/1.jpg", "Dog/2.jpg", "no_label/3.jpg")
    assert find(tmp_path)[-1] == ("unlabeled", "no_label/3.jpg", None)


def test_a_list_that_the_user_names(tmp_path: Path) -> None:
    make(tmp_path, *IMAGES, list__txt="cat 1.jpg Cat\ndog.jpg Dog\n")
    assert find(tmp_path, labels=tmp_path / "list.txt") == WANTED


def test_hugging_face_imagefolder(tmp_path: Path) -> None:
    make(tmp_path, "train/a.png", "train/b.png", "test/a.png")
    (tmp_path / "train/metadata.jsonl").write_text(
        '{"file_name": "a.png", "label": 0}\n{"file_name": "b.png", "label": 1}\n'
    )
    (tmp_path / "test/metadata.csv").write_text("file_name,label\na.png,1\n")
    assert find(tmp_path) == [("train", "train/a.png", "0"), ("train", "train/b.png", "1"), ("test", "test/a.png", "1")]
    assert find_images(tmp_path).kind == "Hugging Face imagefolder"


def changed(value: Any, draw: random.Random) -> Any:
    """A copy of a JSON value with one place replaced, doubled or left out."""
    if isinstance(value, (list, dict)) and value and draw.random() < 0.85:
        value = value.copy()
        key = draw.choice(range(len(value)) if isinstance(value, list) else list(value))
        if draw.random() < 0.1:
            del value[key]
        else:
            value[key] = changed(value[key], draw)
        return value
    return draw.choice([None, True, -1, 0, 1, 5, 10**30, 0.5, "", "Dog", "dog.jpg", "../x", [], {}, [[]], [None],
                        [value], {"label": 0}, {"id": []}, {"choices": ["Cat"]}, "\ud800", "s3://[",
                        "a" * 500])  # fmt: skip


def test_changed_exports_are_read_or_refused(tmp_path: Path) -> None:
    """Any value in any place gives a list of images or one message, never another error."""
    make(tmp_path, *IMAGES)
    upload = "/data/upload/3/0a1b2c3d-"
    result = [{"type": "choices", "value": {"choices": ["Cat"]}}]
    exports: list[Any] = [
        json.loads(coco(3, 5)),
        {"classes": ["Cat", "Dog"], "labels": {"cat 1": 0, "dog": {"label": "Dog"}, "new": None}},
        [{"image": f"{upload}{name}", "choice": name, "annotation_id": 1} for name in ("cat_1.jpg", "dog.jpg")],
        [{"data": {"image": f"{upload}dog.jpg"}, "annotations": [{"result": result}]}],
        [{"path": "dog.jpg", "label": "Dog"}, {"path": "cat 1.jpg", "label": "Cat"}],
    ]  # fmt: skip
    draw, read = random.Random(1), 0
    for export in exports:
        for _ in range(100):
            make(tmp_path, labels__json=json.dumps(changed(export, draw)))
            said = ""
            try:
                read += bool(find_images(tmp_path).files)
            except DataError as error:
                said = str(error)
            assert said.replace("\n", "").isprintable()
    assert 100 < read < 450


def test_lightly_train(tmp_path: Path) -> None:
    make(tmp_path, *IMAGES, labels__csv="image_path,label\nimages/cat 1.jpg,Cat\nimages/dog.jpg,Dog\n")
    assert find(tmp_path) == WANTED


def test_json_files_beside_each_image_are_no_labels(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg", "dog/1.jpg", "cat/1.json", "info.json", bad__json=b"\xff", more__json='{"a": 1}')
    found = find_images(tmp_path)
    assert found.kind == "class folders"
    assert found.ignored == {"no image: .json": 4}
    assert "holds no labels that mmctl knows" in refused(tmp_path, labels=tmp_path / "more.json")
    make(tmp_path, labels__json="null")
    assert "labels.json: holds no labels that mmctl knows" in refused(tmp_path)
