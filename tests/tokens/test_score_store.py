"""Scored tokens on disk: what stands there is what the scorer gives, under a name that says what it
depends on, and whatever kills a process between two writes, the same bytes stand there in the end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import held
from tiny_models import byte_tokenizer, tiny_llama

from decaylab.errors import UserError
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import Policy
from decaylab.progress import Reporter
from decaylab.runs import store
from decaylab.tokens import score_store
from decaylab.tokens.score_store import ScoreKey, scored
from decaylab.tokens.scoring import Rollout, Scorer
from decaylab.tokens.token_table import COLUMNS

END = 1
KEY = ScoreKey("student 0 float32", "teacher 1 float32", 1.0, "model", "in batches")
SHOWN = 3
TEXTS = (
    "so 7 × 8 = 56",
    "naïve — 12",
    "\u5341\u4e8c",
    "no end",
    "x",
    "  two  spaces\n",
    "caf\u00e9",
    "done.",
)


def policy(seed: int) -> Policy:
    tokenizer = byte_tokenizer()
    model = tiny_llama(seed, vocab_size=len(tokenizer))
    return Policy("tiny", model, tokenizer, PolicyIdentity("tiny", "folder", "", str(seed)))


def make_rollouts() -> list[Rollout]:
    """Responses with characters of several bytes; all but one end their turn."""
    encode = byte_tokenizer().encode
    return [
        Rollout(
            f"student/p{number}/0",
            tuple(encode(f"{number}+{number}?")),
            tuple(encode(f"what is {number}+{number}?")),
            (*encode(text), *(() if text == "no end" else (END,))),
        )
        for number, text in enumerate(TEXTS)
    ]


ROLLOUTS = make_rollouts()


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(policy(0), policy(1))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts for few tokens."""
    monkeypatch.setattr(score_store, "PART_TOKENS", 60)


def never() -> Scorer:
    pytest.fail("a model was asked for")


def stored(
    cache: Path, make: Callable[[], Scorer], rollouts: list[Rollout] = ROLLOUTS, key: ScoreKey = KEY
) -> Path:
    return scored(rollouts, key, make, cache, Reporter(quiet=True), shown=SHOWN)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, scorer: Scorer) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_store, "PART_TOKENS", 60)
        return stored(tmp_path_factory.mktemp("cache"), lambda: scorer)


