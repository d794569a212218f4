"""What a user may give as a policy or as problems."""

from __future__ import annotations

from decaylab.policies.loaded_models import PolicyLike as PolicyLike
from decaylab.problems.given_rows import ProblemsLike as ProblemsLike
