"""What all model cards share: front matter that the hub reads, and text that may leave the
machine."""

from __future__ import annotations

import pytest
from huggingface_hub import EvalResult, ModelCard

from decaylab.runs import model_cards
from decaylab.runs.model_cards import base_id, called, portable, portable_command


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kept in /srv/alice/runs/esr.", "kept in esr."),
        ("in ~/runs/esr, or ~alice/x: see", "in esr, or x: see"),
        (r"C:\Users\alice\runs and D:/data/set.jsonl", "runs and set.jsonl"),
        ("file:///srv/alice/x and error:/srv/alice/y", "x and error:y"),
        ("(/srv/alice/runs/) `/srv/alice/a`", "(runs) `a`"),
        ("https://alice:secret@host:8000/v1/models", "https://host:8000/v1/models"),
        # What is no path of the machine stays.
        ("runs/esr and ../base, 1/2, after / before, and/or, decaylab/torch", None),
        ("https://arxiv.org/abs/2605.27028 [43.4, 50.3] owner/name", None),
        ("p < 0.001; 0.72 (/) a ~ b, ~40 tokens, T=0.7", None),
    ],
)
def test_an_absolute_path_is_shown_by_its_last_part(text: str, shown: str | None) -> None:
    assert portable(text) == (text if shown is None else shown)


def test_a_command_keeps_its_words_and_loses_where_they_are() -> None:
    typed = (
        "decaylab evaluate '/srv/alice/my runs/esr' runs/full --student=/models/a "
        "--problems ~/set.jsonl --values /a/b,/a/c --out runs/x"
    )
    assert portable_command(typed) == (
        "decaylab evaluate esr runs/full --student=a --problems set.jsonl --values b,c --out runs/x"
    )
    plain = "decaylab prefix-decay --teacher Qwen/Qwen3-1.7B --prefix-lengths 0,20,40 --limit 100"
    assert portable_command(plain) == plain
    assert portable_command("decaylab 'unclosed /srv/alice/x") == "decaylab 'unclosed x"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/models/my student", "my student"),
        ("~/models/base/", "base"),
        ("C:\\models\\base", "base"),
        ("Qwen/Qwen3-1.7B", "Qwen/Qwen3-1.7B"),
        ("runs/esr", "runs/esr"),
        ("https://me:key@host/v1", "https://host/v1"),
    ],
)
def test_a_folder_is_called_by_its_name_and_a_model_of_the_hub_by_its_id(
    name: str, shown: str
) -> None:
    assert called(name) == shown


def test_the_base_is_the_nearest_that_others_can_load() -> None:
    hub = {"name": "owner/base", "source": "hub", "revision": "abc", "base": None}
    folder = {"name": "/models/gpt2", "source": "folder", "revision": "", "base": None}
    adapter = {"name": "runs/esr", "source": "adapter", "revision": "", "base": hub}
    assert (
        base_id(hub) == "owner/base" and base_id(folder) == "" and base_id(adapter) == "owner/base"
    )
    published = {**adapter, "name": "owner/adapter", "revision": "def"}
    assert base_id(published) == "owner/adapter"
    assert base_id({**adapter, "base": folder}) == "" and base_id({}) == ""


def test_front_matter_is_read_back_by_the_hub_library() -> None:
    result = EvalResult("text-generation", "gsm8k", "gsm8k", "accuracy", 65.4)
    front = model_cards.front_matter(
        library="peft", base_model="owner/base", model_name="mine", tags=("lora",), results=[result]
    )
    data = ModelCard(f"{front}# A model\n").data
    assert (data.library_name, data.base_model) == ("peft", "owner/base")
    assert data.tags == ["on-policy-distillation", "decaylab", "lora"]
    assert data.model_name == "mine" and data.eval_results == [result]
    bare = ModelCard(f"{model_cards.front_matter()}# A model\n").data.to_dict()
    assert set(bare) == {"pipeline_tag", "tags"}


def test_no_cell_of_a_table_is_read_as_markup() -> None:
    shown = model_cards.table(
        ("a", "b"), [("x|y *z*\nnext", "`code`"), ("[link](url)", "1 [2, 3]")]
    )
    assert shown.splitlines() == [
        "| a | b |",
        "| :-- | :-- |",
        r"| x\|y \*z\* next | `code` |",
        r"| [link\](url) | 1 [2, 3] |",
    ]
