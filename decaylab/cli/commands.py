"""The commands that measure, train, compare and plan; each docstring is its --help."""

from __future__ import annotations

import dataclasses
import json

import typer

from decaylab.cli.output import Output, print_training, typed
from decaylab.cli.registering import command
from decaylab.errors import UserError
from decaylab.options.arm_gaining import ArmGainOptions
from decaylab.options.comparing import CompareOptions
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.intervening import InterventionOptions
from decaylab.options.measuring import FileOptions, Options
from decaylab.options.planning import PlanOptions
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.options.valuing import ValuesOptions


@command
def prefix_decay(options: Options, output: Output) -> None:
    """Measure teacher accuracy after k tokens by the student.

    Is the teacher still corrective there? The student writes rollouts; the teacher continues from
    the first k tokens of each, and its finished answers are graded. The headline curve covers
    rollouts that are unfinished at k, beside their own outcome and the teacher's accuracy on the
    same problems. Every interval resamples problems. Rerun the same command to resume an
    interrupted or killed run.

    `--controls all` adds the teacher's own prefixes (must stay flat), prefixes of another problem,
    and the reverse direction. `--hand-back 1,10,40` lets the teacher write so many tokens behind
    each prefix, then the student finish: is following the teacher there worth anything to it?

    Examples:
        decaylab prefix-decay  # the pair that ships with decaylab, in minutes on two CPU cores
        decaylab prefix-decay --teacher Qwen/Qwen3-1.7B
            # the paper's pair on MATH-500 (needs a GPU)
        decaylab prefix-decay --rollouts completions.parquet --student MODEL --teacher MODEL
            # rollouts that your trainer wrote
    """
    from decaylab.commands import prefix_decay

    result = prefix_decay.prefix_decay(options, command=typed(), reporter=output.reporter)
    output.run(result)


@command
def rollouts(options: FileOptions, output: Output) -> None:
    """Show how files of existing rollouts are read.

    Prints format, prompts, responses, stop reasons, what is left out and why. Reads the files to
    the end and loads no weights. Every command that takes `--rollouts` reads them in the same way
    and with the same options. Exits with 2 where they are ambiguous, and names the option that
    decides.

    Examples:
        decaylab rollouts completions_00001.parquet --student Qwen/Qwen2.5-Math-1.5B
            --teacher Qwen/Qwen3-1.7B
        decaylab rollouts mine.jsonl --column response=output.text
            --column answer=reward_model.ground_truth  # columns with names of their own
    """
    from decaylab.cli import rollouts
    from decaylab.commands import reading

    understood = reading.understand(options, output.reporter)
    if output.as_json:
        print(rollouts.record(understood))
    else:
        rollouts.print_understood(understood)


@command
def preflight(options: Options, output: Output) -> None:
    """Load a pair and check whether it can be measured.

    Checks vocabularies, templates, context, memory and time, and ends with a plain verdict. This is
    the plan of prefix-decay with both policies loaded: it checks what must agree between them, and
    measures their speed by a short probe. Keeps no samples. Exits with 1 where the verdict is no.

    Examples:
        decaylab preflight --teacher Qwen/Qwen3-1.7B --student Qwen/Qwen2.5-Math-1.5B
    """
    from decaylab.planner import preflight as checks
    from decaylab.tables import terminal

    report = checks.preflight(options)
    if output.as_json:
        verdict = {"measurable": report.measurable, "verdict": report.verdict}
        print(json.dumps(verdict | dataclasses.asdict(report)))
    else:
        terminal.print_preflight(report)
    if not report.measurable:
        raise typer.Exit(1)


def _diagnose(name: str, options: DiagnosticOptions, output: Output) -> None:
    from decaylab.commands import diagnose

    result = diagnose.diagnose(name, options, spoken=typed(), reporter=output.reporter)
    advice = {"advice": result.advice.text} if result.advice else {}
    output.run(result, **advice)


@command
def position_kl(options: DiagnosticOptions, output: Output) -> None:
    """Measure the KL by position, before and after training.

    Scores every token of rollouts by both policies: reverse and forward KL, JS and both entropies
    by position bin, and their paired change in each checkpoint, on the checkpoint's own rollouts
    (fresh) and on those of the base student (frozen). The cascade ratio is the mean KL behind
    `--rollout-length`, after training over before. Some rollouts are scored twice, for the noise
    floor that is printed beside each number.

    Examples:
        decaylab position-kl ckpt-50/ ckpt-100/ --teacher Qwen/Qwen3-1.7B --problems math500
        decaylab position-kl  # the student that ships with decaylab, before training
    """
    _diagnose("position-kl", options, output)


@command
def category_kl(options: DiagnosticOptions, output: Output) -> None:
    """Find the kinds of token that hold the KL.

    The KL by token category and position, and the tokens with the highest KL. Categories are read
    from the decoded text, so that every tokenizer is treated alike: the paper's six for
    mathematics, others for code and for function calls, or those of a TOML file (`--categories`).

    Examples:
        decaylab category-kl  # the student that ships with decaylab, before training
    """
    _diagnose("category-kl", options, output)


