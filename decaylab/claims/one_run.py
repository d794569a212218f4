"""What one run says, in at most three sentences with their numbers: the top of a command's output.

    verdict(run)       # ("Alone, the teacher is ahead of the student by +22.3 points ...", ...)

A claim (`judge.RULES`) is one sentence, its verdict first:

    Shown: early stopping shortens responses; the mean length ...
    Not testable here (only 10 problems; at least 30 are needed): does early stopping shorten ...?

Verdicts and numbers are those of the report, and of the advice where the run decides one. Where a
command measures what nobody claims, a sentence names its main number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from decaylab.claims import on_decay, on_values, which_teacher
from decaylab.claims.advice import Advice, advise
from decaylab.claims.judge import CLAIMS, RULES
from decaylab.claims.on_decay import ahead_words
from decaylab.claims.on_tokens import NATS
from decaylab.claims.summary import disagreement
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    LEAST_PROBLEMS,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    UNDECIDED,
    Verdict,
    pick,
    side,
)
from decaylab.claims.wording import Style, lowered, p_words, percent, points
from decaylab.printing import rounded
from decaylab.runs.found_runs import COMPARISON, FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.students import last_of_each, students
from decaylab.runs.vocabulary import (
    ABOVE_CAP,
    ACCURACY,
    ALL,
    ALREADY_WRONG,
    BASE,
    BEHIND_WRONG,
    BROKEN,
    CONSISTENCY,
    CONTENT,
    CORRECT_SO_FAR,
    FINISHED,
    FRESH,
    MASS,
    MEAN_KL,
    ONE_TOKEN_GAIN,
    OPEN,
    RANK_CORRELATION,
    REPAIR,
    REPAIRED,
    RESPONSE_LOG_RATIO,
    STUDENT,
    STYLE,
    SURVIVORS,
    TEACHER,
    TRUTH,
    VALUE_ADVANTAGE,
    against,
    effect,
    gain,
    kl_named,
    of_policy,
    of_two_tokenizers,
)

LINES, NAMED = 3, 3  # sentences, and students that one of them names
SENTENCE = re.compile(r"(?<=\.) (?=[A-Z0-9])")
TOKENS = Style(" tokens", 1)
LEADS: Mapping[Verdict, str] = {
    HOLDS: "Shown",
    CONTRADICTED: "Contradicted",
    NOT_SUPPORTED: "Not supported",
    UNDECIDED: "Undecided",
    NOT_TESTABLE: "Not testable here",
}
CLAIM_OF = {claim.name: claim for claim in CLAIMS}
Lines = Iterator[str]


def verdict(run: FoundRun) -> tuple[str, ...]:
    """The most important that a run says, first, in three sentences at most; none of a command that
    is not known."""
    kept: list[str] = []
    left = LINES
    for told in VERDICTS[run.command](run) if run.command in VERDICTS else ():
        line = kl_named(told, run.measurements)
        sentences = SENTENCE.split(line)[:left] if line else []
        if sentences:
            kept.append(" ".join(sentences))
        left -= len(sentences)
        if not left:
            break
    return tuple(kept)


def judged(run: FoundRun, claim: str, evidence: int = 1, advice: Advice | None = None) -> str:
    """What the rule of a claim finds in the run, in one sentence; "" where the run does not hold
    what it needs.

    evidence: sentences of the finding that go into it if the claim is decided; the first has the
    numbers. If it is not, the sentence says why, or what would decide it. advice: of the same run,
    which may leave open what the rule of the claim decides.
    """
    found = RULES[claim](run)
    if found is None:
        return ""
    decided, why, claimed = found.verdict, found.why, CLAIM_OF[claim]
    if reason := disagreement(claim, decided, advice) if advice else "":
        decided, why = UNDECIDED, reason
    sentences = SENTENCE.split(found.sentence)
    if decided in (UNDECIDED, NOT_TESTABLE):
        reasons = [why.partition(": ")[0]] * bool(why)
        if decided == UNDECIDED or not why:
            reasons += sentences[:1]
        return f"{LEADS[decided]} ({_joined(reasons)}): {lowered(claimed.question)}"
    return f"{LEADS[decided]}: {_joined([claimed.text, *sentences[:evidence]])}."


def _joined(sentences: Sequence[str]) -> str:
    """Sentences as the parts of one."""
    return "; ".join(lowered(sentence.removesuffix(".")) for sentence in sentences)


# Decay and comparisons


def _decay(run: FoundRun) -> Lines:
    yield ahead_words(run)
    yield judged(run, "teacher-decay", evidence=2)
    yield _control(run)


def _control(run: FoundRun) -> str:
    found = on_decay.machinery(run)
    if found is None:
        return "The control was not measured: add --controls own-prefix."
    if found.verdict == CONTRADICTED:
        return f"THE CONTROL FAILED: {lowered(found.sentence)}"
    lead = "The control holds" if found.verdict == HOLDS else "The control is inconclusive"
    return f"{lead}: {lowered(found.sentence)}"


def _comparison(run: FoundRun) -> Lines:
    yield from which_teacher.verdict(run.measurements)


# Scored tokens


def _position(run: FoundRun) -> Lines:
    yield _mean_kl(run)
    yield whole_responses(run)
    yield judged(run, "cascade")
    yield judged(run, "early-kl")


def _mean_kl(run: FoundRun) -> str:
    """The mean reverse KL before training, and of the last checkpoints after it."""
    before = _first(run, MEAN_KL, condition=ALL, view=FRESH, checkpoint=BASE, category="")
    if before is None:
        return ""
    return (
        f"The reverse KL is {NATS.number(before)} {_where(run)} before training, over "
        f"{before.rollouts:,} rollouts{_after_training(run, MEAN_KL)}."
    )


def _after_training(run: FoundRun, what: str) -> str:
    """A quantity of the last checkpoint of each training on its own rollouts, as "; after it"."""
    after = []
    for student in _last(run):
        row = _first(run, what, condition=ALL, view=FRESH, checkpoint=student, category="")
        if row is not None:
            after.append(f"{NATS.number(row)} ({student})")
    return f"; after it {_few(after)}" if after else ""


def whole_responses(run: FoundRun) -> str:
    """The log-ratio of whole responses, and how many boundaries may mislead, where a run compares
    by bytes; "" where it does not."""
    of_all = pick(run.measurements, RESPONSE_LOG_RATIO, condition=ALL, checkpoint=BASE)
    whole = next(iter(of_all), None)
    finished = _first(run, RESPONSE_LOG_RATIO, condition=FINISHED, checkpoint=BASE)
    capped = _first(run, ABOVE_CAP, checkpoint=BASE)
    if whole is None or capped is None:
        return ""
    words = f"there is no log-ratio of whole responses ({whole.note})"
    if not math.isnan(whole.value):
        count = finished.rollouts if finished else 0
        words = (
            f"the log-ratio is {NATS.number(whole)} a response before training ({count:,} of "
            f"{whole.rollouts:,} are finished){_after_training(run, RESPONSE_LOG_RATIO)}"
        )
    return f"By bytes, {percent(capped)} of the boundaries have more than 10 nats; {words}."


def _categories(run: FoundRun) -> Lines:
    rows = pick(run.measurements, "kl_share", view=FRESH, checkpoint=BASE)
    if known := [row for row in rows if not math.isnan(row.value)]:
        most = max(known, key=lambda row: row.value)
        share = _first(run, "token_share", view=FRESH, checkpoint=BASE, category=most.category)
        whole = "tokens" if not of_two_tokenizers(run.measurements) else "boundaries"
        of_tokens = f", which are {percent(share)} of the {whole}" if share else ""
        yield (
            f"The largest part of the reverse KL is in {_plain(most.category)} tokens: "
            f"{percent(most)}"
            f"{of_tokens}."
        )
    means = pick(run.measurements, MEAN_KL, view=FRESH, checkpoint=BASE, condition=ALL)
    frequent = run.options.get("min_count", 0)  # a mean over a handful of tokens leads nobody
    kinds = [row for row in means if row.category and row.tokens >= frequent]
    if kinds:
        highest = max(kinds, key=lambda row: row.value)
        yield (
            f"The highest mean is that of {_plain(highest.category)} tokens: "
            f"{NATS.number(highest)} over {highest.tokens:,} tokens."
        )
    tokens = pick(run.measurements, "token_mean_reverse_kl", view=FRESH, checkpoint=BASE)
    if tokens:
        token = max(tokens, key=lambda row: row.value)
        yield (
            f"Of the frequent tokens {token.token!r} has the highest mean: {NATS.number(token)} "
            f"over {token.tokens:,}."
        )


def _where(run: FoundRun) -> str:
    """What a mean is of: with two tokenizers only tokens that begin at a boundary of both."""
    if of_two_tokenizers(run.measurements):
        return "at a boundary of both tokenizers"
    return "per token"


def _plain(category: str) -> str:
    return category.replace("_", " ")


def _submode(run: FoundRun) -> Lines:
    yield judged(run, "sub-mode")
    at = {"condition": "own", "view": FRESH, "checkpoint": BASE}
    first, second, modes = (
        _first(run, what, **at)
        for what in ("equals_teacher_top1", "in_teacher_top2to5", "two_mode_share")
    )
    if first and second:
        yield (
            "Before training, where the reverse KL is highest, the student's most likely token is "
            f"the teacher's first choice in {percent(first)} of the cases and its second to fifth "
            f"in {percent(second)}."
        )
    if modes:
        yield f"At {percent(modes)} of these tokens the teacher has a second mode."


def _signals(run: FoundRun) -> Lines:
    """The advice where it was asked for, else where the KL lies."""
    advice = run.record.get("advice") or {}
    if advice.get("verdict"):
        yield from _advised(advice["verdict"])
        if advice.get("next"):
            yield f"Next: {advice['next']}"
        return
    yield judged(run, "early-kl")
    yield judged(run, "concentrated-kl")
    if of_two_tokenizers(run.measurements):
        return
    at = {"view": FRESH, "checkpoint": BASE}
    for curve in (SURVIVORS, MASS):
        length = _first(run, "cumulative_kl_position", condition=curve, **at)
        share = _first(run, "cumulative_kl_threshold", condition=curve, **at)
        if length and share:
            yield (
                f"{rounded(100 * share.value)} % of the KL lies in the first "
                f"{TOKENS.number(length)} of a rollout."
            )
            return


def _advised(answer: Sequence[str]) -> Lines:
    """An advice's answer, and its reason as one sentence."""
    for part in answer:
        first, *more = SENTENCE.split(part)
        yield f"{first.removesuffix('.')}; {_joined(more)}." if more else first


