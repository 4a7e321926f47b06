"""From a folder of images to a trained model: data check, data split, recipe new, as a new user types them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.command import Result
from helpers.paths import REPO
from mmctl.recipe.recipe import load
from mmctl.runs.preflight import preflight

Mm = Callable[..., Result]
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def photos(folder: Path, each: int = 20, labels: int = 8, test: int = 4, size: int = 12) -> Path:
    """Loose noisy images of three colours; labels.csv has a few labels, a test part and a person for each image."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for name, colour in COLOURS.items():
        for n in range(each):
            file = f"{name[0]}{n:03d}.png"
            noise = rng.normal(0, 25, (size, size, 3)) + np.array(colour)
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / file)
            part = "test" if n >= each - test else "train"
            if part == "test" or n < labels:
                rows.append((file, name, part, f"person{n // 2}"))
    with (folder / "labels.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("path", "label", "split", "person"), *rows])
    return folder


def test_a_good_folder(tmp_path: Path, mm: Mm) -> None:
    photos(tmp_path / "photos")
    done = mm("data", "check", "photos", "--set", "dataset.size=12", "--sheet", "sheet.png")
    assert done.code == 0, done.err
    assert "pictures: 3 classes, 12 x 12 px, 3 channels, labels.csv" in done.out
    assert [line.split() for line in done.out.splitlines() if line.startswith(("train ", "test "))] == [
        ["train", "48", "24", "24"], ["test", "12", "12", "0"]
    ]  # fmt: skip
    assert "files:   PNG 60; 12 x 12 to 12 x 12 px, median 12 x 12" in done.out
    with Image.open("sheet.png") as sheet:
        assert sheet.size[0] > 12 * 48
    said = json.loads(mm("data", "check", "photos", "--json").out)
    assert said["ok"]
    assert said["per_class"] == {"train": [8, 8, 8], "test": [4, 4, 4]}


def test_what_must_be_mended_is_exit_2(tmp_path: Path, mm: Mm) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "r010.png").write_bytes(b"")
    (folder / "g010.png").write_bytes((folder / "g019.png").read_bytes())
    words = ("data", "check", "photos", "--set", "dataset.size=12")
    done = mm(*words)
    assert done.code == 2
    assert "2 things must be mended (damaged, leakage), or allowed: --allow damaged --allow leakage" in done.err
    assert "r010.png" in done.out
    assert "g010.png = g019.png" in done.out
    assert "1 thing must be mended (leakage)" in mm(*words, "--allow", "damaged").err
    assert mm(*words, "--allow", "damaged", "--allow", "leakage").code == 0
    said = json.loads(mm(*words, "--json").out)
    assert [one["kind"] for one in said["findings"] if one["level"] == "error"] == ["damaged", "leakage"]
    assert 'Did you mean "damaged"' in mm(*words, "--allow", "damage").err
    assert "must end in .png" in mm(*words, "--sheet", "x.pdf").err
    assert mm("data", "check", "nowhere").code == 2


