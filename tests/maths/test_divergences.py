"""Each divergence against torch.distributions or a plain loop in float64, a hand-sized case, its
corners, and a near miss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from decaylab.maths.divergences import (
    LN2,
    divergences,
    entropy,
    forward_kl,
    js,
    reverse_kl,
    reverse_kl_k1,
    reverse_kl_k3,
)

INF = math.inf
BETWEEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "reverse_kl": reverse_kl,
    "forward_kl": forward_kl,
    "js": js,
}


def laws(
    *shape: int, seed: int = 0, scale: float = 2.0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of two random policies, the second one near the first."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    teacher = student + torch.randn(shape, generator=generator, dtype=torch.float64)
    return student.log_softmax(-1).to(dtype), teacher.log_softmax(-1).to(dtype)


def of(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


def slow_kl(first: Sequence[float], second: Sequence[float]) -> float:
    """Sum of p log (p / q) where p is not 0; infinite where only q is."""
    return sum(p * (math.log(p / q) if q else INF) for p, q in zip(first, second, strict=True) if p)


def slow_js(first: Sequence[float], second: Sequence[float]) -> float:
    middle = [(p + q) / 2 for p, q in zip(first, second, strict=True)]
    return (slow_kl(first, middle) + slow_kl(second, middle)) / 2


# --- against independent definitions
# ---------------------------------------------------------------------------


def test_entropy_is_that_of_torch_distributions_in_nats() -> None:
    logprobs, _ = laws(3, 5, 40)
    expected = Categorical(logits=logprobs).entropy()
    torch.testing.assert_close(entropy(logprobs), expected)
    bits, mean = expected / LN2, expected / 40
    assert (entropy(logprobs) - bits).abs().min() > 0.1 and (
        entropy(logprobs) - mean
    ).abs().min() > 0.1


def test_reverse_kl_is_student_from_teacher_and_forward_kl_teacher_from_student() -> None:
    student, teacher = laws(3, 5, 40)
    s, t = Categorical(logits=student), Categorical(logits=teacher)
    torch.testing.assert_close(reverse_kl(student, teacher), kl_divergence(s, t))
    torch.testing.assert_close(forward_kl(student, teacher), kl_divergence(t, s))
    assert (reverse_kl(student, teacher) - kl_divergence(t, s)).abs().min() > 1e-3  # swapped
    assert (reverse_kl(student, teacher) - kl_divergence(s, t) / LN2).abs().min() > 1e-2  # in bits
    assert (
        reverse_kl(student, teacher) - kl_divergence(s, t) / 40
    ).abs().min() > 1e-2  # mean for sum


def test_js_is_the_mean_kl_to_the_even_mixture_and_not_the_mean_of_two_kls() -> None:
    student, teacher = laws(3, 5, 40)
    middle = Categorical(probs=(student.exp() + teacher.exp()) / 2)
    halves = [kl_divergence(Categorical(logits=one), middle) for one in (student, teacher)]
    torch.testing.assert_close(js(student, teacher), (halves[0] + halves[1]) / 2)
    jeffreys = (reverse_kl(student, teacher) + forward_kl(student, teacher)) / 2
    assert (js(student, teacher) - jeffreys).abs().min() > 1e-2
    assert (js(student, teacher) - (halves[0] + halves[1])).abs().min() > 1e-2  # sum for mean


def test_two_tokens_by_hand() -> None:
    """s = (1/2, 1/2), t = (1/4, 3/4): KL(s, t) = (ln 2 + ln 2/3) / 2 = .1438; KL(t, s) = (ln 1/2 +
    3 ln 3/2) / 4 = .1308.

    Mixture (3/8, 5/8): its entropy .66156 less the mean of ln 2 and of .56234 is .03382.
    """
    student, teacher = of(0.5, 0.5), of(0.25, 0.75)
    assert float(reverse_kl(student, teacher)) == pytest.approx(math.log(4 / 3) / 2)
    assert float(forward_kl(student, teacher)) == pytest.approx(0.75 * math.log(3) - math.log(2))
    assert float(js(student, teacher)) == pytest.approx(0.033822075568605)
    assert float(entropy(student)) == pytest.approx(LN2)
    assert float(entropy(teacher)) == pytest.approx(2 * LN2 - 0.75 * math.log(3))


def test_all_at_once_are_the_same_numbers_each_under_its_own_name() -> None:
    student, teacher = laws(7, 30, seed=1)
    found = divergences(student, teacher)
    assert found._fields == ("student_entropy", "teacher_entropy", "reverse_kl", "forward_kl", "js")
    assert torch.equal(found.student_entropy, entropy(student)) and torch.equal(
        found.teacher_entropy, entropy(teacher)
    )
    for name, function in BETWEEN.items():
        assert torch.equal(getattr(found, name), function(student, teacher)), name


def test_float32_is_as_good_as_float64_over_a_real_vocabulary() -> None:
    """Worst absolute error over 50,000 ids; the near miss in 16 bits is off by a hundred times as
    much."""
    student, teacher = laws(4, 50_000, scale=4.0)
    exact = divergences(student, teacher)
    for tolerance, dtype in ((2e-5, torch.float32), (None, torch.bfloat16)):
        wide = divergences(student.to(dtype).float(), teacher.to(dtype).float())
        worst = max(
            float((one - other).abs().max()) for one, other in zip(exact, wide, strict=True)
        )
        assert worst < tolerance if tolerance else worst > 2e-3


# --- what must hold of any two policies
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", BETWEEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_policy_against_itself_is_exactly_zero(name: str, dtype: torch.dtype) -> None:
    for student in (
        laws(6, 3000, dtype=dtype)[0],
        of(0.5, 0.5, 0, 0).to(dtype),
        of(1, 0).to(dtype),
    ):
        found = BETWEEN[name](student, student.clone())
        assert bool((found == 0).all()) and not bool(found.signbit().any())
    assert bool((BETWEEN[name](*laws(6, 3000, dtype=dtype)) > 1e-3).all())


def test_js_is_symmetric_and_bounded_and_the_kls_are_neither() -> None:
    for seed in range(20):
        student, teacher = laws(8, 6, seed=seed, scale=float(seed))
        torch.testing.assert_close(js(student, teacher), js(teacher, student), rtol=0, atol=1e-14)
        assert bool((js(student, teacher) <= LN2 + 1e-15).all()) and bool(
            (js(student, teacher) >= 0).all()
        )
    apart = of(0.999, 0.001), of(0.001, 0.999)
    assert float(reverse_kl(*apart)) > LN2 and float(js(*apart)) > 0.68


def test_js_of_policies_that_share_no_token_is_ln_2() -> None:
    assert float(js(of(0.3, 0.7, 0, 0), of(0, 0, 0.9, 0.1))) == pytest.approx(LN2, abs=1e-15)


def test_the_entropy_of_an_even_choice_is_its_log_and_of_a_certain_one_0() -> None:
    assert float(entropy(of(*[1 / 8] * 8))) == pytest.approx(3 * LN2)
    assert float(entropy(of(0, 1, 0))) == 0


# --- probabilities of 0
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((0.5, 0.5, 0.0), (0.25, 0.5, 0.25)),
        ((0.25, 0.5, 0.25), (0.5, 0.5, 0.0)),
        ((0.25, 0.75, 0.0), (0.5, 0.5, 0.0)),
        ((0.5, 0.5, 0.0), (0.0, 0.5, 0.5)),
        ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    ],
)
def test_a_token_of_probability_0_counts_for_nothing_or_makes_the_kl_infinite(
    student: tuple[float, ...], teacher: tuple[float, ...]
) -> None:
    s, t = of(*student), of(*teacher)
    assert float(reverse_kl(s, t)) == pytest.approx(slow_kl(student, teacher))
    assert float(forward_kl(s, t)) == pytest.approx(slow_kl(teacher, student))
    assert float(js(s, t)) == pytest.approx(slow_js(student, teacher))
    assert float(entropy(s)) == pytest.approx(-sum(p * math.log(p) for p in student if p))


def test_a_row_with_a_0_leaves_the_others_as_they_were() -> None:
    student, teacher = laws(3, 4)
    alone = [function(student[1:], teacher[1:]) for function in BETWEEN.values()]
    student[0], teacher[0] = of(0.5, 0.5, 0, 0), of(0, 0.5, 0.5, 0)
    together = [function(student, teacher) for function in BETWEEN.values()]
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other[1:])


def test_nan_stays_nan_on_either_side() -> None:
    good, broken = of(0.5, 0.5), torch.tensor([math.nan, 0.0], dtype=torch.float64)
    for pair in ((good, broken), (broken, good), (broken, broken)):
        assert all(bool(function(*pair).isnan()) for function in BETWEEN.values())
    assert bool(entropy(broken).isnan())


# --- one-sample estimates
# ---------------------------------------------------------------------------


def test_k1_and_k3_have_the_reverse_kl_as_their_expectation_over_the_students_tokens() -> None:
    student, teacher = laws(9, 50, seed=2)
    exact = reverse_kl(student, teacher)
    for estimate in (reverse_kl_k1, reverse_kl_k3):
        torch.testing.assert_close((student.exp() * estimate(student, teacher)).sum(-1), exact)
        swapped = (student.exp() * estimate(teacher, student)).sum(-1)
        over_the_teachers = (teacher.exp() * estimate(student, teacher)).sum(-1)
        assert (swapped - exact).abs().min() > 1e-2 and (
            over_the_teachers - exact
        ).abs().min() > 1e-2


def test_one_token_by_hand() -> None:
    """s(y) = 1/2, t(y) = 1/8: k1 = ln 4; r = 1/4, k3 = 1/4 - 1 + ln 4."""
    student, teacher = of(0.5), of(0.125)
    assert float(reverse_kl_k1(student, teacher)) == pytest.approx(math.log(4))
    assert float(reverse_kl_k3(student, teacher)) == pytest.approx(math.log(4) - 0.75)


def test_k3_is_never_negative_where_k1_is_and_both_are_0_at_equality() -> None:
    student, teacher = laws(100, 10, seed=3, dtype=torch.float32)
    assert bool((reverse_kl_k3(student, teacher) >= 0).all()) and bool(
        (reverse_kl_k1(student, teacher) < 0).any()
    )
    assert bool((reverse_kl_k3(student, student) == 0).all()) and bool(
        (reverse_kl_k1(student, student) == 0).all()
    )


def test_k3_of_nearly_equal_probabilities_keeps_its_digits() -> None:
    """log r = 1e-4: k3 = 1e-8 / 2. In float32 the plain r - 1 - log r has no digit of it."""
    ratio = torch.tensor(1e-4)
    assert float(reverse_kl_k3(torch.tensor(0.0), ratio)) == pytest.approx(5e-9, rel=1e-3)
    assert float(ratio.exp() - 1 - ratio) != pytest.approx(5e-9, rel=0.5)


def test_k3_misses_the_teachers_mass_on_what_the_student_never_writes() -> None:
    """s = (1/2, 1/2, 0), t = (1/4, 1/2, 1/4): KL = ln(2) / 2, and the mean of k3 is 1/4 less."""
    student, teacher = of(0.5, 0.5, 0.0), of(0.25, 0.5, 0.25)
    k3 = reverse_kl_k3(student[:2], teacher[:2])
    assert float((student[:2].exp() * k3).sum()) == pytest.approx(LN2 / 2 - 0.25)
    assert float(reverse_kl(student, teacher)) == pytest.approx(LN2 / 2)


def test_a_token_the_teacher_never_writes_is_infinitely_far() -> None:
    student, never = of(0.5), of(0.0)
    assert (
        float(reverse_kl_k1(student, never)) == INF and float(reverse_kl_k3(student, never)) == INF
    )
