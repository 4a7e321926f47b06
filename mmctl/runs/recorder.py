"""Writes down what a run does: every event of the loop becomes journal lines and checkpoints."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import mmctl
from mmctl import project
from mmctl.errors import MmctlError, TrainingFailed
from mmctl.run_folder.events import (
    Alert,
    Attempt,
    Checkpoint,
    Data,
    Evaluation,
    Notice,
    Pace,
    Points,
    State,
)  # fmt: skip
from mmctl.run_folder.journal import Journal
from mmctl.run_folder.lease import Lease, boot, host
from mmctl.runs.open import OpenRun
from mmctl.runs.progress import tell
from mmctl.training import checkpoint, loop
from mmctl.training.async_save import AsyncSaver
from mmctl.training.evaluate import Scores
from mmctl.training.loop import Alarm, Evaluated, Event, Point, Saved, train
from mmctl.training.state import Training

Watch = Callable[[Event, Training], None]


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: completed, nc (collapsed and stopped) or interrupted."""

    state: str
    step: int
    reason: str | None = None


class RunRecorder:
    """Keeps the books of one attempt: every event of the loop becomes journal lines and checkpoints."""

    def __init__(self, opened: OpenRun, attempt: int, log: Journal, lease: Lease, watch: Watch) -> None:
        self.o, self.attempt, self.log, self.lease, self.watch = opened, attempt, log, lease, watch
        self.began, self.first = time.perf_counter(), opened.training.step
        self.writer: AsyncSaver | None = None

    def run(self, stop: Callable[[], bool], accept: bool) -> Generator[None, None, Outcome]:
        """The loop of train.py, with its end told to the journal whatever it is."""
        t = self.o.training
        try:
            self.begin(accept)
            self.writer = AsyncSaver(t.tensors())
            for event in train(t, stop):
                self.keep(event)
                self.watch(event, t)
                if event is None:
                    yield
                    if torch.get_num_threads() != self.o.facts["threads"]:  # another run of this process had its turn
                        torch.set_num_threads(self.o.facts["threads"])
            self.writer.join()
        except BaseException as error:
            if self.writer is not None:
                self.writer.settle()  # the lease is held until nobody writes any more
            failure = self.failure(error)
            code = failure.exit_code if isinstance(failure, MmctlError) else 130
            state = "interrupted" if code == 130 else "failed"
            self.end(state, str(failure).split("\n")[0] or type(failure).__name__, code)
            if failure is error:
                raise
            raise failure from error
        if t.step == t.steps and not t.evaluation_stopped:
            return self.end("completed", None, 0)
        if t.collapsed and t.settings.train.on_collapse == "stop" and not t.evaluation_stopped:
            return self.end("nc", t.collapsed, 0)
        return self.end("interrupted", "stopped by a signal", 75)

    def begin(self, accept: bool) -> None:
        """The attempt's first lines: where it starts from, on what, with which data."""
        o, split = self.o, self.o.data.split
        exact = o.exact and not accept
        self.log.write(Attempt(
            number=self.attempt, start=o.training.step, host=host(), boot=boot(), pid=os.getpid(),
            device=o.facts["device"], threads=o.facts["threads"], precision=o.facts["precision"],
            versions=o.facts["versions"], exact=exact,
        ))  # fmt: skip
        self.log.write(State(state="running", step=o.training.step))
        images = o.data.images
        self.log.write(Data(
            data_hash=o.data.digest, split_hash=split.sha256, train=len(images["train"].ids),
            labeled=len(split.labeled), unlabeled=len(split.unlabeled),
            val=len(split.val) or len(images["val"].ids) if "val" in images else len(split.val),
            test=len(images["test"].ids) if "test" in images else 0,
            counts=list(split.counts), classes=list(images["train"].classes),
        ))  # fmt: skip
        self.log.flush(sync=True)
        if not exact:
            text = (
                "the machine, torch, mmctl or a component differs from the attempt before: from here on the numbers "
                "are not those of an uninterrupted run (exact = no)."
            )
            tell(f"warning: {text}")

    def keep(self, event: Event) -> None:
        """Write one event of the loop down."""
        t = self.o.training
        match event:
            case None:
                elapsed = time.perf_counter() - self.began
                self.lease.beat(t.step, t.steps, (t.step - self.first) / max(elapsed, 1e-9))
            case Point(step, values):
                self.log.write(Points(step=step, values=values))
            case Evaluated(step, split, weights, scores, agreement):
                values = {f"{split}/{weights}/{p}/{m}": v for p, s in scores.items() for m, v in s.metrics.items()}
                self.log.write(Points(step=step, values={**values, f"{split}/{weights}/agreement": agreement}))
                if step == t.steps:
                    for predictor, s in scores.items():
                        where = f"checkpoints/{checkpoint.folder_of(self.o.folder, step).name}"
                        self.log.write(evaluation_event(step, where, split, weights, predictor, s))
            case loop.Notice(step, text):
                self.log.write(Notice(step=step, text=text))
            case Alarm(step, kind, text, _):
                self.log.write(Alert(step=step, name=kind, text=text))
            case Saved(step, reason):
                self.save(step, reason)

    def save(self, step: int, reason: str) -> None:
        """Copy the state; a thread publishes it as a checkpoint while training goes on."""
        o = self.o
        self.pace(step)
        facts = {
            "run": o.about["uid"], "attempt": self.attempt, "reason": reason, "mmctl": mmctl.__version__,
            "data": o.data.digest, "split": o.data.split.sha256, "environment": o.facts, "training": o.training.facts(),
        }  # fmt: skip

        def publish(tensors: dict[str, Tensor]) -> None:
            # What happened before it is on the disk first, so that a checkpoint never lacks its rows.
            self.log.flush(sync=True)
            about = checkpoint.publish(o.folder, step, tensors, facts)
            self.log.write(Checkpoint(step=step, reason=reason, **about))
            checkpoint.retain(o.folder, o.recipe.settings.train.keep)

        assert self.writer is not None
        self.writer.save(o.training.tensors(), publish)

    def pace(self, step: int) -> None:
        """How long this attempt has taken so far."""
        seconds = time.perf_counter() - self.began
        self.log.write(Pace(step=step, seconds=seconds, cpu=time.process_time()))

    def end(self, state: str, reason: str | None, code: int) -> Outcome:
        """The last line of the attempt."""
        step = self.o.training.step
        self.pace(step)
        self.log.write(State(state=state, reason=reason, code=code, step=step))
        return Outcome(state, step, reason)

    def failure(self, error: BaseException) -> BaseException:
        """The error that the user is to see."""
        if isinstance(error, (MmctlError, KeyboardInterrupt, GeneratorExit)):
            return error
        if full := out_of_memory(error, f"in step {self.o.training.step + 1}"):
            return full
        place = plugin_line(error, self.o.about["components"])
        if place:
            return TrainingFailed(
                f"step {self.o.training.step + 1}: {place}: {type(error).__name__}: {error}. The last checkpoint is "
                "kept; mend the component and resume with `--accept-changes`."
            )
        crash = self.o.folder / "crash.txt"
        crash.write_text("".join(traceback.format_exception(error)))
        return MmctlError(f"a bug in mmctl: {type(error).__name__}: {error}. Please report it with {crash}.")