def tokens(folder: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.read_table(folder / "tokens.parquet").to_pydict()
    return found


def same_bytes(folder: Path, undisturbed: Path) -> None:
    for name in ("tokens.parquet", "top5.parquet", "record.json"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*-0*.parquet"))


# What stands there


def test_the_table_has_the_columns_that_analyses_know_and_their_types(undisturbed: Path) -> None:
    schema = pq.read_schema(undisturbed / "tokens.parquet")
    assert tuple(schema.names) == ("rollout_id", "position", *COLUMNS)
    assert schema.metadata[b"decaylab_schema"] == b"decaylab.tokens/1"
    whole = {"position", "token_id", "token_rank", "student_top1_rank"}
    assert {name for name in schema.names if schema.field(name).type == pa.int32()} == whole
    assert schema.field("top16_overlap").type == pa.int8()
    words = {name for name in schema.names if pa.types.is_dictionary(schema.field(name).type)}
    assert words == {"rollout_id", "token"}
    others = [
        schema.field(name).type for name in set(schema.names) - whole - words - {"top16_overlap"}
    ]
    assert set(others) == {pa.float32()}


def test_there_is_one_row_a_token_in_order_the_end_of_turn_among_them(undisturbed: Path) -> None:
    found = tokens(undisturbed)
    assert found["rollout_id"] == [one.rollout_id for one in ROLLOUTS for _ in one.response]
    assert found["position"] == [
        position for one in ROLLOUTS for position in range(len(one.response))
    ]
    assert found["token_id"] == [token for one in ROLLOUTS for token in one.response]
    assert found["token_id"].count(END) == len(TEXTS) - 1


def test_the_pieces_of_a_rollout_make_up_its_response(undisturbed: Path) -> None:
    found = tokens(undisturbed)
    for one, text in zip(ROLLOUTS, TEXTS, strict=True):
        pieces = [
            piece
            for name, piece in zip(found["rollout_id"], found["token"])
            if name == one.rollout_id
        ]
        assert "".join(pieces) == text + ("<|end|>" if one.response[-1] == END else "")
        assert len(pieces) == len(one.response)


def test_the_values_are_those_of_scoring_each_rollout_alone(
    undisturbed: Path, scorer: Scorer
) -> None:
    found, row = tokens(undisturbed), 0
    for one in ROLLOUTS:
        (alone,) = scorer.score([one])
        rows = slice(row, row := row + len(one.response))
        for name in COLUMNS[2:]:
            np.testing.assert_allclose(
                found[name][rows], alone.columns[name], rtol=2e-4, atol=2e-6, err_msg=name
            )
    assert row == len(found["position"])


def test_a_table_is_read_as_analyses_see_it(undisturbed: Path) -> None:
    problems = {one.rollout_id: number % 3 for number, one in enumerate(ROLLOUTS)}
    found = score_store.table(undisturbed, ROLLOUTS, problems, 5)
    assert found.lengths.tolist() == [len(one.response) for one in ROLLOUTS]
    assert (found.problems.tolist(), found.problem_count) == ([0, 1, 2, 0, 1, 2, 0, 1], 5)
    stored_columns = tokens(undisturbed)
    for name in COLUMNS:
        assert found[name].tolist() == stored_columns[name]
    assert found.positions.tolist() == stored_columns["position"]


def test_the_top_5_are_kept_of_the_first_rollouts_alone_and_agree_with_the_columns(
    undisturbed: Path,
) -> None:
    top = pq.read_table(undisturbed / "top5.parquet").to_pylist()
    expected = [
        (one.rollout_id, position, policy)
        for one in ROLLOUTS[:SHOWN]
        for policy in ("student", "teacher")
        for position in range(len(one.response))
    ]
    assert [(row["rollout_id"], row["position"], row["policy"]) for row in top] == expected
    by_place = {(row["rollout_id"], row["position"], row["policy"]): row for row in top}
    found = tokens(undisturbed)
    for index, place in enumerate(zip(found["rollout_id"], found["position"])):
        if place[0] not in {one.rollout_id for one in ROLLOUTS[:SHOWN]}:
            continue
        student, teacher = by_place[*place, "student"], by_place[*place, "teacher"]
        for row, name in ((student, "student"), (teacher, "teacher")):
            probabilities = row["probabilities"]
            assert (
                probabilities == sorted(probabilities, reverse=True) and len(set(row["ids"])) == 5
            )
            columns = [found[f"{name}_top{nth}_probability"][index] for nth in (1, 2)]
            assert probabilities[:2] == pytest.approx(columns, rel=1e-6)
            if found["token_id"][index] in row["ids"]:
                taken = probabilities[row["ids"].index(found["token_id"][index])]
                assert np.log(taken) == pytest.approx(found[f"{name}_logprob"][index], abs=1e-4)
        rank = found["student_top1_rank"][index]
        assert (teacher["ids"][rank - 1] if rank <= 5 else None) == (
            student["ids"][0] if rank <= 5 else None
        )
        token_rank = found["token_rank"][index]
        if token_rank <= 5:
            assert teacher["ids"][token_rank - 1] == found["token_id"][index]


# What is found again, and what is not


def test_what_was_scored_is_not_scored_again(undisturbed: Path) -> None:
    assert stored(undisturbed.parent, never) == undisturbed


def changed_rollout(**changes: Any) -> list[Rollout]:
    return [*ROLLOUTS[:2], replace(ROLLOUTS[2], **changes), *ROLLOUTS[3:]]


@pytest.mark.parametrize(
    ("rollouts", "key"),
    [
        (ROLLOUTS, replace(KEY, student="student 0 bfloat16")),
        (ROLLOUTS, replace(KEY, teacher="student 0 float32")),
        (ROLLOUTS, replace(KEY, student=KEY.teacher, teacher=KEY.student)),
        (ROLLOUTS, replace(KEY, temperature=0.999)),
        (ROLLOUTS, replace(KEY, head="float32")),
        (ROLLOUTS, replace(KEY, route="one by one, wider precision")),
        (changed_rollout(response=(*ROLLOUTS[2].response[:-1], END + 1)), KEY),
        (changed_rollout(response=ROLLOUTS[2].response[:-1]), KEY),
        (changed_rollout(student_prompt=ROLLOUTS[1].student_prompt), KEY),
        (changed_rollout(teacher_prompt=ROLLOUTS[1].teacher_prompt), KEY),
        (changed_rollout(rollout_id="student/p2/1"), KEY),
        (ROLLOUTS[:-1], KEY),
        (ROLLOUTS[::-1], KEY),
        # The boundary between two lists of ids moves, their ids in a row stay.
        (
            changed_rollout(
                teacher_prompt=ROLLOUTS[2].teacher_prompt + ROLLOUTS[2].response[:1],
                response=ROLLOUTS[2].response[1:],
            ),
            KEY,
        ),
    ],
)
def test_whatever_scores_depend_on_gives_another_key(
    rollouts: list[Rollout], key: ScoreKey, undisturbed: Path
) -> None:
    class Asked(Exception):
        pass

    def asked() -> Scorer:
        raise Asked

    with pytest.raises(Asked):
        stored(undisturbed.parent, asked, rollouts, key)
    assert stored(undisturbed.parent, never) == undisturbed


def test_more_rollouts_for_viewing_are_added_and_they_alone_scored(
    undisturbed: Path, tmp_path: Path, scorer: Scorer
) -> None:
    folder = scored(ROLLOUTS, KEY, lambda: scorer, tmp_path, Reporter(quiet=True), shown=0)
    assert folder.name == undisturbed.name
    assert pq.read_metadata(folder / "top5.parquet").num_rows == 0
    scored(ROLLOUTS, KEY, lambda: scorer, tmp_path, Reporter(quiet=True), shown=SHOWN)
    assert (folder / "tokens.parquet").read_bytes() == (undisturbed / "tokens.parquet").read_bytes()
    names = ["rollout_id", "position", "policy", "ids"]
    late, early = (
        pq.read_table(one / "top5.parquet").select(names).to_pylist()
        for one in (folder, undisturbed)
    )
    assert late == early
    scored(ROLLOUTS, KEY, never, tmp_path, Reporter(quiet=True), shown=SHOWN)


def test_the_record_of_other_tokens_under_the_same_short_name_is_refused(
    undisturbed: Path, tmp_path: Path
) -> None:
    other = json.loads((undisturbed / "record.json").read_text()) | {"temperature": 0.5}
    folder = tmp_path / undisturbed.name  # as if the short hashes met
    shutil.copytree(undisturbed, folder)
    (folder / "record.json").write_text(json.dumps(other, sort_keys=True, indent=1))
    with pytest.raises(
        UserError, match="record.json belongs to other tokens with the same short hash"
    ):
        stored(tmp_path, never)


def test_the_record_says_what_the_scores_depend_on(undisturbed: Path) -> None:
    record = json.loads((undisturbed / "record.json").read_text())
    assert {
        name: record[name] for name in ("student", "teacher", "temperature", "head", "route")
    } == KEY.__dict__
    assert (record["schema"], len(record["rollouts"])) == ("decaylab.tokens/1", 64)


# Going on after an end at any moment


class Killed(BaseException):
    pass


class Dying:
    """A scorer that ends the process at a part; counts the rollouts it is asked for."""

    def __init__(self, scorer: Scorer, part: int = -1) -> None:
        self.scorer, self.part, self.student = scorer, part, scorer.student
        self.asked: list[str] = []
        self.parts = 0

    def score(self, rollouts: list[Rollout], *more: Any) -> Any:
        if self.parts == self.part:
            raise Killed
        self.parts += 1
        self.asked += [one.rollout_id for one in rollouts]
        return self.scorer.score(rollouts, *more)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_parts_that_stand_are_not_scored_again(
    part: int, tmp_path: Path, undisturbed: Path, scorer: Scorer
) -> None:
    first, second = Dying(scorer, part), Dying(scorer)
    with pytest.raises(Killed):
        stored(tmp_path, lambda: first)
    (folder,) = tmp_path.iterdir()
    assert len(parts(folder)) == 2 * part
    assert stored(tmp_path, lambda: second) == folder
    assert first.asked + second.asked == [one.rollout_id for one in ROLLOUTS]
    assert second.parts >= 1
    same_bytes(folder, undisturbed)
    assert parts(folder) == []


def test_an_end_between_a_parts_side_table_and_its_rows_leaves_no_half(
    tmp_path: Path, undisturbed: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = store.write_table, []

    def dies(table: pa.Table, path: Path, schema: str) -> None:
        written.append(path.name)
        if len(written) == 4:
            raise Killed
        write(table, path, schema)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_table", dies)
        with pytest.raises(Killed):
            stored(tmp_path, lambda: scorer)
    assert written[2:] == ["top5-00001.parquet", "part-00001.parquet"]
    again = Dying(scorer)
    folder = stored(tmp_path, lambda: again)
    assert again.asked[0] != ROLLOUTS[0].rollout_id
    same_bytes(folder, undisturbed)


@pytest.mark.parametrize(
    "moment", ["before the first merge", "between the merges", "before parts are removed"]
)
def test_an_end_while_parts_are_merged_needs_no_model_to_go_on(
    moment: str, tmp_path: Path, undisturbed: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge, unlink = score_store._merge, Path.unlink

    def dies(parts: store.Parts, *more: Any) -> None:
        if parts.name == ("top5" if moment == "before the first merge" else "part"):
            raise Killed
        merge(parts, *more)

    def does_not_remove(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("top5-"):
            raise Killed
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        if moment == "before parts are removed":
            patch.setattr(Path, "unlink", does_not_remove)
        else:
            patch.setattr(score_store, "_merge", dies)
        with pytest.raises(Killed):
            stored(tmp_path, lambda: scorer)
    (folder,) = tmp_path.iterdir()
    assert (folder / "top5.parquet").exists() == (moment != "before the first merge")
    assert not (folder / "tokens.parquet").exists()
    assert stored(tmp_path, never) == folder
    same_bytes(folder, undisturbed)
    assert parts(folder) == []


def test_a_part_that_was_cut_short_is_one_line_that_names_it(
    tmp_path: Path, undisturbed: Path, scorer: Scorer
) -> None:
    with pytest.raises(Killed):
        stored(tmp_path, lambda: Dying(scorer, 2))
    (folder,) = tmp_path.iterdir()
    part = folder / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(
        UserError, match="part-00001.parquet is truncated or damaged .*; delete it"
    ) as told:
        stored(tmp_path, lambda: scorer)
    assert "\n" not in str(told.value)
    part.unlink()
    same_bytes(stored(tmp_path, lambda: scorer), undisturbed)


# Tables that cannot be used


@pytest.fixture
def copied(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed, tmp_path / undisturbed.name))


def test_a_table_that_was_cut_short_is_one_line_and_can_be_made_again(
    copied: Path, undisturbed: Path, scorer: Scorer
) -> None:
    path = copied / "tokens.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(
        UserError, match="is truncated or damaged .*; delete it and run the same command again"
    ) as told:
        stored(copied.parent, never)
    assert str(path) in str(told.value) and "\n" not in str(told.value)
    path.unlink()
    same_bytes(stored(copied.parent, lambda: scorer), undisturbed)


def test_a_table_with_a_damaged_page_is_one_line(copied: Path) -> None:
    """The footer is whole, so that it shows only where a column is read."""
    path = copied / "tokens.parquet"
    whole = bytearray(path.read_bytes())
    whole[4 : len(whole) // 2] = bytes(len(whole) // 2 - 4)
    path.write_bytes(bytes(whole))
    found = score_store.table(copied, ROLLOUTS, {one.rollout_id: 0 for one in ROLLOUTS}, 1)
    with pytest.raises(
        UserError, match="tokens.parquet is truncated or damaged .*; delete it"
    ) as told:
        found["token_id"]
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("schema", ["decaylab.tokens/0", "decaylab.rollouts/1", None])
def test_a_table_of_another_schema_is_one_line(schema: str | None, copied: Path) -> None:
    path = copied / "tokens.parquet"
    metadata = {"decaylab_schema": schema} if schema else None
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    expected = "expected decaylab.tokens/1 or decaylab.tokens.aligned/1; delete it"
    with pytest.raises(UserError, match=f"has schema {schema or 'none'}, {expected}"):
        stored(copied.parent, never)


def test_a_table_that_lacks_a_row_is_one_line(copied: Path) -> None:
    path = copied / "tokens.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(UserError, match="does not have one row per token; delete"):
        score_store.table(copied, ROLLOUTS, {one.rollout_id: 0 for one in ROLLOUTS}, 1)


def test_what_another_process_is_still_scoring_is_waited_for(
    copied: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, scorer: Scorer
) -> None:
    (copied / "tokens.parquet").unlink()
    with held(copied) as other:
        monkeypatch.setattr(
            Reporter, "note", lambda self, message: told.append(message) or other.kill()
        )
        told: list[str] = []
        assert stored(copied.parent, lambda: scorer) == copied
        assert (
            told == [f"{copied} is in use by another process: waiting for it"]
            and other.wait(timeout=30) != 0
        )
    assert (copied / "tokens.parquet").read_bytes() == (undisturbed / "tokens.parquet").read_bytes()


def test_what_is_finished_is_read_while_another_process_is_in_there(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reporter, "note", lambda self, message: pytest.fail(message))
    with held(copied):
        assert stored(copied.parent, never) == copied
