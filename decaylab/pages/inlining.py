"""What goes into a page so that it needs nothing else: its styles, scripts and drawings, and the
policy that names them.

A drawing is matplotlib's SVG, put into the page as elements in the page's own colours: its ink and
its ground are the page's, and every other colour has a second one for the dark page.
"""

from __future__ import annotations

import base64
import colorsys
import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from PIL import Image

ASSETS = Path(__file__).parent
OWN = {"#ffffff": "var(--paper)", "#262626": "currentColor", "#222222": "currentColor"}
DARK_PAPER, DARK_INK = "#14171b", "#e4e7ea"  # as in page.css
STRONGER = 1.3  # exponent of the contrast on the dark page: thin lines need more of it there
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"


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


def drawing(
    svg: bytes,
    name: str,
    label: str,
    look: str,
    shown: Callable[[str], str] = str,
    breaks: Sequence[float] = (),
) -> Markup:
    """An SVG of matplotlib as an element of the page.

    Args:
        svg: the file.
        name: what its ids begin with, so that two drawings in one page do not mix.
        label: what it shows, for those who do not see it.
        look: its class.
        shown: how a text is shown.
        breaks: where it may part on paper, as fractions of its height from the top. It is then
        several elements, one below the other; the first holds the drawing.
    """
    root = ElementTree.fromstring(svg)
    for parent in [*root.iter()]:
        for child in [*parent]:
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):  # the page's own style stands in
                parent.remove(child)
        for image in parent.findall(f"{_SVG}image"):
            parent.insert([*parent].index(image) + 1, _dark_image(image))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.text = shown(element.text) if element.text else None
        element.attrib = dict(_attribute(name, *pair) for pair in element.items())
    left, top, width, height = (float(part) for part in root.get("viewBox", "0 0 0 0").split())
    views = [
        f"{left:g} {top + height * start:g} {width:g} {height * (end - start):g}"
        for start, end in itertools.pairwise([0.0, *breaks, 1.0])
    ]
    root.attrib = {"viewBox": views[0], "class": look, "role": "img", "aria-label": shown(label)}
    if not breaks:
        return Markup(ElementTree.tostring(root, encoding="unicode"))
    whole = ElementTree.Element("g", {"id": f"{name}-whole"})
    whole.extend([*root])
    root[:] = [whole]
    elements = [root]
    for view in views[1:]:
        part = ElementTree.Element("svg", {"viewBox": view, "class": look, "aria-hidden": "true"})
        ElementTree.SubElement(part, "use", {"href": f"#{name}-whole"})
        elements.append(part)
    return Markup("".join(ElementTree.tostring(one, encoding="unicode") for one in elements))


def _dark_image(image: ElementTree.Element) -> ElementTree.Element:
    """The same picture for the dark page, such as the scale of a map whose colours are darkened;
    each of the two is shown on one page."""
    data = base64.b64decode(image.get(_LINK, "").partition(",")[2])
    pixels = np.array(Image.open(io.BytesIO(data)).convert("RGBA"))
    known, places = np.unique(pixels.reshape(-1, 4)[:, :3], axis=0, return_inverse=True)
    dark = [_parts(in_the_dark(_hex([part / 255 for part in colour]))) for colour in known]
    shades = np.round(255 * np.array(dark)).astype(np.uint8)
    pixels[..., :3] = shades[places.reshape(-1)].reshape(*pixels.shape[:2], 3)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    written = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    other = ElementTree.Element(image.tag, {**image.attrib, _LINK: written, "class": "in-dark"})
    other.attrib.pop("id", None)
    image.set("class", "in-light")
    return other


def _attribute(name: str, key: str, value: str) -> tuple[str, str]:
    if key == "id":
        return key, f"{name}-{value}"
    if key == _LINK:
        return "href", f"#{name}-{value[1:]}" if value.startswith("#") else value
    if key == "style":
        value = _COLOUR.sub(lambda colour: OWN.get(colour[0], f"var(--{colour[0][1:]})"), value)
    return key, value.replace("url(#", f"url(#{name}-")


def colours(drawings: Iterable[bytes]) -> str:
    """The style that gives the drawings' colours their values, light and dark."""
    found = {colour for svg in drawings for colour in _COLOUR.findall(svg.decode())}
    names = sorted(found - set(OWN))
    light, dark = (
        " ".join(f"--{colour[1:]}: {value};" for colour, value in zip(names, values))
        for values in (names, map(in_the_dark, names))
    )
    dark_page = f"@media screen and (prefers-color-scheme: dark) {{ .plate {{ {dark} }} }}"
    return f".plate {{ {light} }}\n{dark_page}" if names else ""


def in_the_dark(colour: str) -> str:
    """The colour of the same hue that stands out from the dark page as this one does from white,
    and a little more; at most as bright as the dark page's ink.

    By the contrast ratio of WCAG: tints stay tints, and lines stay lines.
    """
    contrast = (1.05 / (luminance(colour) + 0.05)) ** STRONGER
    wanted = contrast * (luminance(DARK_PAPER) + 0.05) - 0.05
    hue, _, saturation = colorsys.rgb_to_hls(*_parts(colour))
    low, high = 0.0, 1.0
    for _ in range(20):  # luminance rises with lightness
        middle = (low + high) / 2
        found = _hex(colorsys.hls_to_rgb(hue, middle, saturation))
        if luminance(found) < min(wanted, luminance(DARK_INK)):
            low = middle
        else:
            high = middle
    return _hex(colorsys.hls_to_rgb(hue, high, saturation))


def luminance(colour: str) -> float:
    """Relative luminance of a colour such as #0072b2, from 0 to 1.

    Source: WCAG 2.2, relative luminance.
    """
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in _parts(colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _parts(colour: str) -> list[float]:
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def _hex(parts: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
