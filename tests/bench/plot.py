"""One SVG of two panels: latency (p50, p99) and answers a second, against the rate that was offered.

Black on white; servers differ by dashes and marks, not by colour alone. Both axes are logarithmic.
"""

import math
from xml.sax.saxutils import escape

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 960, 400, 80, 210, 56, 84
STYLES = (  # colour, dashes, mark
    ("#000000", "", "circle"), ("#000000", "6 3", "circle-open"), ("#666666", "2 3", "square"),
    ("#b00020", "", "triangle"), ("#0050a0", "", "square-open"), ("#007a3d", "", "diamond"),
    ("#8a5a00", "", "cross"), ("#6a1b9a", "", "triangle-open"))


class Axis:
    """A logarithmic axis from one pixel to another."""

    def __init__(self, values, first, last):
        self.low = min(values)
        self.high = max(values)
        if self.high <= self.low:
            self.high = self.low * 10
        self.first, self.last = first, last

    def at(self, value):
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self):
        """1, 2 and 5 of each decade that is on the axis."""
        found = []
        for decade in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            found += [step * 10.0 ** decade for step in (1, 2, 5)]
        return [one for one in found if self.low * 0.999 <= one <= self.high * 1.001]


def number(value):
    """A tick's label: 0.2, 5, 200, 20k."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def mark(kind, x, y, colour):
    shape, fill = kind.split("-")[0], "white" if kind.endswith("open") else colour
    paint = f'fill="{fill}" stroke="{colour}"'
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" {paint}/>'
    points = {"square": ((-3, -3), (3, -3), (3, 3), (-3, 3)), "triangle": ((0, -4), (4, 3), (-4, 3)),
              "diamond": ((0, -4), (4, 0), (0, 4), (-4, 0))}.get(shape)
    if points:
        path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in points)
        return f'<polygon points="{path}" {paint}/>'
    return (f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6" stroke="{colour}" stroke-width="1.5"/>')


def text(x, y, words, anchor="middle", size=12, more=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {more}>'
            f"{escape(words)}</text>")


def line(points, colour, dashes, width=1.4):
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'


def frame(x_axis, y_axis, top, title, x_label, y_label):
    """Grid, ticks, labels of one panel."""
    bottom, right = top + PANEL, WIDTH - RIGHT
    out = [text(LEFT, top - 12, title, "start", 15, 'font-weight="bold"')]
    for tick in x_axis.ticks():
        x = x_axis.at(tick)
        out.append(line([(x, top), (x, bottom)], "#dddddd", "", 0.7))
        out.append(text(x, bottom + 17, number(tick)))
    for tick in y_axis.ticks():
        y = y_axis.at(tick)
        out.append(line([(LEFT, y), (right, y)], "#dddddd", "", 0.7))
        out.append(text(LEFT - 8, y + 4, number(tick), "end"))
    out.append(f'<rect x="{LEFT}" y="{top}" width="{right - LEFT}" height="{PANEL}" fill="none" '
               'stroke="black"/>')
    out.append(text((LEFT + right) / 2, bottom + 37, x_label, "middle", 13))
    turned = f'transform="rotate(-90 20 {top + PANEL / 2:.1f})"'
    out.append(text(20, top + PANEL / 2, y_label, "middle", 13, turned))
    return out


def latency_panel(points, x_axis, top):
    values = [1000 * one[key] for of in points.values() for one in of for key in ("p50", "p99")
              if one[key]]
    y_axis = Axis(values, top + PANEL, top)
    out = frame(x_axis, y_axis, top, "Latency: from when a connection was due to its first byte",
                "offered load, connections a second", "latency, ms")
    for style, of in zip(STYLES, points.values()):
        colour, dashes, shape = style
        for key, width in (("p50", 1.0), ("p99", 2.0)):
            path = [(x_axis.at(one["offered"]), y_axis.at(1000 * one[key])) for one in of if one[key]]
            if path:
                out.append(line(path, colour, dashes, width))
                out += [mark(shape, x, y, colour) for x, y in path]
    return out


def answers_panel(points, x_axis, top):
    values = [one["answers"] for of in points.values() for one in of if one["answers"] > 0]
    y_axis = Axis(values + [x_axis.low, x_axis.high], top + PANEL, top)
    out = frame(x_axis, y_axis, top, "Answers: connections a second that were served",
                "offered load, connections a second", "answers a second")
    out.append(line([(x_axis.at(v), y_axis.at(v)) for v in (x_axis.low, x_axis.high)], "#999999", "1 4"))
    for style, of in zip(STYLES, points.values()):
        colour, dashes, shape = style
        path = [(x_axis.at(one["offered"]), y_axis.at(one["answers"])) for one in of if one["answers"] > 0]
        if path:
            out.append(line(path, colour, dashes))
            out += [mark(shape, x, y, colour) for x, y in path]
    return out


def load_limit(points, x_axis, top):
    """A line where the load itself comes to its end: what is right of it says little about servers."""
    rates = [one["offered"] for of in points.values() for one in of if one.get("limited_by_load")]
    if not rates:
        return []
    x = x_axis.at(min(rates))
    turned = f'transform="rotate(-90 {x - 5:.1f} {top + PANEL / 2:.1f})"'
    return [line([(x, top), (x, top + PANEL)], "black", "8 3 2 3", 0.8),
            text(x - 5, top + PANEL / 2, "from here on the load has no more CPU", "middle", 11, turned)]


def legend(names, top, lines):
    out, x = [], WIDTH - RIGHT + 20
    for row, (style, name) in enumerate(zip(STYLES, names)):
        y = top + 14 + 22 * row
        out += [line([(x, y), (x + 36, y)], style[0], style[1]), mark(style[2], x + 18, y, style[0]),
                text(x + 44, y + 4, name, "start")]
    for row, words in enumerate(lines):
        out.append(text(x, top + 30 + 22 * len(names) + 18 * row, words, "start", 11))
    return out


def draw(points, title):
    """{name: [{"offered", "answers", "p50", "p99"}]} as the text of an SVG."""
    rates = [one["offered"] for of in points.values() for one in of]
    x_axis = Axis(rates, LEFT, WIDTH - RIGHT)
    second = TOP + PANEL + GAP
    height = second + PANEL + 56
    body = [text(LEFT, 22, title, "start", 13)]
    body += latency_panel(points, x_axis, TOP) + answers_panel(points, x_axis, second)
    body += load_limit(points, x_axis, TOP) + load_limit(points, x_axis, second)
    body += legend(points, TOP, ("thick: p99, thin: p50",))
    body += legend(points, second, ("dotted: as many as offered",))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">\n'
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n")
