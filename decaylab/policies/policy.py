"""A policy: a causal language model with its tokenizer, chat template and prompt settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from decaylab.errors import UserError
from decaylab.options.pair_options import PairOptions
from decaylab.policies import adapter_loading
from decaylab.policies.control_tokens import ControlTokens
from decaylab.policies.identity import TOKENIZER_ONLY, PolicyIdentity
from decaylab.policies.offered_functions import Tools, as_text
from decaylab.policies.templates import QUESTION, ChatTemplate, Thinking, variables_of
from decaylab.problems import thoughts
from decaylab.problems.files import mended
from decaylab.problems.problem import Problem

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PLAIN_FORMAT = "Question: {question}\nAnswer:"
PromptFormat = Literal["chat", "plain"]
Role = Literal["student", "teacher"]


@dataclass(frozen=True)
class LoadSettings:
    """How a policy is loaded and prompted.

    system: the system message; "" for none. drops_system: removes the system message of a problem's
    own messages. template_kwargs: further template variables, with values as text. tools: how the
    functions of a problem are written.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    prompt_format: PromptFormat = "chat"
    thinking: Thinking = "off"
    system: str = ""
    template_kwargs: tuple[tuple[str, str], ...] = ()
    drops_system: bool = False
    tools: Tools = "template"

    @property
    def place(self) -> str:
        """The device; auto is the GPU if there is one."""
        import torch

        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"


def load_settings(options: PairOptions, role: Role, device: str | None = None) -> LoadSettings:
    """Load settings of the student or the teacher.

    The teacher uses the student's system message unless it has its own.
    """
    own_system = options.teacher_system if role == "teacher" else None
    system = options.system if own_system is None else own_system
    return LoadSettings(
        dtype=options.dtype,
        device=device or options.device,
        revision=options.teacher_revision if role == "teacher" else options.student_revision,
        trust_remote_code=options.trust_remote_code,
        prompt_format=options.prompt_format,
        thinking=options.thinking,
        system=mended(system or ""),
        template_kwargs=tuple(sorted(options.template_kwargs.items())),
        drops_system=own_system == "",
        tools=options.tools,
    )


