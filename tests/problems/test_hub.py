"""Problems and models through the hub's protocol, against a server on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer

# A client for many requests: huggingface_hub reads its environment at import, and importing takes
# seconds.
PROBLEMS_CLIENT = """
import json, sys
from decaylab.errors import UserError
from decaylab.problems.sets import load_problems
for line in sys.stdin:
    spec, options = json.loads(line)
    try:
        one = load_problems(spec, **options)
    except UserError as error:
        answer = {"error": str(error)}
    else:
        answer = {"name": one.name, "version": one.version, "hash": one.content_hash, "notes": one.notes,
                  "rows": [[p.problem_id, p.question, p.answer] for p in one.problems]}
    print(json.dumps(answer), flush=True)
"""  # noqa: E501
MODEL_CLIENT = """
import dataclasses, json
from decaylab.policies import loading as policies
from decaylab.errors import UserError
from decaylab.problems.problem import Problem
settings = policies.LoadSettings(device="cpu")
policy = policies.load("acme/tiny", settings)
pinned = policies.load("acme/tiny", dataclasses.replace(settings, revision="v1"))
total = sum(p.detach().double().abs().sum().item() for p in policy.model.parameters())
try:
    refusal = policies.load("acme/nothing", settings).name
except UserError as error:
    refusal = str(error)
print(json.dumps({
    "identity": dataclasses.asdict(policy.identity), "pinned": dataclasses.asdict(pinned.identity),
    "ids": policy.prompt_ids(Problem("one", "2 + 2", "4"), ""), "total": total, "refusal": refusal,
}))
"""


class Client:
    """``load_problems`` in a process of its own, which talks to the server."""

    def __init__(self, environment: dict[str, str], folder: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-c", PROBLEMS_CLIENT],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, spec: str, **options: object) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([spec, options]) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        self.process.communicate("")

    def refusal(self, spec: str, **options: object) -> str:
        message = self.load(spec, **options).get("error", "no error")
        assert isinstance(message, str) and "\n" not in message
        return message


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hf_home")


@pytest.fixture(scope="module")
def client(hub: HubServer, home: Path) -> Iterator[Client]:
    one = Client(hub.environment(home))
    yield one
    one.close()


def rows(count: int, start: int = 0) -> list[dict[str, object]]:
    return [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(start, start + count)]


def write_jsonl(path: Path, content: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def write_parquet(path: Path, content: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content), path)


def math_rows() -> list[dict[str, object]]:
    return [
        {
            "problem": "Compute $1+1$.",
            "solution": "...",
            "answer": "2",
            "level": 1,
            "unique_id": "test/algebra/1.json",
        },
        {
            "problem": "Compute $2^3$.",
            "solution": "...",
            "answer": "8",
            "level": 2,
            "unique_id": "test/algebra/2.json",
        },
    ]


def test_parquet_shards_are_read_in_order_and_the_commit_is_the_version(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "data/test-00001-of-00002.parquet", rows(2, start=2))
    write_parquet(tmp_path / "data/test-00000-of-00002.parquet", rows(2))
    write_parquet(tmp_path / "data/train-00000-of-00001.parquet", rows(1, start=90))
    commit = hub.add("dataset", "acme/sums", tmp_path)
    loaded = client.load("acme/sums")
    assert [answer for _, _, answer in loaded["rows"]] == ["1", "2", "3", "4"]
    assert loaded["version"] == commit
    assert loaded["name"] == "acme/sums"


def test_a_limit_downloads_no_shard_it_does_not_need(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "test-00000-of-00002.parquet", rows(2))
    write_parquet(tmp_path / "test-00001-of-00002.parquet", rows(2, start=2))
    hub.add("dataset", "acme/shards", tmp_path)
    assert len(client.load("acme/shards", limit=2)["rows"]) == 2
    assert not any("acme/shards" in line and "test-00001" in line for line in hub.requests)


def test_jsonl_is_read_where_there_is_no_parquet_and_train_where_there_is_no_test(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"q": "One?", "gold": 1, "uid": "a"}])
    hub.add("dataset", "acme/lines", tmp_path)
    loaded = client.load("acme/lines", columns={"question": "q", "answer": "gold", "id": "uid"})
    assert loaded["rows"] == [["a", "One?", "1"]]
    assert loaded["notes"] == ["the train split was read: there is no test split"]


def test_math500_by_name_equals_the_same_rows_from_a_local_file(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "test.jsonl", math_rows())
    commit = hub.add("dataset", "HuggingFaceH4/MATH-500", tmp_path)
    loaded = client.load("math500")
    assert (loaded["name"], loaded["version"]) == ("math500", commit)
    assert loaded["rows"][1] == ["test/algebra/2.json", "Compute $2^3$.", "8"]
    local = client.load(f"math500:{file}")
    assert local["version"] == "local file"
    assert local["hash"] == loaded["hash"]


def test_gsm8k_by_name_reads_the_main_configuration(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    write_parquet(
        tmp_path / "main/test-00000-of-00001.parquet",
        [{"question": "How many?", "answer": "So.\n#### 1,200"}],
    )
    write_parquet(
        tmp_path / "socratic/test-00000-of-00001.parquet", [{"question": "No?", "answer": "#### 0"}]
    )
    hub.add("dataset", "openai/gsm8k", tmp_path)
    assert client.load("gsm8k")["rows"] == [["gsm8k-000000", "How many?", "1200"]]
    assert client.load("openai/gsm8k:socratic")["rows"] == [["gsm8k-000000", "No?", "0"]]
    assert "configurations main, socratic" in client.refusal("openai/gsm8k")


def test_the_hubs_parquet_conversion_stands_in_for_other_formats(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "test.csv").write_text("question,answer\n")
    (tmp_path / "main" / "dataset_infos.json").write_text("{}")
    write_parquet(tmp_path / "converted/default/test/0000.parquet", rows(1))
    hub.add("dataset", "acme/csv", tmp_path / "main")
    commit = hub.add("dataset", "acme/csv", tmp_path / "converted", revision="refs/convert/parquet")
    loaded = client.load("acme/csv")
    assert loaded["version"] == commit
    assert loaded["notes"] == ["read from the hub's parquet conversion (refs/convert/parquet)"]
    assert "no test or train split as parquet or JSONL" in client.refusal(
        "acme/csv", revision="main"
    )


def test_a_local_folder_called_like_a_known_set_does_not_hide_it(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "hub/test.jsonl", math_rows())
    commit = hub.add("dataset", "HuggingFaceH4/MATH-500", tmp_path / "hub")
    (tmp_path / "math500").mkdir()
    beside = Client(hub.environment(tmp_path), tmp_path)
    assert beside.load("math500")["version"] == commit
    beside.close()


def test_a_malformed_hub_file_is_named_by_repository_file_and_line(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "test.jsonl").write_text('{"question": "Q?", "answer": 1}\n{"question": \n')
    hub.add("dataset", "acme/broken", tmp_path)
    assert "acme/broken/test.jsonl:2: not JSON" in client.refusal("acme/broken")


def test_a_split_or_configuration_is_told_apart_from_names_that_contain_it(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    for number, name in enumerate(["test", "test_hard", "contest", "latest/train"]):
        write_jsonl(tmp_path / f"{name}.jsonl", rows(1, start=number))
    hub.add("dataset", "acme/names", tmp_path)
    answers = {
        spec: client.load("acme/names", split=spec)["rows"][0][2]
        for spec in ("test", "test_hard", "train")
    }
    assert answers == {"test": "1", "test_hard": "2", "train": "4"}
    assert "no train split as parquet or JSONL in configuration other" in client.refusal(
        "acme/names:other", split="train"
    )


CARD = """---
configs:
- config_name: easy
  default: true
  data_files:
  - split: test
    path: "easy/held_out-*.parquet"
  - split: train
    path: ["easy/part-0.jsonl", "easy/part-1.jsonl"]
