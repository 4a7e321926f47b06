"""Records a run: writes the events of the training loop into the journal and saves checkpoints."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mmctl
from mmctl import project, redact
from mmctl.data.images import Pictures
from mmctl.errors import MmctlError, TrainingFailed, os_error
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
from mmctl.run_folder.predictions import write_predictions
from mmctl.run_folder.verify import identity_hash
from mmctl.runs import ranks
from mmctl.runs.check import listed_skipped
from mmctl.runs.open import OpenRun
from mmctl.runs.progress import StepRate, tell
from mmctl.text import hardware_line
from mmctl.training import checkpoint, loop
from mmctl.training.async_save import AsyncSaver
from mmctl.training.evaluate import Scores
from mmctl.training.loop import Alarm, Evaluated, Event, Point, Saved, Started, train
from mmctl.training.state import Training

Watch = Callable[[Event, Training], None]


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended; state: completed, nc (stopped because it collapsed) or interrupted."""

    state: str
    step: int
    reason: str | None = None


class RunRecorder:
    """Records one attempt, from start or resume to its end, in journal and checkpoints."""

    def __init__(self, opened: OpenRun, attempt: int, log: Journal, lease: Lease, watch: Watch) -> None:
        self.o, self.attempt, self.log, self.lease, self.watch = opened, attempt, log, lease, watch
        self.began, self.speed = time.perf_counter(), StepRate()
        self.saver: AsyncSaver | None = None
        self.paced = -1  # the step of the last line about the pace
        self.warned: set[str] = set()

    def run(self, stop: Callable[[], bool], accept_changes: bool) -> Generator[None, None, Outcome]:
        """Run the training loop, yield after each step, and log how it ended, also after an error.

        Raises TrainingFailed for errors of plugins and out of memory, Superseded if a newer attempt has started, and
        MmctlError for a bug of mmctl.
        """
        t = self.o.training
        try:
            self.begin(accept_changes)
            self.saver = AsyncSaver(t.tensors())
            for event in train(t, stop):
                self.keep(event)
                self.watch(event, t)
                if event is None:
                    self.log.check_newest(look=False)
                    yield
                    if torch.get_num_threads() != self.o.facts["threads"]:  # changed by another run in this process
                        torch.set_num_threads(self.o.facts["threads"])
            self.saver.join()
        except BaseException as error:
            if self.saver is not None:
                self.saver.settle()  # keep the lease until no thread writes any more
            self.log.check_newest()  # a newer attempt, which clears away unfinished files, is no failure of this run
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

    def begin(self, accept_changes: bool) -> None:
        """Log first step, hardware, versions and data of this attempt; warn if it is not exact."""
        o, split = self.o, self.o.data.split
        exact = o.exact and not accept_changes
        self.log.write(Attempt(
            number=self.attempt, start=o.training.step, host=host(), boot=boot(), pid=os.getpid(),
            device=o.facts["device"], isa=o.facts["isa"], threads=o.facts["threads"],
            processes=o.facts.get("processes"), precision=o.facts["precision"], versions=o.facts["versions"],
            exact=exact, identity=identity_hash(o.about),
        ))  # fmt: skip
        self.log.write(State(state="running", step=o.training.step))
        images = o.data.images
        self.log.write(Data(
            data_hash=o.data.digest, split_hash=split.sha256, train=len(images["train"].ids),
            labeled=len(split.labeled), unlabeled=len(split.unlabeled),
            val=len(split.val) or (len(images["val"].ids) if "val" in images else 0),
            test=len(images["test"].ids) if "test" in images else 0,
            counts=list(split.counts), classes=list(images["train"].classes),
            skipped=listed_skipped(images),
        ))  # fmt: skip
        self.log.flush(sync=True)
        self.watch(Started(o.training.step, hardware_line(o.facts)), o.training)
        if not exact:
            why = "; ".join(o.changes) or "--accept-changes was given"
            self.warn(f"{why}: results can differ from those of an uninterrupted run (shown as exact = no).")

    def warn(self, text: str) -> None:
        """Tell the user of a problem, once in an attempt, and log it."""
        if text not in self.warned:
            self.warned.add(text)
            tell(f"warning: {text}")
            self.log.write(Notice(step=self.o.training.step, text=text))

    def keep(self, event: Event) -> None:
        """Log one event of the training loop, or save a checkpoint."""
        t = self.o.training
        match event:
            case None:
                rate, each = self.speed.measure(t.step, t.seconds_aside)
                self.lease.beat(t.step, t.steps, rate, (t.steps - t.step) * each)
            case Point(step, values):
                self.log.write(Points(step=step, values=values))
                if self.o.facts["device"] != "cpu":
                    self.lease.gpu_memory(torch.cuda.max_memory_reserved())
            case Evaluated(step, split, weights, scores, agreement):
                values = {f"{split}/{weights}/{p}/{m}": v for p, s in scores.items() for m, v in s.metrics.items()}
                self.log.write(Points(step=step, values={**values, f"{split}/{weights}/agreement": agreement}))
                if step != self.paced:
                    self.pace(step)
                if step == t.steps:
                    kept = keep_predictions(self.o, step, split, weights, t.splits[split], scores)
                    for predictor, s in scores.items():
                        where = checkpoint.path_of(step)
                        self.log.write(evaluation_event(step, where, split, weights, predictor, s, kept))
            case loop.Notice(step, text):
                self.log.write(Notice(step=step, text=text))
            case Alarm(step, kind, text, _):
                self.log.write(Alert(step=step, name=kind, text=text))
            case Saved(step, reason):
                self.save(step, reason)

    def save(self, step: int, reason: str) -> None:
        """Copy the state; a thread writes it as a checkpoint while training continues."""
        o, start = self.o, time.perf_counter()
        self.pace(step)
        best = o.training.best.step  # now: when the thread asks, the next one may be the best, but not yet saved
        facts: dict[str, Any] = {
            "run": o.about["uid"], "attempt": self.attempt, "reason": reason, "mmctl": mmctl.__version__,
            "data": o.data.digest, "split": o.data.split.sha256, "environment": o.facts, "training": o.training.facts(),
        }  # fmt: skip
        if unsaved := facts["training"]["unsaved"]:
            self.warn(
                f"{', '.join(unsaved)} changed in training, but no checkpoint saves it: a resumed run would start it "
                "again (and is shown as exact = no). Keep state in a buffer (register_buffer), or list what is no "
                "state in `not_state` of the class."
            )

        def publish(tensors: dict[str, Tensor]) -> None:
            # First the journal, so that a checkpoint on disk always has its log entries.
            self.log.flush(sync=True)
            about = checkpoint.publish(o.folder, step, tensors, facts, self.log.check_newest)
            self.log.write(Checkpoint(step=step, reason=reason, **about))
            if problem := checkpoint.retain(o.folder, o.recipe.settings.train.keep, best):
                self.warn(f"{o.folder.name}: {problem}")

        assert self.saver is not None
        self.saver.save(o.training.tensors(), publish)
        o.training.seconds_aside += time.perf_counter() - start

    def pace(self, step: int) -> None:
        """Log wall-clock and CPU time of this attempt so far."""
        seconds, self.paced = time.perf_counter() - self.began, step
        self.log.write(Pace(step=step, seconds=seconds, cpu=time.process_time()))

    def end(self, state: str, reason: str | None, code: int) -> Outcome:
        """Log the end of the attempt and return it."""
        step = self.o.training.step
        reason = reason and redact.text(reason)
        self.pace(step)
        self.log.write(State(state=state, reason=reason, code=code, step=step))
        return Outcome(state, step, reason)

    def failure(self, error: BaseException) -> BaseException:
        """The error to raise in place of `error`, with a message for the user."""
        if isinstance(error, (MmctlError, KeyboardInterrupt, GeneratorExit)):
            return error
        if full := out_of_memory(error, f"in step {self.o.training.step + 1}"):
            return full
        if ended := ranks.lost(error, self.o.folder):
            return ended
        place = plugin_line(error, self.o.about["components"])
        if place:
            return TrainingFailed(
                f"step {self.o.training.step + 1}: {place}: {type(error).__name__}: {error}. The last checkpoint is "
                f"kept: fix the plugin, then `mmctl resume {self.o.folder.name} --accept-changes`."
            )
        if isinstance(error, OSError):
            return os_error(error, self.o.folder)
        crash = self.o.folder / "crash.txt"
        with suppress(OSError):
            # Without the values of variables, which can be secrets.
            crash.write_text(redact.text("".join(traceback.format_exception(error))))
        return MmctlError(f"a bug in mmctl: {type(error).__name__}: {error}. Please report it with {crash}.")


