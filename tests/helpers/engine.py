"""A pretended cluster: a launcher that is lasting, whose engine is a JSON file that a test reads and changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLUGIN = '''
import json
from pathlib import Path

from mmctl.plugin import JobState, Limits, launcher

ENGINE = Path("engine.json")


def read():
    return json.loads(ENGINE.read_text()) if ENGINE.exists() else {"jobs": [], "asked": 0, "room": None}


def write(engine):
    ENGINE.write_text(json.dumps(engine))


@launcher("pretended")
class Pretended:
    """A cluster in a file.

    Args:
        chunk: Most runs in one call.
    """

    lasting = True

    def __init__(self, *, chunk: int = 100):
        self.chunk = chunk

    def start(self, run_dirs, name):
        engine = read()
        ids = [f"{name}_{n}" for n, _ in enumerate(run_dirs)]
        engine["jobs"] += [
            {"id": one, "name": name, "uid": folder.name, "word": "queued", "reason": "Priority"}
            for one, folder in zip(ids, run_dirs)
        ]
        write(engine)
        if engine.get("die"):
            raise KeyboardInterrupt
        return ids

    def find(self, name):
        return [job["id"] for job in read()["jobs"] if job["name"] == name]

    def states(self, ids):
        engine = read()
        write(engine | {"asked": engine["asked"] + 1})
        known = {job["id"]: JobState(job["word"], job["reason"]) for job in engine["jobs"]}
        return {one: known.get(one, JobState("gone")) for one in ids}

    def cancel(self, ids):
        engine = read()
        for job in engine["jobs"]:
            if job["id"] in ids:
                job["word"], job["reason"] = "interrupted", "cancelled"
        write(engine)

    def limits(self):
        engine = read()
        room = engine["room"]
        queued = sum(job["word"] in ("queued", "held") for job in engine["jobs"])
        return Limits(4, self.chunk, None if room is None else max(0, room - queued))
'''


class Engine:
    """The engine's file, as a test sees it; the working folder is the project."""

    def __init__(self, project: Path) -> None:
        (project / "plugins").mkdir(exist_ok=True)
        (project / "plugins" / "pretended.py").write_text(PLUGIN)
        self.path = project / "engine.json"
        self.put(jobs=[], asked=0, room=None)

    def read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())  # type: ignore[no-any-return]

    def put(self, **change: object) -> None:
        """Change what the engine knows."""
        self.path.write_text(json.dumps((self.read() if self.path.exists() else {}) | change))

    def say(self, uid: str, word: str, reason: str = "") -> None:
        """Change the state of a job."""
        jobs = [job | ({"word": word, "reason": reason} if job["uid"] == uid else {}) for job in self.read()["jobs"]]
        self.put(jobs=jobs)

    def uids(self) -> list[str]:
        """The runs that the engine was given, in the order of their jobs."""
        return [job["uid"] for job in self.read()["jobs"]]
