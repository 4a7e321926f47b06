"""What `mmctl compare` finds, key by key: the object that --json prints and that print_compare lays out.

Metrics are fractions (0.915). A metric that is NaN in a mean is NaN here (null in JSON).
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from mmctl.report.results import Published
from mmctl.report.stats import Outcome
from mmctl.run_folder.upgrade import Setting


class Against(Outcome):
    """A configuration tested against the baseline; p_holm is p adjusted for the number of tests.

    left_out: runs of both sides that did not converge and are not in the difference, which they would make smaller or
    larger.
    """

    p_holm: float | None
    left_out: int


class AllRuns(TypedDict):
    """Mean and deviation where a run that did not converge counts `counts_as`."""

    n: int
    mean: float
    std: float | None
    counts_as: float


class Figures(TypedDict):
    """One metric of one configuration over its runs; low and high bound the confidence interval of the mean.

    `n` counts the runs behind the mean, `nc` those that did not converge; these are among the n if `nc_counted`.
    all_runs: the mean with them, if the recipe says what they count (eval.nc_as).
    """

    n: int
    nc: int
    nc_counted: bool
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    all_runs: AllRuns | None
    published: Published | None
    against: NotRequired[Against]


class ComparedRun(TypedDict):
    """A run of a configuration; `values` has one entry for each metric."""

    uid: str
    config_id: str
    seed: int | None
    split_hash: str | None
    state: str
    step: int
    counted: bool
    values: list[float | None]


class ConfigurationRow(TypedDict):
    """Runs that differ only in the seed, on the same data; `values` has one entry for each metric.

    With --by it is a group of runs, its `config_id` and `recipe` say which, and `configurations` counts them.
    """

    config_id: str
    configurations: int
    recipe: str
    names: list[str]  # those that `mmctl run --name` gave to its runs
    method: str
    labeler: str | None
    labels: int | None
    altered: bool  # the run folder was edited: a configuration of its own, with one run
    seeds: int  # how many were started, whatever became of them
    counts: dict[str, int]  # runs by state
    hardware: dict[str, list[int | None]]  # "fp32 on CPU" -> seeds of the runs behind the mean
    runs: list[ComparedRun]
    values: list[Figures]


class ComparedMetric(TypedDict):
    """A metric and how one number was taken from its curve."""

    metric: str
    reducer: str
    words: str
    interval: str  # how the confidence intervals are computed


class Compute(TypedDict):
    """With --x: the amount of compute up to which all curves are read; `given` by --at, else the least of a run."""

    x: str  # steps, images or seconds
    amount: float
    given: bool


class RunPair(TypedDict):
    """Two runs of one seed and split, image by image; p by McNemar's test."""

    seed: int | None
    better: int
    worse: int
    p: float


class ComparedImage(TypedDict):
    """An image that one side gets right more often; ours and theirs: the share of their networks that does."""

    id: str
    true: str
    ours: float
    theirs: float
    ours_say: str  # the class that most of their networks predict
    theirs_say: str


class ImageDifference(TypedDict):
    """The difference of a metric over the images, with its bootstrap interval over images."""

    metric: str
    diff: float
    low: float
    high: float


class ImagesAgainst(TypedDict):
    """A configuration against the baseline, image by image.

    Both sides have the same number of `networks`, of the seeds that both have if there are any: with more on one side,
    a tie would be rarer there. better: images that ours get right more often than theirs; p: McNemar's test.
    """

    config_id: str
    networks: int  # of each side
    left_out: int  # of both sides together
    better: int
    worse: int
    p: float
    p_holm: float | None
    differences: list[ImageDifference]
    pairs: list[RunPair]
    images: list[ComparedImage]  # all those that one side gets right more often, the largest difference first


class PerImage(TypedDict):
    """What the networks of a panel predicted for the same images; missing: runs without stored predictions."""

    what: str  # "test", or "test/raw/centroid", and how the checkpoint was chosen
    images: int
    rows: list[ImagesAgainst]
    missing: list[str]  # commands that make the predictions


class Panel(TypedDict):
    """The configurations that were trained on the same data with the same number of labels."""

    data_hash: str | None
    dataset: str | None
    labels: int | None
    compute: Compute | None
    metrics: list[ComparedMetric]
    configurations: list[ConfigurationRow]
    notes: list[str]
    baseline: str | None  # its config_id
    per_image: NotRequired[list[PerImage]]


class SettingsColumn(TypedDict):
    """Configurations (of several panels) with the same settings; `values` has one entry for each key."""

    config_ids: list[str]
    values: list[Setting]


class ComparedSettings(TypedDict):
    """The settings that differ within a panel (or all), once for all panels; None = does not matter there."""

    keys: list[str]
    columns: list[SettingsColumn]


class Comparison(TypedDict):
    """What `mmctl compare` finds."""

    test: str
    level: float  # of all intervals, such as 0.95
    by: list[str]
    panels: list[Panel]
    settings: ComparedSettings
