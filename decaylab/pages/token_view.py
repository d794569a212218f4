"""The token view: rollouts token by token with what both policies thought, as a page or as a
section of one.

    found = viewed.read(folder)
    text = page(found.rollouts, found.tokens, title="Tokens of my run", pair="student and teacher")
    section = fragment(found.rollouts, found.tokens, pair="student and teacher")     # for a report

The section is <section id="token-view">. Every text of a model or a user lies in its packed blocks
(decaylab.pages.payload) and is put into the page as text, by the scripts beside this file; the page
asks the network for nothing.
"""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from decaylab.pages.inlining import asset, inlined, policy
from decaylab.pages.payload import pack
from decaylab.pages.report import Embedded, environment
from decaylab.runs.vocabulary import NEXT_BYTE

SCRIPTS = (
    "view_data.js",
    "view_state.js",
    "view_differences.js",
    "view_strip.js",
    "view_list.js",
    "view_columns.js",
    "view_choice.js",
    "view_details.js",
    "view.js",
)


def fragment(
    rollouts: pd.DataFrame,
    tokens: pd.DataFrame,
    continuations: pd.DataFrame | None = None,
    *,
    pair: str,
    heading_level: int = 3,
) -> Embedded:
    """The token view as a section for a page that has page.css.

    Args:
        rollouts, tokens: as `decaylab.tokens.viewed.read` gives them.
        continuations: what the teacher wrote from prefixes of the base student's rollouts, of
        `viewed.continuations`.
        pair: student and teacher in words.
        heading_level: of the headings in the section; one below the heading that it stands under.

    Raises:
        ValueError: the tables do not fit together, see `decaylab.pages.payload.pack`.
    """
    payload = pack(rollouts, tokens, continuations)
    template = environment().get_template("view.html.jinja")
    # With one tokenizer every token that was scored has top tokens.
    scored = tokens["student_entropy"].notna() & tokens["reverse_kl"].isna()
    two_tokenizers = bool((scored & tokens["student_top"].map(len).eq(0)).any())
    html = template.render(
        payload=payload, pair=pair, level=heading_level, two_tokenizers=two_tokenizers
    )
    # A block of its own: none of its names is seen by other scripts of the page.
    script = "\n".join(['"use strict";', "{", *(asset(name) for name in SCRIPTS), "}"])
    if two_tokenizers:
        for name, next_byte in NEXT_BYTE.items():
            html, script = html.replace(name, next_byte), script.replace(name, next_byte)
    return Embedded("Rollouts, token by token", html, asset("view.css"), script)


def page(
    rollouts: pd.DataFrame,
    tokens: pd.DataFrame,
    continuations: pd.DataFrame | None = None,
    *,
    title: str,
    pair: str,
) -> str:
    """The token view as the text of an HTML file, to be written in UTF-8.

    Args:
        rollouts, tokens, continuations, pair: as for `fragment`.
        title: of the page.

    Raises:
        ValueError: the tables do not fit together, see `decaylab.pages.payload.pack`.
    """
    view = fragment(rollouts, tokens, continuations, pair=pair, heading_level=2)
    template = environment().get_template("view_page.html.jinja")
    return template.render(
        title=title,
        view=Markup(view.html),
        styles=[inlined(asset("page.css"), "style"), inlined(view.css, "style")],
        script=inlined(view.script, "script"),
        policy=policy([view.script]),
    )
