"""Given texts as rollouts of a pair: prompts rendered, responses encoded.

Prompts are parsed as those of rollout files (`given_prompts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.policies import prompts
from decaylab.policies.alignment import Aligner
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies, share_vocabulary
from decaylab.problems.problem import Problem
from decaylab.rollout_files import given_thoughts
from decaylab.rollout_files.given_prompts import GivenPrompt, PromptReader, rendered_ids, text_of
from decaylab.rollout_files.reading import GivenRollout
from decaylab.rollout_files.record import Record
from decaylab.rollout_files.stops import NOT_SAID, Stop
from decaylab.tokens import aligned_rollouts
from decaylab.tokens.aligned_scoring import AlignedRollout
from decaylab.tokens.given_texts import GivenText, Ids
from decaylab.tokens.scoring import Rollout

ROLES = ("student", "teacher")


class TextReader:
    """Turns given texts into token ids of a pair, as rollout files are read."""

    def __init__(
        self, student: Policy, teacher: Policy, options: DiagnosticOptions, *, end_of_turn: bool
    ) -> None:
        self.student, self.teacher, self.options = student, teacher, options
        self.end_of_turn = end_of_turn
        self.aligner: Aligner | None = None
        if compare_vocabularies(student.tokenizer, teacher.tokenizer).kind == "different":
            self.aligner = Aligner(student, teacher)
        else:
            self.vocabulary = share_vocabulary(student, teacher)
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
                read["teacher"][place] = self._for_teacher(ids)
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
            if self.aligner is not None and not text.teacher_prompt and not self._reads_student:
                raise UserError(
                    f"{text.place}: with two tokenizers the teacher needs its own prompt ids "
                    "(teacher_prompt_ids), or teacher_prompt='student' to read the student's text"
                )
            theirs = text.teacher_prompt or self._for_teacher(text.prompt)
            read = {"student": text.prompt, "teacher": theirs}
        else:
            read = {role: rendered[role][text.place] for role in ROLES}
            read["teacher"] = text.teacher_prompt or read["teacher"]
        if self.aligner is not None:
            return self._aligned(text.place, read, response, self.aligner)
        self._check(text.place, read, response)
        return Rollout(text.place, read["student"], read["teacher"], response)

    @property
    def _reads_student(self) -> bool:
        """Whether the teacher is to read the student's prompt."""
        return self.options.teacher_prompt == "student" or self.student.template is None

    def _for_teacher(self, prompt: Ids) -> Ids:
        """The student's prompt in the teacher's ids."""
        if self.aligner is None:
            return prompt
        text = str(self.student.tokenizer.decode(list(prompt)))
        return tuple(self.teacher.control.encode(text, {}))

    def _aligned(
        self, place: str, read: Mapping[str, Ids], response: Ids, aligner: Aligner
    ) -> AlignedRollout:
        found = aligned_rollouts.aligned(place, read, response, aligner)
        if isinstance(found, AlignedRollout):
            return found
        raise UserError(
            f"{place}: cannot be scored with two tokenizers: it is one of those that {found}; "
            "change the text, or use a teacher with the student's tokenizer"
        )

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
        if self.aligner is not None and not all(begins.values()):
            raise UserError(
                f"{text.place}: a text without a prompt needs a beginning-of-sequence token in "
                "both tokenizers; give a prompt and a response"
            )
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
