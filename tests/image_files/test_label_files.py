"""Label files: columns, places of images, and a file for each way in which a CSV file can be odd or wrong."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from helpers.image_folders import find, make, short
from mmctl.errors import DataError
from mmctl.image_files.found import find_images
from mmctl.image_files.label_files import Asked, rows_of
from mmctl.image_files.tables import read_table
from mmctl.image_files.words import Problems

FILES = ("a.jpg", "b.jpg", "deep/c.jpg")
BOTH = [("train", "a.jpg", "cat"), ("train", "b.jpg", "dog"), ("unlabeled", "deep/c.jpg", None)]


def refused(root: Path, **how: object) -> str:
    with pytest.raises(DataError) as caught:
        find_images(root, **how)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("path", ["path", "file", "file_name", "Filename", "image", "image_path", "id", "img"])
@pytest.mark.parametrize("label", ["label", "class", "Choice", "category", "target"])
def test_columns_by_their_usual_names(path: str, label: str, tmp_path: Path) -> None:
    make(tmp_path, *FILES, labels__csv=f"{path},{label}\na.jpg,cat\nb.jpg,dog\n")
    found = find_images(tmp_path)
    assert (short(found), found.kind) == (BOTH, "labels.csv")
    assert [one.where for one in found.files] == ["labels.csv:2", "labels.csv:3", "no row in labels.csv"]
    assert found.notes == ("unlabelled, since labels.csv has no row for them: 1 image",)


@pytest.mark.parametrize(
    ("name", "text"),
    {
        "labels.csv": "path,label\na.jpg,cat\nb.jpg,dog\ndeep/c.jpg,\n",
        "labels.tsv": "path\tlabel\na.jpg\tcat\nb.jpg\tdog\ndeep/c.jpg\t\n",
        "labels.jsonl": '{"path": "a.jpg", "label": "cat"}\n\n{"label": "dog", "path": "b.jpg"}\n',
        "metadata.jsonl": '{"file_name": "a.jpg", "label": "cat"}\n{"file_name": "b.jpg", "label": ["dog"]}\n',
        "metadata.csv": "file_name,label,text\na.jpg,cat,\nb.jpg,dog,a dog\n",
        "labels.json": '[{"path": "a.jpg", "label": "cat"}, {"path": "b.jpg", "label": "dog"}]',
        "_classes.csv": "filename, cat, dog, Unlabeled\na.jpg, 1, 0, 0\nb.jpg, 0, 1, 0\ndeep/c.jpg, 0, 0, 1\n",
    }.items(),
)  # fmt: skip
def test_kinds_of_tables(name: str, text: str, tmp_path: Path) -> None:
    make(tmp_path, *FILES, **{name.replace(".", "__"): text})
    assert find(tmp_path) == BOTH
    (tmp_path / name).rename(tmp_path / f"other{Path(name).suffix}")
    assert find(tmp_path, labels=tmp_path / f"other{Path(name).suffix}") == BOTH, "the user named it"


def test_one_hot_columns_without_a_suffix_of_the_files(tmp_path: Path) -> None:
    text = "image,MEL,NV,UNK\nISIC_1,1.0,0.0,0.0\nISIC_2,0.0,1.0,0.0\nISIC_3,0.0,0.0,0.0\n"
    make(tmp_path, "in/ISIC_1.jpg", "in/ISIC_2.jpg", "in/ISIC_3.jpg", labels__csv=text)
    assert [one[2] for one in find(tmp_path)] == ["MEL", "NV", None]
    make(tmp_path, labels__csv=text.replace("2,0.0,1.0", "2,1.0,1.0"))
    assert 'labels.csv:3: 2 classes ("MEL" and "NV"), but an image has one' in refused(tmp_path)
    make(tmp_path, labels__csv=text.replace("2,0.0,1.0", "2,0.3,0.7"))
    assert "no column for the label" in refused(tmp_path)


def test_columns_that_the_user_names(tmp_path: Path) -> None:
    text = "id,species,fold,bird_id,path\n1,cat,train,x,a.jpg\n2,dog,train,y,b.jpg\n3,cat,Valid,,deep/c.jpg\n"
    make(tmp_path, *FILES, labels__csv=text)
    assert 'no column for the label among "id", "species"' in refused(tmp_path)
    found = find_images(tmp_path, label_column="species", split_column="fold", group_column="bird_id")
    assert short(found) == [*BOTH[:2], ("val", "deep/c.jpg", "cat")]
    assert [one.group for one in found.files] == ["x", "y", None]
    assert 'no column "specis" (label_column). Did you mean "species"?' in refused(tmp_path, label_column="specis")


def test_a_split_column(tmp_path: Path) -> None:
    text = "path,label,split\na.jpg,cat,\nb.jpg,dog,training\ndeep/c.jpg,dog,unsup\n"
    make(tmp_path, *FILES, labels__csv=text)
    assert find(tmp_path)[2] == ("unlabeled", "deep/c.jpg", "dog"), "a hidden label stays known"
    make(tmp_path, labels__csv=text.replace("c.jpg,dog", "c.jpg,fish"))
    assert find(tmp_path)[2] == find(tmp_path, classes=["cat", "dog"])[2] == ("unlabeled", "deep/c.jpg", None)
    assert find_images(tmp_path).classes == ("cat", "dog")
    make(tmp_path, labels__csv=text.replace("unsup", "tets"))
    assert 'labels.csv:4: the part "tets" is none of train, val' in refused(tmp_path)
    make(tmp_path, labels__csv=text.replace("dog,unsup", ",test"))
    assert find_images(tmp_path).ignored == {"in val or test, without a label": 1}


def test_parts_by_folders_and_a_label_for_an_image_that_had_none(tmp_path: Path) -> None:
    text = "path,label\ntrain/a.jpg,cat\nval/b.jpg,dog\nunlabeled/c.jpg,dog\n"
    make(tmp_path, "train/a.jpg", "val/b.jpg", "unlabeled/c.jpg", "unlabeled/d.jpg", "test/e.jpg", labels__csv=text)
    found = find_images(tmp_path)
    assert short(found) == [
        ("train", "train/a.jpg", "cat"), ("train", "unlabeled/c.jpg", "dog"), ("val", "val/b.jpg", "dog"),
        ("unlabeled", "unlabeled/d.jpg", None),
    ]  # fmt: skip
    assert found.ignored == {"in val or test, without a label": 1}


def test_a_label_file_inside_of_each_part(tmp_path: Path) -> None:
    make(tmp_path, "train/a.jpg", "train/b.jpg", "train/c.jpg", "valid/a.jpg", "test/a.jpg")
    make(tmp_path / "train", _classes__csv="filename,cat,dog\na.jpg,1,0\nb.jpg,0,1\n")
    make(tmp_path / "valid", _classes__csv="filename,cat,dog\na.jpg,1,0\n")
    make(tmp_path / "test", _classes__csv="filename,cat,dog\na.jpg,0,1\n")
    assert find(tmp_path) == [
        ("train", "train/a.jpg", "cat"), ("train", "train/b.jpg", "dog"), ("val", "valid/a.jpg", "cat"),
        ("test", "test/a.jpg", "dog"), ("unlabeled", "train/c.jpg", None),
    ]  # fmt: skip
    make(tmp_path, labels__csv="path,label\n")
    assert "labels.csv and t" in refused(tmp_path)
    assert "both are label files" in refused(tmp_path)


def test_two_label_files_need_a_choice(tmp_path: Path) -> None:
    make(tmp_path, *FILES, labels__csv="path,label\na.jpg,cat\nb.jpg,dog\n", labels__tsv="path\tlabel\na.jpg\tx\n")
    assert "labels.csv and labels.tsv: both are label files" in refused(tmp_path)
    assert find(tmp_path, labels=tmp_path / "labels.csv") == BOTH
    assert find(tmp_path, labels=Path("labels.csv")) == BOTH, "below the folder, too"
    assert "there is no such label file" in refused(tmp_path, labels=Path("label.csv"))


def test_metadata_without_labels_leaves_class_folders(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg", "dog/1.jpg", metadata__csv="file_name,text\ncat/1.jpg,a cat\n")
    found = find_images(tmp_path)
    assert found.kind == "class folders"
    assert "metadata.csv has no column for the label and is not used" in found.notes[0]


@pytest.mark.parametrize("written", ["pics/deep/c.jpg", "deep/c.jpg", "./deep//c.jpg", "deep\\c.jpg", "c.jpg", "c",
                                     "ROOT/pics/deep/c.jpg", "x/../deep/c.jpg", " c.jpg "])  # fmt: skip
def test_paths_are_resolved_generously(written: str, tmp_path: Path) -> None:
    written = written.replace("ROOT", str(tmp_path))
    make(tmp_path, "pics/deep/c.jpg", "pics/d.jpg", labels__csv=f"path,label\n{written},cat\nd.jpg,dog\n")
    assert find(tmp_path)[1] == ("train", "pics/deep/c.jpg", "cat")
    (tmp_path / "labels.csv").rename(tmp_path / "pics/labels.csv")
    assert find(tmp_path, labels=tmp_path / "pics/labels.csv")[1] == ("train", "pics/deep/c.jpg", "cat")
    if "pics" not in written or "/" not in written:
        return
    (tmp_path / "pics/labels.csv").rename(tmp_path / "labels.csv")
    assert find(tmp_path / "pics", labels=tmp_path / "labels.csv")[1][1] == "deep/c.jpg"


def test_paths_are_never_ambiguous(tmp_path: Path) -> None:
    make(tmp_path, "x/1.jpg", "y/1.jpg", "2.jpg", labels__csv="path,label\n1.jpg,cat\n2.jpg,dog\n")
    assert 'labels.csv:2: "1.jpg" may be "x/1.jpg" or "y/1.jpg"' in refused(tmp_path)
    make(tmp_path / "x", "2.jpg", labels__csv="path,label\n2.jpg,dog\n")
    assert '"2.jpg" may be "2.jpg" or "x/2.jpg"' in refused(tmp_path, labels=tmp_path / "x/labels.csv")


def test_the_part_decides_between_images_of_one_name(tmp_path: Path) -> None:
    text = "path,label,split\n1.jpg,cat,train\n2.jpg,dog,train\n1.jpg,dog,test\n"
    make(tmp_path, "train/1.jpg", "train/2.jpg", "test/1.jpg", labels__csv=text)
    assert find(tmp_path)[-1] == ("test", "test/1.jpg", "dog")


HEAD = "path,label\na.jpg,cat\n"
WRONG: dict[str, tuple[str | bytes, str]] = {
    # case: (the file, what is said)
    "UTF-16": ((HEAD + "b.jpg,dog\n").encode("utf-16"), "labels.csv:1: is UTF-16 text (byte 0). Save it again"),
    "UTF-16 without BOM": ((HEAD + "b.jpg,dog\n").encode("utf-16-le"), "labels.csv:1: has a zero byte"),
    "Latin-1": (HEAD.encode() + b"b.jpg,caf\xe9\n", "labels.csv:3: byte 30 (0xe9) is not UTF-8"),
    "BOM and Latin-1": (b"\xef\xbb\xbf" + HEAD.encode() + b"b.jpg,caf\xe9\n", "labels.csv:3: byte 33 (0xe9)"),
    "short row": (HEAD + "b.jpg\n", "labels.csv:3: 1 cell, but the header has 2"),
    "long row": (HEAD + "b,c.jpg,dog\n", "labels.csv:3: 3 cells, but the header has 2. Put a cell"),
    "file not on disk": (HEAD + "z.jpg,dog\n", 'labels.csv:3: there is no image "z.jpg"'),
    "a file that is no image": (HEAD + "labels.csv,dog\n", "its suffix is none of an image"),
    "absolute path": (HEAD + "/etc/b.jpg,dog\n", 'labels.csv:3: "/etc/b.jpg" is outside of'),
    "path of Windows": (HEAD + "C:\\b.jpg,dog\n", 'labels.csv:3: "C:'),
    "path that leads out": (HEAD + "../b.jpg,dog\n", 'labels.csv:3: "../b.jpg" leads out of'),
    "no path": (HEAD + ",dog\n", "labels.csv:3: the path of the image is empty"),
    "conflict": (HEAD + "b.jpg,dog\na.jpg,dog\n",
                 'labels.csv:4: "a.jpg" has the class "dog" here and "cat" in labels.csv:2'),
    "empty": ("", "labels.csv:1: the file is empty"),
    "white": (" \n\n", "labels.csv:1: the file is empty"),
    "header only": ("path,label\n", "labels.csv:2: has a header, but no rows"),
    "no header": ("a.jpg,cat\nb.jpg,dog\n", 'labels.csv:1: no column for the path of the image among "a.jpg", "cat"'),
    "column twice": ("path,label,Label\na.jpg,cat,dog\n", 'labels.csv:1: the header has the column "label" twice'),
    "huge cell": (HEAD + "b.jpg," + "x" * 200_000, "labels.csv:3: a cell has more than 131072 characters"),
    "huge line": (HEAD + "b.jpg" + "," * 2**21, "labels.csv:3: the line has 2097157 characters"),
    "long label": (HEAD + "b.jpg," + "x" * 300, "labels.csv:3: the label has 300 characters"),
    "open quote": (HEAD + 'b.jpg,"dog\n', 'labels.csv:3: a quoted cell has no end: a " is missing'),
    "text after a quote": (HEAD + '"b"x.jpg,dog\n', "labels.csv:3: text stands after the closing"),
    "several classes": (HEAD + 'b.jpg,"[""x"", ""y""]"\n', "labels.csv:3: 2 classes"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files(case: str, tmp_path: Path) -> None:
    text, says = WRONG[case]
    assert says in refused(make(tmp_path, *FILES, labels__csv=text))


ODD: dict[str, str | bytes] = {
    "BOM": b"\xef\xbb\xbf" + HEAD.encode() + b"b.jpg,dog\n",
    "BOM and quotes": b'\xef\xbb\xbf"path","label"\n"a.jpg","cat"\n"b.jpg","dog"\n',
    "CRLF": (HEAD + "b.jpg,dog\n").replace("\n", "\r\n"),
    "CR": (HEAD + "b.jpg,dog\n").replace("\n", "\r"),
    "no last line end": HEAD + "b.jpg,dog",
    "semicolons": (HEAD + "b.jpg,dog\n").replace(",", ";"),
    "tabs": (HEAD + "b.jpg,dog\n").replace(",", "\t"),
    "missing label": HEAD + "b.jpg,dog\ndeep/c.jpg,\n",
    "blank lines": "\n\n" + HEAD + "\n  \nb.jpg,dog\n\n",
    "spaces": "path , label\na.jpg, cat\nb.jpg ,dog \n",
    "empty cells at the end": HEAD + "b.jpg,dog,,,\n,,,\n",
    "the same row twice": HEAD + "b.jpg,dog\na.jpg,cat\n",
}


@pytest.mark.parametrize("case", ODD)
def test_odd_files_that_are_read(case: str, tmp_path: Path) -> None:
    found = find_images(make(tmp_path, *FILES, labels__csv=ODD[case]))
    assert short(found) == BOTH
    assert found.ignored == ({"rows that repeat an earlier one": 1} if "twice" in case else {})


def test_quoted_commas_and_newlines_and_the_lines_after_them(tmp_path: Path) -> None:
    text = 'path,label\n"a,1.jpg","big\ncat"\n"b\n2.jpg",dog\nz.jpg,dog\n'
    make(tmp_path, "a,1.jpg", "b\n2.jpg", "z.jpg", labels__csv=text)
    found = find_images(tmp_path)
    assert [(one.id, one.label, one.where) for one in found.files] == [
        ("a,1.jpg", "big\ncat", "labels.csv:2"), ("b\n2.jpg", "dog", "labels.csv:4"), ("z.jpg", "dog", "labels.csv:6"),
    ]  # fmt: skip


def test_what_a_spreadsheet_makes_of_values_stays_text(tmp_path: Path) -> None:
    labels = ["1e5", "2026-11-29", "007", "1.0", "TRUE", "nan", "NULL", "=1+1", "1_0"]
    make(tmp_path, *(f"{i}.jpg" for i in range(9)))
    make(tmp_path, labels__csv="path,label\n" + "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(labels)))
    assert [one[2] for one in find(tmp_path)] == labels


def test_classes_that_are_given_are_all(tmp_path: Path) -> None:
    make(tmp_path, *FILES, labels__csv=HEAD + "b.jpg,dig\n")
    assert 'labels.csv:3: the class "dig" is none of the given `classes`' in refused(tmp_path, classes=["dog", "cat"])
    assert find_images(tmp_path, classes=["z", "dig", "cat"]).classes == ("z", "dig", "cat")


def test_one_message_shows_the_first_problems_and_their_number(tmp_path: Path) -> None:
    make(tmp_path, *FILES, labels__csv=HEAD + "".join(f"{i}.jpg,dog\n" for i in range(30)))
    lines = refused(tmp_path).splitlines()
    assert len(lines) == 7
    assert lines[0] == "30 problems:"
    assert lines[-1] == "  ... and 25 more"
    make(tmp_path, labels__csv=HEAD + "".join(f"{i}.jpg,dog\n" for i in range(3000)))
    assert refused(tmp_path).startswith("1000 or more problems:")


@pytest.mark.parametrize("setting", ["path_column", "label_column", "split_column", "group_column", "delimiter"])
def test_settings_for_a_label_file_that_is_not_found(setting: str, tmp_path: Path) -> None:
    make(tmp_path, "good/1.png", "bad/2.png", animals__csv="")
    said = refused(tmp_path, **{setting: ";"})
    assert f"`{setting}` set, but no label file was found" in said
    assert 'is "animals.csv" one? Name it (`labels`)' in said
    (tmp_path / "animals.csv").unlink()
    assert "add one (labels.csv), or name it" in refused(tmp_path, **{setting: ";"})


def test_a_given_delimiter(tmp_path: Path) -> None:
    make(tmp_path, *FILES, labels__csv="path:label\na.jpg:cat\nb.jpg:dog\n")
    assert "no column for the path" in refused(tmp_path)
    assert find(tmp_path, delimiter=":") == BOTH
    make(tmp_path, labels__csv="path,1\tlabel,2\na.jpg\tcat\nb.jpg\tdog\n")
    assert find(tmp_path, delimiter="\\t", path_column="path,1", label_column="label,2") == BOTH
    assert "one character" in refused(tmp_path, delimiter="ab")


def test_names_in_other_unicode_forms_and_bytes(tmp_path: Path) -> None:
    make(tmp_path, "e\u0301.jpg", "2.jpg", labels__csv="path,label\n\u00e9.jpg,\u00e9\n2.jpg,e\u0301\n3.jpg,dog\n")
    with open(bytes(tmp_path) + b"/3\xff.jpg", "wb"):  # noqa: PTH123
        pass
    make(tmp_path, labels__csv="path,label\n\u00e9.jpg,\u00e9\n2.jpg,e\u0301\n3\\xff.jpg,dog\n")
    assert find_images(tmp_path).classes == ("dog", "\u00e9")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"path": "a.jpg"', "labels.jsonl:2: is not JSON"),
        ("[1]", "labels.jsonl:2: must be an object"),
        ("[" * 100_000, "labels.jsonl:2: JSON with too many levels"),
        ('{"path": 1' + "0" * 5000 + "}", "labels.jsonl:2: is not usable JSON"),
        ('{"path": "b.jpg", "label": ["x", "y"]}', "labels.jsonl:2: 2 classes"),
        ('{"path": "b.jpg", "label": {"a": 1}}', "labels.jsonl:2: the label"),
        ('{"path": "b.jpg", "label": "\\ud800"}', "labels.jsonl:2: the label"),
        ('{"path": "\\ud800.jpg", "label": "x"}', "labels.jsonl:2: there is no image"),
        ('{"label": "x"}', "labels.jsonl:2: the path of the image is empty"),
    ],
)
def test_wrong_json_lines(line: str, says: str, tmp_path: Path) -> None:
    assert says in refused(make(tmp_path, *FILES, labels__jsonl='{"path": "a.jpg", "label": "cat"}\n' + line))


def test_many_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("path,label,split,group\n" + "".join(f"{i}.jpg,{i % 7},train,{i % 3}\n" for i in range(20_000)))
    rows = list(rows_of(read_table(file, "rows.csv"), "rows.csv", Asked(), Problems(tmp_path)))
    assert len(rows) == 20_000
    assert rows[-1] == (20_001, "19999.jpg", str(19_999 % 7), "train", str(19_999 % 3))


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    """Any damage gives an image list or one message, never another error."""
    make(tmp_path, *FILES)
    seeds = {
        "labels.csv": "\ufeffpath,label,split\na.jpg,cat,train\n\"b.jpg\",dog,train\ndeep/c.jpg,,\n",
        "labels.tsv": "path\tcat\tdog\na.jpg\t1\t0\nb.jpg\t0\t1\n",
        "labels.jsonl": '{"path": "a.jpg", "label": "cat"}\n{"path": "b.jpg", "label": "dog"}\n',
        "labels.json": json.dumps({
            "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
            "annotations": [{"image_id": 1, "category_id": 7}, {"image_id": 2, "category_id": 8}],
            "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
        }),
    }  # fmt: skip
    pieces = [b"\x00", b"\xff", b'"', b",", b"\n", b"\r", b"[", b"]", b"{", b"}", b":", b"..", b"/", b"\\", b"1e999",
              b"null", b"-1", b"\xf0\x9f\x98\x80", b"%", b"://", b"/data/upload/1/", b"?d=", b"x", b" ",
              b"\n\n"]  # fmt: skip
    draw = random.Random(0)
    read = 0
    for name, text in seeds.items():
        file = tmp_path / name
        for _ in range(150):
            data = bytearray(text.encode())
            for _ in range(draw.randint(1, 2)):
                at = draw.randrange(len(data) + 1)
                end = at + draw.choice([0, 0, 0, 1, 1, 9])
                data[at:end] = draw.choice([*pieces, bytes(data[at : at + 9])])
            file.write_bytes(data)
            try:
                read += bool(find_images(tmp_path).files)
            except DataError as error:
                said = str(error)
            else:
                said = ""
            assert said.replace("\n", "").isprintable()
        file.unlink()
    assert 50 < read < 500
    assert csv.field_size_limit() == 131072
