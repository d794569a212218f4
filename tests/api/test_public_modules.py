"""The modules that a researcher imports: their examples run, and nothing in them is a second
formula."""

from __future__ import annotations

import doctest
import importlib
import inspect
from types import ModuleType

import pytest

import decaylab as dl

MODULES = [importlib.import_module(f"decaylab.api.{name}") for name in dl.MODULES]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_example_of_a_public_module_runs(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried >= 4 and failed == 0
    assert getattr(dl, module.__name__.rpartition(".")[2]) is module


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_names_are_documented_where_they_are_defined(module: ModuleType) -> None:
    for name in module.__all__:
        public = getattr(module, name)
        if callable(public):
            assert inspect.getdoc(public), name
            assert not public.__module__.startswith("decaylab.api"), name
