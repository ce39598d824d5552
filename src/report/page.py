"""Collects the contents of the page, and fills in the template."""

from pathlib import Path

import jinja2
import numpy as np

import comparison
import contents
import curves
import evaluation
import page_network
import runs
import scaling
import scaling_file
import weights
from results import duration, fingerprint, percent, samples_per_second, significant, state, training_seconds

TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                               trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
TEMPLATES.filters |= {"significant": significant, "percent": percent, "grouped": "{:,}".format,
                      "with_contents": contents.with_contents}


def headline(run):
    """Results with names and ids, the ones that matter most first: those are marked as main. Unknown ones are left
    out."""
    attributes = run.attributes
    main, more = [], []
    sets = ("validation", "test") if run.has_validation else ("test",)
    if run.finished_epochs:
        for part in sets:
            accuracy = run.epochs[f"{part}_accuracy"]
            best = int(np.nanargmax(accuracy)) if np.isfinite(accuracy).any() else None
            main.append((f"{part}-accuracy", f"{part} accuracy", percent(run.last(f"{part}_accuracy")),
                         "" if best is None else
                         f"best: {percent(accuracy[best])} in epoch {run.epochs['epoch'][best]:,}"))
        main += [(f"{part}-cost", f"{part} cost", significant(run.last(f"{part}_cost")), "") for part in sets]
        more += [("train-accuracy", "training accuracy", percent(run.last("train_accuracy")), "mean of the last epoch"),
                 ("train-cost", "training cost", significant(run.last("train_cost")), "mean of the last epoch")]
    word, _, reason = state(run).partition(": ")
    if word:
        main.append(("state", "state", word, reason))
    more += [("epochs", "epochs", f"{run.finished_epochs:,}", ""),
             ("steps", "training steps", f"{run.record.steps.count:,}", "")]
    if run.finished_epochs:
        more += [("seconds", "training time", duration(training_seconds(run)), ""),
                 ("rate", "samples per second", significant(samples_per_second(run)), "median of the epochs"),
                 ("learning-rate", "learning rate", f"{run.last('learning_rate'):.4g}", "in the last step")]
    if "ranks" in attributes:
        nodes = attributes.get("nodes")
        more.append(("ranks", "ranks", f"{attributes['ranks']:,}",
                     f"on {nodes:,} node{'s' if nodes != 1 else ''}" if nodes else ""))
    if "parameters" in attributes:
        more.append(("parameters", "parameters", f"{attributes['parameters']:,}", ""))
    return [dict(zip(("id", "name", "value", "note"), value), main=value in main) for value in main + more]


def facts(run):
    names = {"dataset": "data set", "reducer": "reducer", "arithmetic": "arithmetic", "created": "written",
             "dtrain_version": "dtrain"}
    found = [("network", run.config.get("model.layers"))]
    found += [(text, str(run.attributes[name])) for name, text in names.items() if name in run.attributes]
    return [(name, value) for name, value in found if value]


def training_of(run, progress):
    """What the page shows of a run's record."""
    section = {"run": run, "headline": headline(run), "facts": facts(run), "fingerprint": fingerprint(run),
               "state": state(run), "config_text": str(run.attributes.get("config", "")).strip()}
    progress.doing(f"drawing the curves of {run.name}")
    section["training"] = [chart for chart in (curves.step_cost([run]), curves.costs(run), curves.accuracy([run]),
                                               curves.learning_rate([run])) if chart]
    section["times"] = curves.times(run)
    return section


def network_of(run, evaluator, progress):
    """What the page shows of a run's newest checkpoint. dtrain-eval needs time for it, so a live page computes it in
    another process. Everything in it can be pickled."""
    section = {}
    progress.doing(f"reading the network of {run.name}")
    networks = page_network.read_newest(run)  # first: a running training removes checkpoints during an evaluation
    try:
        progress.doing(f"evaluating the newest checkpoint of {run.name}")
        notes_before = len(run.notes)
        checkpoint, found = evaluation.evaluate_newest(evaluator, run, run.notes)
    except evaluation.Failed as error:
        section["evaluation_failed"] = str(error)
        run.notes += [problem for problem in networks.problems if problem not in run.notes]
        return section | drawings(networks, None)
    if checkpoint != networks.path and checkpoint in (paths := run.checkpoints):
        evaluated = page_network.read(paths[paths.index(checkpoint):])
        networks = evaluated if evaluated.trained else networks
    progress.doing(f"drawing the network of {run.name}")
    section |= {"checkpoint": checkpoint.name, "evaluation": found, "older": len(run.notes) > notes_before,
                "confusion": evaluation.confusion_table(found),
                "wrong": evaluation.wrong_samples(found), "activations": evaluation.activations(found, run.config)}
    if section["confusion"] is None:
        section["confusion_chart"] = evaluation.confusion_chart(found)
    if found.surface:
        section["surface"] = evaluation.surface_chart(found.surface, curves.cost_name([run]))
    return section | drawings(networks, found)


def drawings(networks, found):
    """What the page shows of a network without dtrain-eval. `found`: the evaluation, or None."""
    return {"first_layer": networks.trained and weights.first_layer(networks.trained),
            "network": page_network.pack(networks, found)}


def render(shown, problems, evaluator, progress, network=None, template="report.html.j2", **more):
    """The page as text. It lists `problems`. Other problems are appended to `problems`, and the page shows them in the
    place of the missing parts. `network`: the result of network_of() if it is known. `more`: variables of another
    template."""
    trained = [item for item in shown if isinstance(item, runs.Run)]
    context = {"names": [item.name for item in shown], "single": None, "several": None}
    if len(trained) == 1:
        context["single"] = training_of(trained[0], progress) | (network or network_of(trained[0], evaluator, progress))
    elif trained:
        context["several"] = comparison.section(trained, progress)
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
    progress.doing("writing the page")
    return TEMPLATES.get_template(template).render(context | more)
