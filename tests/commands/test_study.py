"""What the diagnostics look at: whose tokens stand in which view, which are scored twice, and what
is not run again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import DATA, held, write_lines
from peft import LoraConfig, get_peft_model
from tiny_models import SPECIAL, byte_tokenizer, save_folder, tiny_llama
from transformers import AutoModelForCausalLM

from decaylab.analyses import position_kl
from decaylab.commands import prefix_decay
from decaylab.commands.study import Study
from decaylab.commands.study_rollouts import Material
from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import Options
from decaylab.pair import targets
from decaylab.pair.prepare import prepare
from decaylab.policies import loading
from decaylab.policies.policy import Policy
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollouts.engines import Engines
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import store
from decaylab.tokens import scoring
from decaylab.tokens.category_rules import CategoryRules
from decaylab.tokens.noise_floor import with_noise_floor
from decaylab.tokens.scoring import Rollout, Scorer
from decaylab.tokens.token_table import Scored

SMALL: dict[str, Any] = {
    "limit": 5,
    "samples": 2,
    "max_tokens": 40,
    "floor_problems": 2,
    "view_rollouts": 1,
}
Gather = Callable[..., Material]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def gather(grader: Grader, cache: Path) -> Gather:
    """The material of a command with these checkpoints and options."""

    def gathered(*checkpoints: Path, tokens: bool = True, **options: Any) -> Material:
        asked = {
            **SMALL,
            "cache": str(cache),
            "checkpoints": tuple(map(str, checkpoints)),
            **options,
        }
        chosen = targets.resolve(DiagnosticOptions(**asked))
        setup = prepare(chosen.options.resolved(), grader)
        reporter = Reporter(quiet=True)
        with Engines(setup.options, reporter) as engines:
            return Study(setup, chosen, grader, reporter, CategoryRules.load(None), engines).gather(
                tokens=tokens
            )

    return gathered


def write_adapter(path: Path, scale: float) -> Path:
    """A LoRA of random weights on the embedded student; of scale 0 the student itself."""
    torch.manual_seed(0)  # lora_A
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(DATA / "student"),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM"),
    )
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=scale, generator=generator)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapters") / "changed", scale=0.2)


@pytest.fixture(scope="module")
def material(gather: Gather, changed: Path) -> Material:
    """The embedded pair and a changed student."""
    return gather(changed)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on scoring or a sample fails the test; adapters are still compared with themselves
    as they are loaded."""
    monkeypatch.setattr(scoring.Scorer, "__init__", lambda *_, **__: pytest.fail("a model was run"))
    monkeypatch.setattr(
        TransformersEngine, "sample", lambda *_, **__: pytest.fail("an engine was asked")
    )


def one(material: Material, checkpoint: str, view: str) -> Scored:
    (found,) = (
        scored
        for scored in material.scored
        if (scored.checkpoint, scored.view) == (checkpoint, view)
    )
    return found


def token_ids(scored: Scored) -> list[list[int]]:
    """Ids of each rollout."""
    ids = scored.tokens["token_id"]
    return [
        ids[start : start + length].tolist()
        for start, length in zip(scored.tokens.starts, scored.tokens.lengths)
    ]


def responses(material: Material, checkpoint: str) -> list[list[int]]:
    return [list(ids) for ids in material.rollouts[checkpoint]["response_ids"]]


# Views


def test_base_alone_stands_in_the_fresh_view_only(gather: Gather) -> None:
    found = gather()
    assert [(scored.checkpoint, scored.view) for scored in found.scored] == [("base", "fresh")]
    assert list(found.rollouts) == ["base"]


def test_with_a_checkpoint_both_stand_in_both_views(material: Material) -> None:
    names = [(scored.checkpoint, scored.view) for scored in material.scored]
    assert names == [
        ("base", "fresh"),
        ("base", "frozen"),
        ("changed", "fresh"),
        ("changed", "frozen"),
    ]
    assert one(material, "base", "fresh").tokens is one(material, "base", "frozen").tokens
    assert {scored.tokens.problem_count for scored in material.scored} == {5}


