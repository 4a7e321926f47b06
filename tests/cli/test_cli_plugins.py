"""`mmctl plugins`: a list without imports, and one component explained."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PLUGIN = '''
from typing import Annotated

from pydantic import Field

from mmctl.plugin import LossTerm, labeler, loss, method


@labeler("mine")
class Mine:
    """A [bold]labeler[/bold] of mine.

    More on it.

    Args:
        m: Fuzzifier.
    """

    def __init__(
        self, num_classes: int, *, m: Annotated[float, Field(gt=1)] = 2.0, need: int, n: int | None = None
    ) -> None: ...


@loss("mine")
class Loss:
    """A loss of mine."""


@method("ours")
class Method:
    """A method."""

    slots = {"a": LossTerm("mine", 2.0), "b": LossTerm(None)}
'''


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine.py").write_text(PLUGIN)
    (tmp_path / "plugins" / "boom.py").write_text("from mmctl.plugin import loss\n1 / 0\n@loss('boom')\nclass B: ...\n")
    (tmp_path / "plugins" / "bad-name.py").write_text("@loss('bad')\nclass B: ...\n")


def test_list(mm: Any) -> None:
    done = mm("plugins", "list")
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert ["KIND", "NAME", "FROM", "SUMMARY"] in rows
    assert ["labeler", "plugins:mine", "plugins/mine.py:9", "A", "[bold]labeler[/bold]", "of", "mine."] in rows
    assert ["loss", "plugins:boom", "plugins/boom.py:3"] in rows
    assert any(row[:4] == ["loss", "plugins:bad", "plugins/bad-name.py:1", "broken:"] for row in rows)
    assert any(row[:4] == ["loss", "brier", "mmctl", "0.1.0"] for row in rows)
    assert "mmctl.local.boom" not in sys.modules


def test_list_json_and_kind(mm: Any) -> None:
    rows = json.loads(mm("plugins", "list", "--kind", "labeler", "--json").out)["plugins"]
    assert {row["kind"] for row in rows} == {"labeler"}
    row = next(row for row in rows if row["name"] == "plugins:mine")
    assert (row["file"], row["line"], row["broken"], row["version"]) == ("plugins/mine.py", 9, None, None)
    done = mm("plugins", "list", "--kind", "labelr")
    assert done.code == 2
    assert 'Did you mean "labeler"' in done.err


def test_show(mm: Any) -> None:
    done = mm("plugins", "show", "mine", "--kind", "labeler")
    assert done.code == 0
    assert "labeler plugins:mine  (plugins/mine.py:9)" in done.out
    assert "supplied by mmctl: num_classes" in done.out
    assert ["m", "float", "2.0", ">", "1", "Fuzzifier."] in [line.split() for line in done.out.splitlines()]
    table = done.out[done.out.index("[labeler]") :]
    assert tomllib.loads(table) == {"labeler": {"name": "plugins:mine", "m": 2.0}}
    assert "# need = ...  (required)" in table


def test_show_a_method(mm: Any) -> None:
    out = mm("plugins", "show", "plugins:ours").out
    assert tomllib.loads(out[out.index("[method]") :])["loss"] == {
        "a": {"name": "mine", "weight": 2.0, "rampup": 0},
        "b": {"weight": 1.0, "rampup": 0},
    }


def test_show_json(mm: Any) -> None:
    told = json.loads(mm("plugins", "show", "mine", "--kind", "labeler", "--json").out)
    assert told["supplied"] == ["num_classes"]
    assert [p["default"] for p in told["parameters"]] == ["2.0", "required", "-"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["mine"], ["components of several kinds", "--kind labeler or --kind loss"]),
        (["mien"], ['no component "mien". Did you mean "mine"']),
        (["boom"], ["ZeroDivisionError", "plugins/boom.py:2", "MMCTL_DEBUG=1"]),
        (["plugins:bad"], ["file name is not a valid module name"]),
        (["mine", "--kind", "backbone"], ["is a labeler, not a backbone"]),
    ],
)
def test_show_what_cannot_be_shown(mm: Any, words: list[str], parts: list[str]) -> None:
    done = mm("plugins", "show", *words)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert [part for part in parts if part not in done.err] == []


BOUNDS = '''
from typing import Annotated

from pydantic import Field

from mmctl.plugin import loss

Size = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]
Same = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0)] | None


@loss("sized")
class Sized:
    """Sized."""

    def __init__(self, *, size: Size = 3, same: Same = None, one: Annotated[float, Field(gt=0, le=1)] = 1): ...
'''


def test_each_type_of_a_parameter_has_its_own_bounds(mm: Any, tmp_path: Path) -> None:
    (tmp_path / "plugins" / "sized.py").write_text(BOUNDS)
    rows = json.loads(mm("plugins", "show", "sized", "--json").out)["parameters"]
    assert {row["name"]: (row["type"], row["bounds"]) for row in rows} == {
        "size": ("int | float", "int >= 1 | float > 0, < 1"),
        "same": ('int | float | "none"', ">= 0"),
        "one": ("float", "> 0, <= 1"),
    }
    (row,) = json.loads(mm("plugins", "show", "cutout", "--json").out)["parameters"][:1]
    assert "int >= 0, <= " in row["bounds"]
    assert " | float >= 0, <= 1" in row["bounds"]


def test_no_component_shows_a_bound_of_one_type_as_that_of_another() -> None:
    from mmctl.registry.index import Index
    from mmctl.registry.parameters import parameters, schema

    index, unions = Index(sources="off"), 0
    for entry in index.entries:
        model = index.shape(entry).model
        for row in parameters(model):
            for part in schema(model)["properties"][row.name].get("anyOf", ()):
                if "none" in part.get("enum", [part.get("const")]):
                    continue  # the word that takes a value away
                unions += 1
                if "exclusiveMaximum" not in part and "maximum" not in part:
                    mine = [text for text in row.bounds.split(" | ") if "<" in text]
                    names = {"integer": "int", "number": "float"}
                    assert not any(text.startswith((names.get(part.get("type"), "?"), "<", ">")) for text in mine), row
    assert unions > 10


METHOD = '''
from torch import nn

from mmctl.plugin import LossTerm, StepOutput, method


@method("far")
class Far(nn.Module):
    """Cross-entropy alone."""

    slots = {"labeled": LossTerm("soft_cross_entropy")}
    views = {"x": ("weak",)}
    default_labeler = None

    def __init__(self, model, losses):
        super().__init__()
        self.model, self.losses = model, losses

    def step(self, batch):
        return StepOutput({"labeled": self.losses.labeled(self.model(batch.x[0], bn="update"), batch.y)})
'''

DATASET = '''
import numpy as np

from mmctl.plugin import Images, dataset


@dataset("stored")
def stored(root):
    """One array in a file."""
    x = np.load(root / "x.npy")
    y, ids = np.arange(30) % 2, [str(n) for n in range(30)]
    parts = {"train": slice(20), "test": slice(20, 30)}
    return {name: Images.of(x[at], y[at], ("a", "b"), ids[at]) for name, at in parts.items()}
'''


@pytest.mark.slow
def test_check_a_file_of_another_folder(mm: Any, tmp_path: Path) -> None:
    """Its contract uses the component of the file: for a method, in a recipe of its own."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "far.py").write_text(METHOD)
    done = mm("plugins", "check", "far/far.py")
    assert (done.code, done.err) == (0, ""), done.out
    assert done.out.startswith("method plugins:far  (far/far.py:7)\n")
    assert "BROKEN" not in done.out
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "far.py").write_text(METHOD.replace("super().__init__()", "super().__init__(); 1 / 0"))
    done = mm("plugins", "check", "wrong/far.py")
    assert done.code == 2
    assert "cannot be built: ZeroDivisionError" in done.out
    assert mm("plugins", "check", "far/near.py").err == "mmctl: far/near.py: there is no such file.\n"