def out_of_memory(error: BaseException, when: str) -> TrainingFailed | None:
    """TrainingFailed if the error means that GPU or main memory is full, else None."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error):
        return TrainingFailed(
            f"out of memory {when}: lower train.batch, train.unlabeled_batch, eval.batch or launcher.pack, or choose a "
            "smaller backbone, in a new run."
        )
    return None


def plugin_line(error: BaseException, components: Sequence[Mapping[str, object]]) -> str | None:
    """FILE:LINE where a plugin raised the error, or None if no plugin is in the traceback."""
    foreign = {Path(str(c["file"])).resolve() for c in components if c["origin"] != "mmctl" and c["file"]}
    local = project.plugins_dir().resolve()
    frames = [(Path(f.filename).resolve(), f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    places = [f"{file}:{line}" for file, line in frames if file in foreign or file.is_relative_to(local)]
    return places[-1] if places else None


def evaluation_event(
    step: int, where: str, split: str, weights: str, predictor: str, scores: Scores, predictions: str | None = None
) -> Evaluation:
    """The journal event with all metrics of one predictor; predictions: the path of their file."""
    return Evaluation(
        step=step, checkpoint=where, split=split, weights=weights, predictor=predictor, metrics=scores.metrics,
        per_class=scores.per_class, confusion=scores.confusion, n=scores.n, predictions=predictions,
    )  # fmt: skip


def keep_predictions(
    opened: OpenRun, step: int, split: str, weights: str, pictures: Pictures, scores: Mapping[str, Scores]
) -> str:
    """Write what both predictors said of each image into the run folder; returns the path of the file there."""
    said = {
        predictor: (one.predicted_N.tolist(), None if one.probability_N is None else one.probability_N.tolist())
        for predictor, one in scores.items()
    }
    true, classes = pictures.labels(), opened.data.images["train"].classes
    return write_predictions(opened.folder, f"{split}-{weights}-{step:09d}", pictures.names(), classes, true, said)