def test_fresh_tokens_are_the_checkpoints_own_and_frozen_ones_those_of_base(
    material: Material,
) -> None:
    base, own = responses(material, "base"), responses(material, "changed")
    assert base != own
    assert token_ids(one(material, "base", "fresh")) == base
    assert token_ids(one(material, "changed", "fresh")) == own
    assert token_ids(one(material, "changed", "frozen")) == base
    lengths = [
        one(material, name, "frozen").tokens.lengths.tolist() for name in ("base", "changed")
    ]
    assert lengths[0] == lengths[1]


def test_rollouts_are_paired_by_the_code_of_their_problem(material: Material) -> None:
    order = [f"abacus-0-{number:06d}" for number in range(5)]
    for scored in material.scored:
        name = "base" if scored.view == "frozen" else scored.checkpoint
        asked = material.rollouts[name]["problem_id"].tolist()
        assert scored.tokens.problems.tolist() == [order.index(problem) for problem in asked]


@pytest.mark.parametrize("view", ["fresh", "frozen"])
def test_each_view_holds_the_checkpoint_beside_the_teacher_over_those_tokens(
    view: str, material: Material, changed: Path
) -> None:
    """Scored anew, one rollout at a time, by a scorer made here."""
    student, teacher = loading.load(str(changed)), loading.load("abacus-teacher")
    rows = material.rollouts["base" if view == "frozen" else "changed"].head(3)
    scorer, found, start = Scorer(student, teacher), one(material, "changed", view).tokens, 0
    for row in rows.itertuples():
        prompt, response = tuple(row.prompt_ids), tuple(row.response_ids)
        (alone,) = scorer.score(
            [Rollout(row.rollout_id, prompt, prompt, response)]
        )  # one template, one prompt
        for name in ("reverse_kl", "forward_kl", "student_logprob", "teacher_entropy"):
            values = found[name][start : start + len(response)]
            np.testing.assert_allclose(values, alone.columns[name], rtol=1e-3, atol=1e-5)
        start += len(response)


def test_a_checkpoint_that_changed_nothing_changes_exactly_nothing(
    gather: Gather, tmp_path: Path
) -> None:
    found = gather(write_adapter(tmp_path / "zero", scale=0.0))
    frame = position_kl.measure(
        found.scored, position_kl.Settings((0, 5, 10, 20), 10, survivors=10)
    )
    values = {what: rows["value"].dropna() for what, rows in frame.groupby("what")}
    for what in ("reverse_kl_change", "reverse_kl_relative_change"):
        assert (
            len(values[what]) == 2 * 2 * 4 and (values[what] == 0).all()
        )  # conditions, views, bins
    assert len(values["cascade_ratio"]) == 4 and (values["cascade_ratio"] == 1).all()
    assert (values["mean_reverse_kl"] > 0.01).all()


def test_a_checkpoint_that_changed_something_does_not_pass_for_nothing(material: Material) -> None:
    frame = position_kl.measure(material.scored, position_kl.Settings((0, 5, 10, 20), 10))
    changes = frame[frame["what"] == "reverse_kl_change"]["value"]
    assert len(changes) == 8 and (changes.abs() > 1e-4).all()


# The second route


def test_the_first_problems_are_scored_twice_and_nearly_alike(material: Material) -> None:
    for scored in material.scored:
        assert scored.floor_rollouts is not None and scored.rescored is not None
        assert scored.floor_rollouts.tolist() == (scored.tokens.problems < 2).tolist()
        first, second = scored.tokens.only(scored.floor_rollouts), scored.rescored
        assert first["token_id"].tolist() == second["token_id"].tolist()
        for name in ("reverse_kl", "student_logprob", "teacher_entropy"):
            difference = np.abs(first[name] - second[name])
            assert 0 < difference.max() < 1e-3, name


