"""`dl.score` against a slow loop in float64 over the models' own logits; the forms of a text; what
must change no number, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import byte_tokenizer, tiny_llama

import decaylab as dl
from decaylab.errors import UserError
from decaylab.tokens.token_table import COLUMN_TYPES

END = 1
TEXTS = [("2 + 3?", "It is 5."), ("Why?", "é, so <x>"), ("A longer question, 7 + 7?", "1")]


def held(seed: int, dtype: torch.dtype = torch.float64, **of_tokenizer: Any) -> tuple[Any, Any]:
    """A model and its tokenizer, as a user holds them."""
    tokenizer = byte_tokenizer(**of_tokenizer)
    return tiny_llama(seed, vocab_size=len(tokenizer)).to(dtype), tokenizer


STUDENT, TEACHER = held(0), held(1)


def score(texts: Any, student: Any = STUDENT, teacher: Any = TEACHER, **more: Any) -> pd.DataFrame:
    return dl.score(student, teacher, texts, quiet=True, **more)


def naive(model: Any, prompt: list[int], response: list[int], temperature: float = 1.0) -> Any:
    """Log-probabilities in float64 at each response token, [time, vocab], one token at a time."""
    rows = []
    for position in range(len(response)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + response[:position]])).logits[0, -1]
        rows.append(torch.log_softmax(logits.double() / temperature, -1))
    return torch.stack(rows)


def ids_of(prompt: str, response: str, tokenizer: Any = STUDENT[1]) -> tuple[list[int], list[int]]:
    """The prompt as the template renders it, and the response."""
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return tokenizer(asked)["input_ids"], tokenizer(response)["input_ids"]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_every_number_is_that_of_a_slow_loop_over_the_logits(temperature: float) -> None:
    table = score(TEXTS, score_temperature=temperature)
    assert list(table) == ["text_index", "position", *COLUMN_TYPES]
    for index, (prompt, response) in enumerate(TEXTS):
        rows = table[table["text_index"] == index]
        before, ids = ids_of(prompt, response)
        p = naive(STUDENT[0], before, ids, temperature)
        q = naive(TEACHER[0], before, ids, temperature)
        taken = torch.tensor(ids)[:, None]
        mixture = torch.logaddexp(p, q) - np.log(2)
        expected = {
            "student_logprob": p.gather(1, taken)[:, 0],
            "teacher_logprob": q.gather(1, taken)[:, 0],
            "student_entropy": -(p.exp() * p).sum(1),
            "teacher_entropy": -(q.exp() * q).sum(1),
            "reverse_kl": (p.exp() * (p - q)).sum(1),
            "forward_kl": (q.exp() * (q - p)).sum(1),
            "js": 0.5 * (p.exp() * (p - mixture) + q.exp() * (q - mixture)).sum(1),
            "student_top1_probability": p.exp().amax(1),
            "teacher_top2_probability": q.exp().sort(descending=True).values[:, 1],
            "token_rank": (q > q.gather(1, taken)).sum(1) + 1,
            "student_top1_rank": (q > q.gather(1, p.argmax(1)[:, None])).sum(1) + 1,
        }
        for name, values in expected.items():
            np.testing.assert_allclose(rows[name], values, rtol=1e-6, atol=1e-7, err_msg=name)
        assert rows["token_id"].tolist() == ids
        assert rows["position"].tolist() == list(range(len(ids)))
        assert "".join(rows["token"]) == response


def test_float32_models_agree_with_the_slow_loop_up_to_their_rounding() -> None:
    student, teacher = held(0, torch.float32), held(1, torch.float32)
    rough, exact = score(TEXTS, student, teacher), score(TEXTS)
    for name in ("reverse_kl", "forward_kl", "student_logprob", "teacher_entropy"):
        np.testing.assert_allclose(rough[name], exact[name], rtol=1e-4, atol=2e-5)


def test_neither_order_nor_batches_change_a_number() -> None:
    together = score(TEXTS)
    one_by_one = pd.concat([score([text]) for text in TEXTS], ignore_index=True)
    turned = score(TEXTS[::-1], batch_tokens=1)
    turned["text_index"] = len(TEXTS) - 1 - turned["text_index"]
    turned = turned.sort_values(["text_index", "position"], ignore_index=True)
    for other in (one_by_one.assign(text_index=together["text_index"]), turned):
        pd.testing.assert_frame_equal(other, together, rtol=0, atol=1e-6)


def test_all_forms_of_a_text_give_the_same_numbers() -> None:
    expected = score(TEXTS)
    question = [[{"role": "user", "content": prompt}] for prompt, _ in TEXTS]
    forms: list[Any] = [
        [list(text) for text in TEXTS],
        [{"prompt": prompt, "response": response, "id": 7} for prompt, response in TEXTS],
        pd.DataFrame(TEXTS, columns=["prompt", "response"], index=[9, 9, 4]),
        [(asked, text[1]) for asked, text in zip(question, TEXTS, strict=True)],
        [
            {"messages": [*asked, {"role": "assistant", "content": text[1]}]}
            for asked, text in zip(question, TEXTS, strict=True)
        ],
        pd.DataFrame([ids_of(*text) for text in TEXTS], columns=["prompt_ids", "response_ids"]),
        [  # rendered already
            (STUDENT[1].decode(ids_of(*text)[0], clean_up_tokenization_spaces=False), text[1])
            for text in TEXTS
        ],
    ]
    for form in forms:
        pd.testing.assert_frame_equal(score(form), expected)


def test_the_end_of_a_turn_is_scored_where_it_is_wanted() -> None:
    plain, ended = score(TEXTS), score(TEXTS, end_of_turn=True)
    last = ended.groupby("text_index").tail(1)
    assert last["token_id"].tolist() == [END] * 3 and len(ended) == len(plain) + 3
    p = naive(STUDENT[0], ids_of(*TEXTS[0])[0], [*ids_of(*TEXTS[0])[1], END])
    assert last["student_logprob"].iloc[0] == pytest.approx(p[-1, END].item(), rel=1e-6)


def test_a_plain_text_is_scored_whole() -> None:
    ids = STUDENT[1]("Some text.")["input_ids"]
    table = score(["Some text."])  # no beginning-of-sequence token: the first token is the prompt
    assert table["token_id"].tolist() == ids[1:]
    p = naive(STUDENT[0], ids[:1], ids[1:])
    expected = p.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    np.testing.assert_allclose(table["student_logprob"], expected, rtol=1e-6)
    begun = [held(seed, adds_bos=True) for seed in (0, 1)]
    begin = begun[0][1].bos_token_id
    for text in ("Some text.", "<|bos|>Some text."):
        table = score([text], *begun)
        assert table["token_id"].tolist() == ids
        p = naive(begun[0][0], [begin], ids)
        assert table["student_entropy"].iloc[0] == pytest.approx(
            float(-(p[0].exp() * p[0]).sum()), rel=1e-6
        )


def test_a_teacher_with_its_own_template_reads_its_own_prompt() -> None:
    other = held(1, template="{% for m in messages %}Q: {{ m['content'] }}{% endfor %} A:")
    own, students = (
        score(TEXTS, teacher=other),
        score(TEXTS, teacher=other, teacher_prompt="student"),
    )
    pd.testing.assert_frame_equal(students, score(TEXTS))
    before, ids = ids_of(*TEXTS[0], tokenizer=other[1])
    q = naive(other[0], before, ids)
    np.testing.assert_allclose(own["teacher_entropy"][: len(ids)], -(q.exp() * q).sum(1), rtol=1e-6)
    np.testing.assert_array_equal(own["student_logprob"], students["student_logprob"])
    rendered = [(STUDENT[1].decode(ids_of(*text)[0]), text[1]) for text in TEXTS]
    pd.testing.assert_frame_equal(score(rendered, teacher=other), own)
    pd.testing.assert_frame_equal(
        score(rendered, teacher=other, teacher_prompt="student"), students
    )
    told = [{"prompt_ids": ids_of(*TEXTS[0])[0], "response_ids": ids, "teacher_prompt_ids": before}]
    alone = score(told, teacher=other)
    np.testing.assert_allclose(alone["reverse_kl"], own["reverse_kl"][: len(ids)], atol=1e-6)


def test_a_model_with_a_hook_is_scored_and_the_model_is_left_in_training() -> None:
    model, tokenizer = held(0)
    model.train().model.layers[0].register_forward_hook(lambda module, inputs, output: output * 1.5)
    steered = score(TEXTS, (model, tokenizer))
    assert model.training and not np.allclose(steered["reverse_kl"], score(TEXTS)["reverse_kl"])


def test_a_plain_continuation_of_a_base_model_follows_its_text() -> None:
    base = [held(seed, template=None) for seed in (0, 1)]
    plain = {"prompt_format": "plain", "prompt_kind": "rendered"}
    table = score([("Once upon", " a time")], *base, **plain)
    before, ids = (base[0][1](text)["input_ids"] for text in ("Once upon", " a time"))
    p, q = (naive(model, before, ids) for model, _ in base)
    expected = (p.exp() * (p - q)).sum(1)
    np.testing.assert_allclose(table["reverse_kl"], expected, rtol=1e-6, atol=1e-7)


LONG = "x" * 300
OTHER_TOKENS = held(
    1, shift=3, special=("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|b|>")
)


def test_one_byte_a_token_in_another_order_gives_the_divergences_of_one_tokenizer() -> None:
    teacher, moved = held(1), held(1, shift=3)
    places = sorted(moved[1].get_vocab().items(), key=lambda entry: entry[1])
    order = [teacher[1].get_vocab()[token] for token, _ in places]
    for weights in (moved[0].get_input_embeddings(), moved[0].get_output_embeddings()):
        weights.weight.data = weights.weight.data[order]
    exact = score(TEXTS, teacher=teacher, end_of_turn=True)
    aligned = score(TEXTS, teacher=moved, end_of_turn=True)
    assert aligned["at_shared_boundary"].all()
    for name in ("student_logprob", "teacher_logprob", "student_entropy", "teacher_entropy"):
        np.testing.assert_allclose(aligned[name], exact[name], rtol=1e-5, atol=1e-5)
    rows = []
    for prompt, response in TEXTS:
        before, ids = ids_of(prompt, response)
        p, q = (naive(model, before, [*ids, 1]).exp() for model in (STUDENT[0], teacher[0]))
        p, q = (torch.cat([law[:, [1]], law[:, 5:]], dim=1) for law in (p, q))
        p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
        rows += (p * (p / q).log()).sum(1).tolist()
    np.testing.assert_allclose(aligned["reverse_kl"], rows, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("texts", "more", "message"),
    [
        ([], {}, "texts is empty; give at least one"),
        ("one text", {}, "texts must be a list or a DataFrame, got str"),
        ([("a", "b"), 3], {}, "text 1: must be a text, a pair .*, got 3"),
        ([("a", "")], {}, "text 0: its response is empty"),
        ([{"prompt": "a"}], {}, "text 0: needs response, response_ids or messages, found prompt"),
        ([{"response": "a"}], {}, "text 0: needs prompt or prompt_ids, found response"),
        ([("a", None)], {}, "text 0: the response must be text, got None"),
        ([{"messages": [{"role": "user", "content": "a"}]}], {}, "must end with the assistant's"),
        ([{"prompt_ids": [5], "response_ids": [999]}], {}, "token id 999 is outside the vocab"),
        ([{"prompt_ids": [-5], "response_ids": [5]}], {}, "prompt_ids must be a list of token ids"),
        (["x"], {}, "text 0: too short to be scored whole"),
        ([("a", LONG)], {}, r"text 0: needs 3\d\d positions, more than the context of"),
        (TEXTS, {"score_temperature": 0.0}, "score-temperature must be above 0"),
        (TEXTS, {"dtype": "float32"}, "dtype has no effect: loaded models are used as they are"),
        (TEXTS, {"teacher_revision": "v1"}, "teacher_revision has no meaning"),
        (
            [("<|user|>a<|end|><|assistant|>", "b")],
            {"system": "s"},
            "rendered already: leave system",
        ),
        (
            [("a", "b<|bos|>c")],
            {"teacher": OTHER_TOKENS},
            "those that hold a control token that the",
        ),
        (["a text"], {"teacher": OTHER_TOKENS}, "needs a beginning-of-sequence token in both"),
        (TEXTS, {"teacher": held(1, template=None)}, "has no chat template"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_a_line(
    texts: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        score(texts, **more)
    assert "\n" not in str(refused.value)


def test_a_token_that_the_teacher_lacks_is_refused_with_its_place() -> None:
    special = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|other|>")
    with pytest.raises(UserError, match=r"text 0: '<\|bos\|>' at response position 1 is a token"):
        score([("a", "b<|bos|>c")], teacher=held(1, special=special))
