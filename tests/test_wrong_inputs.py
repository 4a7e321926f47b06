"""Wrong inputs of every kind: one message (where, what, what to do), the right exit code, and no file changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.command import Result
from helpers.good_recipe import GOOD
from helpers.run_helpers import tree

REST = GOOD[GOOD.index("[backbone]") :].encode()


def refused(mm: Callable[..., Result], tmp_path: Path, words: list[object], code: int, *says: str) -> None:
    before = tree(tmp_path / "runs")
    done = mm(*words)
    assert done.code == code, (done.code, done.out, done.err)
    assert "Traceback" not in done.err + done.out
    assert done.err.startswith(("mmctl: ", "Usage: ")) or words[:2] == ["recipe", "validate"], done.err
    assert "mmctl: mmctl: " not in done.err
    for text in says:
        assert text in done.err, f"{text!r} is not in {done.err!r}"
    assert tree(tmp_path / "runs") == before


RECIPES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # name: (what is replaced, by what, what the message must say)
    "key": ("labels = 20", "lables = 20", ("recipe.toml:5", '"labels"')),
    "table": ("[backbone]", "[backbon]", ("backbon", '"backbone"')),
    "component name": ('"small"', '"smal"', ("recipe.toml:7", 'Did you mean "small"')),
    "other kind": ('"supervised"', '"fuzzy"', ("is a labeler, not a method",)),
    "value": ("labels = 20", 'labels = "many"', ("recipe.toml:5", "integer")),
    "type": ("steps = 2", 'steps = "2"', ("recipe.toml:13", "integer")),
    "boolean": ("steps = 2", "steps = true", ("recipe.toml:13",)),
    "bounds": ("steps = 2", "steps = 0", ("recipe.toml:13", "1")),
    "infinite": ("steps = 2", "steps = 2\n[optimizer]\nlr = inf", ("optimizer.lr",)),
    "negative": ("steps = 2", "steps = 2\n[optimizer]\nlr = -1", ("optimizer.lr", "0")),
    "parameter of a component": ('"affine"', '"affine"\nrotat = 3', ("rotat", '"rotate"')),
    "slot": ("steps = 2", "steps = 2\n[loss.unlabelled]\nweight = 1", ("unlabelled",)),
    "labeler that nobody asked for": ("steps = 2", 'steps = 2\n[labeler]\nname = "fuzzy"', ("labeler",)),
    "policy missing": ("[augment.weak]", "[augment.strong]", ("weak",)),
    "after nothing": ('"affine"', '"affine"\nafter = "crop"', ("crop",)),
    "syntax": ("labels = 20", "labels = = 20", ("recipe.toml:5",)),
    "twice": ("labels = 20", "labels = 20\nlabels = 30", ("recipe.toml",)),
    "version": ("[dataset]", '[requires]\nmmctl = ">=9"\n[dataset]', ("mmctl", ">=9")),
    "parent missing": ("[dataset]", 'extends = "methods/margnmix.toml"\n[dataset]', ("marginmix",)),
    "itself as parent": ("[dataset]", 'extends = "recipe.toml"\n[dataset]', ("recipe.toml",)),
    "too many labels": ("labels = 20", "labels = 5000", ("5000", "1297")),
    "too few labels": ("labels = 20", "labels = 5", ("10 classes",)),
    "split evaluated": ("threads = 1", 'threads = 1\n[eval]\nsplits = ["val"]\nprimary = "val/accuracy"', ("val",)),
    "nothing to train": ("threads = 1", "threads = 1\n[loss.labeled]\nweight = 0", ("weight 0", "[loss.*]")),
    "cuda": ("threads = 1", 'threads = 1\ndevice = "cuda"', ("CUDA",)),
    "raw learned centroids": (
        "threads = 1",
        'threads = 1\n[centroids]\nestimator = "learned"\nnormalize_centroids = false',
        ("must be true with",),
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_wrong_recipes(name: str, mm: Callable[..., Result], tmp_path: Path) -> None:
    old, new, says = RECIPES[name]
    assert old in GOOD
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD.replace(old, new, 1).lstrip("\n").join(["\n", ""]))
    refused(mm, tmp_path, ["run", path], 2, *says)


def test_the_good_recipe_is_good(mm: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    assert mm("run", path, "--quiet").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "recipes/digts.toml"], "digits"),
        (["run", "."], "recipe"),
        (["run", "/dev/null"], ""),
        (["run", "digits", "--set", "train.steps"], "="),
        (["run", "digits", "--set", "train.stps=3"], "steps"),
        (["run", "digits", "--seeds", "3-1"], "0-4"),
        (["run", "digits", "--seeds", "1,1"], "twice"),
        (["run", "digits", "--set", "train.unlabeled_batch=5000"], "1297"),
        (["run", "digits-mixmatch", "--set", "method.bn_groups=interleave", "--set", "train.batch=32"], "joint"),
        (["run", "digits", "--set", "method.guesser=ema", "--set", "average.kind=none"], "average"),
        (["resume", "nobody"], "mmctl run"),
        (["evaluate", "@last"], "mmctl run"),
        (["plugins", "show", "fuzy"], "fuzzy"),
        (["recipe", "validate", "nowhere.toml"], "nowhere"),
        (["rnu"], "run"),
        (["run", "digits", "--seeds", ","], "0-4"),
        (["run", "digits", "--seeds", "1-x"], "0-4"),
        (["run", "digits", "--seeds", "99999999999"], "0-4"),
        (["run", "digits", "--jobs", "-1"], "--jobs"),
        (["run", "digits", "--set", "seed=-1"], "at least 0"),
        (["run", "digits", "--set", "=3"], "KEY=VALUE"),
        (["run", "digits", "--set", 'name="../../x"'], "starting with a letter or digit"),
        (["run", "digits", "--tag", "a,b"], "one word"),
        (["run", "digits", "--tag", "good\udcff"], "not UTF-8"),
        (["run", "digits", "digts"], 'Did you mean "digits"'),
        (["exec", "nowhere"], "not a run folder"),
        (["resume", ""], "no run"),
    ],
)
def test_wrong_words(words: list[object], says: str, mm: Callable[..., Result], tmp_path: Path) -> None:
    refused(mm, tmp_path, words, 2, says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ("method.name", "is required")),
        (b"\x00\x01\xff\xfe", ("recipe.toml", "UTF-8")),
        (b"\xef\xbb\xbf" + b"[dataset]\n" * 2, ("recipe.toml",)),
        (b"a" * 100_000, ("recipe.toml",)),
        (b"x = " + b"[" * 5000, ("recipe.toml",)),
        (b'extends = "other.toml"\n', ("other.toml:1", "circular", "recipe.toml -> other.toml -> recipe.toml")),
        (b'[dataset]\nname = "ferplus"\nroot = "nowhere"\n[split]\nlabels = 8\n' + REST, ("nowhere", "no such folder")),
        (
            b'[dataset]\nname = "digits"\n[split]\nrule = "file"\nfile = "x.json"\n' + REST,
            ("x.json", "no such split file"),
        ),
        (b'[dataset]\nname = "digits"\n[split]\nval = 5000\n' + REST, ("split.val = 5000", "lower it")),
    ],
    ids=["empty", "binary", "mark", "long line", "deep", "circular", "data folder", "split file", "validation"],
)
def test_files_that_are_no_good_recipe(
    content: bytes, says: tuple[str, ...], mm: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "other.toml").write_text('extends = "recipe.toml"\n')
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    refused(mm, tmp_path, ["run", path], 2, *says)


def test_runs_that_cannot_be_written(
    mm: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    (tmp_path / "file").write_text("a file")
    (tmp_path / "dangling").symlink_to(tmp_path / "unmounted" / "runs")
    for name in ("file", "dangling", "file/runs"):
        monkeypatch.setenv("MMCTL_RUNS", str(tmp_path / name))
        refused(mm, tmp_path, ["run", path], 4, name, "MMCTL_RUNS")
    assert (tmp_path / "file").read_text() == "a file"


PLUGINS = {
    "syntax": ("@augment('bad')\nclass Bad(:\n    pass\n", "broken.py"),
    "import": (
        "import no_such_module\nfrom mmctl.plugin import augment\n@augment('bad')\nclass Bad: pass\n",
        "no_such",
    ),
    "exit": ("from mmctl.plugin import augment\nraise SystemExit(3)\n@augment('bad')\nclass Bad: pass\n", "broken.py"),
    "constructor": (
        "from mmctl.plugin import augment\n@augment('bad')\nclass Bad:\n"
        "    def __init__(self, *, x: int = 1):\n        raise RuntimeError('no luck')\n",
        "no luck",
    ),
    "kwargs": (
        "from mmctl.plugin import augment\n@augment('bad')\nclass Bad:\n    def __init__(self, **kwargs): pass\n",
        "kwargs",
    ),
    "star rule": (
        "from mmctl.plugin import augment\n@augment('bad')\nclass Bad:\n    def __init__(self, speed): pass\n",
        "speed",
    ),
    "twice": (
        "from mmctl.plugin import augment\n@augment('bad')\nclass A: pass\n@augment('bad')\nclass B: pass\n",
        "broken.py",
    ),
}


@pytest.mark.parametrize("name", PLUGINS)
def test_broken_plugins_hurt_nobody_else(name: str, mm: Callable[..., Result], tmp_path: Path) -> None:
    code, says = PLUGINS[name]
    (tmp_path / "plugins").mkdir()
    # A mark counts at the beginning of a line with its name in double quotes, as formatters write it.
    (tmp_path / "plugins" / "broken.py").write_text(code.replace("'bad'", '"bad"'))
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD.replace('"affine"', '"bad"'))
    refused(mm, tmp_path, ["run", path], 2, says)
    path.write_text(GOOD)
    assert mm("recipe", "validate", path).code == 0
    assert mm("plugins", "list").code == 0


def test_a_plugin_that_raises_while_training(mm: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "later.py").write_text(
        'from mmctl.plugin import augment\n\n\n@augment("later")\nclass Later:\n    """Breaks."""\n\n'
        "    def draw(self, rng, n):\n        return {}\n\n    def apply(self, x_BCHW):\n"
        "        return 1 / 0 if len(x_BCHW) > 8 else x_BCHW  # not in the rehearsal, which takes a few\n"
    )
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD.replace('"affine"', '"later"'))
    done = mm("run", path, "--quiet")
    assert done.code == 3
    assert "later.py:12" in done.err
    assert "Traceback" not in done.err
    assert "failed" in mm("ls").out


def faces(root: Path, *, broken: str = "") -> Path:
    """A data/ferplus of the folder layout with a few pictures, one thing wrong with it."""
    for folder in ("FER2013Train", "FER2013Valid", "FER2013Test"):
        (root / folder).mkdir(parents=True)
        lines = []
        for n in range(24):
            votes = ["0"] * 10
            votes[n % 8] = "10"
            pixels = np.full((48, 48), 10 * n, np.uint8)
            Image.fromarray(pixels).save(root / folder / f"fer{n:07d}.png")
            lines.append(f'fer{n:07d}.png,"(0, 0, 48, 48)",{",".join(votes)}')
        if broken == "short row":
            lines[3] = ",".join(lines[3].split(",")[:-3])
        if broken == "long row":
            lines[3] += ",1,2"
        if broken == "not a number":
            lines[3] = lines[3][:-1] + "x"
        (root / folder / "label.csv").write_text("\n".join(lines) + "\n")
    picture = root / "FER2013Train" / "fer0000004.png"
    if broken == "truncated picture":
        picture.write_bytes(picture.read_bytes()[:60])
    if broken == "no picture":
        picture.write_text("hello")
    if broken == "picture missing":
        picture.unlink()
    if broken == "csv missing":
        (root / "FER2013Test" / "label.csv").unlink()
    if broken == "folder missing":
        (root / "FER2013Valid" / "label.csv").unlink()
        for p in (root / "FER2013Valid").iterdir():
            p.unlink()
        (root / "FER2013Valid").rmdir()
    return root


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("short row", "label.csv:4"),
        ("long row", "label.csv:4"),
        ("not a number", "label.csv:4"),
        ("truncated picture", "fer0000004.png"),
        ("no picture", "fer0000004.png"),
        ("picture missing", "fer0000004.png"),
        ("csv missing", "label.csv"),
        ("folder missing", "FER2013Valid"),
    ],
)
def test_damaged_faces(
    broken: str, says: str, mm: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = faces(tmp_path / "faces", broken=broken)
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD.replace('"digits"', f'"ferplus"\nroot = "{root}"').replace("labels = 20", "labels = 8"))
    refused(mm, tmp_path, ["run", path], 2, says)


@pytest.mark.slow
def test_faces_that_are_whole_train(mm: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = faces(tmp_path / "faces")
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD.replace('"digits"', f'"ferplus"\nroot = "{root}"').replace("labels = 20", "labels = 8"))
    done = mm("run", path, "--quiet")
    assert done.code == 0, done.err


def test_ambiguous_and_unknown_runs(mm: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    assert mm("run", path, "--quiet").code == 0
    assert mm("run", path, "--quiet", "--set", "seed=1").code == 0
    refused(mm, tmp_path, ["show", "20"], 2, "recipe-s")
    refused(mm, tmp_path, ["resume", "recipee"], 2, "recipe")
    refused(mm, tmp_path, ["compare", "--metric", "test/accuracy@lst"], 2, "last")
    refused(mm, tmp_path, ["compare", "--test", "anova"], 2, "welch")


def test_a_foreign_database_is_not_touched(mm: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    assert mm("run", path, "--quiet").code == 0
    database = tmp_path / "runs" / "mmctl.db"
    database.write_bytes(b"not a database at all" * 100)
    before = database.read_bytes()
    done = mm("ls")
    assert done.code == 4
    assert "mmctl db rebuild" in done.err
    assert database.read_bytes() == before
    assert mm("db", "rebuild").code == 0
    assert "completed" in mm("ls").out


def test_places_that_are_not_there(mm: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(mm, tmp_path, ["recipe", "schema", "--out", tmp_path / "no" / "x.json"], 4, "x.json", "No such file")
    refused(mm, tmp_path, ["run", "digits", "--set", "dataset.root=~nobody-here/x"], 2, "dataset.root", "no such user")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.delenv("MMCTL_RUNS")
    refused(mm, tmp_path, ["ls"], 4, "deleted")


def test_a_launcher_that_cannot_start(mm: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "boomer.py").write_text(
        "from mmctl.plugin import Limits, launcher\n\n\n"
        '@launcher("boomer")\nclass Boomer:\n    """Fails."""\n\n'
        "    def limits(self):\n        return Limits(1)\n\n"
        '    def start(self, run_dirs, name):\n        raise ValueError("no queue here")\n\n'
        "    def states(self, ids):\n        return {}\n\n    def cancel(self, ids):\n        pass\n"
    )
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    for words in ([], ["--seeds", "3-4"]):  # a single run goes through the recipe's launcher, too
        done = mm("run", path, "--set", "launcher.name=boomer", *words)
        assert done.code == 2
        assert "boomer" in done.err
        assert "no queue here" in done.err
        assert "Traceback" not in done.err
    assert mm("ls").out.count("failed") == 3