def test_every_kl_gets_a_floor_of_the_size_of_rounding(material: Material) -> None:
    settings = position_kl.Settings((0, 5, 10), 10)
    frame = with_noise_floor(lambda scored: position_kl.measure(scored, settings), material.scored)
    nats = frame[(frame["unit"] == "nats") & frame["value"].notna()]
    assert len(nats) > 50
    assert nats["noise_floor"].between(0, 1e-4).all()
    means = nats[nats["what"].str.startswith("mean_")]
    # One mean may agree to the last digit by chance; which one depends on the processor.
    assert means["noise_floor"].between(0, 1e-4, inclusive="right").all()
    assert means["noise_floor"].median() > 1e-9
    assert not means["under_floor"].any()


def test_without_problems_to_score_twice_there_is_no_floor(gather: Gather, changed: Path) -> None:
    found = gather(changed, floor_problems=0)
    assert all(scored.rescored is None and scored.floor_rollouts is None for scored in found.scored)
    settings = position_kl.Settings((0, 5), 10)
    frame = with_noise_floor(lambda scored: position_kl.measure(scored, settings), found.scored)
    assert frame["noise_floor"].isna().all() and not frame["under_floor"].any()


def parameters(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same_weights(model: Any, before: dict[str, torch.Tensor]) -> None:
    for name, weight in model.named_parameters():
        assert weight.dtype == before[name].dtype, name
        assert torch.equal(weight, before[name]), name


def tiny_policy(dtype: torch.dtype, **changes: Any) -> Policy:
    tokenizer = byte_tokenizer()
    model = tiny_llama(vocab_size=len(tokenizer), **changes).to(dtype)
    return Policy("tiny", model, tokenizer, loading.PolicyIdentity("tiny", "folder", "", ""))


WIDER = [
    (torch.float32, torch.float64),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float32),
]


@pytest.mark.parametrize(("dtype", "wide"), WIDER)
def test_wider_weights_come_back_bit_for_bit(dtype: torch.dtype, wide: torch.dtype) -> None:
    policy = tiny_policy(dtype)
    ids = torch.arange(5, 25)[None]
    before, buffers = (
        parameters(policy.weights),
        {name: one.clone() for name, one in policy.weights.named_buffers()},
    )
    with torch.inference_mode():
        narrow_logits = policy.weights(input_ids=ids).logits
        with policy.wider() as same:
            assert same is policy
            assert {weight.dtype for weight in policy.weights.parameters()} == {wide}
            assert all(
                torch.equal(one.to(dtype), before[name])
                for name, one in policy.weights.named_parameters()
            )
            wide_logits = policy.weights(input_ids=ids).logits
        again = policy.weights(input_ids=ids).logits
    assert (
        0
        < (wide_logits.double() - narrow_logits.double()).abs().max()
        < (1e-4 if dtype == torch.float32 else 1)
    )
    assert torch.equal(again, narrow_logits)
    same_weights(policy.weights, before)
    for name, buffer in policy.weights.named_buffers():
        assert buffer.dtype == buffers[name].dtype and torch.equal(buffer, buffers[name])


def test_weights_that_were_in_float32_all_along_stay_as_they_are() -> None:
    """As some models keep their norms beside matrices of 16 bits."""
    policy = tiny_policy(torch.bfloat16)
    norm: Any = policy.weights.get_parameter("model.norm.weight")
    norm.data = norm.data.float() + 1e-4 * torch.linspace(0, 1, norm.numel())
    before = parameters(policy.weights)
    assert not torch.equal(
        before["model.norm.weight"].bfloat16().float(), before["model.norm.weight"]
    )
    with policy.wider():
        assert {weight.dtype for weight in policy.weights.parameters()} == {torch.float32}
    same_weights(policy.weights, before)


def test_tied_weights_stay_tied() -> None:
    policy = tiny_policy(torch.float32, tie_word_embeddings=True)

    def tied() -> bool:
        weights: Any = policy.weights
        return bool(
            weights.lm_head.weight.data_ptr() == weights.model.embed_tokens.weight.data_ptr()
        )

    assert tied()
    with policy.wider():
        assert tied()
    assert tied()


def test_weights_come_back_from_an_error_too() -> None:
    policy = tiny_policy(torch.bfloat16)
    before = parameters(policy.weights)
    with pytest.raises(KeyboardInterrupt), policy.wider():
        raise KeyboardInterrupt
    same_weights(policy.weights, before)


