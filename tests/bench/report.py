"""What people read: tables on the terminal."""


def say(text=""):
    print(text, flush=True)


def table(title, heads, rows):
    """The first column to the left, the others to the right."""
    lines = [heads] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    say()
    say(title)
    for number, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        say("  " + "   ".join(cells).rstrip())
        if number == 0:
            say("  " + "-" * (sum(widths) + 3 * (len(widths) - 1)))