def _served(run: FoundRun) -> Lines:
    bound = _first(run, "mean_reverse_kl_bound", view=FRESH, checkpoint=BASE)
    if bound:
        yield (
            f"The reverse KL is at least {NATS.number(bound)} per token before training, over "
            f"{bound.rollouts:,} rollouts: an approximation, since vLLM returns few probabilities."
        )


def _truth(run: FoundRun) -> Lines:
    """What one token by the teacher is worth, before an error and behind one."""
    whole = {"view": FRESH, "checkpoint": BASE, "position_low": 0.0, "position_high": math.inf}
    right = {**whole, "condition": CORRECT_SO_FAR}
    gained = _first(run, gain(TRUTH), **right)
    masses = [_first(run, of_policy(TRUTH, who), **right) for who in (STUDENT, TEACHER)]
    if gained and masses[0] and masses[1]:
        yield (
            f"Where the prefix is correct so far, the teacher gives {percent(masses[1])} to tokens "
            f"that are true to the problem, the student {percent(masses[0])}: one token by the "
            f"teacher is worth {points(gained)}{p_words(gained)}."
        )
    wrong = {**whole, "condition": ALREADY_WRONG}
    completes = _first(run, of_policy(CONSISTENCY, TEACHER), **wrong)
    repairs = _first(run, of_policy(REPAIR, TEACHER), **{**whole, "condition": BEHIND_WRONG})
    if completes and repairs:
        yield (
            f"In a chain that is already wrong, the teacher gives {percent(completes)} to the "
            "result of the equation as it was written; right behind the first error it opens a "
            f"repair in {percent(repairs)}."
        )