def test_weights_that_were_widened_in_part_come_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may run out on the way."""
    policy = tiny_policy(torch.bfloat16)
    before, to, calls = parameters(policy.weights), torch.Tensor.to, []

    def runs_out(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        calls.append(dtype)
        if len(calls) == 3:
            raise MemoryError
        return to(weight, dtype)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "to", runs_out)
        with pytest.raises(MemoryError), policy.wider():
            pass
    same_weights(policy.weights, before)


# What is not run again, and what is


@pytest.mark.usefixtures("no_model")
def test_what_was_sampled_and_scored_is_not_run_again(
    gather: Gather, material: Material, changed: Path
) -> None:
    again = gather(changed)
    assert again.folders == material.folders and len(set(again.folders)) == 3
    for before, after in zip(material.scored, again.scored, strict=True):
        assert (before.checkpoint, before.view) == (after.checkpoint, after.view)
        assert before.tokens["reverse_kl"].tobytes() == after.tokens["reverse_kl"].tobytes()


@pytest.mark.usefixtures("no_model")
def test_the_same_models_under_other_names_are_not_run_again(
    gather: Gather, material: Material, changed: Path, tmp_path: Path
) -> None:
    copies = {
        role: str(shutil.copytree(DATA / role, tmp_path / role)) for role in ("student", "teacher")
    }
    moved = Path(shutil.copytree(changed, tmp_path / "moved"))
    again = gather(moved, **copies, problems="abacus")
    assert [scored.folder for scored in again.folders] == [
        scored.folder for scored in material.folders
    ]
    assert [scored.checkpoint for scored in again.scored] == ["base", "base", "moved", "moved"]


@pytest.mark.parametrize(
    "options",
    [{"score_temperature": 0.5}, {"head": "float32"}, {"dtype": "bfloat16"}, {"seed": 1}],
)
def test_another_option_that_scores_depend_on_is_scored_anew(
    options: dict[str, Any], gather: Gather, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    score = Scorer.score
    monkeypatch.setattr(Scorer, "score", lambda self, *more: scored.append(1) or score(self, *more))
    found = gather(**options, floor_problems=0)
    assert scored == [1] and found.folders[0] not in material.folders


@pytest.mark.parametrize(
    "options", [{"batch_rows": 3}, {"batch_tokens": 64}, {"level": 0.5}, {"bins": (0, 7)}]
)
@pytest.mark.usefixtures("no_model")
def test_another_option_that_scores_do_not_depend_on_runs_no_model(
    options: dict[str, Any], gather: Gather, material: Material
) -> None:
    assert gather(**options).folders == material.folders[:1]


def test_the_second_route_starts_from_the_precision_of_the_first(gather: Gather) -> None:
    """Both widen to float32, from weights that were rounded in two ways."""
    found = [gather(dtype=dtype, limit=2, floor_problems=2) for dtype in ("bfloat16", "float16")]
    floors = [one.scored[0].rescored["reverse_kl"] for one in found]
    assert not np.array_equal(*floors)


def test_other_weights_under_the_same_name_are_scored_anew(gather: Gather, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(DATA / "student", tmp_path / "mine"))
    pair = {
        "student": "abacus-student",
        "teacher": "abacus-teacher",
        "limit": 2,
        "floor_problems": 0,
    }
    before = gather(mine, **pair)
    model = AutoModelForCausalLM.from_pretrained(mine)
    model.get_parameter("model.norm.weight").data *= 1.01
    model.save_pretrained(mine)
    after = gather(mine, **pair)
    assert before.folders[0] == after.folders[0]
    assert not {*before.folders[1:]} & {*after.folders[1:]}
    assert (
        one(before, "mine", "frozen").tokens["reverse_kl"]
        != one(after, "mine", "frozen").tokens["reverse_kl"]
    ).any()


@pytest.mark.parametrize("rows", [2, 8])
def test_sampling_goes_on_in_parts_of_another_size_without_a_rollout_twice(
    rows: int, gather: Gather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, calls = TransformersEngine.sample, []

    def ends(self: TransformersEngine, *more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(self, *more)

    small = {"cache": str(tmp_path), "samples": 1, "limit": 6, "max_tokens": 16, "tokens": False}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TransformersEngine, "sample", ends)
        gather(**small, batch_rows=4)
    found = gather(**small, batch_rows=rows).rollouts["base"]
    whole = gather(**{**small, "cache": str(tmp_path / "other")}, batch_rows=rows).rollouts["base"]
    assert found["rollout_id"].tolist() == [
        f"student/abacus-0-{number:06d}/0" for number in range(6)
    ]
    assert found["text"].tolist() == whole["text"].tolist()


def test_what_another_process_samples_is_waited_for_and_what_is_finished_is_not(
    gather: Gather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"cache": str(tmp_path), "samples": 1, "limit": 2, "max_tokens": 8, "tokens": False}
    before = gather(**small)
    folders = [
        path
        for path in tmp_path.glob("rollouts-*")
        if store.read_table(path / "rollouts.parquet", store.ROLLOUTS)
    ]
    with ExitStack() as stack:
        others = {str(folder): stack.enter_context(held(folder)) for folder in folders}
        monkeypatch.setattr(Reporter, "note", lambda self, message: pytest.fail(message))
        found = gather(**small)
        assert list(found.rollouts) == list(before.rollouts) == ["base", "teacher"]
        told: list[str] = []

        def end(self: Reporter, message: str) -> None:
            told.append(message)
            others[message.removesuffix(" is in use by another process: waiting for it")].kill()

        monkeypatch.setattr(Reporter, "note", end)
        for folder in folders:
            (folder / "rollouts.parquet").unlink()
        again = gather(**small)
    assert len(told) == 2
    assert all(again.rollouts[name].equals(before.rollouts[name]) for name in ("base", "teacher"))


# What a run or a file brings


@pytest.fixture(scope="module")
def decay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished decay run of the embedded pair."""
    folder = tmp_path_factory.mktemp("decay") / "run"
    small: dict[str, Any] = {
        "limit": 4,
        "samples": 1,
        "max_tokens": 24,
        "prefix_lengths": (0, 4),
        "controls": (),
    }
    prefix_decay.prefix_decay(Options(**small, out=str(folder)))
    return folder