class Policy:
    """A loaded model with its tokenizer.

    Prompts, prefixes and responses are token ids; only `prompt_ids` adds special tokens. notes:
    what a reader of the results must know about how it was loaded. keeps_weights: the parameters
    belong to the user, so not even their memory is exchanged.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel | None,
        tokenizer: PreTrainedTokenizerBase,
        identity: PolicyIdentity,
        settings: LoadSettings = LoadSettings(),
        *,
        keeps_weights: bool = False,
    ) -> None:
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.identity, self.settings = identity, settings
        self.keeps_weights = keeps_weights
        self.notes: tuple[str, ...] = ()
        self.config: Any = model.config if model is not None else None
        if settings.prompt_format == "chat" and not tokenizer.chat_template:
            raise UserError(
                f"{name}: its tokenizer has no chat template; use --prompt-format plain for plain "
                f"text prompts ({PLAIN_FORMAT!r})"
            )
        self.control = ControlTokens(tokenizer)
        self.template: ChatTemplate | None = None
        if settings.prompt_format == "chat":
            self.template = ChatTemplate(
                name,
                tokenizer,
                system=bool(settings.system),
                thinking=settings.thinking,
                variables=variables_of(dict(settings.template_kwargs)),
            )
        self.take_ends(model)

    def take_ends(self, model: Any) -> None:
        """Sets the ids that end a turn.

        These are the end-of-sequence ids of the tokenizer and of ``model``'s settings, and the
        token that the template writes after an answer.
        """
        known = end_ids(model, self.tokenizer)
        self.turn_end = self._turn_end()
        template_end, eos = self.turn_end.token, self.tokenizer.eos_token_id
        self.adds_end = template_end is not None and template_end not in known
        if template_end is not None:
            self.end_ids, self.end_id = known | {template_end}, template_end
        else:
            self.end_ids, self.end_id = known, min(known) if eos is None else int(eos)
        # Some tokenizers have a padding token for which the model has no embedding.
        pad = self.tokenizer.pad_token_id
        self.pad_id = int(pad) if pad is not None and pad < self.rows else min(self.end_ids)

    def _turn_end(self) -> TurnEnd:
        template, tokenizer = self.template, self.tokenizer
        # With plain prompts too, a policy ends its turns as its template does.
        if template is None and tokenizer.chat_template:
            with suppress(UserError):
                template = ChatTemplate(self.name, tokenizer)
        if template is None:
            return TurnEnd()
        # The unknown token and the beginning-of-sequence token do not end a turn.
        skipped = {tokenizer.unk_token_id}
        if tokenizer.bos_token_id != tokenizer.eos_token_id:
            skipped.add(tokenizer.bos_token_id)
        for token in self.control.encode(template.turn_end, {}):
            if token in self.control.texts and token not in skipped:
                return TurnEnd(template.turn_end, token)
        return TurnEnd(template.turn_end)

    @property
    def weights(self) -> PreTrainedModel:
        """The model.

        Raises:
            ValueError: the policy was loaded without weights.
        """
        if self.model is None:
            raise ValueError(f"{self.name} was loaded without weights and cannot generate or score")
        return self.model

    @property
    def rows(self) -> float:
        """Number of ids with an embedding; infinity without weights."""
        model: Any = self.model
        return (
            int(model.get_input_embeddings().weight.shape[0]) if model is not None else float("inf")
        )

    @property
    def context_length(self) -> int:
        """Context length of the model, in tokens.

        For LongRoPE, the original context length: beyond it the frequencies depend on the longest
        row of a batch, so a long rollout would change the results of a short one.
        """
        config = self.config.get_text_config() if self.config is not None else None
        length = int(getattr(config, "max_position_embeddings", None) or 10**9)
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") != "longrope":
            return length
        original = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        return min(length, int(original or length))

    @property
    def precision(self) -> str:
        """Precision and device of the weights; others differ by rounding."""
        if self.model is None:
            return TOKENIZER_ONLY
        kept = ", adapters beside them" if adapter_loading.tuner_layers(self.model) else ""
        return f"{self.model.dtype} on {self.model.device.type}{kept}"

    @contextmanager
    def wider(self) -> Iterator[Policy]:
        """The same weights in the next wider precision, within the block."""
        wide = wider_than(self.weights.dtype)
        if self.keeps_weights:
            with _beside(self.weights, wide):
                yield self
            return
        # Parameters are changed in place, since a copy would take more memory. Buffers stay as they
        # are: they are in float32 and would lose precision on the way back.
        weights = [weight for weight in self.weights.parameters() if weight.is_floating_point()]
        before = [weight.dtype for weight in weights]
        try:
            for weight in weights:
                weight.data = weight.data.to(wide)
            yield self
        finally:
            for weight, dtype in zip(weights, before, strict=True):
                weight.data = weight.data.to(dtype)

    @property
    def head_width(self) -> int:
        """Number of logits per position; often more than the tokenizer has ids."""
        model: Any = self.weights
        return int(model.get_output_embeddings().weight.shape[0])

    @cached_property
    def absent_ids(self) -> tuple[int, ...]:
        """Ids of the head that have no token, at the end or in gaps; they are never sampled."""
        known = set(self.tokenizer.get_vocab().values())
        return tuple(index for index in range(self.head_width) if index not in known)

    def prompt_ids(
        self, problem: Problem, instruction: str, reader: Policy | None = None
    ) -> list[int]:
        """Ids of the prompt, up to where the response begins.

        Rendered by the policy's own template or in the plain format. The instruction is added to
        the last message, and the policy's system message replaces the problem's. Control tokens in
        the question, instruction or system message are encoded as text. reader: the policy whose
        ids to use; by default this one.

        The functions of a problem are given to the template, or written ahead of the question. In
        the plain format, a problem's own beginning takes the place of the question.

        Raises:
            UserError: the template refuses the messages or takes no functions, a control token
                cannot be encoded as text, or there are several messages and no template.
        """
        reader, hidden = reader or self, dict[str, str]()
        messages = [
            (role, reader.control.hide(text, hidden))
            for role, text in self._messages(problem, instruction)
        ]
        if self.template is not None:
            functions = reader.control.hide(self._functions(problem), hidden)
            prompt = self.template.conversation(messages, json.loads(functions))
            return reader.embedded(reader.control.encode(prompt, hidden))
        if len(messages) > 1:
            raise UserError(
                f"problem {problem.problem_id} has {len(messages)} messages, but --prompt-format "
                "plain takes a single question"
            )
        plain = PLAIN_FORMAT.format(question=messages[0][1])
        if problem.completion:
            plain = reader.control.hide(problem.completion, hidden)
        ids = reader.control.encode(plain, hidden, begin=True)
        # Some tokenizers end every text with an end-of-sequence token.
        while ids and ids[-1] in reader.end_ids:
            ids.pop()
        return reader.embedded(ids)

    def _messages(self, problem: Problem, instruction: str) -> list[tuple[str, str]]:
        """Role and text of each message of a prompt."""
        *before, (role, text) = problem.messages or (("user", problem.question),)
        if problem.tools and (self.settings.tools == "text" or self.template is None):
            text = f"{as_text(json.loads(problem.tools))}\n\n{text}"
        if self.settings.system or self.settings.drops_system:
            before = [message for message in before if message[0] != "system"]
        if self.settings.system:
            before = [("system", self.settings.system), *before]
        return [*before, (role, f"{text}\n{instruction}" if instruction else text)]

    def _functions(self, problem: Problem) -> str:
        """The functions that the template gets, as JSON text; a list of none where they are written
        as text."""
        return problem.tools if problem.tools and self.settings.tools == "template" else "[]"

    @property
    def thought_marks(self) -> thoughts.Marks:
        """Thought marks in its tokenizer or template that are not in `thoughts.KNOWN`."""
        return thoughts.of_tokenizer(
            self.tokenizer.get_added_vocab(), str(self.tokenizer.chat_template or "")
        )

    @property
    def all_thought_marks(self) -> thoughts.Marks:
        """The known thought marks and its own."""
        return (*thoughts.KNOWN, *self.thought_marks)

    @property
    def opening(self) -> str:
        """Text that the template writes between question and response; "" without a template."""
        if self.template is None:
            return ""
        return self.template.conversation([("user", QUESTION)]).partition(QUESTION)[2].rstrip()

    def encode(self, text: str) -> list[int]:
        """Ids of text inside a response, without added special tokens."""
        return self.embedded(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def embedded(self, ids: Iterable[int]) -> list[int]:
        """The ids as a list.

        Raises:
            UserError: the model has no embedding for one of them.
        """
        tokens = list(ids)
        if beyond := [token for token in tokens if token >= self.rows]:
            raise UserError(
                f"{self.name}: its tokenizer encodes "
                f"{self.tokenizer.convert_ids_to_tokens(beyond[0])} as id {beyond[0]}, but "
                f"the model has only {self.rows} embeddings: save the resized embeddings with "
                "it (PEFT: save_embedding_layers=True), or use the tokenizer that belongs to these "
                "weights"
            )
        return tokens

    def decode(self, ids: list[int]) -> str:
        """The text of response ids, without a final end-of-turn token."""
        kept = ids[:-1] if ids and ids[-1] in self.end_ids else ids
        return str(
            self.tokenizer.decode(
                kept, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


@contextmanager
def _beside(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """A model with copies of its parameters in another precision, within the block.

    The parameters themselves are set aside untouched, since an optimizer, a reducer of gradients
    or a flat buffer may hold their memory.
    """
    import torch

    places = [
        (module._parameters, name, weight)
        for module in model.modules()
        for name, weight in module._parameters.items()
        if weight is not None and weight.is_floating_point()
    ]
    copies: dict[int, Any] = {}
    try:
        for parameters, name, weight in places:
            if id(weight) not in copies:  # tied weights stay tied
                wide = weight.detach().to(dtype)
                copies[id(weight)] = torch.nn.Parameter(wide, requires_grad=False)
            parameters[name] = copies[id(weight)]
        yield
    finally:
        for parameters, name, weight in places:
            parameters[name] = weight


def wider_than(dtype: torch.dtype) -> torch.dtype:
    """float64 for float32, float32 for 16 bits."""
    import torch

    return torch.float64 if dtype in (torch.float32, torch.float64) else torch.float32


def end_ids(model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that end a turn: the tokenizer's, and those in the model's generation settings.

    No other generation setting is used.
    """
    listed = {tokenizer.eos_token_id}
    if model is not None:
        text = model.config.get_text_config() if model.config is not None else None
        for config in (model.generation_config, text):
            ends = getattr(config, "eos_token_id", None)
            listed.update(ends if isinstance(ends, list) else [ends])
    ids = frozenset(int(token) for token in listed if token is not None)
    if not ids:
        raise UserError("the tokenizer has no end-of-sequence token, so a response could never end")
    return ids


@dataclass(frozen=True)
class TurnEnd:
    """The text that a template writes after an answer, and its first control token, if any."""

    text: str = ""
    token: int | None = None