def out_of_memory(error: BaseException, when: str) -> TrainingFailed | None:
    """What to tell where there was no memory left, on the GPU or beside it."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error):
        return TrainingFailed(
            f"out of memory {when}: lower train.batch, train.unlabeled_batch, eval.batch or launcher.pack, or choose a "
            "smaller backbone, in a new run."
        )
    return None


def plugin_line(error: BaseException, components: Sequence[Mapping[str, object]]) -> str | None:
    """file:line of the last frame of an error in a plugin, local or installed; None if no plugin took part."""
    foreign = {Path(str(c["file"])).resolve() for c in components if c["origin"] != "mmctl" and c["file"]}
    local = project.plugins_dir().resolve()
    frames = [(Path(f.filename).resolve(), f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    places = [f"{file}:{line}" for file, line in frames if file in foreign or file.is_relative_to(local)]
    return places[-1] if places else None


def evaluation_event(step: int, where: str, split: str, weights: str, predictor: str, scores: Scores) -> Evaluation:
    """Everything that one predictor scored, for the journal."""
    return Evaluation(
        step=step, checkpoint=where, split=split, weights=weights, predictor=predictor, metrics=scores.metrics,
        per_class=scores.per_class, confusion=scores.confusion, n=scores.n,
    )  # fmt: skip
