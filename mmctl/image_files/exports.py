"""Label files of other programs: COCO, FiftyOne and Label Studio (JSON), and lists with numbers of classes (CVAT).

Formats: cocodataset.org/#format-data; FiftyOneImageClassificationDataset (data/NAME.jpg and labels.json); Label
Studio's JSON and JSON-MIN; Datumaro's imagenet_txt (train.txt with `name.jpg 3`, synsets.txt with a class a line).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from mmctl.errors import DataError
from mmctl.image_files import tables
from mmctl.image_files.label_files import Asked, Row, clean_label, rows_of
from mmctl.image_files.words import Problems, quoted

Kind = Literal["COCO", "FiftyOne", "Label Studio", "list of JSON objects"]
SYNSETS = "synsets.txt"


def kind_of(found: object) -> Kind | None:
    """What a JSON file is; None if it holds no labels that we know."""
    if isinstance(found, dict):
        if isinstance(found.get("images"), list) and "annotations" in found:
            return "COCO"
        return "FiftyOne" if isinstance(found.get("labels"), dict) else None
    if isinstance(found, list) and found and isinstance(found[0], dict):
        if ("data" in found[0] and "annotations" in found[0]) or "annotation_id" in found[0]:
            return "Label Studio"
        return "list of JSON objects"
    return None


def json_rows(found: object, name: str, asked: Asked, problems: Problems) -> Iterator[Row]:
    """Rows of a JSON file of a known kind; the number of an entry stands for its line."""
    kind = kind_of(found)
    if kind == "COCO":
        assert isinstance(found, dict)
        return _coco(found, name, problems)
    if kind == "FiftyOne":
        assert isinstance(found, dict)
        return _fiftyone(found, name, problems)
    if kind is None:
        raise DataError(
            f"{name}: holds no labels that mmctl knows. It reads COCO, FiftyOne and Label Studio, and lists of objects "
            "with path and label."
        )
    assert isinstance(found, list)
    if isinstance(found[0], dict) and "annotations" in found[0]:
        found = list(_label_studio(found, name, problems))
    return rows_of(tables.records(found, name), name, asked, problems)


def _list(found: Mapping[str, object], key: str, name: str) -> Sequence[Mapping[str, object]]:
    value = found.get(key)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise DataError(f'{name}: "{key}" must be a list of objects, as in COCO. Export it again.')
    return value


def _key(value: object) -> object:
    """An id of COCO, which is a number or a text; lists cannot be one."""
    return value if isinstance(value, (int, str)) else repr(value)


def _coco(found: Mapping[str, object], name: str, problems: Problems) -> Iterator[Row]:
    names: dict[object, str] = {}
    for kind in _list(found, "categories", name):
        names[_key(kind.get("id"))] = tables.cell(kind.get("name"))
    given: dict[object, dict[object, None]] = {}
    images = _list(found, "images", name)
    known = {_key(entry.get("id")) for entry in images}
    for i, annotation in enumerate(_list(found, "annotations", name), 1):
        category, image = _key(annotation.get("category_id")), _key(annotation.get("image_id"))
        if category not in names or image not in known:
            what = f"image {image!r}" if category in names else f"category {category!r}"
            problems.add(f"{name}: annotation {i}: there is no {quoted(what)} in this file. Export it again.")
            continue
        given.setdefault(image, {})[category] = None
    for i, entry in enumerate(images, 1):
        path = tables.cell(entry.get("file_name"))
        labels = [names[one] for one in given.get(_key(entry.get("id")), ())]
        if not path.strip():
            problems.add(f"{name}: image {i}: has no file_name. Export it again.")
        elif len(labels) > 1:
            shown = ", ".join(map(quoted, labels[:3]))
            problems.add(
                f"{name}: image {i}: {quoted(path)} has {len(labels)} categories ({shown}), but classification needs "
                "one. Remove the others, or the image."
            )
        else:
            yield from _row(i, path, labels[0] if labels else None, name, problems)


def _row(line: int, path: str, label: str | None, name: str, problems: Problems) -> Iterator[Row]:
    try:
        yield Row(line, path, None if label is None else clean_label(label), None, None)
    except ValueError as error:
        problems.add(f"{name}: image {line}: {error}")


def _fiftyone(found: Mapping[str, object], name: str, problems: Problems) -> Iterator[Row]:
    classes, labels = found.get("classes"), found.get("labels")
    assert isinstance(labels, dict)
    for i, (path, value) in enumerate(labels.items(), 1):
        label = value.get("label") if isinstance(value, dict) else value  # with confidences, an object
        if isinstance(label, list) and len(label) == 1:
            label = label[0]
        if isinstance(label, int) and not isinstance(label, bool) and isinstance(classes, list):
            if not 0 <= label < len(classes):
                problems.add(f"{name}: image {i}: {quoted(path)} has the class {label}, but {len(classes)} are listed.")
                continue
            label = classes[label]
        yield from _row(i, path, None if label is None else tables.cell(label), name, problems)


def _label_studio(found: Sequence[object], name: str, problems: Problems) -> Iterator[dict[str, object]]:
    """Tasks of Label Studio's full JSON as objects with path and label."""
    for i, task in enumerate(found, 1):
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(task, dict) or not isinstance(data, dict):
            raise DataError(f'{name}: task {i}: has no "data". Export it from Label Studio again.')
        given = task.get("annotations")
        choices = {
            choice: None
            for annotation in (given if isinstance(given, list) else ())
            if isinstance(annotation, dict) and not annotation.get("was_cancelled")
            for result in _dicts(annotation.get("result"))
            for value in _dicts([result.get("value")])
            for choice in _texts(value.get("choices"))
        }
        if len(choices) > 1:
            problems.add(
                f"{name}: task {i}: {len(choices)} classes ({', '.join(map(quoted, list(choices)[:3]))}), but an image "
                "has one. Keep one of them."
            )
            continue
        paths = [data.get("image"), data.get("img"), *data.values()]
        path = next((one for one in paths if isinstance(one, str)), None)
        yield {"path": path, "label": next(iter(choices), None)}


def _dicts(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def list_rows(path: Path, name: str, problems: Problems) -> Iterator[Row]:
    """Lines `name.jpg 3` or `"a name".jpg 3`; beside them may be synsets.txt with the names of the classes."""
    beside = path.with_name(SYNSETS)
    classes = tables.read_text(beside, SYNSETS).splitlines() if beside.is_file() else None
    for line, text in enumerate(tables.read_text(path, name).splitlines(), 1):
        text = text.strip()
        if not text:
            continue
        if text.startswith('"') and text.count('"') == 2:
            quote, _, rest = text[1:].partition('"')
            suffix, *labels = rest.split() if rest[:1].strip() else ["", *rest.split()]
            image = quote + suffix
        elif classes is None:
            image, *labels = text.rsplit(None, 1)
        else:
            image, *labels = text.split()
            while labels and not labels[0].isdecimal():  # a space inside of the name
                image += " " + labels.pop(0)
        if len(labels) > 1:
            problems.add(f"{name}:{line}: {len(labels)} classes, but an image has one. Keep one of them.")
            continue
        label = labels[0] if labels else None
        if label is not None and classes is not None:
            if not label.isascii() or not label.isdecimal() or int(label[:9]) >= len(classes):
                problems.add(
                    f"{name}:{line}: {quoted(label)} is no line of {SYNSETS} (0 is its first of {len(classes)})."
                )
                continue
            label = classes[int(label[:9])]
        yield from _row(line, image, label, name, problems)
