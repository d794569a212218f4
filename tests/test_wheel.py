"""The wheel alone is enough: built, installed in a clean environment, run outside the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    # A copy of what git tracks, so that no build folder or stale egg-info of the checkout takes
    # part.
    source.mkdir()
    tracked = "git ls-files -z --cached --others --exclude-standard"
    subprocess.run(
        f"{tracked} | xargs -0 cp --parents -t {source}", shell=True, cwd=ROOT, check=True
    )
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)],
        check=True,
        capture_output=True,
        text=True,
    )
    return next(out.glob("*.whl"))


def test_the_wheel_installs_one_import_package_with_the_pair_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"decaylab"}
    for needed in (
        "decaylab/py.typed",
        "decaylab/api/columns.csv",
        "decaylab/analyses/prefix_decay.py",
        "decaylab/trainer/machinery/resume.py",
        "decaylab/figures/prefix_decay.py",
        "decaylab/data/paper/prefix_curve.csv",
        "decaylab/data/abacus/teacher/model.safetensors",
        "decaylab/data/abacus/teacher/chat_template.jinja",
        "decaylab/data/abacus/student/tokenizer.json",
        "decaylab/data/abacus/README.md",
        "decaylab/data/paper/contradictions.csv",
        *(
            f"decaylab/pages/{name}"
            for name in ("report.html.jinja", "page.css", "report.js", "view.html.jinja", "view.js")
        ),
        "decaylab/pages/view_page.html.jinja",
    ):
        assert needed in names


@pytest.mark.slow
def test_prefix_decay_runs_from_the_installed_wheel_outside_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    """The dependencies come from this environment by path; its editable decaylab is not among
    them."""
    clean = tmp_path / "clean"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(clean)], check=True)
    packages = next(clean.glob("lib/python*/site-packages"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(packages),
            str(wheel),
        ],
        check=True,
    )
    # A path in a .pth file is searched, but the .pth files in it (the editable install) are not
    # read.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python = clean / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import decaylab; print(decaylab.__file__)"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
    )
    assert str(packages) in where.stdout
    command = [
        python,
        "-m",
        "decaylab",
        "prefix-decay",
        "--limit",
        "3",
        "--samples",
        "1",
        "--prefix-lengths",
        "0,10",
    ]
    done = subprocess.run([*command, "--out", "run"], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(tmp_path / "run" / "measurements.csv")
    assert {"student", "teacher", "student-prefix"} <= set(frame.condition)
    page = subprocess.run(
        [python, "-m", "decaylab", "report", "run"], cwd=tmp_path, text=True, capture_output=True
    )
    assert page.returncode == 0, page.stderr
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
