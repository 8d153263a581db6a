"""One HTML page with everything inside: no file beside it and no network is needed."""

from __future__ import annotations

import base64
import dataclasses
import html
import string
from collections.abc import Sequence

from mirth.report.tables import Table


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture and what it shows.

    Parameters
    ----------
    name : str
        Name of its file, without ending.
    caption : str
        What it shows and how to read it.
    png : bytes
        A PNG file.
    """

    name: str
    caption: str
    png: bytes


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page.

    Parameters
    ----------
    heading : str
        Its heading.
    paragraphs : sequence of str
        Plain text, before the tables.
    tables : sequence of Table
        Shown after the text.
    pictures : sequence of Picture
        Shown after the tables.
    details : sequence of Table
        Shown last, folded up.
    """

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    details: Sequence[Table] = ()


_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.55 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 64rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 1px solid #ddd; }
p { max-width: 46rem; margin: .6rem 0; }
table { border-collapse: collapse; margin: 1.2rem 0; font-size: .94rem;
        font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; padding-bottom: .35rem; }
th, td { padding: .32rem .9rem .32rem 0; text-align: right; border-bottom: 1px solid #eee; }
th { border-bottom: 2px solid #bbb; font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
td.best { font-weight: 700; color: #0072b2; }
figure { margin: 1.6rem 0; }
img { max-width: 100%; height: auto; display: block; }
figcaption { color: #555; font-size: .92rem; max-width: 46rem; margin-top: .35rem; }
details { margin: 1.2rem 0; }
summary { cursor: pointer; color: #0072b2; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid #ddd; color: #666;
         font-size: .88rem; }
</style>
</head>
<body>
<h1>$title</h1>
$intro
$sections
<footer>$footer</footer>
</body>
</html>
""")


def render_page(title: str, intro: Sequence[str], sections: Sequence[Section], footer: str) -> str:
    """Write a page; all text is escaped, pictures are embedded.

    Parameters
    ----------
    title : str
        Its title.
    intro : sequence of str
        Paragraphs of plain text below the title.
    sections : sequence of Section
        Its parts.
    footer : str
        Plain text at the end.

    Returns
    -------
    str
        HTML.

    Examples
    --------
    >>> page = render_page("A < B", ["Numbers."], [Section("First", ["Text."])], "made today")
    >>> "<h1>A &lt; B</h1>" in page, "<h2>First</h2>" in page
    (True, True)
    """
    return _PAGE.substitute(
        title=html.escape(title),
        intro=_paragraphs(intro),
        sections="\n".join(_render_section(section) for section in sections),
        footer=html.escape(footer),
    )


def _paragraphs(texts: Sequence[str]) -> str:
    return "\n".join(f"<p>{html.escape(text)}</p>" for text in texts)


def _render_section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>", _paragraphs(section.paragraphs)]
    parts += [table.to_html() for table in section.tables]
    for picture in section.pictures:
        data, caption = base64.b64encode(picture.png).decode("ascii"), html.escape(picture.caption)
        parts.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    parts += [
        f"<details><summary>{html.escape(table.title)}</summary>{table.to_html()}</details>"
        for table in section.details
    ]
    return "\n".join(parts)
