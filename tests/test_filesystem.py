"""Atomic writes, after a write that could not clean up behind itself."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mmctl.filesystem import write_atomic


def test_what_an_earlier_write_left_is_not_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    path = tmp_path / "split.json"
    with monkeypatch.context() as patch:
        for name in ("replace", "unlink"):
            patch.setattr(Path, name, read_only)
        with pytest.raises(OSError, match="Read-only"):
            write_atomic(path, b"first")
    assert [p.suffix for p in tmp_path.iterdir()] == [".tmp"]
    write_atomic(path, b"second")  # of the same process id, as after the restart of a container
    assert path.read_bytes() == b"second"