def test_splits_by_person(tmp_path: Path, mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    with (photos(tmp_path / "photos") / "labels.csv").open("a") as out:
        out.writelines(f"r01{n}.png,,train,person{n}\n" for n in range(4))
    (tmp_path / "photos" / "r012.png").write_bytes(b"no image is opened")
    done = mm("data", "split", "make", "photos", "-o", "splits/a.json", "--group", "person", "--val", "0.25")
    assert done.code == 0, done.err
    body = json.loads((tmp_path / "splits/a.json").read_text())
    assert not {int(name[1:4]) // 2 for name in body["labeled"]} & {int(name[1:4]) // 2 for name in body["val"]}
    assert "\n  --set split.rule=file --set split.file=splits/a.json\n" in done.out
    shown = mm("data", "split", "show", "photos", "splits/a.json")
    left_out = body["left_out"]
    assert {int(name[3]) for name in left_out} == {int(name[1:4]) // 2 for name in body["val"]}
    assert f", {len(left_out)} left out\n" in done.out
    assert f", {len(left_out)} left out (seed 0, by groups True)" in shown.out
    assert f"{len(body['labeled'])} labelled, {len(body['val'])} held out for validation, " in shown.out
    assert mm("data", "split", "export", "splits/a.json", "-o", "a.csv").code == 0
    assert mm("data", "split", "import", "a.csv", "-o", "b.json", "--check", "photos").code == 0
    again = json.loads((tmp_path / "b.json").read_text())
    assert {key: again[key] for key in ("labeled", "val", "left_out")} == {
        key: body[key] for key in ("labeled", "val", "left_out")
    }
    assert "exists already" in mm("data", "split", "make", "photos", "-o", "splits/a.json").err
    assert "must end in .csv" in mm("data", "split", "export", "splits/a.json", "-o", "a.json").err
    assert "is a .csv file already" in mm("data", "split", "export", "a.csv").err
    (tmp_path / "both.csv").write_text("id,part\nr000.png,labeled\nr000.png,val\n")
    assert 'in "labeled" and in "val"' in mm("data", "split", "import", "both.csv", "--check", "photos").err
    assert not (tmp_path / "both.json").exists()
    assert "no column" in mm("data", "split", "make", "photos", "-o", "c.json", "--group", "nobody").err
    folds = mm("data", "split", "make", "photos", "-o", "cv.json", "--folds", "4", "--json")
    assert [one["val"] for one in json.loads(folds.out)["files"]] == [6, 6, 6, 6]
    monkeypatch.chdir(tmp_path / "recipes")
    inside = mm("data", "split", "make", "../photos", "-o", "cv.json", "--folds", "2")
    assert [f"  --set split.rule=file --set split.file=recipes/cv-{n}.json" for n in (0, 1)] == [
        line for line in inside.out.splitlines() if "--set" in line
    ]
    assert "at least 2" in mm("data", "split", "make", "photos", "-o", "cv.json", "--folds", "1").err


@pytest.mark.slow
def test_from_a_folder_to_a_comparison(tmp_path: Path, mm: Mm, capfd: pytest.CaptureFixture[str]) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "b010.png").write_bytes(b"no image")
    with Image.open(folder / "b011.png") as image:
        image.save(folder / "b011.png", "BMP")
    done = mm("recipe", "new", "--from", "photos", "--name", "colours", "--yes")
    assert done.code == 0, done.err
    assert "labels.csv: 48 training images, 12 test; 12 x 12 to 12 x 12 px, colour" in done.out
    commands = [line.strip() for line in done.out.splitlines() if line.startswith("  mmctl ")]
    assert commands == [
        "mmctl data check colours", "mmctl run colours-supervised colours --seeds 0-2",
        "mmctl compare -b colours-supervised -m test/accuracy",
    ]  # fmt: skip
    checked = mm(*commands[0].split()[1:])
    assert checked.code == 0, "the recipe leaves damaged images out"
    notes = ("unlabelled, since labels.csv has no row for them: 24 images", "1 image: BMP in a file that ends in .png")
    assert [checked.out.count(note) for note in notes] == [1, 1]
    few = [word for key in ("train.steps=6", "train.save_every=6", "eval.every=6") for word in ("--set", key)]
    ran = mm("run", "colours-supervised", *few, "--quiet")
    assert ran.code == 0, ran.err
    assert "1 of 60 images are damaged and were left out: b010.png" in ran.err
    assert "note: " not in ran.err, "--quiet leaves notes out"
    preflight([load("colours-supervised", ["dataset.size=12", f"seed={seed}"]) for seed in (1, 2)])
    said = capfd.readouterr().err
    assert [said.count(f"note: {note}\n") for note in notes] == [1, 1], "of two recipes with the same images"
    shown = mm("show", "@last").out
    assert "left out" in shown
    assert "47 train, 24 labelled" in shown
    assert "is there already" in mm("recipe", "new", "--from", "photos", "--name", "colours", "--yes").err


def test_the_recipe_is_meant_where_a_folder_has_its_name(tmp_path: Path, mm: Mm) -> None:
    folder = photos(tmp_path / "photos", each=5, labels=2, test=1)
    (folder / "b003.png").write_bytes(b"no image")
    done = mm("recipe", "new", "--from", "photos", "--yes")
    assert "  mmctl data check photos\n" in done.out
    assert mm("data", "check", "photos").code == 0, "the recipe leaves damaged images out"
    assert mm("data", "check", "photos/").code == 2, "the folder itself"


def damage(folder: Path) -> dict[str, str]:
    """Damage ten unlabelled images in the ten ways of docs/own-pictures.md; file -> what mmctl must say of it."""
    names = [f"{colour}{n:03d}.png" for colour in "rgb" for n in range(10, 14)]
    good = (folder / names[0]).read_bytes()
    large = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(large, "png")
    jpeg = io.BytesIO()
    Image.new("RGB", (32, 32), (1, 2, 3)).save(jpeg, "jpeg")
    contents = {
        "the file is truncated: its end is missing": good[: len(good) // 2],
        "its header is damaged or cut off (JPEG)": jpeg.getvalue()[:2] + bytes(38) + jpeg.getvalue()[40:],
        "it is not an image, or none of JPEG, PNG, WebP, BMP, GIF or TIFF": good[20:],
        "it is an HTML page: the download failed": b"<html>404 not found</html>",
        "it is not an image, or none of JPEG, PNG, WebP, BMP, GIF or TIFF ": np.random.default_rng(0).bytes(3000),
        "the file is empty (0 bytes)": b"",
        "400,000,000 px are more than Pillow decodes": large.getvalue(),
    }
    said = {}
    for name, (words, content) in zip(names, contents.items(), strict=False):
        (folder / name).write_bytes(content)
        said[name] = words.strip()
    for name in names[7:10]:
        (folder / name).unlink()
    os.mkfifo(folder / names[7])
    (folder / names[8]).symlink_to("nowhere.png")
    (folder / names[9]).symlink_to(names[9])
    said[names[7]] = "is a named pipe (FIFO), not an image. Remove it."
    said[names[8]] = "is a link that leads to nothing. Remove it, or restore its target."
    said[names[9]] = "is a link that leads to itself. Remove it, or restore its target."
    return said


def test_ten_images_damaged_in_ten_ways(tmp_path: Path, mm: Mm) -> None:
    folder = photos(tmp_path / "photos")
    said = damage(folder)
    document = (REPO / "docs" / "own-pictures.md").read_text()
    assert [words for words in said.values() if f"| {words} |" not in document] == []
    done = mm("data", "check", "photos", "--set", "dataset.size=12")
    assert done.code == 2
    links = {name: words for name, words in said.items() if words.startswith("is a ")}
    assert sorted(line.strip() for line in done.err.splitlines()[1:]) == sorted(
        f'"{name}": {words}' for name, words in links.items()
    )
    for name in links:
        (folder / name).unlink()
    done = mm("data", "check", "photos", "--set", "dataset.size=12", "--json")
    assert done.code == 2
    (found,) = (f for f in json.loads(done.out)["findings"] if f["kind"] == "damaged")
    assert found["level"] == "error"
    assert sorted(found["examples"]) == sorted(f"{n}: {words}" for n, words in said.items() if n not in links)
    done = mm("data", "check", "photos", "--set", "dataset.size=12", "--set", 'dataset.on_bad="skip"', "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["counts"]["train"]["images"] == 48 - 10


def test_a_folder_without_labels_gets_a_table_to_fill_in(tmp_path: Path, mm: Mm) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "labels.csv").unlink()
    done = mm("recipe", "new", "--from", "photos", "--yes")
    assert done.code == 0, done.err
    assert "60 images, none of which has a label" in done.out
    rows = (folder / "labels.csv").read_text().splitlines()
    assert rows[0].startswith("path,label")
    assert len(rows) == 61
    again = mm("recipe", "new", "--from", "photos", "--yes")
    assert again.code == 2
    assert "has no label of a training image" in again.err


@pytest.mark.parametrize(("words", "says"), [
    (("--from", "nowhere"), "there is no such folder"),
    (("--from", "photos", "--name", "a b"), "must be at most 80 letters"),
    (("--from", "photos", "--minutes", "-3"), "give a number of minutes"),
])  # fmt: skip
def test_wrong_options(tmp_path: Path, mm: Mm, words: tuple[str, ...], says: str) -> None:
    photos(tmp_path / "photos", each=5, labels=2, test=1)
    done = mm("recipe", "new", *words, "--yes")
    assert done.code == 2
    assert says in done.err
    assert not (tmp_path / "recipes").exists()


def test_the_example_for_own_images(tmp_path: Path, mm: Mm) -> None:
    assert any(
        line.split()[:4] == ["my-pictures", "all", "1000", "missing"] for line in mm("recipe", "list").out.splitlines()
    )
    done = mm("run", "my-pictures")
    assert done.code == 2
    assert done.err.endswith(
        "photos: there is no such folder. Give the folder with the images (in a recipe: dataset.root).\n"
    )


@pytest.mark.slow
def test_the_example_trains_on_class_folders(tmp_path: Path, mm: Mm) -> None:
    for file in photos(tmp_path / "photos").glob("*.png"):
        folder = {"r": "red", "g": "green", "b": "unlabeled"}[file.name[0]]
        (tmp_path / "photos" / folder).mkdir(exist_ok=True)
        file.rename(tmp_path / "photos" / folder / file.name)
    (tmp_path / "photos" / "labels.csv").unlink()
    few = (
        "dataset.size=16",
        "train.batch=4",
        "train.unlabeled_batch=4",
        "train.steps=2",
        "train.save_every=2",
        "eval.every=2",
    )
    done = mm("run", "my-pictures", "--quiet", *(word for one in few for word in ("--set", one)))
    assert done.code == 0, done.err
    assert "32 labelled" in mm("show", "@last").out


class Typed(io.StringIO):
    """What a person types into a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Answers to the next questions, one a line; each step of training takes a second on this machine."""
    monkeypatch.setattr("mmctl.dataset_tools.measure.seconds_of_a_step", lambda *args: 1.0)

    def answer(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", Typed(text))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    return answer


def test_questions_of_recipe_new(tmp_path: Path, mm: Mm, answers: Callable[[str], None]) -> None:
    photos(tmp_path / "photos", each=5, labels=2, test=1)
    recipes = tmp_path / "recipes"
    answers("birds\n10\nn\n")
    done = mm("recipe", "new", "--from", "photos")
    assert done.code == 0, done.err
    for question in ("name of the recipe [photos]:", "minutes that a run may take", "belong to the same class [Y/n]:"):
        assert question in done.err
        assert question not in done.out
    made = tomllib.loads((recipes / "base/birds.toml").read_text())
    assert made["train"]["steps"] == 600
    assert made["augment"]["weak"]["flip"] == 0.0
    assert "you said that mirrored images are of another class" in (recipes / "base/birds.toml").read_text()
    answers("\n\n\n")
    assert mm("recipe", "new", "--from", "photos", "--minutes", "6").code == 0
    made = tomllib.loads((recipes / "base/photos.toml").read_text())
    assert (made["train"]["steps"], made["augment"]["weak"]["flip"]) == (300, 0.5), "Enter takes what is offered"
    answers("others\n\n")
    assert "mirrored" not in mm("recipe", "new", "--from", "photos", "--no-mirror").err, "that is answered already"


@pytest.mark.parametrize(("typed", "says"), [
    ("a b\n", "must be at most 80 letters"), ("birds\n-3\n", "give a number of minutes"),
    ("birds\nfive\n\nx\n", "Aborted"), ("", "Aborted"),
])  # fmt: skip
def test_wrong_answers_write_nothing(
    tmp_path: Path, mm: Mm, answers: Callable[[str], None], typed: str, says: str
) -> None:
    photos(tmp_path / "photos", each=5, labels=2, test=1)
    answers(typed)
    done = mm("recipe", "new", "--from", "photos")
    assert done.code != 0
    assert says in done.err
    assert not (tmp_path / "recipes").exists()


@pytest.mark.slow
def test_the_commands_of_the_document(tmp_path: Path, mm: Mm) -> None:
    """Every command of docs/own-pictures.md, in its order, on a small folder; training is made short."""
    photos(tmp_path / "photos")
    text = (REPO / "docs" / "own-pictures.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    commands = [shlex.split(line, comments=True)[1:] for block in blocks for line in block.splitlines()]
    assert len(commands) >= 9
    few = [word for key in ("train.steps=4", "train.save_every=4", "eval.every=4") for word in ("--set", key)]
    for words in commands:
        done = mm(*words, *(few if words[0] == "run" else ()))
        assert done.code == 0, (words, done.err)
    assert (tmp_path / "sheet.png").is_file()
    for toml in re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S):
        tomllib.loads(toml)
