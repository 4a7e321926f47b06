"""Imports runs: each one whole or not at all, and each one once, however often it is asked for.

The runs of a source are made in a draft folder and renamed when all of them are there. The id of a run decides whether
it is here already; one that has grown replaces what is here, and what people said of it here (tags, notes, name) stays.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict, assert_never

from mmctl.errors import EnvironmentFault, UserError
from mmctl.exchange import adopt
from mmctl.exchange.foreign import BadSource, ForeignRun
from mmctl.exchange.found import Item, Options, Source, failing, joined, sources
from mmctl.exchange.whole_runs import OwnRun, checked, copy_run, keep_more, merged_notes, missing, say_where_from
from mmctl.filesystem import share, sync_folder, write_atomic
from mmctl.run_folder import journal, trash
from mmctl.run_folder.record import load_record
from mmctl.run_folder.values import whole


class Imported(TypedDict):
    """What became of one run, or of a source that could not be read."""

    result: str  # imported, updated, unchanged, kept (the one here has more points, or others), trashed, failed
    source: str
    program: NotRequired[str]
    id: NotRequired[str]
    uid: NotRequired[str]
    name: NotRequired[str]
    state: NotRequired[str]
    points: NotRequired[int]
    message: NotRequired[str]  # what to know or to do


class Wishes(TypedDict):
    """What the user asked for."""

    again: bool  # replace what is here in any case
    damaged: bool
    heavy: bool
    dry_run: bool


class Here(NamedTuple):
    """What is in the folder of runs."""

    known: dict[str, str]  # the ids of runs by how they end: those of other programs are found by it
    thrown: set[str]  # the ids of those in the trash


def bring_in(
    paths: Sequence[Path], runs: Path, wishes: Wishes, watch: Callable[[Imported], None] = lambda one: None
) -> list[Imported]:
    """Import everything at or below these paths; a source that cannot be read is one result, `failed`.

    watch: called with each result. EnvironmentFault where the folder of runs cannot be written.
    """
    results: list[Imported] = []
    found: list[Source] = []
    for path in paths:
        try:
            if path.is_dir() and runs.is_dir() and path.resolve() == runs.resolve():
                raise BadSource(f"{path}: is the folder of this project's own runs. MMCTL_RUNS says where others go.")
            found += sources(path)
        except BadSource as fault:
            found.append(failing(path, fault))
    here = _here(runs)
    gave: dict[Path, bool] = {}
    for source in joined(found):
        made = _from(source, runs, wishes, here)
        gave[source.path] = bool(made)
        results += made
        for one in made:
            watch(one)
    for path in paths:
        if {gave[one] for one in gave if one == path or path in one.parents} == {False}:
            message = f"{path}: holds no runs (deleted ones do not count)."
            results.append(Imported(result="failed", source=str(path), message=message))
            watch(results[-1])
    return results


def _from(source: Source, runs: Path, wishes: Wishes, here: Here) -> list[Imported]:
    """Import the runs of a source: all of them, or none if one is damaged."""
    made: list[tuple[Imported, Path | None]] = []
    seen: set[str] = set()
    with _work(runs, wishes["dry_run"]) as work:
        try:
            for item in source.read(Options(work, wishes["damaged"], wishes["heavy"], wishes["dry_run"])):
                if drafted := _draft(item, runs, work, wishes, here, seen):
                    made.append(drafted)
        except BadSource as fault:
            return [Imported(result="failed", source=str(source.path), message=str(fault))]
        if not made:
            return []
        for one, draft in made:
            if draft is not None and not wishes["dry_run"]:
                _place(one, draft, runs, wishes)
    return [one for one, _ in made]


@contextmanager
def _work(runs: Path, dry_run: bool) -> Iterator[Path]:
    """A draft folder beside the runs; `mmctl gc` removes what a killed import left."""
    if dry_run:
        with tempfile.TemporaryDirectory(prefix="mmctl-import-") as name:
            yield Path(name)
        return
    if os.path.lexists(runs) and not runs.is_dir():
        raise UserError(f"{runs}: is not a folder. MMCTL_RUNS or the project says where runs are.")
    new = not runs.exists()
    runs.mkdir(parents=True, exist_ok=True)
    work = runs / f"{trash.DRAFTS}import-{os.getpid()}-{secrets.token_hex(4)}"
    work.mkdir()
    share(work)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if new:
            with suppress(OSError):
                runs.rmdir()  # if nothing was imported


def _draft(
    item: Item, runs: Path, work: Path, wishes: Wishes, here: Here, seen: set[str]
) -> tuple[Imported, Path | None] | None:
    """Judge a run and make its draft; without one it stays as it is. None: the same run again in one source."""
    match item:
        case ForeignRun():
            uid = here.known.setdefault(adopt.ending(item), adopt.uid_of(item))
            points, state = adopt.points_of(item), item.state
            program, id, name, source = item.program, item.id, item.name, item.file
        case OwnRun():
            uid, points, state = checked(item)
            program, id, name, source = "mmctl", uid, uid, str(item.file)
        case _:
            assert_never(item)
    if uid in seen:
        return None
    seen.add(uid)
    result, message = _judge(item, runs / uid, points, state, wishes, uid in here.thrown)
    one = Imported(
        result=result, source=source, program=program, id=id, uid=uid, name=name, state=state, points=points
    )  # fmt: skip
    if message:
        one["message"] = message
    if result not in ("imported", "updated"):
        return one, None
    draft = work / uid
    if not wishes["dry_run"]:
        adopt.write_run(item, draft) if isinstance(item, ForeignRun) else copy_run(item, draft, wishes["heavy"])
        if isinstance(item, OwnRun):
            say_where_from(draft, item.file, state)
        share(draft)
        for path in draft.iterdir() if isinstance(item, ForeignRun) else ():
            share(path)
        sync_folder(draft)
    return one, draft


def _here(runs: Path) -> Here:
    names = sorted(path.name for path in runs.iterdir()) if runs.is_dir() else []
    known = {"-" + "-".join(name.rsplit("-", 2)[1:]): name for name in names if name[0] != "."}
    return Here(known, {one.uid for one in trash.thrown(runs)})


def _judge(item: Item, folder: Path, points: int, state: str, wishes: Wishes, thrown: bool) -> tuple[str, str | None]:
    """What is to be done with a run, and what to say of it."""
    if not os.path.lexists(folder):
        if thrown and not wishes["again"]:
            return (
                "trashed",
                f"it is in the trash: `mmctl restore {folder.name}` brings it back, --again imports it anew.",
            )
        return "imported", None
    if wishes["again"]:
        return "updated", "what was here is in the trash"
    try:
        more = _more(item, folder, points, state, wishes["heavy"])
    except (OSError, ValueError) as error:
        return "kept", f"the run here cannot be read ({error}); --again replaces it."
    if more is None:
        return "unchanged", None
    return (
        ("updated", None)
        if more
        else ("kept", "the run here has points, or an end, that are not there; --again replaces it.")
    )


def _more(item: Item, folder: Path, points: int, state: str, heavy: bool) -> bool | None:
    """Whether there is more in a run than in what is here of it; None = the same, False = less, or something else."""
    if isinstance(item, ForeignRun):
        said = load_record(folder).get("origin")
        origin = said if isinstance(said, dict) else {}
        had, first = whole(origin.get("points")) or 0, origin.get("first")
        if isinstance(first, dict) and first != adopt.first_of(item, str(first.get("curve"))):
            return False  # another run of the same id
        if (points, state) == (had, origin.get("state")):
            return None
        return points > had or (points == had and state != "crashed")
    old, new = _sizes(folder), _sizes(item.folder)
    if old == new and not missing(item.folder, folder, heavy):
        return None
    return all(n in new and _begins_with(journal.path_of(item.folder, n), journal.path_of(folder, n)) for n in old)


def _sizes(folder: Path) -> dict[int, int]:
    return {n: journal.path_of(folder, n).stat().st_size for n in journal.attempts(folder) if n > 0}


def _begins_with(new: Path, old: Path) -> bool:
    """Whether a journal begins with what another one holds."""
    with new.open("rb") as a, old.open("rb") as b:
        while data := b.read(2**20):
            if a.read(len(data)) != data:
                return False
    return True


def _place(one: Imported, draft: Path, runs: Path, wishes: Wishes) -> None:
    """Give a draft its place; what was there goes to the trash first, and stays there with --again."""
    folder, old = runs / one["uid"], None
    if one["result"] == "updated":
        try:
            notes = merged_notes(folder, draft)
            if notes:
                write_atomic(journal.path_of(draft, 0), notes)
            if not wishes["again"]:
                keep_more(folder, draft)
            old = trash.throw(runs, one["uid"])
        except UserError as fault:  # it is running
            one |= {"result": "kept", "message": str(fault)}
            return
        except OSError as error:
            why = error.strerror or error
            raise EnvironmentFault(f"{folder}: cannot be updated ({why}). It stays as it was.") from None
    try:
        draft.rename(folder)
    except OSError as error:
        if os.path.lexists(folder):  # another import was faster
            one["result"] = "unchanged"
            return
        if old is not None:
            trash.restore(runs, old)
        raise EnvironmentFault(f"{folder}: cannot be made ({error.strerror or error}).") from None
    sync_folder(runs)
    if old is not None and not wishes["again"]:
        trash.delete(old.path)


def failures(results: Iterable[Imported]) -> list[str]:
    """What could not be imported, a line each."""
    return [one.get("message", one["source"]) for one in results if one["result"] == "failed"]
