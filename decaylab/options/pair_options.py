"""The options that every command on a pair shares: defaults, derived values, checks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from decaylab.errors import UserError
from decaylab.options import engine_choice, folder_names, option_values
from decaylab.options.declared import (
    DIAGNOSTIC,
    MEASURED,
    NEVER,
    TRAINED,
    common,
    option,
)
from decaylab.options.kinds import (
    COLUMN_ROLES,
    AnswerRule,
    Columns,
    Count,
    CountOrOff,
    PathName,
    Plugins,
    Seed,
    Share,
    Temperature,
    Text,
    UpTo1,
    Variables,
)
from decaylab.options.option_values import (
    words,
)
from decaylab.plugins import loading, origins
from decaylab.problems import tasks, thoughts
from decaylab.problems.tasks import CALLS, CODE, EMBEDDED_LENGTHS, MATHEMATICS, Lengths, Task

EMBEDDED_TEACHER, EMBEDDED_STUDENT = "abacus-teacher", "abacus-student"
HUB_STUDENT = "Qwen/Qwen2.5-Math-1.5B"
NOT_OF_TEMPLATES = frozenset(
    words(
        "enable_thinking, messages, conversation, tools, documents, chat_template, "
        "add_generation_prompt, continue_final_message, tokenize, sanitize_control_tokens, "
        "padding, truncation, max_length, return_tensors, return_dict, "
        "return_assistant_tokens_mask, tokenizer_kwargs, strftime_now"
    )
)
"""Variables that the template engine or decaylab sets: --template-kwargs must not."""
# Groups of commands, for options that only some of them accept.
TOKEN_COMMANDS = ("position-kl", "category-kl", "submode", "signals")
NOT_SAMPLING = ("rollouts", "preflight")
NO_RESULTS = ("rollouts", "preflight", "plan")
NOT_READING = ("preflight", "evaluate", "train", "sweep")
NEW_MEASURES = ("token-truth", "interventions", "values", "arm-gains")
UNPUBLISHED = ("served-kl", *NEW_MEASURES)  # the paper has no such numbers
SCORING = (*TOKEN_COMMANDS, *NEW_MEASURES)  # exactly, by both policies
DIAGNOSTICS = (*TOKEN_COMMANDS, *UNPUBLISHED, "behaviour", "evaluate")
MEASURE = ("prefix-decay", *DIAGNOSTICS)


@dataclass(frozen=True)
class PairOptions:
    """Options of every command on a pair: policies, problems, sampling, engine, run.

    None: the value is derived from other options by `with_pair` or ``resolved``.
    """

    names_folder: ClassVar[tuple[str, ...]] = ("teacher", "student", "problems")
    """The options that always appear in the name of a run's folder."""

    teacher: str | None = common(
        "The pair",
        "Hub id, model folder or adapter folder. Default: that of given checkpoints, "
        "else abacus-teacher, which ships with decaylab.",
        metavar="MODEL",
    )
    student: str | None = common(
        "The pair",
        "The untrained student, named the same way. Default: that of given checkpoints, else "
        "abacus-student with abacus-teacher and Qwen/Qwen2.5-Math-1.5B with any other teacher.",
        metavar="MODEL",
    )
    teacher_revision: str | None = option(
        "The pair", "Hub branch, tag or commit of the teacher.", metavar="REVISION"
    )
    student_revision: str | None = option(
        "The pair", "Hub branch, tag or commit of the student.", metavar="REVISION"
    )
    teacher_prompt: Literal["own", "student"] = option(
        "The pair",
        "own: the teacher's own chat template. student: the student's rendered prompt.",
        "own",
    )
    prompt_format: Literal["chat", "plain"] = option(
        "The pair",
        "chat: each policy's chat template. plain: 'Question: ... Answer:', for base models.",
        "chat",
    )
    thinking: Literal["off", "on", "template"] = option(
        "The pair",
        "Whether models with a thinking mode think. template: leave it to the chat template.",
        "off",
    )
    system: Text | None = option("The pair", "System message of the prompts. Default: none.")
    teacher_system: Text | None = option(
        "The pair",
        "System message of the teacher's prompts; an empty text is none. Default: that of "
        "--system.",
    )
    template_kwargs: Variables = option(
        "The pair",
        "A variable of the chat templates; repeat for several. Values such as true or 3 are read "
        "as JSON.",
        {},
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "The pair",
        "Precision of the weights. auto: float32 on a CPU, the checkpoint's own on a GPU.",
        "auto",
        without=("rollouts",),
    )
    device: str = option(
        "The pair",
        "Where the models run: auto, cpu, cuda, cuda:1, ...",
        "auto",
        metavar="DEVICE",
        without=("rollouts", "plan"),
        identity=NEVER,  # the recorded precision depends on the kind of device
    )
    trust_remote_code: bool = option("The pair", "Run code from the model's repository.", False)

    problems: str | None = common(
        "The problems",
        "{problem_sets}, a .jsonl, .json or .parquet file, a local copy such as math500:FILE or "
        "bfcl:CATEGORY:FOLDER, a hub data set, gym:TASK, or a set of your own (--plugin). Default: "
        "abacus with abacus-teacher, math500 with any other teacher.",
        metavar="SET",
    )
    limit: Count | None = common("The problems", "Use only the first N problems.")
    revision: str | None = option(
        "The problems",
        "Hub branch, tag or commit of the problems.",
        without=("plan",),
        metavar="REVISION",
    )
    split: str | None = option(
        "The problems",
        "Split of a hub data set. Default: test.",
        without=("plan",),
        metavar="NAME",
    )
    columns: Columns = option(
        "The problems",
        "The column that holds a ROLE, where files name it otherwise; repeat for several. Roles of "
        f"problems: {', '.join(COLUMN_ROLES[:3])}. Of rollouts also: "
        f"{', '.join(COLUMN_ROLES[3:])}. NAME may be a path: answer=reward_model.ground_truth.",
        {},
        metavar="ROLE=NAME",
        common=("rollouts",),
    )
    instruction: Text | None = option(
        "The problems",
        "Text added after each question: boxed (reason step by step, answer in \\boxed{}), code "
        "(answer with one block of Python), none, or any other text. Default: boxed for math500, "
        "gsm8k and gym tasks, code for sets of code, none for all others.",
    )
    tools: Literal["template", "text"] = option(
        "The problems",
        "How functions to call reach the models. template: through the chat template. text: "
        "written ahead of the question.",
        "template",
    )
    leave_out_broken: bool = option(
        "The problems",
        "Leave out problems of code whose reference solution fails its own tests; their number is "
        "reported.",
        False,
        without=("rollouts", "plan"),
    )
    leave_out_long: bool = option(
        "The problems",
        "Leave out problems whose prompt plus --max-tokens exceeds a model's context; their number "
        "is reported.",
        False,
        without=("rollouts", "plan"),
    )

    samples: Count | None = common(
        "The measurement",
        "Rollouts per problem and policy. Default: 4, and 1 of code and function calls.",
        place=1,
        without=("rollouts", "train"),
        identity=MEASURED,
    )
    max_tokens: Count | None = common(
        "The measurement",
        "Maximum tokens of a rollout, prefix and continuation together. Default: "
        f"{EMBEDDED_LENGTHS.budget} with abacus-teacher; else {MATHEMATICS.lengths.budget:,}, "
        f"{CODE.lengths.budget:,} of code, {CALLS.lengths.budget} of function calls.",
        place=1,
        without=("rollouts",),
    )
    answer_rule: AnswerRule | None = option(
        "The measurement",
        "The answer rule to report: of mathematics "
        f"{', '.join(MATHEMATICS.answer_rules)}, of code {', '.join(CODE.answer_rules)}, of "
        f"function calls {', '.join(CALLS.answer_rules)}. All of a task are stored; one of your "
        "own (--plugin) is stored beside them. Default: the first of the task, and completion of "
        "code with --prompt-format plain.",
        place=3,
        only=("prefix-decay", "evaluate", "behaviour", "values"),
        common=("evaluate",),
        metavar="NAME",
        identity=NEVER,  # rollouts are graded and stored in the same run
    )
    thought_marks: Text | None = option(
        "The measurement",
        "'START END': marks around thoughts, which are not graded, in addition to the tokenizer's "
        "and the usual ones. none: grade thoughts too.",
        place=3,
        without=NO_RESULTS,
        identity=(TRAINED,),  # a training run grades held-out answers once
    )
    verdicts: PathName | None = option(
        "The measurement",
        "Verdicts given elsewhere: a .csv, .jsonl or .parquet file with rollout_id and verdict. "
        "Where there is none, it is written, to be filled in.",
        place=3,
        only=("prefix-decay", "evaluate", "behaviour"),
        metavar="FILE",
        identity=NEVER,  # the record of the grades has its hash
    )
    no_sandbox: bool = option(
        "The measurement",
        "Run programs that models wrote without a sandbox, with your rights on this machine. The "
        "run says so.",
        False,
        place=3,
        without=("rollouts", "plan"),
        identity=(TRAINED,),  # elsewhere the record of the grades says so
    )
    level: Share = option(
        "The measurement",
        "Confidence level of intervals and bands.",
        0.95,
        place=3,
        without=(*NO_RESULTS, "train"),
        identity=(DIAGNOSTIC,),
    )

    rollouts: PathName | None = common(
        "Rollouts that exist already",
        "Measure student rollouts that exist already: files of TRL, verl, vLLM, SGLang, OpenAI, "
        "lm-eval, inspect and others, a folder of them, or a comma-separated list. `decaylab "
        "rollouts FILE` shows how they are read.",
        without=("rollouts", *NOT_READING),
        identity=MEASURED,
        common=MEASURE,
        metavar="FILE",
    )
    rollouts_format: str | None = option(
        "Rollouts that exist already",
        "The format of the files, if their columns do not identify it.",
        without=NOT_READING,
        common=("rollouts",),
        metavar="NAME",
    )
    prompt_kind: Literal["auto", "question", "rendered"] = option(
        "Rollouts that exist already",
        "question: prompts are plain questions. rendered: prompts already contain a template and "
        "are passed on unchanged. auto: decide by the marks of the student's template.",
        "auto",
        without=NOT_READING,
        common=("rollouts",),
    )
    prompt_in_response: Literal["refuse", "cut", "keep"] = option(
        "Rollouts that exist already",
        "What happens to a response that begins with its own prompt.",
        "refuse",
        without=NOT_READING,
        common=("rollouts",),
    )
    no_stop_reason: Literal["unknown", "natural", "cut-off"] = option(
        "Rollouts that exist already",
        "Stop reason of rollouts whose file does not give one.",
        "unknown",
        without=NOT_READING,
        common=("rollouts",),
    )

    temperature: Temperature | None = common(
        "Sampling",
        "Sampling temperature. 0 is greedy. Default: 0.7; 0 of code and function calls, but 0.7 "
        "in training and values.",
        without=NOT_SAMPLING,
        common=MEASURE,
    )
    top_p: UpTo1 = option(
        "Sampling", "Nucleus sampling. 1 turns it off.", 1.0, without=NOT_SAMPLING
    )
    top_k: CountOrOff = option("Sampling", "Top-k sampling. 0 turns it off.", 0, without=NO_RESULTS)
    seed: Seed = option("Sampling", "Seed for sampling and bootstrap.", 0, without=NO_RESULTS)
    batch_rows: Count = option(
        "Sampling",
        "Maximum batch size; also sets the size of checkpointed parts. A run may resume with a "
        "different value.",
        256,
        without=("rollouts",),
        identity=NEVER,  # the batch size changes only rounding
    )

    # How sampling is run. run.json has it beside machine and commit: `engine_spec.engine_record`.
    engine: Literal["auto", "transformers", "vllm"] = common(
        "The engine",
        "What samples rollouts. auto is vllm where it is installed (pip install 'decaylab[vllm]') "
        "and a GPU is there, else transformers. A run may resume with another engine.",
        "auto",
        without=NOT_SAMPLING,
        identity=NEVER,
    )
    adapters: Literal["merged", "served"] = option(
        "The engine",
        "vllm: merged puts adapters into the base where that is exact, and serves them otherwise; "
        "served keeps them beside the base, up to rank 512.",
        "merged",
        without=(*NO_RESULTS, "train", "sweep"),
        identity=NEVER,
    )
    tensor_parallel: Count = option(
        "The engine",
        "vllm: GPUs per model.",
        1,
        without=NOT_SAMPLING,
        common=("served-kl",),
        identity=NEVER,
    )
    gpu_memory_share: UpTo1 | None = option(
        "The engine",
        "vllm: share of each GPU's memory for weights and cache. Default: 0.9, in served-kl 0.7, "
        "in training 0.4.",
        without=NOT_SAMPLING,
        identity=NEVER,
    )
    workers: Count = option(
        "The engine",
        "Sampling processes, each with its own engine (needs pip install 'decaylab[ray]').",
        1,
        without=("rollouts", "preflight", "train"),
        identity=NEVER,
    )
    ray: str | None = option(
        "The engine",
        "Run the workers in a Ray cluster; auto is the cluster of this machine. Default: on this "
        "machine, without a cluster.",
        metavar="auto|HOST:PORT",
        without=("rollouts", "preflight", "train", "sweep"),
        identity=NEVER,
    )

    out: PathName | None = common(
        "The run",
        "Output folder. Default: a folder in runs/ named after the pair, or the given run's own.",
        without=NO_RESULTS,
        metavar="FOLDER",
        identity=NEVER,
    )
    overwrite: bool = common(
        "The run",
        "Discard the existing run in the output folder.",
        False,
        without=NO_RESULTS,
        identity=NEVER,
    )
    plugin: Plugins = option(
        "The run",
        "A Python file or module that registers a selector, an answer rule or a problem set of "
        "your own; repeat for several.",
        (),
        metavar="FILE",
        identity=NEVER,  # what a run uses of it is recorded with the hash of its file
    )
    paper: bool = option(
        "The run",
        "Draw the published numbers behind the measured ones.",
        False,
        without=(*NO_RESULTS, *UNPUBLISHED, "evaluate", "train"),
        identity=NEVER,
    )

    def __post_init__(self) -> None:
        # Before other options are checked, which may hold names of the user's own.
        loading.load_installed()
        given = option_values.checked("--plugin", Plugins, self.plugin)
        for source in given:
            loading.load(source)
        option_values.check(self)

    @property
    def embedded(self) -> bool:
        """Whether the teacher is the one that ships with decaylab."""
        return self.teacher == EMBEDDED_TEACHER

    @property
    def of_embedded_pair(self) -> bool:
        """Whether both policies ship with decaylab."""
        return (self.teacher, self.student) == (EMBEDDED_TEACHER, EMBEDDED_STUDENT)

    @property
    def has_workers(self) -> bool:
        """Whether Ray workers sample instead of this process."""
        return self.workers > 1 or self.ray is not None

    @property
    def usual_engine(self) -> engine_choice.Engine:
        """What ``--engine auto`` is."""
        return engine_choice.usual(self.device)

    @property
    def needs_vllm(self) -> bool:
        return self.engine == "vllm"

    def needs_weights(self, role: str) -> bool:
        """Whether this process loads the weights of student or teacher. Other engines load their
        own."""
        return self.engine == "transformers" and not self.has_workers

    @property
    def task(self) -> Task:
        """The task of the problems."""
        return tasks.of_set(self.problems)

    @property
    def lengths(self) -> Lengths:
        """The usual lengths of the task's responses, for the budget where one is given."""
        usual = EMBEDDED_LENGTHS if self.embedded else self.task.lengths
        return usual.up_to(self.max_tokens or usual.budget)

    @property
    def beside_published(self) -> bool:
        """Whether the paper's figures, which are of mathematics, are drawn behind these."""
        return self.paper and self.task is MATHEMATICS

    @property
    def usual_temperature(self) -> float:
        """Default temperature of sampling."""
        return self.task.temperature

    def with_pair(self) -> Self:
        """These options with policies, problems and budget filled in."""
        chosen = dataclasses.replace(self, teacher=self.teacher or EMBEDDED_TEACHER)
        problems = "abacus" if chosen.embedded else "math500"
        budget = chosen.max_tokens
        if chosen.rollouts:
            problems = "rollouts"  # their lengths set the budget
        chosen = dataclasses.replace(chosen, problems=self.problems or problems)
        if budget is None and not chosen.rollouts:
            budget = chosen.lengths.budget
        temperature, samples = chosen.temperature, chosen.samples
        return dataclasses.replace(
            chosen,
            student=self.student or (EMBEDDED_STUDENT if chosen.embedded else HUB_STUDENT),
            problems=chosen.problems,
            max_tokens=budget,
            engine=self.usual_engine if self.engine == "auto" else self.engine,
            temperature=chosen.usual_temperature if temperature is None else temperature,
            samples=chosen.task.samples if samples is None else samples,
        )

    def own_parts(self) -> list[origins.Named]:
        """The selectors, answer rules and problem sets that these options name."""
        named = [(origins.PROBLEM_SET, self.problems), (origins.ANSWER_RULE, self.answer_rule)]
        return [(kind, name) for kind, name in named if name]

    def check(self) -> None:
        """Raises UserError if options conflict or cannot be used on this machine."""
        origins.origins(self.own_parts())  # those that no resumed run could import
        self._check_engine()
        if self.verdicts and self.answer_rule:
            raise UserError(
                f"--answer-rule {self.answer_rule} does not apply with --verdicts, which are "
                "reported: remove one of them"
            )
        thoughts.of_option(self.thought_marks)
        self._check_prompts()
        _check_device(self.device)

    def _check_prompts(self) -> None:
        """Raises UserError if a prompt option would have no effect."""
        if self.teacher_system is not None and self.teacher_prompt == "student":
            raise UserError(
                "--teacher-system does not apply with --teacher-prompt student: remove one of them"
            )
        for name in ("system", "teacher_system", "template_kwargs"):
            if self.prompt_format == "plain" and getattr(self, name):
                raise UserError(
                    f"{option_values.flag(name)} needs a chat template, and --prompt-format plain "
                    "uses none: remove it"
                )
        for name in sorted(NOT_OF_TEMPLATES & set(self.template_kwargs)):
            instead = "reserved by the template engine"
            if name == "enable_thinking":
                instead = "set with --thinking"
            raise UserError(f"--template-kwargs {name}: {instead}; remove it")

    def _check_engine(self) -> None:
        """Raises UserError if a vLLM option was given with another engine."""
        unset = {"tensor_parallel": 1, "gpu_memory_share": None, "adapters": "merged"}
        for name, default in unset.items():
            if self.engine != "vllm" and getattr(self, name) != default:
                raise UserError(f"{option_values.flag(name)} only applies to --engine vllm")

    def folder_name(self, command: str, *more: str, kinds: tuple[str, ...]) -> str:
        """COMMAND-TEACHER-STUDENT-PROBLEMS, followed by the identifying options that differ from
        their defaults. The same command finds its run again."""
        names = [self.teacher or "", self.student or "", *more, self.problems or ""]
        parts = [command, *map(folder_names.last_part, names), *self.unusual(kinds)]
        return folder_names.joined(parts)

    def unusual(self, kinds: tuple[str, ...]) -> list[str]:
        """The identifying options of these kinds of runs that differ from the pair's defaults,
        without those in `names_folder`."""
        known: Any = type(self)  # a class of options that can be resolved
        given = {name: getattr(self, name) for name in self.names_folder}
        usual = known(**given).resolved()
        if usual.max_tokens and (self.max_tokens or 0) > usual.max_tokens:
            # A larger budget has usual lengths of its own, not worth a word beside it.
            grown = known(**given, max_tokens=self.max_tokens).resolved()
            usual = dataclasses.replace(grown, max_tokens=usual.max_tokens)
        return folder_names.unusual(self, usual, kinds)


def _check_device(name: str) -> None:
    if name == "auto":
        return
    import torch

    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device {name} cannot be used here: {str(error).splitlines()[0]}"
        ) from error
