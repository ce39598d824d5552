"""The results of a run as text."""

import numpy as np


def significant(value, digits=4):
    """A number as text; "–" if it is unknown."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:,.{digits}g}" if abs(value) < 10 ** digits else f"{value:,.0f}"


def percent(value):
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.2f} %"


def duration(seconds):
    """A number of seconds as text with a suitable unit."""
    if seconds is None or not np.isfinite(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min" if hours < 100 \
        else f"{hours / 24:.1f} days"


def state(run):
    planned = run.planned_epochs
    if run.diverged_epoch is not None:
        return f"diverged: the training cost of epoch {run.diverged_epoch:,} is not a finite number"
    if planned is None:
        return ""
    if run.is_complete:
        return "complete"
    if run.ended_early:
        return f"complete: no better epoch after epoch {run.best_epoch:,}"
    return f"unfinished: {run.finished_epochs:,} of {planned:,.0f} epochs so far"


def fingerprint(run):
    """The fingerprint of the weights after the last complete epoch."""
    value = run.last("fingerprint")
    return "" if value is None else f"{value:016x}"


def samples_per_second(run):
    rates = run.epochs["samples_per_second"]
    rates = rates[np.isfinite(rates)]
    return float(np.median(rates)) if rates.size else None


def training_seconds(run):
    return float(np.nansum(run.epochs["seconds"])) if run.finished_epochs else None
