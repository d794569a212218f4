"""Student and teacher on given texts: per-token statistics in one call.

    table = score("abacus-student", (model, tokenizer), [("What is 2 + 3?", "It is 5.")])
    table[["token", "student_logprob", "teacher_logprob", "reverse_kl"]]

Nothing is stored. The scorer is that of ``position-kl`` (`scoring`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.policies import loaded_models, loading, prompts
from decaylab.policies.policy import Policy, Role, load_settings
from decaylab.policies.vocabularies import SharedVocabulary, share_vocabulary
from decaylab.problems.sets import Problem
from decaylab.progress import Reporter
from decaylab.rollout_files import given_thoughts
from decaylab.rollout_files.given_prompts import GivenPrompt, PromptReader, rendered_ids, text_of
from decaylab.rollout_files.reading import GivenRollout
from decaylab.rollout_files.record import Record
from decaylab.rollout_files.stops import NOT_SAID, Stop
from decaylab.tokens import score_store
from decaylab.tokens.given_texts import GivenText, Ids, given_texts
from decaylab.tokens.scoring import Rollout, Scorer, ScoringSettings

if TYPE_CHECKING:
    import pandas as pd

ROLES: tuple[Role, Role] = ("student", "teacher")


def score(
    student: Any,
    teacher: Any,
    texts: Any,
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
        and divergences in nats.

    Raises:
        UserError: tokenizers that assign different tokens to one id, a text that cannot be read, is
            longer than a context or has a token that the teacher lacks, or NaN in the logits.
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
    _refuse_placing(student, teacher, options)
    settings = ScoringSettings(score_temperature, head, batch_tokens)
    reporter = Reporter(quiet=quiet)
    with ExitStack() as stack:
        pair = [
            stack.enter_context(_policy(policy, role, options))
            for role, policy in zip(ROLES, (student, teacher), strict=True)
        ]
        scorer = Scorer(*pair, settings, reporter.note)
        rollouts = Reading(*pair, options, end_of_turn=end_of_turn).rollouts(given)
        with reporter.stage("scoring", len(rollouts)) as progress:
            results = scorer.score(rollouts, progress.advance)
        table = score_store.token_table(rollouts, results, pair[0].tokenizer)
    frame = table.drop(["rollout_id"]).to_pandas()
    frame["token"] = frame["token"].astype(str)
    lengths = [len(rollout.response) for rollout in rollouts]
    frame.insert(0, "text_index", np.repeat(np.arange(len(rollouts)), lengths))
    return frame


def _refuse_placing(student: Any, teacher: Any, options: DiagnosticOptions) -> None:
    """Raises UserError if an option has no effect on models in memory."""
    held = {
        "student": loaded_models.as_loaded(student),
        "teacher": loaded_models.as_loaded(teacher),
    }
    for role, policy in held.items():
        if policy and getattr(options, f"{role}_revision"):
            raise UserError(loaded_models.NO_REVISION.format(role=role))
    if all(held.values()):
        loaded_models.refuse_placing({"dtype": options.dtype, "device": options.device})


@contextmanager
def _policy(given: Any, role: Role, options: DiagnosticOptions) -> Iterator[Policy]:
    settings = load_settings(options, role)
    policy = loaded_models.as_loaded(given)
    if policy is None:
        yield loading.load(str(given), settings)
    else:
        with loaded_models.borrowed(policy, settings) as borrowed:
            yield borrowed


class Reading:
    """Turns given texts into token ids of a pair, as rollout files are read."""

    def __init__(
        self, student: Policy, teacher: Policy, options: DiagnosticOptions, *, end_of_turn: bool
    ) -> None:
        self.student, self.teacher, self.options = student, teacher, options
        self.end_of_turn = end_of_turn
        self.vocabulary: SharedVocabulary = share_vocabulary(student, teacher)
        self.reader = PromptReader(student, options.prompt_kind)

    def rollouts(self, texts: Sequence[GivenText]) -> list[Rollout]:
        """The texts as rollouts, in order.

        Raises:
            UserError: a prompt that cannot be read, a response that does not fit, or thoughts that
                a template closes.
        """
        parsed = {text.place: self._parsed(text) for text in texts}
        asked = {place: prompt for place, prompt in parsed.items() if prompt is not None}
        fixed = [place for place, prompt in asked.items() if prompt.text is not None]
        if fixed and self.options.system:
            raise UserError(f"{fixed[0]}: its prompt is rendered already: leave system out")
        rendered = self._rendered(asked)
        self._check_thoughts([text for text in texts if text.place in asked], asked)
        return [self._rollout(text, rendered) for text in texts]

    def _parsed(self, text: GivenText) -> GivenPrompt | None:
        """The prompt, unless it is token ids or missing."""
        if isinstance(text.prompt, str):
            return self.reader.of_text(text.prompt, text.place)
        if isinstance(text.prompt, list):
            return self.reader.of_messages(text.prompt, text.place)
        return None

    def _rendered(self, asked: Mapping[str, GivenPrompt]) -> dict[str, dict[str, Ids]]:
        """The prompts of both policies by role and place."""
        problems = []
        for place, prompt in asked.items():
            messages = prompt.messages if len(prompt.messages) > 1 else ()
            problems.append(Problem(place, prompt.question, None, messages=messages))
        read = prompts.render(self.options, self.student, self.teacher, problems, "")
        for place, prompt in asked.items():
            if prompt.text is None:
                continue
            ids = rendered_ids(self.student, prompt.text)
            read["student"][place] = ids
            # Without a template both policies read the same prompt.
            if self.student.template is None or self.options.teacher_prompt == "student":
                read["teacher"][place] = ids
        return read

    def _check_thoughts(self, texts: Sequence[GivenText], asked: Mapping[str, GivenPrompt]) -> None:
        rollouts = [
            GivenRollout(text.place, 0, text.place, _record(text), Stop("unknown", NOT_SAID))
            for text in texts
        ]
        here = [one for one in rollouts if asked[one.place].text is None]
        given_thoughts.check(self.options, here, self.student, self.student)
        if self.options.teacher_prompt == "own":
            given_thoughts.check(self.options, rollouts, self.student, self.teacher)

    def _rollout(self, text: GivenText, rendered: Mapping[str, Mapping[str, Ids]]) -> Rollout:
        response = self._response(text)
        if text.prompt is None:
            read, response = self._whole(text, response)
        elif isinstance(text.prompt, tuple):
            read = {"student": text.prompt, "teacher": text.teacher_prompt or text.prompt}
        else:
            read = {role: rendered[role][text.place] for role in ROLES}
            read["teacher"] = text.teacher_prompt or read["teacher"]
        self._check(text.place, read, response)
        return Rollout(text.place, read["student"], read["teacher"], response)

    def _response(self, text: GivenText) -> Ids:
        if isinstance(text.response, tuple):
            text_of(self.student, text.response, text.place)  # refuses ids without a token
            return text.response
        ids = tuple(self.student.encode(text.response))
        return (*ids, self.student.end_id) if self.end_of_turn else ids

    def _whole(self, text: GivenText, ids: Ids) -> tuple[dict[str, Ids], Ids]:
        """A text without a prompt: what each policy reads first, and the tokens that are scored."""
        begins: dict[str, Ids] = {}
        for role, policy in zip(ROLES, (self.student, self.teacher), strict=True):
            begin = policy.tokenizer.bos_token_id
            begins[role] = () if begin is None else (int(begin),)
        if ids[:1] in begins.values():  # the text spells it itself
            ids = ids[1:]
        first = () if all(begins.values()) else ids[:1]
        rest = ids[len(first) :]
        if not rest:
            raise UserError(
                f"{text.place}: too short to be scored whole, its first token is the prompt; give "
                "a prompt and a response"
            )
        return {role: (*begin, *first) for role, begin in begins.items()}, rest

    def _check(self, place: str, read: Mapping[str, Ids], response: Ids) -> None:
        readable = self.vocabulary.readable(response)
        if readable < len(response):
            token = self.student.tokenizer.convert_ids_to_tokens(response[readable])
            raise UserError(
                f"{place}: {token!r} at response position {readable} is a token that one of the "
                "policies lacks; cut the response before it"
            )
        for role, policy in zip(ROLES, (self.student, self.teacher), strict=True):
            policy.embedded(read[role])
            length = len(read[role]) + len(response) - 1
            if length > policy.context_length:
                raise UserError(
                    f"{place}: needs {length} positions, more than the context of {policy.name} "
                    f"({policy.context_length}); shorten it"
                )


def _record(text: GivenText) -> Record:
    if isinstance(text.response, tuple):
        return Record(response_ids=list(text.response))
    return Record(response=text.response)
