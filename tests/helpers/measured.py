"""Run folders of the embedded pair's first edition, as material for tests.

Unlike those in docs/measurements they stay as they are when the pair is measured again. They cover
every command: 24 arms of two sweeps, and one student of each kind at several checkpoints.
"""

from __future__ import annotations

from pathlib import Path

MEASURED = Path(__file__).parent / "first_edition"
