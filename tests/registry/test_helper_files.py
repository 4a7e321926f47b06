"""A plugin counts with the files of its own that it imports; one that it does not import changes nothing."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from helpers.distributions import fake_distribution
from mmctl.plugin import API
from mmctl.registry.index import Index
from mmctl.scaffold.new import new_component

MARK = "from mmctl.plugin import loss\n@loss('mine')\nclass Mine: ...\n"


def helpers(files: dict[str, str]) -> list[str]:
    """The files of plugins/ with which the loss in mine.py counts."""
    for name, text in files.items():
        path = Path("plugins", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    index = Index(sources="local")
    found = index.helpers(index.find("loss", "mine"))
    assert all(digest == sha256(Path("plugins", name).read_bytes()).hexdigest() for name, digest in found.items())
    return list(found)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        ("from .a import f", ["a.py"]),
        ("from . import a, b", ["a.py", "b.py"]),
        ("from ._c import f", ["_c.py", "a.py"]),  # through it
        ("def f():\n    from .a import f", ["a.py"]),
        ("import mmctl.local.a", ["a.py"]),
        ("from mmctl.local.a import f", ["a.py"]),
        ("from mmctl.local import a", ["a.py"]),
        ("from .sub.d import f", ["a.py", "sub/__init__.py", "sub/d.py"]),
        ("from .sub import d", ["a.py", "sub/__init__.py", "sub/d.py"]),
        ("from .bad import f", ["bad.py"]),
        ("from .circle import f", ["circle.py"]),
        ("from .gone import f\nfrom .. import text\nfrom ..... import x\nimport json, mmctl.ops", []),
        ('"""from .a import f"""', []),
    ],
)
def test_imports(line: str, expected: list[str]) -> None:
    files = {
        "mine.py": f"{line}\n{MARK}", "a.py": "x = 1\n", "b.py": "", "_c.py": "from . import a\n", "bad.py": "def (\n",
        "circle.py": "from .mine import Mine\nfrom .circle import f\n", "sub/__init__.py": "", "other.py": "",
        "sub/d.py": "from ..a import x\n",
    }  # fmt: skip
    assert helpers(files) == expected
    assert "mmctl.local.mine" not in sys.modules


def test_a_package_in_editable_mode_counts_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, package = tmp_path / "site", tmp_path / "site" / "calm_pkg"
    info = fake_distribution(site, "mmctl-calm", "1.0", "[mmctl.losses]\nmine = calm_pkg.sub.loss:Mine\n")
    (package / "sub").mkdir(parents=True)
    for name, text in {
        "__init__.py": "", "sub/__init__.py": "", "sub/loss.py": f"from calm_pkg.math import f\n{MARK}",
        "math.py": "from .deep import g\n", "deep.py": "", "unused.py": "",
    }.items():  # fmt: skip
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(str(site))
    index = Index()
    entry = index.find("loss", "mine")
    assert (entry.version, entry.sha256, index.helpers(entry)) == ("1.0", None, {})
    (info / "direct_url.json").write_text(json.dumps({"url": "file:///x", "dir_info": {"editable": True}}))
    index = Index()
    entry = index.find("loss", "mine")
    assert entry.sha256 == sha256((package / "sub" / "loss.py").read_bytes()).hexdigest()
    assert list(index.helpers(entry)) == ["__init__.py", "deep.py", "math.py", "sub/__init__.py"]
    assert "calm_pkg" not in sys.modules


def test_new_plugins_say_for_which_interface_they_are() -> None:
    for name, kind in (("mine", "labeler"), ("data", "dataset")):
        file = new_component(name, kind, package=False).files[0]
        assert f"\nMMCTL_API = {API}  # " in file.read_text()
        file.write_text(file.read_text().replace(f"MMCTL_API = {API}", f"MMCTL_API = {API + 1}"))
    assert ["upgrade mmctl" in str(e.broken) for e in Index(sources="local").entries if e.origin == "plugins"] == [
        True,
        True,
    ]
