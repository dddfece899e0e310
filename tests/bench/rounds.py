"""What rounds say: figures of one run, taken in turn (A B C A B C), so that what disturbs the machine
disturbs all of them; ratios are between figures of the same round."""

import statistics


def summary(values):
    """Median and spread."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values),
            "rounds": len(values)}


def ratio(values, floor):
    """The same of the ratios, round by round."""
    return summary([a / b for a, b in zip(values, floor)])


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(figures, form="{:.2f}"):
    """A summary in words."""
    text = form.format(figures["median"])
    if figures["rounds"] > 1:
        text += f" ({form.format(figures['min'])}..{form.format(figures['max'])})"
    return text
