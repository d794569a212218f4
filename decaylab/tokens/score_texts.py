"""Student and teacher on given texts: per-token statistics in one call.

    table = score("abacus-student", (model, tokenizer), [("What is 2 + 3?", "It is 5.")])
    table[["token", "student_logprob", "teacher_logprob", "reverse_kl"]]

Nothing is stored. The scorer is that of ``position-kl`` (`scoring`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.policies import loaded_checks, loaded_models, loading
from decaylab.policies.policy import Policy, Role, load_settings
from decaylab.progress import Reporter, hushed
from decaylab.tokens import score_store
from decaylab.tokens.aligned_scoring import scoring_of
from decaylab.tokens.given_texts import given_texts
from decaylab.tokens.scoring import ScoringSettings
from decaylab.tokens.text_rollouts import TextReader

if TYPE_CHECKING:
    import pandas as pd

    from decaylab.policies.loaded_models import PolicyLike


def score(
    student: PolicyLike,
    teacher: PolicyLike,
    texts: Sequence[Any] | pd.DataFrame,
    *,
    score_temperature: float = 1.0,
    head: Literal["model", "float32"] = "model",
    batch_tokens: int = 4096,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    device: str = "auto",
    end_of_turn: bool = False,
    prompt_format: Literal["chat", "plain"] = "chat",
    prompt_kind: Literal["auto", "question", "rendered"] = "auto",
    teacher_prompt: Literal["own", "student"] = "own",
    thinking: Literal["off", "on", "template"] = "off",
    system: str | None = None,
    teacher_system: str | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
    student_revision: str | None = None,
    teacher_revision: str | None = None,
    trust_remote_code: bool = False,
    quiet: bool = False,
) -> pd.DataFrame:
    """Statistics of student and teacher at each response token of some texts.

    Args:
        student, teacher: a name as on the command line, or a model in memory: ``(model,
            tokenizer)`` or ``dl.loaded(model, tokenizer)``.
        texts: a list or a DataFrame, see `decaylab.tokens.given_texts`. Prompts are parsed as those
            of rollout files: a bare question is rendered by each policy's own template, a rendered
            prompt is read unchanged by the student. Only responses are scored. A plain text is all
            response: its first token is predicted from the beginning-of-sequence token, and is the
            prompt where a tokenizer has none.
        score_temperature: of both distributions.
        head: precision of the output heads.
        batch_tokens: tokens per batch, padding included.
        dtype, device: of policies that are loaded by name.
        end_of_turn: also scores the student's end-of-turn token after each response given as text.
        prompt_format, prompt_kind, teacher_prompt, thinking, system, teacher_system,
            template_kwargs, student_revision, teacher_revision, trust_remote_code: as the options
            of these names.
        quiet: show no progress.

    Returns:
        One row per response token: text_index (from 0), position (0 is the first response token),
        then `token_table.COLUMN_TYPES`: token_id, token (its text), log-probabilities, entropies
        and divergences in nats. With two tokenizers the rows are the student's tokens, the columns
        mean what `aligned_scoring` says, and those of `token_table.SPAN_COLUMNS` follow; the last
        span of a text without end_of_turn is open.

    Raises:
        UserError: a text that cannot be read, is longer than a context, has a token that the
            teacher lacks or is not the same text in its tokens, or NaN in the logits.
    """
    given = given_texts(texts)
    options = DiagnosticOptions(
        score_temperature=score_temperature,
        head=head,
        batch_tokens=batch_tokens,
        dtype=dtype,
        device=device,
        prompt_format=prompt_format,
        prompt_kind=prompt_kind,
        teacher_prompt=teacher_prompt,
        thinking=thinking,
        system=system,
        teacher_system=teacher_system,
        template_kwargs=dict(template_kwargs or {}),
        student_revision=student_revision,
        teacher_revision=teacher_revision,
        trust_remote_code=trust_remote_code,
    )
    options.check()
    _check_loaded(student, teacher, options)
    settings = ScoringSettings(score_temperature, head, batch_tokens)
    reporter = Reporter(quiet=quiet)
    with (
        hushed(quiet),
        _policy(student, "student", options) as reads,
        _policy(teacher, "teacher", options) as judges,
    ):
        reader = TextReader(reads, judges, options, end_of_turn=end_of_turn)
        kind, scorer_of = scoring_of(two_tokenizers=reader.aligner is not None)
        scorer = scorer_of(reads, judges, settings, reporter.note)
        rollouts = reader.rollouts(given)
        with reporter.stage("scoring", len(rollouts)) as progress:
            results = scorer.score(rollouts, progress.advance)
        table = score_store.token_table(rollouts, results, reads.tokenizer, kind)
    frame: pd.DataFrame = table.drop(["rollout_id"]).to_pandas()
    frame["token"] = frame["token"].astype(str)
    lengths = [len(rollout.response) for rollout in rollouts]
    frame.insert(0, "text_index", np.repeat(np.arange(len(rollouts)), lengths))
    return frame


def _check_loaded(student: Any, teacher: Any, options: DiagnosticOptions) -> None:
    """Raises UserError if models in memory cannot be used together or with these options."""
    held = {
        "student": loaded_models.as_loaded(student),
        "teacher": loaded_models.as_loaded(teacher),
    }
    for role, policy in held.items():
        if policy and getattr(options, f"{role}_revision"):
            raise UserError(loaded_checks.NO_REVISION.format(role=role))
    loaded_checks.refuse_shared([policy.model for policy in held.values() if policy])
    if all(held.values()):
        loaded_checks.refuse_placing({"dtype": options.dtype, "device": options.device})


@contextmanager
def _policy(given: Any, role: Role, options: DiagnosticOptions) -> Iterator[Policy]:
    settings = load_settings(options, role)
    policy = loaded_models.as_loaded(given)
    if policy is None:
        yield loading.load(str(given), settings)
    else:
        with loaded_models.borrowed(policy, settings) as borrowed:
            yield borrowed
