"""Bars, as SVG: a panel for each thing measured, with two columns of bars."""

from __future__ import annotations

import dataclasses
import html

#: What a bar stands for.
OURS, NATIVE, OTHER = '#e8590c', '#868e96', '#4c6ef5'

WIDTH, MARGIN, LABEL, ROW, BAR, VALUE, GAP = 980, 24, 130, 22, 14, 56, 40
HALF = (WIDTH - 2 * MARGIN - LABEL - GAP) / 2 - VALUE
COLUMNS = (MARGIN + LABEL, MARGIN + LABEL + HALF + VALUE + GAP)


@dataclasses.dataclass
class Panel:
    title: str
    #: What each column shows.
    captions: tuple[str, str]
    #: A name, its colour, and for each column how long the bar is and what is written beside it.
    rows: list[tuple[str, str, tuple[tuple[float, str], tuple[float, str]]]]


def svg(title: str, subtitle: str, panels: list[Panel]) -> str:
    shapes = []

    def text(x: float, y: float, what: str, style: str = '') -> None:
        shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(what)}</text>')

    y = MARGIN + 16.0
    text(MARGIN, y, title, 'font-size="18" font-weight="bold"')
    y += 20
    text(MARGIN, y, subtitle, 'fill="#495057"')
    for panel in panels:
        if not panel.rows:
            continue
        y += 36
        text(MARGIN, y, panel.title, 'font-size="15" font-weight="bold"')
        y += 20
        for x, caption in zip(COLUMNS, panel.captions, strict=True):
            text(x, y, caption, 'fill="#495057"')
        y += 6
        longest = [max(bars[column][0] for _, _, bars in panel.rows) or 1 for column in range(2)]
        for name, colour, bars in panel.rows:
            base = y + BAR - 3
            bold = 'font-weight="bold"' if colour == OURS else ''
            text(COLUMNS[0] - 8, base, name, f'text-anchor="end" {bold}')
            for x, (length, written), most in zip(COLUMNS, bars, longest, strict=True):
                long = max(length / most * HALF, 1)
                shapes.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{long:.1f}" height="{BAR}" fill="{colour}"/>')
                text(x + long + 5, base, written, bold)
            y += ROW
    height = y + MARGIN
    return '\n'.join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif" font-size="12" fill="#212529">',
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            *shapes,
            '</svg>\n',
        ]
    )
