"""Everything mmctl tells its user when something goes wrong.

    MmctlError                   exit code
      UserError                  2   recipe, data, arguments: the user can put it right
        RecipeError              2   all problems of a recipe at once, each with file:line
        PluginError              2   unknown, ambiguous or broken component
        DataError                2   a data set that is missing, damaged or too small
        RunNotFound              2   no run of that name, or more than one
        ResumeRefused            2   the run cannot go on as it was
      TrainingFailed             3   a plugin raised, out of memory
        Diverged                 3   a loss or weight is no longer finite
      GateNotMet                 7   a figure asked for was not reached
      PartFailed                 6   some runs of a batch failed
      EnvironmentFault           4   disk full, read-only, database locked or damaged
      Stopped                    75  a signal ended the run at a checkpoint; it can be resumed

A message is one paragraph: where, what, and what to do. `mmctl` prints it without a traceback
(set MMCTL_DEBUG=1 to see one).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MmctlError(Exception):
    """Base of all errors that mmctl raises on purpose."""

    exit_code = 1


class UserError(MmctlError):
    """The input is wrong and the user can put it right."""

    exit_code = 2


class RecipeError(UserError):
    """All problems found in a recipe; `problems` holds one line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class PluginError(UserError):
    """A component is unknown, ambiguous, broken or breaks its contract."""


class DataError(UserError):
    """A data set is missing, damaged, or has too few pictures for what is asked."""


class RunNotFound(UserError):
    """No run answers to that name, or several do."""


class ResumeRefused(UserError):
    """A run cannot be resumed as it stands; the message says what differs."""


class TrainingFailed(MmctlError):
    """Training could not go on; what was saved before is kept."""

    exit_code = 3


class Diverged(TrainingFailed):
    """A loss term is no longer finite."""

    def __init__(self, term: str, step: int) -> None:
        self.term, self.step = term, step
        super().__init__(
            f"{term} is not finite since step {step}. The last checkpoint is from before that; "
            "resuming would repeat it. Lower optimizer.lr or the weight of that term and start a new run."
        )


class GateNotMet(MmctlError):
    """A figure that the user set as a condition was not reached."""

    exit_code = 7


class PartFailed(MmctlError):
    """Some runs of a batch failed; the others are kept."""

    exit_code = 6


class EnvironmentFault(MmctlError):
    """The machine does not let us work: disk full, read-only folder, locked or damaged database."""

    exit_code = 4


class Stopped(MmctlError):
    """A signal ended the run at a checkpoint; resuming goes on from there."""

    exit_code = 75


def suggest(word: str, known: Iterable[str]) -> str:
    """` did you mean "x"?` with up to three close names, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    if not close:
        return ""
    return " Did you mean " + " or ".join(f'"{name}"' for name in close) + "?"