def test_check_a_data_set_where_a_run_finds_it(mm: Any, tmp_path: Path) -> None:
    (tmp_path / "plugins" / "stored.py").write_text(DATASET)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), dtype=np.uint8)
    for folder in ("data/stored", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        np.save(tmp_path / folder / "x.npy", pixels)
    assert mm("plugins", "check", "stored").code == 0
    (tmp_path / "data" / "stored" / "x.npy").unlink()
    done = mm("plugins", "check", "stored")
    assert done.code == 2
    assert f"{tmp_path}/data/stored/x.npy" in done.out
    assert mm("plugins", "check", "stored", "--set", "root=elsewhere").code == 0


def test_debug_prints_the_traceback(mm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = mm("plugins", "show", "boom")
    monkeypatch.setenv("MMCTL_DEBUG", "1")
    done = mm("plugins", "show", "boom")
    assert (done.code, done.out) == (usual.code, usual.out) == (2, "")
    traceback, message = done.err.split("\nmmctl: ")
    assert f"mmctl: {message}" == usual.err
    assert 'boom.py", line 2' in traceback
    assert "\nZeroDivisionError: division by zero\n" in traceback
    assert "\nmmctl.errors.PluginError: " in traceback, "what it led to"


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_show_breaks_no_word(mm: Any, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    words = set(mm("plugins", "show", "fuzzy").out.split())
    monkeypatch.setenv("COLUMNS", str(columns))
    out = mm("plugins", "show", "fuzzy").out
    path = next(line for line in out.splitlines() if "centroid.py" in line or line.endswith(")"))
    assert {word for word in out.split() if word not in words} <= set(path.split()) | {"|"}
    assert max(len(line.rstrip()) for line in out.splitlines()) <= columns


def test_list_keeps_the_sentences_on_a_narrow_terminal(mm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    out = mm("plugins", "list", "--kind", "backbone").out
    assert "Any model of timm by name" in out
    assert out.index("  timm") < out.index("Any model of timm by name") < out.index("  torchvision")


@pytest.mark.parametrize("name", [(), ("plugins/lost.py",)])
def test_a_mark_that_is_not_read_is_listed_with_its_kind_and_checked(mm: Any, tmp_path: Path, name: Any) -> None:
    for file in (tmp_path / "plugins").iterdir():
        file.unlink()
    (tmp_path / "plugins" / "lost.py").write_text("from mmctl.plugin import labeler\n@labeler\nclass Lost: ...\n")
    (tmp_path / "plugins" / "latin.py").write_bytes(b"\xff")
    for kind, lost in (("labeler", 1), ("loss", 0)):
        done = mm("plugins", "list", "--kind", kind)
        assert done.out.count("plugins/lost.py:2") == lost
        assert "plugins/latin.py" in done.out, "it may hold a component of any kind"
    done = mm("plugins", "check", *name)
    assert done.code == 2
    assert "a bug" not in done.err
    assert "plugins/lost.py:2: write @labeler" in done.out