@command
def submode(options: DiagnosticOptions, output: Output) -> None:
    """Find where the student picks the teacher's second choice.

    Does training commit the student to a mode that is the teacher's second choice? Over the tokens
    with the highest reverse KL: where the student's most likely token ranks under the teacher
    (first, 2 to 5, beyond), on one set of tokens common to all models and on each model's own, and
    where the teacher really has a second mode.

    Examples:
        decaylab submode ckpt/
    """
    _diagnose("submode", options, output)


@command
def signals(options: DiagnosticOptions, output: Output) -> None:
    """Measure entropies and KL by position, and where to stop.

    Also how concentrated the KL is, and how much the positions of different selectors overlap.

    `--advise` says how to train the pair, by every run of it under runs/ (or in the folders of
    `--evidence`): sweeps first, then decay and KL. Where they allow no answer it says why, and
    which experiment would give one.

    Examples:
        decaylab signals --advise
    """
    _diagnose("signals", options, output)


@command
def served_kl(options: DiagnosticOptions, output: Output) -> None:
    """Bound the KL for a teacher that only vLLM can hold.

    An approximation: how far student and teacher disagree, at least. The student is scored exactly,
    the teacher by what vLLM returns: the probabilities of `--top-ids` ids at each position and of
    the token that was written, all others taken together. These give a lower bound of the reverse
    KL by position, with both policies' masses on the ids behind it. position-kl measures the KL
    itself; use it wherever both policies fit.

    Examples:
        decaylab served-kl --teacher Qwen/Qwen3-32B --tensor-parallel 4 --problems math500
    """
    from decaylab.commands import served_kl as served

    result = served.served_kl(options, spoken=typed(), reporter=output.reporter)
    output.run(result)


@command
def token_truth(options: DiagnosticOptions, output: Output) -> None:
    """Measure the mass on correct tokens where a step is decided.

    Needs problems whose steps are known: abacus. At the token with which the result of each written
    step begins: how much probability student and teacher give to tokens that are true to the
    problem, and to tokens that are consistent with the equation as it was written, even on a wrong
    number; by position, and apart for prefixes correct so far, repaired and already wrong. Behind
    each step: the chance that a repair opens, after a correct step and after a wrong one. A teacher
    that completes the student's error is consistent, and does not repair.

    Examples:
        decaylab token-truth  # the pair that ships with decaylab
        decaylab token-truth runs/esr --bins 0,40,80,120
    """
    from decaylab.commands import token_truth as truth

    output.run(truth.token_truth(options, spoken=typed(), reporter=output.reporter))


@command
def interventions(options: InterventionOptions, output: Output) -> None:
    """Measure what content and style of a prefix do.

    On problems whose steps are known (abacus): the same first steps, correct or wrong, in the
    student's or the teacher's style, continued by both policies: main effects and interaction on
    accuracy, and on the KL of what the student writes behind them. And rollouts of the student with
    their first wrong step repaired, or a correct one broken, beside the same prefix as it was
    written. `--edits FILE` measures prefixes of your own on any problem set, by label.

    Examples:
        decaylab interventions  # the pair that ships with decaylab
        decaylab interventions --chain-steps 1,4 --limit 100
        decaylab interventions --edits prefixes.csv --reference original --problems math500
    """
    from decaylab.commands import interventions as intervening

    result = intervening.interventions(options, spoken=typed(), reporter=output.reporter)
    output.run(result)


@command
def arm_gains(options: ArmGainOptions, output: Output) -> None:
    """Measure one teacher token where arms of a sweep train.

    Does what a teacher token is worth to the student predict what training gives? For every arm of
    the sweeps: tokens are drawn from those that it trains on, in rollouts of the untrained student.
    At each the student finishes twice, behind one token of the teacher's and without it. Beside
    that stand the teacher's gain of mass on correct tokens there, where steps are known, the share
    of the KL that lies there, and what training gave the arm.

    Examples:
        decaylab arm-gains runs/selectors
        decaylab arm-gains runs/selectors runs/lengths --limit 300 --tokens-per-arm 2000
    """
    from decaylab.commands import arm_gains as gains

    output.run(gains.arm_gains(options, spoken=typed(), reporter=output.reporter))


@command
def behaviour(options: DiagnosticOptions, output: Output) -> None:
    """Measure length, natural stops and repetition of rollouts.

    Of the base student, each checkpoint and the teacher, on the same problems: length in tokens,
    natural stops, repetition, several boxes, and accuracy by answer rule. Scores no token.

    Examples:
        decaylab behaviour ckpt/
    """
    _diagnose("behaviour", options, output)


@command
def values(options: ValuesOptions, output: Output) -> None:
    """Measure how likely a correct answer is along rollouts.

    The value of a prefix to a policy is the probability that its continuation is correct. At each
    position of `--grid`, every unfinished rollout of the student is continued `--draws` times by
    the student and by the teacher. Prints both values and the teacher's advantage by position, the
    turning points of rollouts, which signal knows how a rollout will end (position, KL, entropies,
    log-ratios), and whether the teacher's score of what the student wrote is in line with what it
    cost. The number of continuations is printed beforehand.

    Examples:
        decaylab values --limit 20 --samples 2  # the pair that ships with decaylab
        decaylab values --teacher Qwen/Qwen3-1.7B --draws 4 --grid 0,100,200  # needs a GPU
    """
    from decaylab.commands import values as valuing

    result = valuing.values(options, spoken=typed(), reporter=output.reporter)
    output.run(result)