RUN_SETS = {"limit": None, "samples": None, "max_tokens": None}


def test_the_student_rollouts_of_a_run_are_looked_at(gather: Gather, decay: Path) -> None:
    found = gather(decay, **RUN_SETS)
    table = store.read_table(decay / "rollouts.parquet", store.ROLLOUTS).to_pandas()
    own = table[table["condition"] == "student"]
    assert found.rollouts["base"]["rollout_id"].tolist() == own["rollout_id"].tolist()
    assert token_ids(one(found, "base", "fresh")) == [list(ids) for ids in own["response_ids"]]
    assert len(own) == 4 and len(table) > 8


def test_of_the_rollouts_of_a_run_those_to_problems_that_are_asked_are_taken(
    gather: Gather, decay: Path
) -> None:
    found = gather(decay, **{**RUN_SETS, "limit": 3})
    assert len(found.rollouts["base"]) == 3
    note = f"1 rollouts of {decay} are to problems that are not asked, left out"
    assert f"{note}; a larger --limit takes them in" in found.notes


def test_the_rollouts_of_another_student_are_not_passed_off_as_this_ones(
    gather: Gather, decay: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match="were written by abacus-student, not by --student abacus-teacher"
    ):
        gather(decay, **RUN_SETS, student="abacus-teacher")
    copy = shutil.copytree(DATA / "student", tmp_path / "copy")  # the same one under another name
    assert len(gather(decay, **RUN_SETS, student=str(copy)).rollouts["base"]) == 4