def _interventions(run: FoundRun) -> Lines:
    """What repairing the first wrong step is worth, and content and style of made prefixes."""
    at = {"view": TEACHER, "category": "all steps"}
    repaired = _first(run, effect(ACCURACY), condition=REPAIRED, **at)
    broken = _first(run, effect(ACCURACY), condition=BROKEN, **at)
    if repaired and broken:
        yield (
            f"Behind the student's first wrong step, repairing it changes the teacher's accuracy "
            f"by {points(repaired)}{p_words(repaired)}; breaking a correct step by "
            f"{points(broken)}{p_words(broken)}."
        )
    made = {"view": TEACHER, "checkpoint": ""}
    content = [*pick(run.measurements, effect(ACCURACY), condition=CONTENT, **made)]
    style = [*pick(run.measurements, effect(ACCURACY), condition=STYLE, **made)]
    if content and style:
        longest, beside = content[-1], style[-1]
        yield (
            f"Of made prefixes ({longest.category}), correct against wrong content is worth "
            f"{points(longest)}{p_words(longest)} to the teacher, the student's against the "
            f"teacher's style {points(beside)}{p_words(beside)}."
        )
    for row in pick(run.measurements, effect(ACCURACY), view=TEACHER):
        if row.condition.startswith(against("")):
            reference = row.condition.removeprefix(against(""))
            differs = "differs" if side(row) else "is not shown to differ"
            yield (
                f"The teacher's accuracy behind {row.category} {differs} from that behind "
                f"{reference}: {points(row)}{p_words(row)}."
            )


