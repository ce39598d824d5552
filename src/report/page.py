"""Collects the contents of the page, and fills in the template."""

from pathlib import Path

import jinja2
import numpy as np

import charts
import curves
import evaluation
import runs
import scaling
import scaling_file
import weights


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


def headline(run):
    """Results with names and ids. Unknown ones are left out."""
    attributes = run.attributes
    values = []
    if run.finished_epochs:
        for part in ("validation", "test") if run.has_validation else ("test",):
            accuracy = run.epochs[f"{part}_accuracy"]
            best = int(np.nanargmax(accuracy)) if np.isfinite(accuracy).any() else None
            values.append((f"{part}-accuracy", f"{part} accuracy", percent(run.last(f"{part}_accuracy")),
                           "" if best is None else
                           f"best: {percent(accuracy[best])} in epoch {run.epochs['epoch'][best]:,}"))
        values += [("train-accuracy", "training accuracy", percent(run.last("train_accuracy")),
                     "mean of the last epoch's steps"),
                    ("test-cost", "test cost", significant(run.last("test_cost")), ""),
                    ("train-cost", "training cost", significant(run.last("train_cost")),
                     "mean of the last epoch's steps")]
    values.append(("epochs", "epochs", f"{run.finished_epochs:,}", state(run)))
    values.append(("steps", "training steps", f"{run.record.steps.count:,}", ""))
    if run.finished_epochs:
        values += [("seconds", "training time", duration(float(np.nansum(run.epochs["seconds"]))), ""),
                    ("rate", "samples per second", significant(samples_per_second(run)), "median of the epochs")]
        values.append(("learning-rate", "learning rate", f"{run.last('learning_rate'):.4g}", "in the last step"))
    if "ranks" in attributes:
        nodes = attributes.get("nodes")
        values.append(("ranks", "ranks", f"{attributes['ranks']:,}",
                        f"on {nodes:,} node{'s' if nodes != 1 else ''}" if nodes else ""))
    if "parameters" in attributes:
        values.append(("parameters", "parameters", f"{attributes['parameters']:,}", ""))
    return [dict(zip(("id", "name", "value", "note"), value)) for value in values]


def facts(run):
    names = {"dataset": "data set", "reducer": "reducer", "arithmetic": "arithmetic", "created": "written",
             "dtrain_version": "dtrain"}
    found = [("network", run.config.get("model.layers"))]
    found += [(text, str(run.attributes[name])) for name, text in names.items() if name in run.attributes]
    return [(name, value) for name, value in found if value]


def section_of_run(run, evaluator, progress):
    section = {"run": run, "headline": headline(run), "facts": facts(run), "fingerprint": fingerprint(run),
               "state": state(run), "config_text": str(run.attributes.get("config", "")).strip()}
    progress.doing(f"drawing the curves of {run.name}")
    section["training"] = [chart for chart in (curves.step_cost([run]), curves.costs(run), curves.accuracy([run]),
                                               curves.learning_rate([run])) if chart]
    section["times"] = curves.times(run)
    section["first_layer"] = None
    try:
        progress.doing(f"evaluating the newest checkpoint of {run.name}")
        notes_before = len(run.notes)
        checkpoint, found = evaluation.evaluate_newest(evaluator, run, run.notes)
    except evaluation.Failed as error:
        section["evaluation_failed"] = str(error)
        section["first_layer"] = weights.first_layer(run.checkpoints, run.notes)
        return section
    section["first_layer"] = weights.first_layer([checkpoint] if checkpoint.exists() else run.checkpoints, run.notes)
    progress.doing(f"drawing the network of {run.name}")
    section |= {"checkpoint": checkpoint.name, "evaluation": found, "older": len(run.notes) > notes_before,
                "confusion": evaluation.confusion_table(found),
                "wrong": evaluation.wrong_samples(found), "activations": evaluation.activations(found, run.config)}
    if section["confusion"] is None:
        section["confusion_chart"] = evaluation.confusion_chart(found)
    if found.surface:
        section["surface"] = evaluation.surface_chart(found.surface, curves.cost_name([run]))
    return section


def section_of_runs(shown, progress):
    progress.doing("drawing the curves of all runs")
    cost = curves.cost_name(shown)
    drawn = [curves.step_cost(shown), curves.accuracy(shown),
             curves.epoch_curves(shown, "Training cost", cost, [("train_cost", "")]),
             curves.epoch_curves(shown, "Training accuracy", "accuracy, %", [("train_accuracy", "")], 100, log=False),
             curves.epoch_curves(shown, "Test cost", cost, [("test_cost", "")]),
             curves.learning_rate(shown),
             curves.epoch_curves(shown, "Time of each epoch", "seconds", [("seconds", "")]),
             *curves.over_keys(shown)]
    rows = [{"run": run, "index": index % len(charts.SERIES) + 1, "dash": index // len(charts.SERIES) % 4,
             "state": state(run), "accuracy": percent(run.last("test_accuracy")),
             "train_cost": significant(run.last("train_cost")), "test_cost": significant(run.last("test_cost")),
             "seconds": duration(float(np.nansum(run.epochs["seconds"])) if run.finished_epochs else None),
             "rate": significant(samples_per_second(run)), "ranks": run.attributes.get("ranks", "–"),
             "fingerprint": fingerprint(run)} for index, run in enumerate(shown)]
    return {"rows": rows, "dashes": ("", "8 3", "2.5 2", "9 2 2 2"), "charts": [chart for chart in drawn if chart],
            "differing": curves.differing_keys(shown)}


def render(shown, problems, evaluator, progress):
    """The page as text. It lists `problems`. Other problems are appended to `problems`, and the page shows them in the
    place of the missing parts."""
    trained = [item for item in shown if isinstance(item, runs.Run)]
    context = {"names": [item.name for item in shown], "single": None, "several": None}
    if len(trained) == 1:
        context["single"] = section_of_run(trained[0], evaluator, progress)
    elif trained:
        context["several"] = section_of_runs(trained, progress)
    context["scaling"] = []
    for experiment in (item for item in shown if isinstance(item, scaling_file.Scaling)):
        progress.doing(f"drawing {experiment.name}")
        context["scaling"].append(scaling.section(experiment))
    for run in trained:
        problems += run.notes
    context["problems"] = problems.copy()
    if context["single"] and "evaluation_failed" in context["single"]:
        problems.append(f"{trained[0].name}: the page lacks the results on the test set: "
                        f"{context['single']['evaluation_failed']}")
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                   trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    templates.filters |= {"significant": significant, "percent": percent, "grouped": "{:,}".format}
    progress.doing("writing the page")
    return templates.get_template("report.html.j2").render(context)