def test_rollouts_to_other_prompts_are_refused(gather: Gather, decay: Path, tmp_path: Path) -> None:
    lines = [
        {"id": f"abacus-0-{number:06d}", "question": f"{number} + 1?", "answer": "1"}
        for number in range(4)
    ]
    for problems in (lines, [{**line, "id": f"mine-{line['id']}"} for line in lines]):
        path = write_lines(tmp_path / "mine.jsonl", *problems)
        with pytest.raises(UserError, match="were written to other prompts than are asked now"):
            gather(decay, **RUN_SETS, problems=str(path))


TEACHER_SPECIAL = (*SPECIAL[:4], "<|other|>")  # id 4 is <|bos|> to the student


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A pair whose teacher lacks one id of the student."""
    root = tmp_path_factory.mktemp("lacking")
    save_folder(root / "student", seed=0)
    save_folder(root / "teacher", seed=1, tokenizer=byte_tokenizer(special=TEACHER_SPECIAL))
    return {role: str(root / role) for role in ("student", "teacher")}


def rollout_lines(*texts: str) -> list[dict[str, str]]:
    return [
        {"question": f"{n} + {n}?", "answer": str(2 * n), "response": text}
        for n, text in enumerate(texts)
    ]


def test_a_rollout_is_scored_up_to_a_token_that_the_teacher_lacks(
    gather: Gather, lacking: dict[str, str], tmp_path: Path
) -> None:
    """Of a b c END 4 tokens are scored, of a b BOS c d END 2, of BOS x END none: the third problem
    keeps its code."""
    path = write_lines(
        tmp_path / "mine.jsonl", *rollout_lines("abc", "ab<|bos|>cd", "<|bos|>x", "y")
    )
    found = gather(
        rollouts=str(path), **lacking, limit=None, max_tokens=64, no_stop_reason="natural"
    )
    scored = one(found, "base", "fresh")
    assert scored.tokens.lengths.tolist() == [4, 2, 2]
    assert (scored.tokens.problems.tolist(), scored.tokens.problem_count) == ([0, 1, 3], 4)
    assert scored.floor_rollouts is not None and scored.floor_rollouts.tolist() == [
        True,
        True,
        False,
    ]
    assert scored.tokens["token"].tolist() == ["a", "b", "c", "<|end|>", "a", "b", "y", "<|end|>"]
    note = "base: 2 of 4 rollouts hold a token that the teacher lacks: scored up to it; "
    assert any(one.startswith(note) for one in found.notes)
    assert len(found.rollouts["base"]) == 4
    assert (scored.tokens["student_removed_mass"] > 0).all()


def test_rollouts_that_the_teacher_cannot_read_at_all_are_one_line(
    gather: Gather, lacking: dict[str, str], tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "mine.jsonl", *rollout_lines("<|bos|>x", "<|bos|>"))
    with pytest.raises(
        UserError, match="base: no rollout begins with a token that .*teacher can read"
    ):
        gather(rollouts=str(path), **lacking, limit=None, max_tokens=64)


def test_rollouts_that_were_cut_off_are_counted_in_a_note(material: Material) -> None:
    for name in ("base", "changed"):
        rollouts = material.rollouts[name]
        cut = int((rollouts["stop_reason"] == "length").sum())
        assert cut > 0
        note = f"{name}: {cut} of 10 rollouts were cut off at the budget"
        assert f"{note}; a larger --max-tokens lets them end" in material.notes


def test_behaviour_needs_the_teachers_rollouts_and_no_score(
    gather: Gather, changed: Path, cache: Path
) -> None:
    before = set(cache.glob("tokens-*"))
    found = gather(changed, tokens=False)
    assert list(found.rollouts) == ["base", "changed", "teacher"]
    assert (found.scored, found.folders) == ([], []) and set(cache.glob("tokens-*")) == before
    assert set(found.rollouts["teacher"]["author"]) == {"teacher"}


def test_the_record_beside_the_scores_names_no_path(material: Material) -> None:
    """So that a cache can be moved, and a folder of models too."""
    record = json.loads((material.folders[-1].folder / "record.json").read_text())
    assert not [
        value
        for value in map(str, record.values())
        if "/" in value.replace("decaylab.tokens/1", "")
    ]
    assert dataclasses.is_dataclass(material)
