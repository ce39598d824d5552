"""Compares several runs: which one is best, by how much, and what differs between them."""

import dataclasses

import numpy as np

import charts
import curves
import runs
from results import duration, fingerprint, percent, samples_per_second, significant, state, training_seconds

MAX_SETTINGS_IN_TABLE = 6  # more settings get a table of their own, with a column for each run
ATTRIBUTES = {"dataset": "data set", "ranks": "ranks", "nodes": "nodes", "arithmetic": "arithmetic",
              "dtrain_version": "dtrain"}


@dataclasses.dataclass
class Place:
    run: runs.Run
    score: float | None  # None or NaN if it is unknown
    reason: str  # why the run has no rank; "" if it has one


@dataclasses.dataclass
class Ranking:
    quantity: str
    places: list  # best first, then the runs without a rank

    @property
    def best(self):
        return self.places[0].score if not self.places[0].reason else None


def reason_against(run):
    """Why a run cannot be compared with complete ones; "" if it can."""
    if run.diverged_epoch is not None:
        return state(run)
    if not run.finished_epochs:
        return "no finished epoch"
    complete = run.planned_epochs is None or run.is_complete or run.ended_early
    return "" if complete else state(run)


def rank(shown):
    """Validation accuracy chooses the best epoch of a run, so runs are ordered by that of their best epoch. Test
    accuracy must not choose, so runs are ordered by that of their last epoch."""
    reasons = [reason_against(run) for run in shown]
    validated = all(run.has_validation for run, reason in zip(shown, reasons) if not reason) and not all(reasons)
    quantity = "validation accuracy of the best epoch" if validated else "test accuracy of the last epoch"
    places = []
    for run, reason in zip(shown, reasons):
        score = run.last("test_accuracy")
        if validated:
            score = run.best_score if run.has_validation and run.finished_epochs else None
        if not reason and not np.isfinite(score):
            reason = f"no {quantity.partition(' of ')[0]}"
        places.append(Place(run, score, reason))
    return Ranking(quantity, sorted(places, key=lambda place: (1, 0) if place.reason else (0, -place.score)))


def difference(place, best):
    """The difference to the best run, in percentage points."""
    if place.reason:
        return "–"
    return "best" if place.score == best else f"{100 * (place.score - best):.2f}".replace("-", "−")


def settings(shown):
    """Settings that differ, with the value of each run: keys of the config, and what the config does not contain."""
    attributes = {text: [str(run.attributes.get(name, "")) for run in shown] for name, text in ATTRIBUTES.items()}
    return curves.differing_keys(shown) | {text: values for text, values in attributes.items() if len(set(values)) > 1}


def section(shown, progress):
    """What the template shows of several runs."""
    progress.doing("drawing the curves of all runs")
    ranking = rank(shown)
    shown = [place.run for place in ranking.places]
    part = ranking.quantity.partition(" ")[0]
    one_cost = len({run.config.get("model.cost") for run in shown}) == 1
    differing = settings(shown)
    drawn = [curves.accuracy(shown, part), curves.accuracy(shown, part, over_time=True),
             *curves.over_keys(shown)]
    if one_cost:
        drawn[2:2] = [curves.epoch_curves(shown, f"{part.capitalize()} cost", curves.cost_name(shown),
                                          [(f"{part}_cost", "")]), curves.step_cost(shown)]
    rows = [{"run": place.run, "index": index % len(charts.SERIES) + 1, "dash": index // len(charts.SERIES) % 4,
             "is_best": not place.reason and place.score == ranking.best, "reason": place.reason,
             "score": percent(place.score), "difference": difference(place, ranking.best),
             "settings": [values[index] for values in differing.values()],
             "state": place.reason or state(place.run), "accuracy": percent(place.run.last("test_accuracy")),
             "train_cost": significant(place.run.last("train_cost")),
             "test_cost": significant(place.run.last("test_cost")), "seconds": duration(training_seconds(place.run)),
             "rate": significant(samples_per_second(place.run)), "epochs": f"{place.run.finished_epochs:,}",
             "fingerprint": fingerprint(place.run)} for index, place in enumerate(ranking.places)]
    return {"rows": rows, "dashes": ("", "8 3", "2.5 2", "9 2 2 2"), "charts": [chart for chart in drawn if chart],
            "quantity": ranking.quantity, "ranked": ranking.best is not None, "by_validation": part == "validation",
            "one_cost": one_cost, "differing": differing, "few": len(differing) <= MAX_SETTINGS_IN_TABLE}
