"""What a user may give as a policy or as problems."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

PolicyLike: TypeAlias = str | Path
"""A hub id, a model folder or an adapter folder."""
ProblemsLike: TypeAlias = str | Path
"""A problem set by name, a file, or a hub data set."""
