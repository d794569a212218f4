"""What goes into a page so that it needs nothing else: its styles, scripts and pictures, and the
policy that names them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from decaylab.printing import rounded

ASSETS = Path(__file__).parent


def asset(name: str) -> str:
    """A file of this folder."""
    return (ASSETS / name).read_text(encoding="utf-8")


def inlined(text: str, element: str) -> Markup:
    """Style or script between its tags; both are ours, and neither may end its element."""
    assert not re.search(rf"</{element}|<!--", text, re.IGNORECASE), (
        f"a {element} holds the end of its element"
    )
    return Markup(text)


def policy(scripts: Sequence[str]) -> Markup:
    """Content security policy: the scripts by their hashes, styles and pictures of the page itself,
    nothing else."""
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return Markup(
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "connect-src 'none'; "
        "base-uri 'none'; form-action 'none'"
    )


def image(svg: bytes) -> dict[str, str]:
    """The picture's address, and its size in pixels, so that nothing moves when it is decoded."""
    attributes = {"src": f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"}
    size = re.search(rb"<svg\b[^>]*\bviewBox=\"0 0 ([0-9.]+) ([0-9.]+)\"", svg)
    if size:
        for name, points in zip(("width", "height"), size.groups()):
            attributes[name] = rounded(float(points) * 96 / 72).replace(",", "")
    return attributes
