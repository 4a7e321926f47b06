"""Statistics against SciPy, and against what can be counted by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmctl.report import stats

A = [0.861, 0.874, 0.869, 0.880, 0.858]
B = [0.842, 0.861, 0.866, 0.871, 0.839]


def test_mean_std_interval_against_scipy() -> None:
    from scipy import stats as scipy

    assert stats.mean(A) == pytest.approx(0.8684)
    assert stats.std(A) == pytest.approx(scipy.tstd(A))
    low, high = scipy.t.interval(0.95, 4, loc=stats.mean(A), scale=scipy.sem(A))
    assert stats.interval(A) == pytest.approx((low, high))


def test_one_value_has_neither_spread_nor_interval() -> None:
    assert stats.std([1.0]) is None
    assert stats.interval([1.0]) is None
    assert stats.paired([(1.0, 2.0)]) is None
    assert stats.welch([1.0], [2.0, 3.0]) is None
    assert stats.permutation([(1.0, 2.0)]) is None


def test_paired_against_scipy() -> None:
    from scipy import stats as scipy

    ours, theirs = stats.paired(list(zip(A, B, strict=True))), scipy.ttest_rel(A, B)
    assert ours
    assert ours["p"] == pytest.approx(theirs.pvalue)
    bounds = theirs.confidence_interval()
    assert (ours["low"], ours["high"]) == pytest.approx((bounds.low, bounds.high))
    assert ours["diff"] == pytest.approx(stats.mean(A) - stats.mean(B))
    assert ours["p_min"] == 0.0625


def test_welch_against_scipy() -> None:
    from scipy import stats as scipy

    ours, theirs = stats.welch(A, B[:3]), scipy.ttest_ind(A, B[:3], equal_var=False)
    assert ours
    assert ours["p"] == pytest.approx(theirs.pvalue)
    bounds = theirs.confidence_interval()
    assert (ours["low"], ours["high"]) == pytest.approx((bounds.low, bounds.high))


def test_sign_flip_against_scipy() -> None:
    from scipy import stats as scipy

    noisy = [0.842, 0.880, 0.866, 0.891, 0.839]
    for other in (B, noisy, A):
        gaps = [a - b for a, b in zip(A, other, strict=True)]
        theirs = scipy.permutation_test(
            (gaps,), lambda x: abs(sum(x)), permutation_type="samples", alternative="greater"
        )
        ours = stats.permutation(list(zip(A, other, strict=True)))
        assert ours
        assert ours["p"] == pytest.approx(theirs.pvalue)


def test_sign_flip_by_hand() -> None:
    assert stats.permutation([(2.0, 1.0)] * 5) == {
        "name": "sign flip", "n": 5, "diff": 1.0, "effect": None, "low": 1.0, "high": 1.0, "p": 0.0625, "p_min": 0.0625,
    }  # fmt: skip
    assert stats.permutation([(1.0, 0.0), (1.0, 0.0), (0.0, 1.0)])["p"] == 1.0  # type: ignore[index]
    assert stats.permutation([(1.0, 0.0)] * 13) is None


def test_equal_differences_claim_no_certainty() -> None:
    same = stats.paired([(1.0, 1.0), (2.0, 2.0)])
    assert same
    assert (same["diff"], same["p"]) == (0.0, 1.0)
    shifted = stats.paired([(1.5, 1.0), (2.5, 2.0)])
    assert shifted
    assert (shifted["diff"], shifted["p"], shifted["low"]) == (0.5, None, None)
    assert stats.welch([1.0, 1.0], [1.0, 1.0])["p"] == 1.0  # type: ignore[index]


def test_shared_keys_in_order() -> None:
    a, b = {(1, "s"): 0.1, (0, "s"): 0.2, (2, "s"): 0.3}, {(0, "s"): 0.4, (1, "s"): 0.5, (2, "other"): 0.6}
    assert stats.shared(a, b) == [(0.2, 0.4), (0.1, 0.5)]


@pytest.mark.parametrize(("n", "p"), [(1, 1.0), (2, 0.5), (5, 0.0625), (10, 2**-9)])
def test_smallest_p(n: int, p: float) -> None:
    assert stats.smallest_p(n) == p


def test_holm() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0]
    assert stats.holm([]) == []


@settings(deadline=None)  # a busy machine is no fault of the function
@given(st.floats(0, 50), st.floats(1, 200))
def test_t_tail_against_scipy(t: float, freedom: float) -> None:
    from scipy import stats as scipy

    assert stats.t_tail(t, freedom) == pytest.approx(2 * scipy.t.sf(t, freedom), rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 30.5, 1000])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_t_quantile_against_scipy(level: float, freedom: float) -> None:
    from scipy import stats as scipy

    assert stats.t_quantile(level, freedom) == pytest.approx(scipy.t.ppf((1 + level) / 2, freedom), rel=1e-9)


def test_t_tail_at_the_ends() -> None:
    assert stats.t_tail(0.0, 5) == 1.0
    assert stats.t_tail(math.inf, 5) == 0.0


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_intervals_of_other_levels_against_scipy(level: float) -> None:
    from scipy import stats as scipy

    pair, two = stats.paired(list(zip(A, B, strict=True)), level), stats.welch(A, B[:3], level)
    assert pair
    assert two
    for ours, theirs in ((pair, scipy.ttest_rel(A, B)), (two, scipy.ttest_ind(A, B[:3], equal_var=False))):
        bounds = theirs.confidence_interval(level)
        assert (ours["low"], ours["high"]) == pytest.approx((bounds.low, bounds.high))
    assert stats.interval(A, level) == pytest.approx(scipy.t.interval(level, 4, stats.mean(A), scipy.sem(A)))


@pytest.mark.parametrize("freedom", [2, 4, 9, 38])
def test_effect_sizes_are_unbiased(freedom: int) -> None:
    from scipy.special import gamma

    factor = gamma(freedom / 2) / (math.sqrt(freedom / 2) * gamma((freedom - 1) / 2))
    assert stats.hedges(1.0, 2.0, freedom) == pytest.approx(factor / 2)
    assert factor == pytest.approx(1 - 3 / (4 * freedom - 1), abs=0.02), "the usual approximation"


def test_effect_sizes_of_the_tests() -> None:
    from scipy import stats as scipy

    pair, two = stats.paired(list(zip(A, B, strict=True))), stats.welch(A, B[:3])
    flip = stats.permutation(list(zip(A, B, strict=True)))
    assert pair
    assert two
    assert flip
    gaps = [a - b for a, b in zip(A, B, strict=True)]
    assert pair["effect"] == flip["effect"] == pytest.approx(stats.hedges(stats.mean(gaps), scipy.tstd(gaps), 4))
    pooled = math.sqrt((scipy.tvar(A) + scipy.tvar(B[:3])) / 2)
    assert two["effect"] == pytest.approx(stats.hedges(stats.mean(A) - stats.mean(B[:3]), pooled, 6))
    assert stats.paired([(1.5, 1.0), (2.5, 2.0)])["effect"] is None  # type: ignore[index]
    assert stats.hedges(1.0, 1.0, 1) is None


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (3, 9), (9, 3), (7, 7), (40, 61), (900, 1100)])
def test_mcnemar_against_scipy(better: int, worse: int) -> None:
    from scipy.stats import binomtest

    p = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert stats.mcnemar(better, worse) == pytest.approx(p)
