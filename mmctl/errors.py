"""All errors that mmctl shows to its user.

    MmctlError                   exit code
      UserError                  2   recipe, data or arguments are wrong
        RecipeError              2   all problems of a recipe, each with file:line
        PluginError              2   a component is unknown, ambiguous or broken
        DataError                2   a data set is missing, damaged or too small
        RunNotFound              2   no run matches, or more than one
        ResumeRefused            2   the data or a plugin of the run changed
      TrainingFailed             3   a plugin raised an error, or out of memory
        Diverged                 3   a loss or weight became NaN or infinite
      GateNotMet                 7   the accuracy is below `evaluate --min`, or `compare --fail-if` holds
      PartFailed                 6   some runs of a batch failed, or `compare --strict` misses a seed
      EnvironmentFault           4   disk full, read-only folder, database locked or damaged
      Stopped                    75  a signal stopped the run at a checkpoint; it can be resumed
        Superseded               75  another process has started a newer attempt of the run

A message says where the problem is, what it is, and what to do. `mmctl` prints it as `mmctl: MESSAGE`, without a
traceback (set MMCTL_DEBUG=1 to see it).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mmctl.text import one_line


class MmctlError(Exception):
    """Base of all errors that mmctl raises on purpose; each argument is one line of the message."""

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(map(one_line, lines)))


class UserError(MmctlError):
    """The input is wrong and the user can correct it."""

    exit_code = 2


class RecipeError(UserError):
    """All problems found in a recipe; `problems` holds one line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(map(one_line, problems))
        super().__init__(*self.problems)


class PluginError(UserError):
    """A component is unknown, ambiguous or broken, or does not follow the interface of its kind."""


class DataError(UserError):
    """A data set is missing, damaged, or has too few images for the recipe."""


class RunNotFound(UserError):
    """No run matches a reference, or several do."""


class ResumeRefused(UserError):
    """A run cannot be resumed, because its data or a plugin changed; the message says what."""


class TrainingFailed(MmctlError):
    """Training cannot continue; the checkpoints are kept."""

    exit_code = 3


class Diverged(TrainingFailed):
    """A loss or a weight of the network became NaN or infinite."""

    WORDS = "became NaN or infinite"  # in the reason of such a run, by which reading commands find it

    def __init__(self, term: str, step: int) -> None:
        self.term, self.step = term, step
        super().__init__(
            f"{term} {self.WORDS} at step {step}. The last checkpoint is older, and resuming it would "
            "give the same result: lower optimizer.lr or the weight of a loss term, and start a new run."
        )


class GateNotMet(MmctlError):
    """The accuracy is below the minimum that the user gave, or a row of a comparison meets a condition to fail."""

    exit_code = 7


class PartFailed(MmctlError):
    """Some runs of a batch failed, the others are kept; or a comparison lacks some runs."""

    exit_code = 6


class EnvironmentFault(MmctlError):
    """A problem of the machine: disk full, read-only folder, locked or damaged database."""

    exit_code = 4


def os_error(error: OSError, where: object = None) -> EnvironmentFault:
    """An error of the operating system as one for the user; where: the path to name if the error has none."""
    path = error.filename if error.filename is not None else where
    text = f"{error.strerror or error or type(error).__name__}"
    return EnvironmentFault(
        f"{path}: {text}. Check the disk, its free space and the permissions, then run the command again."
        if path is not None
        else f"{text} (error of the operating system). Check disks, free space and permissions, then run it again."
    )


class Stopped(MmctlError):
    """A signal stopped the run at a checkpoint, and `mmctl resume` continues from there."""

    exit_code = 75


class Superseded(Stopped):
    """A newer attempt of the run has started in another process; this one ends without writing."""


def suggest(word: str, known: Iterable[str]) -> str:
    """` did you mean "x"?` with up to three close names, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    if not close:
        return ""
    return " Did you mean " + " or ".join(f'"{name}"' for name in close) + "?"
