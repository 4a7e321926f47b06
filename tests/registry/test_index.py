"""The index is built from text alone, and says what is wrong with a component only when that one is named."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from helpers.distributions import fake_distribution
from helpers.paths import REPO
from mmctl.errors import PluginError
from mmctl.registry.index import Index
from mmctl.registry.sources import marks

ENV = {**os.environ, "PYTHONPATH": str(REPO)}
HEAD = "from mmctl.plugin import augment, labeler, loss\n"
GOOD = '''
@loss("tiny")
class Tiny:
    """A tiny loss."""

    def __init__(self, num_classes: int, *, power: float = 2.0) -> None:
        self.power = power
'''


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, text: str, head: str = HEAD) -> Path:
    file = folder / name
    file.write_text(head + dedent(text))
    return file


def names(index: Index, kind: str) -> set[str]:
    return {e.qualified for e in index.entries if e.kind == kind}


def test_marks_are_read_from_text() -> None:
    text = dedent(
        '''
        """Not here:

            @loss("example")
            class Example: ...
        """
        @loss("one")
        @decorated(3)
        # why
        class One(Base):
            """First."""
        @plugin.labeler('two')
        def two(
            num_classes: int,
            *,
            m: float = 1,
        ) -> X:
            """Second one.

            More.
            """
        @augment("three",)
        class Three:
            def apply(self):
                """Not its summary."""
        # @loss("four")
        @loss(name)
        class Five: ...
        '''
    )
    found = [(e.kind, e.name, e.attr, e.line, e.summary) for e in marks(text)]
    assert found == [
        ("loss", "one", "One", 7, "First."),
        ("labeler", "two", "two", 12, "Second one."),
        ("augment", "three", "Three", 22, ""),
    ]


def test_listing_imports_nothing(plugins: Path) -> None:
    put(plugins, "boom.py", 'raise SystemExit("boom")\n' + GOOD)
    put(plugins, "_helper.py", GOOD)
    entry = next(e for e in Index().entries if e.origin == "plugins")
    assert (entry.qualified, entry.broken, entry.place) == ("plugins:tiny", None, "plugins/boom.py:4")
    assert entry.sha256 == hashlib.sha256((plugins / "boom.py").read_bytes()).hexdigest()


def test_the_scan_and_the_import_agree_on_the_package() -> None:
    for entry in Index(sources="off").entries:
        assert entry.origin == "mmctl"
        assert entry.broken is None
        assert entry.summary, entry.qualified


def test_load_and_pickle(plugins: Path) -> None:
    put(plugins, "mine.py", GOOD)
    index = Index()
    entry = index.find("loss", "tiny")
    assert index.find("loss", "plugins:tiny") is entry
    assert index.shape(entry).supplied == ("num_classes",)
    made = index.load(entry)(num_classes=3, power=3.0)
    assert type(made).__module__ == "mmctl.local.mine"
    again = subprocess.run(
        [sys.executable, "-c", "import pickle, sys; print(pickle.load(sys.stdin.buffer).power)"],
        input=pickle.dumps(made),
        capture_output=True,
        check=True,
        env={**ENV, "MMCTL_PLUGINS_DIR": str(plugins)},
    )
    assert again.stdout.split() == [b"3.0"]


def test_two_projects_in_one_process(tmp_path: Path) -> None:
    for word in ("a", "b"):
        folder = tmp_path / word
        folder.mkdir()
        put(folder, "mine.py", GOOD.replace("2.0", "4.0" if word == "a" else "5.0"))
    defaults = []
    for word in ("a", "b", "a"):
        index = Index(tmp_path / word)
        defaults.append(index.shape(index.find("loss", "tiny")).model.model_fields["p_power"].default)
    assert defaults == [4.0, 5.0, 4.0]


@pytest.mark.parametrize(("sources", "local"), [("off", False), ("local", True), ("all", True)])
def test_sources(plugins: Path, monkeypatch: pytest.MonkeyPatch, sources: str, local: bool) -> None:
    put(plugins, "mine.py", GOOD)
    monkeypatch.setenv("MMCTL_PLUGINS", sources)
    assert ("plugins:tiny" in names(Index(), "loss")) is local


def test_a_wrong_source_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCTL_PLUGINS", "none")
    with pytest.raises(PluginError, match="off, local or all"):
        Index()


def error(index: Index, kind: str, name: str) -> str:
    with pytest.raises(PluginError) as caught:
        index.shape(index.find(kind, name))
    return str(caught.value)


def test_unknown_name(plugins: Path) -> None:
    put(plugins, "mine.py", GOOD)
    said = error(Index(), "loss", "tinny")
    assert 'no loss "tinny". Did you mean "tiny"' in said
    assert "Known: " in said
    assert "plugins:tiny" in said
    assert '"tiny" is a loss, not a labeler' in error(Index(), "labeler", "tiny")
    assert '"tiny" (a loss)' in error(Index(), "labeler", "tiney")
    assert "MMCTL_PLUGINS=off" in error(Index(sources="off"), "loss", "tiny")
    assert "\x1b" not in error(Index(), "loss", "\x1b[2J")


def test_installed_components(tmp_path: Path, plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    fake_distribution(
        site,
        "Mmctl_Proto",
        "0.3",
        """\
        [mmctl.losses]
        tiny = proto_pkg.parts:Tiny
        gone = proto_pkg.nowhere:Tiny
        module = proto_pkg.parts
        """,
    )
    (site / "proto_pkg").mkdir()
    (site / "proto_pkg" / "__init__.py").write_text("")
    put(site / "proto_pkg", "parts.py", GOOD)
    monkeypatch.syspath_prepend(str(site))
    entries = {e.qualified: e for e in Index().entries if e.origin == "mmctl-proto"}
    assert "proto_pkg" not in sys.modules
    tiny = entries["mmctl-proto:tiny"]
    assert (tiny.version, tiny.summary, tiny.place, tiny.sha256) == ("0.3", "A tiny loss.", "mmctl-proto 0.3", None)
    assert "was not found" in str(entries["mmctl-proto:gone"].broken)
    assert "must be MODULE:OBJECT" in str(entries["mmctl-proto:module"].broken)
    assert Index().load(tiny).__name__ == "Tiny"

    put(plugins, "mine.py", GOOD)
    said = error(Index(), "loss", "tiny")
    assert "ambiguous" in said
    assert "plugins:tiny (plugins/mine.py:3)" in said
    assert "mmctl-proto:tiny (mmctl-proto 0.3)" in said
    assert Index().find("loss", "tiny", home="mmctl-proto").origin == "mmctl-proto"
    assert names(Index(sources="local"), "loss") & {"mmctl-proto:tiny", "plugins:tiny"} == {"plugins:tiny"}
    sys.modules.pop("proto_pkg.parts"), sys.modules.pop("proto_pkg")


def test_one_name_twice_in_one_origin(plugins: Path) -> None:
    put(plugins, "a.py", GOOD)
    put(plugins, "b.py", GOOD)
    said = error(Index(), "loss", "tiny")
    assert "plugins/a.py:3" in said
    assert "plugins/b.py:3" in said
    assert Index().find("loss", "brier").origin == "mmctl"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("import nowhere_at_all\n" + GOOD, ["No module named 'nowhere_at_all'", "plugins/bad.py:2", "MMCTL_DEBUG=1"]),
        ("raise SystemExit(3)\n" + GOOD, ["SystemExit: 3", "plugins/bad.py:2"]),
        (GOOD + "\nx = = 1\n", ["SyntaxError", "plugins/bad.py:10"]),
        ("raise ValueError('a\\n\\x1b[2J b')\n" + GOOD, ["\\u001b[2J b", "plugins/bad.py:2"]),
        (GOOD.replace("*, ", ""), ["power is before the *", "plugins/bad.py:3"]),
        (GOOD + "\ndel Tiny\n", ["no attribute 'Tiny'"]),
        (GOOD + "\nTiny = object\n", ["has no @loss mark"]),
        (GOOD.replace('"tiny"', '"Tiny-1"') + GOOD.replace("Tiny", "Other"), []),
    ],
)
def test_a_broken_component_is_an_error_when_named(plugins: Path, text: str, parts: list[str]) -> None:
    put(plugins, "bad.py", text)
    assert Index().find("loss", "brier").origin == "mmctl"
    if parts:
        said = error(Index(), "loss", "tiny")
        assert [part for part in parts if part not in said] == []
    else:
        assert "is an invalid name" in error(Index(), "loss", "Tiny-1")


def test_control_c_passes(plugins: Path) -> None:
    put(plugins, "bad.py", "raise KeyboardInterrupt\n" + GOOD)
    with pytest.raises(KeyboardInterrupt):
        error(Index(), "loss", "tiny")


def test_files_that_cannot_be_imported_are_known_broken(plugins: Path) -> None:
    put(plugins, "my-loss.py", GOOD)
    (plugins / "latin.py").write_bytes(b"# \xff\n")
    index = Index()
    broken = {e.name: e.broken for e in (*index.entries, *index.missed) if e.broken}
    assert set(broken) == {"tiny", "latin"}
    assert "file name" in error(Index(), "loss", "tiny")


def test_importing_the_registry_is_light() -> None:
    code = "import sys, mmctl.recipe.recipe, mmctl.registry.index\n"
    code += "print({'torch', 'numpy', 'rich', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENV)
    assert done.stdout.strip() == "set()"


def test_timm_can_register_a_model_of_a_plugin(plugins: Path) -> None:
    put(
        plugins,
        "net.py",
        """
        import functools, sys

        def register_model(fn):
            sys.modules[fn.__module__].__dict__.setdefault("__all__", []).append(fn.__name__)  # as timm does
            return fn

        @register_model
        def my_net(): ...
        """
        + GOOD.replace("\n", "\n        "),
    )
    index = Index()
    index.load(index.find("loss", "tiny"))
    assert sys.modules["mmctl.local.net"].__all__ == ["my_net"]


@pytest.mark.parametrize(
    "text",
    [
        "@labeler\nclass Mine: ...",
        "@labeler()\nclass Mine: ...",
        "NAME = 'mine'\n@labeler(NAME)\nclass Mine: ...",
        "from mmctl.plugin import labeler as mark\n@mark('mine')\nclass Mine: ...",
        "class Mine: ...\nlabeler('mine')(Mine)",
        "import mmctl.plugin as api\nNAME = 'mine'\n@api.labeler(NAME)\nclass Mine: ...",
    ],
)
@pytest.mark.parametrize("subfolder", [False, True])
def test_marks_that_cannot_be_read_are_named(plugins: Path, text: str, subfolder: bool) -> None:
    folder = plugins / "more" if subfolder else plugins
    folder.mkdir(exist_ok=True)
    put(folder, "mine.py", text)
    (entry,) = Index().missed
    assert (entry.kind, entry.name, entry.file) == ("labeler", "Mine", folder / "mine.py")
    assert Index(sources="off").missed == ()
    said = error(Index(), "labeler", "mine")
    assert f"Not read: {'plugins/more' if subfolder else 'plugins'}/mine.py" in said
    for kind, name in (("loss", "mine"), ("labeler", "mmctl:mine")):
        assert "Not read" not in error(Index(), kind, name), "it cannot have been meant"


@pytest.mark.parametrize(
    "text",
    [
        "def step(loss, x):\n    return loss(x)(x)",
        "from mmctl.plugin import PseudoLabels\ndef f() -> PseudoLabels: ...",
        "class Net:\n    def plugin(self): ...\n    def f(self, x):\n        return self.plugin.loss(x)(Net)",
    ],
)
@pytest.mark.parametrize("subfolder", [False, True])
def test_what_marks_nothing_is_not_named(plugins: Path, text: str, subfolder: bool) -> None:
    folder = plugins / "more" if subfolder else plugins
    folder.mkdir(exist_ok=True)
    put(folder, "mine.py", text)
    os.mkfifo(folder / "fifo.py")
    assert [e.name for e in Index().missed] == ([] if subfolder else ["fifo"])


def test_the_index_of_commands_parses_no_plugin(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(plugins, "mine.py", "@labeler\nclass Mine: ...")
    monkeypatch.setattr("ast.parse", lambda *_: pytest.fail("parsed"))
    assert Index().find("labeler", "fuzzy").origin == "mmctl"


def test_an_error_names_a_few_files_that_were_not_read(plugins: Path) -> None:
    for n in range(5):
        (plugins / f"a{n}.py").write_bytes(b"\xff")
    put(plugins, "mine.py", "@labeler\nclass Mine: ...")
    said = error(Index(), "labeler", "mine")
    assert "Not read: plugins/mine.py:2: write @labeler" in said
    assert said.count("Not read") == 3
    assert "`mmctl plugins list` names more that were not read" in said


def test_a_folder_of_plugins_that_is_not_there_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCTL_PLUGINS_DIR", str(tmp_path / "plugin"))
    index = Index()
    assert [(e.name, e.broken) for e in index.missed] == [("MMCTL_PLUGINS_DIR", "there is no such folder")]
    with pytest.raises(PluginError, match=r"Not read: .*plugin: there is no such folder"):
        index.find("loss", "mine")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x = 1\n" * 2**20], ids=["no UTF-8", "large"])
def test_a_file_that_is_not_read_is_named_in_the_error(plugins: Path, content: bytes) -> None:
    (plugins / "mine.py").write_bytes(content)
    with pytest.raises(PluginError, match=r"Not read: .*mine.py: cannot be read"):
        Index(plugins=plugins).find("loss", "mine")


def test_a_package_that_is_gone_is_named(plugins: Path) -> None:
    with pytest.raises(PluginError, match=r"^calmpkg is not installed: labeler calmpkg:calm is one of its components"):
        Index(plugins=plugins).find("labeler", "calmpkg:calm")
