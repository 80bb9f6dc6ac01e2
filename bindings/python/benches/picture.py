"""A picture in the style of the crate's."""

from __future__ import annotations

from math import ceil, floor, log10

FONT = "sans-serif"
INK, GREY, BLUE, PALE = "#1F2328", "#818B98", "#0969DA", "#AFB8C1"
WIDTH, LEFT, TOP, BAR = 820, 190, 32, 30


def bars(title: str, values: dict[str, float], unit: str) -> str:
    """One bar for each, the least first, on a logarithmic scale."""
    rows = sorted(values.items(), key=lambda item: item[1])
    least, most = 10 ** floor(log10(rows[0][1])), 10 ** ceil(log10(rows[-1][1] * 1.5))
    right = WIDTH - 20
    bottom = TOP + BAR * len(rows)

    def x(value: float) -> float:
        return LEFT + (right - LEFT) * (log10(value) - log10(least)) / (log10(most) - log10(least))

    def text(at: float, y: float, what: str, size: int, anchor: str) -> str:
        style = f'font-family="{FONT}" font-size="{size}" fill="{INK}" dominant-baseline="middle"'
        return f'<text x="{at:.0f}" y="{y:.0f}" text-anchor="{anchor}" {style}>{what}</text>'

    out = [
        f'<svg width="{WIDTH}" height="{bottom + 44}" viewBox="0 0 {WIDTH} {bottom + 44}" xmlns="http://www.w3.org/2000/svg">',
        f'<rect width="{WIDTH}" height="{bottom + 44}" fill="#FFFFFF"/>',
        text(WIDTH / 2, 14, title, 14, "middle"),
    ]
    tick = least
    while tick <= most:
        out.append(f'<line x1="{x(tick):.0f}" x2="{x(tick):.0f}" y1="{TOP}" y2="{bottom}" stroke="{PALE}" opacity="0.5"/>')
        out.append(text(x(tick), bottom + 14, f"{tick:,}", 10, "middle"))
        tick *= 10
    for n, (name, value) in enumerate(rows):
        y = TOP + BAR * n
        color = BLUE if name.startswith("evertoken") else PALE
        size = f'width="{x(value) - LEFT:.0f}" height="{BAR * 0.7:.0f}"'
        out.append(f'<rect x="{LEFT}" y="{y + BAR * 0.15:.0f}" {size} fill="{color}"/>')
        out.append(text(LEFT - 6, y + BAR / 2, name, 11, "end"))
        out.append(text(x(value) + 5, y + BAR / 2, f"{value:,.0f}", 11, "start"))
    out.append(f'<line x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="{GREY}"/>')
    out.append(text((LEFT + right) / 2, bottom + 32, unit, 10, "middle"))
    return "\n".join([*out, "</svg>", ""])