def _arm_gains(run: FoundRun) -> Lines:
    """How what one teacher token is worth goes with what training gave, over arms of one budget."""
    for row in pick(run.measurements, RANK_CORRELATION, condition=ONE_TOKEN_GAIN):
        tested = p_words(row) if not math.isnan(row.p_value) else " (too few arms for a test)"
        yield (
            f"Over {row.category} of {row.rollout_length:g} tokens: rank correlation of what one "
            f"teacher token is worth where they train with what training gave {row.value:+.2f}"
            f"{tested}."
        )


# Rollouts


def _behaviour(run: FoundRun) -> Lines:
    yield judged(run, "shorter-responses")
    yield judged(run, "longer-responses")
    yield judged(run, "several-boxes")
    for checkpoint, called in ((BASE, "Before training the student"), (TEACHER, "The teacher")):
        at = {"checkpoint": checkpoint, "view": FRESH}
        length, stops, correct = (
            _first(run, what, **at)
            for what in ("response_tokens_mean", "natural_stop_share", "accuracy")
        )
        if length and stops and correct:
            yield (
                f"{called} writes {TOKENS.number(length)} on average, stops naturally in "
                f"{percent(stops)} of its responses and is correct in {percent(correct)}."
            )


def _evaluation(run: FoundRun) -> Lines:
    what = f"avg_at_{run.options.get('samples')}"
    own = [_first(run, what, checkpoint=name) for name in (BASE, TEACHER)]
    if own[0] and own[1]:
        yield (
            f"The untrained student is correct in {percent(own[0])}, the teacher in "
            f"{percent(own[1])}, over {own[0].problems:,} problems."
        )
    rows = {name: _first(run, f"{what}_minus_base", checkpoint=name) for name in _last(run)}
    yield from _changes({name: row for name, row in rows.items() if row})
    yield judged(run, "collapse")


def _changes(rows: Mapping[str, Measurement]) -> Lines:
    """How training changed the accuracy of each student; apart, those of which nothing is shown."""
    shown, others, few = [], [], ""
    for student, row in rows.items():
        words = f"{points(row)}{p_words(row)}"
        if side(row):
            shown.append(f"{student} by {words}")
        else:
            others.append(f"{student} ({words})")
        if row.problems < LEAST_PROBLEMS:
            few = f"; only {row.problems} problems, at least {LEAST_PROBLEMS} are needed"
    if shown:
        yield f"Training changes the accuracy of {_few(shown)}."
    if others:
        yield f"No change of accuracy by training is shown for {_few(others)}{few}."


def _values(run: FoundRun) -> Lines:
    """How both values and their difference begin and end, what the score is worth, and what knows
    the outcome."""
    known = [
        row
        for row in pick(run.measurements, VALUE_ADVANTAGE, view=OPEN)
        if not math.isnan(row.value)
    ]
    if known:
        first, last = known[0], known[-1]
        later = f", behind {last.prefix_tokens:.0f} by {points(last)}{p_words(last)}"
        yield (
            f"Behind {first.prefix_tokens:.0f} tokens of the student the teacher is ahead of it by "
            f"{points(first)}{later if len(known) > 1 else p_words(first)}."
        )
    yield on_values.in_line(run)
    yield judged(run, "position-uncertainty")


def _sweep(run: FoundRun) -> Lines:
    advice = advise([run])
    yield from _advised(advice.verdict)
    yield judged(run, "selectors-worse")
    yield judged(run, "early-stopping-beats-full", advice=advice)
    yield judged(run, "first-beats-last")


VERDICTS: Mapping[str, Callable[[FoundRun], Lines]] = {
    "prefix-decay": _decay,
    COMPARISON: _comparison,
    "position-kl": _position,
    "category-kl": _categories,
    "submode": _submode,
    "signals": _signals,
    "served-kl": _served,
    "token-truth": _truth,
    "interventions": _interventions,
    "arm-gains": _arm_gains,
    "behaviour": _behaviour,
    "evaluate": _evaluation,
    "values": _values,
    "sweep rollout-length": _sweep,
    "sweep selector": _sweep,
}


def _few(parts: Sequence[str]) -> str:
    """What is said of each student, for as many as a sentence holds."""
    more = [f"{len(parts) - NAMED} more in the table"] * (len(parts) > NAMED)
    return "; ".join([*parts[:NAMED], *more])


def _last(run: FoundRun) -> list[str]:
    """The last checkpoint of each training, as the run's rows name it."""
    return [student.label for student in last_of_each(students(run))]


def _first(run: FoundRun, what: str, **at: object) -> Measurement | None:
    """The first row at these coordinates that has a value; None where there is none."""
    rows = pick(run.measurements, what, **at)
    return next((row for row in rows if not math.isnan(row.value)), None)
