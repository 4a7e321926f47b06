"""`mmctl run --extend`: a finished run is trained longer, in a new run that needs the old one no more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from helpers.command import Result
from helpers.processes import dies_at
from helpers.run_helpers import After, assert_same, events, never, points, started
from mmctl.errors import UserError
from mmctl.identity import config_id_of
from mmctl.run_folder.record import last_state, read_record
from mmctl.run_folder.verify import alterations
from mmctl.runs.execute import execute
from mmctl.runs.extend import check_extension
from mmctl.store.store import Store
from mmctl.training import checkpoint

Mm = Callable[..., Result]
MORE = ("train.steps=24", "eval.every=4", "train.save_every=5", "train.keep_best=test/accuracy", "train.keep=9")


def completed(tmp_path: Path, *sets: str, method: str = "mixmatch") -> Path:
    folder = started(tmp_path, *sets, method=method)
    assert execute(folder, never).state == "completed"
    return folder


def extended(folder: Path, *sets: str) -> Path:
    return check_extension(folder, sets or MORE).create(folder.parent)


def newest(folder: Path) -> checkpoint.Checkpoint:
    found = checkpoint.newest(folder, False)[0]
    assert found is not None
    return found


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("mixmatch", marks=pytest.mark.slow),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("marginmix", "freematch")),
    ],
)
def test_without_a_schedule_it_is_the_longer_run(method: str, tmp_path: Path) -> None:
    """Constant schedules do not know the number of steps: 12 steps and 12 more are 24 steps, to the last bit."""
    more = ("train.steps=24", "train.log_every=24")
    flat = (
        "schedule.name=constant",
        "train.log_every=24",
        *(["loss.unlabeled.rampup=0"] if method != "marginmix" else []),
    )
    short, long = completed(tmp_path, *flat, method=method), completed(tmp_path, *flat, "train.steps=24", method=method)
    new = extended(short, *more)
    shutil.rmtree(short)
    assert execute(new, never).state == "completed"
    a, b = newest(new), newest(long)
    assert a.step == b.step == 24
    different = [k for k, t in a.tensors.items() if not torch.equal(t, b.tensors[k]) and not k.startswith("tally")]
    assert different == []


@pytest.mark.slow
def test_schedules_are_those_of_all_steps(tmp_path: Path) -> None:
    new = extended(completed(tmp_path, "schedule.name=cosine"), "train.steps=24", "train.log_every=1")
    execute(new, never)
    long = completed(tmp_path, "schedule.name=cosine", "train.steps=24", "train.log_every=1")
    lr = {step: v for (name, step), v in points(new).items() if name == "lr"}
    assert lr == {step: v for (name, step), v in points(long).items() if name == "lr" and step > 12}
    assert len(lr) == 12


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    "stride", [pytest.param(13, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_it_resumes_to_the_last_bit(stride: int, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    parent = completed(tmp_path)
    whole = extended(parent)
    execute(whole, never)
    assert events(whole, "attempt")[0]["from"] == 12
    assert events(whole, "attempt")[0]["exact"] is True
    stopped = extended(parent)
    assert execute(stopped, After(5)).state == "interrupted"
    runs = [stopped]
    for n in range(1, 300, stride):
        folder = extended(parent)
        if not dies_at(n, bool(n % 2), partial(execute, folder, never)):
            break
        runs.append(folder)
    assert n > 20
    shutil.rmtree(parent)
    for folder in runs:
        if last_state(folder) != "completed":
            assert execute(folder, never).state == "completed"
        assert_same(folder, whole)


@pytest.mark.slow
def test_it_is_a_configuration_of_its_own(tmp_path: Path) -> None:
    parent = completed(tmp_path)
    new, again = extended(parent, "train.steps=24"), extended(parent, "train.steps=24", "train.keep=5")
    about, plain = read_record(new), started(tmp_path, "train.steps=24", method="mixmatch")
    assert about["parent"] == {
        "uid": parent.name, "step": 12, "config_id": read_record(parent)["config_id"], "exact": True,
    }  # fmt: skip
    assert len({about["config_id"], read_record(plain)["config_id"], read_record(parent)["config_id"]}) == 3
    assert about["config_id"] == read_record(again)["config_id"]
    assert read_record(plain)["config_id"] == config_id_of(about["config"], about["components"])  # type: ignore[arg-type]
    other = started(tmp_path, "seed=1", method="mixmatch")
    execute(other, never)
    assert read_record(extended(other, "train.steps=24"))["config_id"] == about["config_id"], "seeds are compared"
    assert alterations(new, about) == []
    for change in (lambda r: r["parent"].update(uid="x"), lambda r: r.pop("parent")):
        edited = json.loads((new / "run.json").read_text())
        change(edited)
        assert alterations(new, edited), "an edit is noticed"
    execute(new, never)
    third = extended(new, "train.steps=30")
    assert read_record(third)["parent"]["uid"] == new.name
    assert execute(third, never).state == "completed"
    with Store(tmp_path / "runs") as store:
        store.sync()
        assert {run["uid"]: run["altered"] for run in store.runs() if run["altered"]} == {}


@pytest.mark.parametrize(
    "key", ["optimizer.lr=0.2", "seed=3", "train.batch=6", "train.threads=2", "name=x", "split.labels=20", "note=a"]
)
def test_no_other_setting_changes(key: str, tmp_path: Path) -> None:
    parent = started(tmp_path, method="supervised")  # settings are looked at first
    with pytest.raises(UserError, match=f"--extend: {key.partition('=')[0]} cannot be changed") as caught:
        extended(parent, "train.steps=24", key)
    assert caught.value.exit_code == 2
    assert len(list(parent.parent.glob("*/run.json"))) == 1


def damage(folder: Path) -> None:
    (checkpoint.folder_of(folder, 12) / checkpoint.STATE).write_bytes(b"x")


def edit(folder: Path) -> None:
    text = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(text.replace("lr = 0.1", "lr = 0.2"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (edit, "edited since the run was created: recipe.toml: optimizer.lr"),
        (damage, "damaged"),
        (lambda f: shutil.rmtree(checkpoint.folder_of(f, 12)), "incomplete"),
        (lambda f: (f / "split.json").unlink(), "split.json: is missing"),
        (lambda f: (f / "run.json").write_text("{"), "run.json"),
        (lambda f: Path("plugins/tiny.py").write_text(Path("plugins/tiny.py").read_text() + "\n"), "has changed since"),
        (lambda f: Path("plugins/tiny.py").unlink(), "tiny"),
    ],
)
def test_a_parent_that_is_not_as_it_was_is_refused(
    harm: Callable[[Path], None], words: str, mm: Mm, tmp_path: Path
) -> None:
    parent = completed(tmp_path, method="supervised")
    harm(parent)
    done = mm("run", "--extend", str(parent), "--set", "train.steps=24")
    assert done.code == 2, done.err
    assert words in done.err
    assert "bug" not in done.err
    assert [p.name for p in parent.parent.iterdir() if p.is_dir()] == [parent.name]


def test_the_command(mm: Mm, tmp_path: Path) -> None:
    parent = started(tmp_path, method="supervised")
    assert execute(parent, After(6)).state == "interrupted"
    done = mm("run", "--extend", "@last", "--set", "train.steps=24")
    assert (done.code, f"mmctl resume {parent.name}" in done.err) == (2, True), done.err
    execute(parent, never)
    for words, says in {
        ("--set", "train.steps=12"): f"has 12 steps; give more: --extend {parent.name} --set train.steps=24",
        (): "has 12 steps; give more",
        ("--set", "train.steps=24", "--seeds", "1"): "cannot be combined with --seeds",
        ("--set", "train.steps=24", "--jobs", "2"): "cannot be combined with --jobs",
        ("tiny.toml", "--set", "train.steps=24"): "cannot be combined with a recipe",
    }.items():
        done = mm("run", "--extend", "@last", *words)
        assert (done.code, says in done.err) == (2, True), done.err
    done = mm("run")
    assert (done.code, "no recipe given" in done.err) == (2, True)
    done = mm("run", "--extend", "@last", "--set", "train.steps=24", "--name", "longer", "--tag", "more", "-q")
    assert done.code == 0, done.err
    assert "completed, 24 steps" in done.out
    assert f"extends    {parent.name} from step 12" in mm("show", "@last").out
    rows = json.loads(mm("ls", "--json").out)["runs"]
    assert [row["parent"] for row in rows] == [None, {"uid": parent.name, "step": 12}]
    assert json.loads(mm("show", "@last", "--json").out)["run"]["parent"] == rows[1]["parent"]
    assert (rows[1]["name"], rows[1]["tags"], rows[1]["altered"]) == ("longer", ["more"], [])
    saved = json.loads(mm("show", "@last", "--json").out)["run"]["checkpoints"]
    assert [(one["step"], one["kind"]) for one in saved] == [
        (12, "start"), (15, "periodic"), (20, "periodic"), (24, "last"),
    ]  # fmt: skip
    compared = json.loads(mm("compare", "--json").out)
    assert len(compared["panels"][0]["configurations"]) == 2
    at = compared["settings"]["keys"].index("(extends)")
    values = [column["values"][at] for column in compared["settings"]["columns"]]
    assert sorted(values, key=str) == [None, "a run of 12 steps"]
    found = json.loads(mm("diff", parent.name, rows[1]["uid"], "--json").out)
    assert found["differences"]["(extends)"] == [None, f"{parent.name} from step 12"]
    assert found["same_configuration"] is False


@pytest.mark.slow
def test_the_same_extension_is_trained_once(mm: Mm, tmp_path: Path) -> None:
    parent = completed(tmp_path, method="supervised")
    words = ("run", "--extend", parent.name, "--set", "train.steps=24", "--quiet")
    first = extended(parent, "train.steps=24")
    execute(first, After(3))
    done = mm(*words, "--tag", "more")
    assert done.code == 0, done.err
    assert f"continues run {first.name}, which stopped at step 15 of 24; --force starts a new run" in done.out
    assert f"already done in run {first.name} (completed" in mm(*words).out
    assert len(list(parent.parent.glob("2*"))) == 2
    assert first.name in mm("ls", "tag:more", "--json").out
    for other in (("--force",), ("--set", "train.steps=25"), ("--set", "eval.every=6")):
        done = mm(*words, *other)
        assert (done.code, f"{parent.name[:4]}" in done.out) == (0, True), done.err
        assert "already done" not in done.out
    assert len(list(parent.parent.glob("2*"))) == 5


def test_its_start_is_never_lost_in_silence(mm: Mm, tmp_path: Path) -> None:
    parent = completed(tmp_path, method="supervised")
    new = extended(parent, "train.steps=24")
    for harm, words in (
        (lambda: None, ("--from-start",)),
        (lambda: damage(new), ()),
        (lambda: shutil.rmtree(new / "checkpoints"), ()),
    ):
        harm()
        done = mm("resume", new.name, *words)
        assert done.code == 2
        assert f"mmctl run --extend {parent.name} --set train.steps=24" in done.err
        assert "mmctl resume" not in done.err


def test_of_a_run_that_is_not_exact(tmp_path: Path) -> None:
    parent = started(tmp_path, method="supervised")
    execute(parent, After(6))
    execute(parent, never, accept_changes=True)
    new = extended(parent, "train.steps=24")
    execute(new, never)
    assert events(new, "attempt")[0]["exact"] is False