@command
def evaluate(options: DiagnosticOptions, output: Output) -> None:
    """Compare the accuracy of checkpoints with base and teacher.

    avg@k, unbiased pass@k and maj@k under every answer rule, each checkpoint paired with base and
    with the teacher on the same problems, and the smallest difference that this many problems could
    have shown. A run's folder means all its checkpoints; the last one and the best one by the run's
    own validation stand side by side, and neither is ever chosen on these problems.

    Examples:
        decaylab evaluate runs/esr --problems math500 --samples 4
    """
    _diagnose("evaluate", options, output)


@command
def train(options: TrainOptions, output: Output) -> None:
    """Train a student: ESR, full rollouts or selected positions.

    Each step the student writes rollouts, the teacher scores every token, and the exact reverse KL
    at the chosen positions is minimised. `--selector prefix` stops rollouts at `--rollout-length`
    (ESR); `--selector full` is ordinary on-policy distillation; all others choose `--budget`
    positions of full rollouts. The run's folder holds checkpoints, a record of each step and
    held-out accuracy; every diagnostic accepts it. Rerun the same command to resume an interrupted
    or killed run: it ends with the same weights.

    Examples:
        decaylab train  # the student that ships with decaylab by ESR: a minute on two CPU cores
        decaylab train --teacher Qwen/Qwen3-1.7B --student Qwen/Qwen2.5-Math-1.5B
            --problems numina.jsonl --instruction boxed  # a pair of your own (needs a GPU)
        accelerate launch --num_processes 8 -m decaylab train --teacher Qwen/Qwen3-1.7B
            --problems numina.jsonl  # several GPUs
    """
    from decaylab.commands.drawing import with_curves
    from decaylab.tables import training
    from decaylab.trainer import loop

    result = with_curves(loop.train(options, command=typed(), reporter=output.reporter))
    if not result.is_main:
        return
    if output.as_json:
        print_training(result)
    else:
        training.print_training(result, verbose=output.verbose)


@command
def sweep(options: SweepOptions, output: Output) -> None:
    """Train several arms over several seeds, and compare them.

    The arms differ in `rollout-length` or `selector` and are evaluated on the same problems. Each
    run is what `decaylab train` and `decaylab evaluate` make. Finished runs are kept, the same
    command resumes a killed sweep, and sweeps with the same `--runs` share the runs they have in
    common. Each seed is shown; their mean has an interval over problems and one over seeds.

    Examples:
        decaylab sweep rollout-length --values 5,10,20,40,60,full --seeds 3 --test-limit 800
        decaylab sweep selector --values prefix,full,random,top-reverse-kl --budget 20 --workers 2
    """
    from decaylab.commands import sweeps

    result = sweeps.sweep(options, command=typed(), reporter=output.reporter)
    output.run(result)
    if result.failed:
        raise UserError(result.complaint)


@command
def compare(options: CompareOptions, output: Output) -> None:
    """Compare prefix-decay runs: which teacher, or which student?

    Runs of one student under several teachers, or of several students under one, paired on the same
    problems at each prefix length: accuracy, what is left of the teacher's advantage, half-decay
    length, KL where it was measured, and cost, with the differences from a reference. The answer
    may be none of them. Loads no model. Runs that cannot be paired are refused with what differs.

    Examples:
        decaylab compare runs/decay-1.7b runs/decay-4b runs/decay-8b
        decaylab compare runs/decay-1.7b runs/decay-4b runs/kl-1.7b runs/kl-4b
            --reference Qwen/Qwen3-1.7B  # with the KL of each
    """
    from decaylab.commands import compare as comparisons

    result = comparisons.compare(options, command=typed())
    output.run(result, verdict=list(result.verdict))


@command
def plan(options: PlanOptions, output: Output) -> None:
    """Predict memory and time before anything starts.

    Plans prefix-decay, the diagnostics and train. Reads the two config.json, builds both models
    without weights and counts: weights, cache, activations, logits, gradients and optimizer of
    every phase, against the available memory. Says what does not fit and which flag would help, and
    how many tokens are to be written and read. Hours come from a probe or from rates that you
    state, and are unknown otherwise. Exits with 1 where a phase does not fit.

    Examples:
        decaylab plan --teacher Qwen/Qwen3-8B --student Qwen/Qwen2.5-Math-1.5B --problems math500
            --gpus 1x48GB
        decaylab plan --only train --full-finetune --gpus 8x80GB --processes 8 --sharded
        decaylab plan --probe  # the pair that ships with decaylab, on this machine
    """
    from decaylab.planner import plan, tables

    made = plan.make_plan(options)
    if output.as_json:
        print(json.dumps(made.record()))
    else:
        tables.print_plan(made, verbose=output.verbose)
    if not made.fits:
        raise typer.Exit(1)
