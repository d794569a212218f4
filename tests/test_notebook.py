"""decaylab in a notebook: the same as the commands, as objects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

import decaylab as dl
from decaylab.errors import UserError
from decaylab.runs import measurements

SMALL = {"limit": 3, "samples": 2, "max_tokens": 24, "quiet": True}


@pytest.fixture(scope="module")
def decay(tmp_path_factory: pytest.TempPathFactory) -> object:
    out = tmp_path_factory.mktemp("notebook") / "decay"
    return dl.prefix_decay(**SMALL, prefix_lengths=[0, 4, 8], controls="all", out=out)


@pytest.fixture(scope="module")
def kl(tmp_path_factory: pytest.TempPathFactory) -> object:
    root = tmp_path_factory.mktemp("notebook")
    return dl.position_kl(**SMALL, cache=root / "cache", out=root / "kl", bins=[0, 4, 8])


def test_importing_decaylab_imports_nothing_heavy_and_offers_every_name() -> None:
    code = (
        "import sys, decaylab\n"
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'numpy', 'pyarrow'} & "
        "set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert set(decaylab.__all__) <= set(dir(decaylab))\n"
        "for name in decaylab.__all__: assert callable(getattr(decaylab, name)), name\n"
        "from decaylab.commands import sweeps; from decaylab import trainer\n"
        "assert callable(decaylab.sweep) and callable(decaylab.train)\n"
        "import pkgutil\n"
        "clash = set(decaylab.__all__) & {one.name for one in "
        "pkgutil.iter_modules(decaylab.__path__)}\n"
        "assert not clash, clash\n"
        "assert 'figures' not in decaylab.__all__\n"  # a package of its own
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_run_has_the_measurements_that_its_folder_has(decay) -> None:
    pd.testing.assert_frame_equal(
        decay.measurements, measurements.read(decay.folder / "measurements.parquet")
    )
    assert {"own-prefix", "swapped", "reverse"} <= set(decay.measurements["condition"])
    pd.testing.assert_frame_equal(dl.open_run(decay.folder).measurements, decay.measurements)


def test_figures_are_matplotlib_figures_and_tables_are_data_frames(decay, kl) -> None:
    for figure in (
        decay.figure(),
        decay.figure(paper=True, width="column"),
        dl.figure("position-kl", kl.folder),
        kl.figure(),
    ):
        assert isinstance(figure, Figure)
    table = dl.table("prefix-curve", decay.folder)
    alone = decay.measurements.query("what == 'accuracy' and condition == 'teacher'")["value"].iloc[
        0
    ]
    assert (table.select_dtypes("number") - 100 * alone).abs().min().min() < 1e-9


def test_a_run_draws_first_what_its_command_measures(decay, kl) -> None:
    titles = {axes.get_title(loc="left") for axes in kl.figure().axes}
    assert any("Reverse KL" in title or "entropy" in title for title in titles), titles
    assert any("after k tokens" in axes.get_title(loc="left") for axes in decay.figure().axes)
    study = kl.figure("case-study", width="column")
    assert study.get_size_inches()[0] == 3.4 and not {
        axes.get_title(loc="left") for axes in study.axes
    } & titles - {""}
    with pytest.raises(UserError, match="figure submode needs"):
        kl.figure("submode")


def test_the_list_of_figures_says_which_run_has_each(decay) -> None:
    listed = dl.catalogue(decay.folder).set_index(["kind", "name"])
    assert listed.run["figure", "prefix-decay"] == "decay" and listed.run["figure", "submode"] == ""
    assert listed.run["figure", "mode-seeking"] == "always"


def test_the_token_view_is_shown_in_a_frame_of_its_own(decay, kl, tmp_path: Path) -> None:
    shown = kl.view(decay=decay.folder)
    assert (
        shown._repr_html_().startswith("<iframe ")
        and 'sandbox="allow-scripts"' in shown._repr_html_()
    )
    assert shown.save(tmp_path / "view.html").read_text() == shown.page


def test_the_report_is_written_and_a_notebook_shows_a_run(decay, kl, tmp_path: Path) -> None:
    page = dl.report(decay.folder, kl.folder, out=tmp_path / "report.html")
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert "<table" in decay._repr_html_()


def test_options_that_do_not_exist_and_runs_that_lack_something_are_told_in_a_line(decay) -> None:
    with pytest.raises(UserError, match="no option limits of prefix-decay; there are .*limit"):
        dl.prefix_decay(limits=3)
    with pytest.raises(
        UserError, match="figure submode needs what `decaylab submode .*` measures; it is not in"
    ):
        dl.figure("submode", decay.folder)
    with pytest.raises(UserError, match="no figure 'nonsense'"):
        dl.figure("nonsense", decay.folder)
    with pytest.raises(UserError, match="has no scored tokens"):
        decay.view()
