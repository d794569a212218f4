"""The arrows of the house go one way, and the heavy extras are optional."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Lowest first. A module may import those above it in this list, never those below.
ORDER = (
    "table_text",
    "table_latex",
    "errors",
    "thoughts",
    "own_tokens",
    "option_values",
    "options",
    "clusters",
    "statistics",
    "seeds",
    "retention",
    "token_means",
    "winsorised",
    "cumulative",
    "top_share",
    "divergences",
    "selection",
    "training_options",
    "sweep_options",
    "command_options",
    "abacus",
    "nested_columns",
    "chat_questions",
    "problem_files",
    "hub",
    "problems",
    "forms",
    "answers",
    "votes",
    "grading",
    "applicable",
    "identity",
    "control_tokens",
    "templates",
    "model_loading",
    "adapter_loading",
    "checkpoint_folders",
    "policies",
    "served_policies",
    "pieces",
    "vocabularies",
    "handover",
    "prompts",
    "cache",
    "sampling",
    "transformers_engine",
    "vllm_setup",
    "vllm_engine",
    "engine_spec",
    "heads",
    "scoring",
    "served_scores",
    "store",
    "graded",
    "measurements",
    "skewed_cells",
    "paper_rows",
    "paper_training",
    "found_runs",
    "verdicts",
    "sweep_arms",
    "sweep_claims",
    "decay_claims",
    "paper",
    "table_source",
    "table_training",
    "paper_items",
    "trained",
    "students",
    "token_claims",
    "behaviour_claims",
    "claims",
    "advice",
    "summary",
    "categories",
    "token_table",
    "noise_floor",
    "progress",
    "workers",
    "engines",
    "score_store",
    "viewed",
    "page",
    "rollout_files",
    "targets",
    "checkpoint_rules",
    "stages",
    "collect",
    "arms",
    "analyses",
    "figures",
    "prepare",
    "kept_prompts",
    "decay_runs",
    "run",
    "outcomes",
    "study",
    "diagnose",
    "served_kl",
    "pair_checks",
    "trainer",
    "children",
    "sweeps",
    "tables",
    "planner",
    "training_tables",
    "sweep_tables",
    "diagnostic_cells",
    "table_tokens",
    "paper_tables",
    "gallery",
    "reporting",
    "notebook",
    "cli_pages",
    "evaluation_tables",
    "diagnostic_tables",
    "served_tables",
    "cli_options",
    "cli_plan",
    "cli_rollouts",
    "cli",
    "__main__",
)


def imported(path: Path) -> set[str]:
    """First-party modules that a file imports at run time, by their name below decaylab."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):  # what stands under TYPE_CHECKING is not imported
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "decaylab":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("decaylab."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("decaylab.")}
    return found


LIBRARY = sorted(path for path in (ROOT / "decaylab").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_a_library_module_imports_only_what_lies_below_it(path: Path) -> None:
    below = set(ORDER[: ORDER.index(path.stem)])
    assert imported(path) <= below


TRAINER = (
    *("loss", "meter", "rollouts", "records", "sharding", "checkpoints", "alarms", "adapters", "step", "setup"),
    *("processes", "engines", "description", "validation", "loop", "callback"),
)


@pytest.mark.parametrize("path", sorted((ROOT / "decaylab" / "trainer").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_a_module_of_the_trainer_imports_only_what_lies_below_it(path: Path) -> None:
    assert imported(path) - {"trainer"} <= set(ORDER[: ORDER.index("trainer")])
    own = {line.split(".")[2] for line in trainer_imports(path)}
    assert own <= set(TRAINER[: TRAINER.index(path.stem)])


def trainer_imports(path: Path) -> set[str]:
    """Modules of the trainer that a file imports, whole: decaylab.trainer.loss."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "decaylab.trainer":
            found |= {f"decaylab.trainer.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("decaylab.trainer."):
            found.add(str(node.module))
    return found


PLANNER = ("tracing", "models", "options", "memory", "phases", "probe", "plan", "tables")


@pytest.mark.parametrize("path", sorted((ROOT / "decaylab" / "planner").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_a_module_of_the_planner_imports_only_what_lies_below_it(path: Path) -> None:
    assert imported(path) - {"planner"} <= set(ORDER[: ORDER.index("planner")])
    tree = ast.parse(path.read_text())
    whole = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    own = {name.split(".")[2] for name in whole if name.startswith("decaylab.planner.")}
    assert own <= set(PLANNER[: PLANNER.index(path.stem)])


PAGES = ("cells", "inlining", "report", "payload", "token_view")


@pytest.mark.parametrize("path", sorted((ROOT / "decaylab" / "page").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_a_module_of_the_pages_imports_only_what_lies_below_it(path: Path) -> None:
    assert imported(path) - {"page"} <= set(ORDER[: ORDER.index("page")])
    tree = ast.parse(path.read_text())
    whole = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    own = {name.split(".")[2] for name in whole if name.startswith("decaylab.page.")}
    assert own <= set(PAGES[: PAGES.index(path.stem)])


@pytest.mark.parametrize("path", sorted((ROOT / "analyses").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_an_analysis_imports_the_library_and_no_other_analysis(path: Path) -> None:
    assert imported(path) <= set(ORDER[: ORDER.index("analyses")])


@pytest.mark.parametrize("path", sorted((ROOT / "figures").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_a_figure_imports_only_measurements_and_the_published_numbers(path: Path) -> None:
    assert imported(path) <= {"measurements", "paper", "store", "errors"}


def test_help_is_shown_without_importing_torch_or_any_extra() -> None:
    code = (
        "import sys\n"
        "from decaylab import cli\n"
        "try:\n    cli.main(['prefix-decay', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'vllm', 'ray', 'reasoning_gym', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_whole_library_imports_without_the_extras() -> None:
    names = [f"decaylab.{path.stem}" for path in LIBRARY if path.stem != "__main__"]
    code = (
        "import sys, importlib\n"
        "for name in ('vllm', 'ray', 'reasoning_gym', 'accelerate', 'gguf'):\n    sys.modules[name] = None\n"
        f"for name in {names}:\n    importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