- config_name: hard
  data_dir: hard
  data_files: "**/*.jsonl"
---
# Sums
"""


def test_the_configurations_and_splits_of_a_card_are_those_that_are_read(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text(CARD)
    write_parquet(tmp_path / "easy/held_out-00000.parquet", rows(2))
    write_jsonl(tmp_path / "easy/part-0.jsonl", rows(1, start=10))
    write_jsonl(tmp_path / "easy/part-1.jsonl", rows(1, start=11))
    write_jsonl(tmp_path / "hard/more/a.jsonl", rows(1, start=20))
    write_jsonl(tmp_path / "hard/b.jsonl", rows(1, start=21))
    write_jsonl(tmp_path / "test.jsonl", rows(1, start=90))  # by its name it would be the test set
    hub.add("dataset", "acme/card-configs", tmp_path)

    def answers(spec: str, **options: object) -> list[str]:
        return [
            answer for _, _, answer in client.load(f"acme/card-configs{spec}", **options)["rows"]
        ]

    assert answers("") == answers(":easy") == ["1", "2"]
    assert answers("", split="train") == ["11", "12"]
    assert answers(":hard") == ["22", "21"]
    assert client.load("acme/card-configs:hard")["notes"] == [
        "the train split was read: there is no test split"
    ]


def test_a_card_without_a_default_configuration_asks_for_one_by_name(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text(CARD.replace("  default: true\n", ""))
    write_jsonl(tmp_path / "hard/b.jsonl", rows(1))
    hub.add("dataset", "acme/no-default", tmp_path)
    assert "has configurations easy, hard; choose one" in client.refusal("acme/no-default")
    assert len(client.load("acme/no-default:hard")["rows"]) == 1


def test_a_configuration_without_files_leaves_them_to_their_names(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files: []\n---\n"
    (tmp_path / "README.md").write_text(card)
    write_jsonl(tmp_path / "test.jsonl", rows(1))
    hub.add("dataset", "acme/empty-card", tmp_path)
    assert len(client.load("acme/empty-card")["rows"]) == 1


def test_a_card_that_cannot_be_read_is_one_line(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("---\nconfigs:\n- 5\n---\n")
    write_jsonl(tmp_path / "test.jsonl", rows(1))
    hub.add("dataset", "acme/odd-card", tmp_path)
    assert "cannot read the configurations in its card" in client.refusal("acme/odd-card")


def test_a_revision_is_resolved_to_its_own_commit_and_rows(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "old/test.jsonl", rows(1))
    write_jsonl(tmp_path / "new/test.jsonl", rows(3))
    old = hub.add("dataset", "acme/moving", tmp_path / "old", revision="v1")
    new = hub.add("dataset", "acme/moving", tmp_path / "new")
    loaded = [client.load("acme/moving", revision=revision) for revision in ("v1", None, old)]
    assert [one["version"] for one in loaded] == [old, new, old]
    assert [len(one["rows"]) for one in loaded] == [1, 3, 1]
    assert "has no revision 'v9'" in client.refusal("acme/moving", revision="v9")


def test_a_wrong_id_a_gated_set_and_a_missing_split_are_one_line_each(
    hub: HubServer, client: Client, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "test.jsonl", rows(1))
    hub.add("dataset", "acme/gated", tmp_path, gated=True)
    hub.add("dataset", "acme/open", tmp_path)
    wrong = client.refusal("acme/nothing")
    assert "no data set acme/nothing on the hub" in wrong and "local copy" in wrong
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("# No data yet\n")
    hub.add("dataset", "acme/card", tmp_path / "card")
    assert (
        "acme/card has no test or train split as parquet or JSONL: found no such files"
        in client.refusal("acme/card")
    )
    assert "is gated" in client.refusal("acme/gated")
    assert "no validation split" in client.refusal("acme/open", split="validation")
    assert "found 'question', 'answer'" in client.refusal("acme/open", columns={"question": "q"})


def test_offline_the_cache_is_read_and_without_it_a_local_file_is_advised(
    hub: HubServer, client: Client, home: Path, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "test.jsonl", rows(2))
    write_jsonl(tmp_path / "train.jsonl", rows(5))
    hub.add("dataset", "acme/kept", tmp_path)
    online = client.load("acme/kept")
    away = Client(hub.environment(home, HF_HUB_OFFLINE="1"))
    offline = away.load("acme/kept")
    assert (offline["version"], offline["hash"]) == (online["version"], online["hash"])
    assert offline["notes"] == ["the hub could not be reached: the local cache was read"]
    message = away.refusal("openai/gsm8k-unseen")
    assert "can't be fetched" in message and "give a local copy" in message
    away.close()


def test_offline_a_partly_cached_split_is_refused_rather_than_cut_short(
    hub: HubServer, client: Client, home: Path, tmp_path: Path
) -> None:
    for shard in range(2):
        write_parquet(tmp_path / f"test-{shard:05d}-of-00002.parquet", rows(2, start=2 * shard))
    hub.add("dataset", "acme/partly", tmp_path)
    client.load("acme/partly", limit=2)
    away = Client(hub.environment(home, HF_HUB_OFFLINE="1"))
    assert len(away.load("acme/partly", limit=2)["rows"]) == 2
    assert "has only 1 of 2 files" in away.refusal("acme/partly")
    assert "has only 1 of 2 files" in away.refusal("acme/partly", limit=3)
    assert "(in the local cache) has no train split" in away.refusal("acme/partly", split="train")
    away.close()


def test_an_unreachable_hub_is_one_line_that_names_the_local_way(
    hub: HubServer, tmp_path: Path
) -> None:
    closed = Client(hub.environment(tmp_path, HF_ENDPOINT="http://127.0.0.1:9"))
    message = closed.refusal("math500")
    assert "can't be fetched (ConnectError" in message and "math500:FILE" in message
    closed.close()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from decaylab.data.abacus.recipe import build_tokenizer  # imports torch: seconds

    return build_tokenizer()


def test_a_policy_loads_by_id_with_the_commit_recorded_and_an_unknown_id_is_one_line(
    hub: HubServer, tokenizer: Any, home: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=64,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    commit, tagged = (
        hub.add("model", "acme/tiny", tmp_path),
        hub.add("model", "acme/tiny", tmp_path, revision="v1"),
    )
    done = subprocess.run(
        [sys.executable, "-c", MODEL_CLIENT],
        env=hub.environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    identity = loaded["identity"]
    assert (identity["name"], identity["source"], identity["revision"]) == (
        "acme/tiny",
        "hub",
        commit,
    )
    assert loaded["pinned"]["revision"] == tagged != commit
    assert loaded["pinned"]["content_hash"] != identity["content_hash"]
    assert (
        loaded["refusal"].startswith("cannot load acme/nothing: ") and "\n" not in loaded["refusal"]
    )
    assert loaded["total"] == pytest.approx(
        sum(p.detach().double().abs().sum().item() for p in model.parameters())
    )
    chat = [{"role": "user", "content": "2 + 2"}]
    assert (
        loaded["ids"]
        == tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    )
    assert any("acme/tiny/resolve" in line and "model.safetensors" in line for line in hub.requests)
