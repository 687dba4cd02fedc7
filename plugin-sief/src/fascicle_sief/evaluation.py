"""`evaluation=sief_docre`: relations by DocRED's rules, robustness to removed sentences, and importance against marked evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fascicle.errors import ConfigError, DataError
from fascicle.objects import Block, Metrics, Section
from fascicle.results import atomic_write_text

from .evidence import choose_threshold, evidence_report, gold_importances
from .inference import ModelScorer, encoder_of
from .objective import link_of
from .robustness_page import section as robustness_section
from .robustness_report import robustness
from .scores import Prediction, best_threshold, docred_scores, document_counts, redocred_scores, train_facts
from .submissions import write_docred_predictions

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel

    from .document import Document
    from .options import SiefDocre
    from .scorer import Scorer

__all__ = ["evaluate", "predictions", "tune"]

HIGHER = ("f1", "ign_f1", "precision", "recall", "evidence_flip", "evidence_only", "selectivity", "importance_map")
LOWER = ("removal_flip", "removal_change", "false_positives")


def evaluate(cfg: SiefDocre, model: LoadedModel, data: Data, run: RunContext) -> Metrics:
    """Measure a model of relations. Answers `fascicle_evaluate`.

    The threshold is chosen on whole validation documents and never again.

    Raises:
        DataError: data without documents, or without a test part.
        ConfigError: no threshold, and no validation documents to choose it on.
    """
    documents = data.extra.get("documents")
    if not isinstance(documents, dict) or not documents.get("test"):
        raise DataError(
            f"evaluation=sief_docre needs documents with a test part, got {data.name!r}; choose data=sief_docred or sief_planted"
        )
    scorer = ModelScorer(model.model, encoder_of(model.model, model.tokenizer), batch_pieces=cfg.batch_pieces)
    test = documents["test"]
    scorer.threshold = _threshold(cfg, model, documents, scorer, run)
    with run.progress("Relations", total=len(test)) as bar:
        scorer.advance = bar.advance
        found = predictions(scorer, test)
    write_docred_predictions(run.path("predictions", "docred.json"), found)
    known = data.extra["documents"].get("train") or ()
    facts = {"annotated": train_facts(known)} if known else None
    values = docred_scores(test, found, facts)
    parts = redocred_scores(test, found, facts)
    values |= {name: value for name, value in parts.items() if name.startswith(("intra_f1", "inter_f1"))}
    values = {name: value for name, value in values.items() if not name.startswith("evidence")}
    values["threshold"] = scorer.threshold
    metrics = Metrics(values=values, primary="f1")
    counts = document_counts(test, found)
    atomic_write_text(run.path("predictions", "counts.json"), json.dumps(counts))
    scorer.advance = None
    if cfg.robustness:
        _add_robustness(cfg, scorer, test, metrics, run)
    if cfg.evidence:
        _add_evidence(scorer, documents, metrics, run, cfg.robustness or 100)
    _add_examples(scorer, test[: cfg.examples], data.extra.get("relation_names"), metrics)
    metrics.higher_is_better = {name: True for name in HIGHER if name in values} | {
        name: False for name in LOWER if name in values
    }
    _keep_threshold(model, scorer, run)
    return metrics


def predictions(scorer: Scorer, documents: Sequence[Document]) -> list[Prediction]:
    """What a model says of documents, in their order.

    >>> from fascicle_sief.planted import RELATIONS, planted_documents
    >>> class Always:
    ...     relations, threshold = RELATIONS[:1], 0.5
    ...
    ...     def probabilities(self, documents):
    ...         return [np.ones((len(d.all_pairs()), 1)) for d in documents]
    >>> predictions(Always(), [planted_documents(1, seed=1)[0].document])[0].relation
    'advises'
    """
    found = []
    for document, p in zip(documents, scorer.probabilities(documents), strict=True):
        pairs = document.all_pairs()
        for place, column in zip(*np.nonzero(p > scorer.threshold), strict=True):
            head, tail = pairs[int(place)]
            found.append(Prediction(document.title, head, tail, scorer.relations[column]))
    return found


def tune(scorer: Scorer, documents: Sequence[Document]) -> float:
    """The one threshold with the best F1 on documents with gold relations.

    Raises:
        DataError: no document has a relation.
    """
    scores, correct, gold = [], [], 0
    for document, p in zip(documents, scorer.probabilities(documents), strict=True):
        pairs = document.all_pairs()
        known = {(r.head, r.tail, r.type) for r in document.relations}
        gold += len(known)
        right = np.array([[(*pair, name) in known for name in scorer.relations] for pair in pairs], bool)
        scores.append(p.reshape(-1))
        correct.append(right.reshape(-1))
    if not gold:
        raise DataError("the documents to choose a threshold on have no relations, expected some")
    theta, _ = best_threshold(np.concatenate(scores), np.concatenate(correct), gold)
    return float(theta)


def _threshold(
    cfg: SiefDocre, model: LoadedModel, documents: dict[str, list[Document]], scorer: ModelScorer, run: RunContext
) -> float:
    if cfg.threshold is not None:
        return cfg.threshold
    if link_of(model.model) == "threshold":  # a pair's own threshold class decides
        return 0.5
    if not documents.get("validation"):
        raise ConfigError(
            "evaluation.threshold: got null and no validation documents to choose it on; give a number, or a validation part"
        )
    with run.progress("Threshold", total=len(documents["validation"])) as bar:
        scorer.advance = bar.advance
        return tune(scorer, documents["validation"])


def _add_robustness(
    cfg: SiefDocre, scorer: ModelScorer, test: list[Document], metrics: Metrics, run: RunContext
) -> None:
    with run.progress("Robustness", total=None) as bar:
        report = robustness(
            scorer,
            test,
            seed=0,  # the same sentences in every run, so that runs can be compared
            resamples=cfg.resamples,
            max_documents=cfg.robustness,
            advance=bar.advance,
        )
    rates = report.rates
    for name in ("removal_flip", "removal_change", "evidence_flip", "evidence_only", "selectivity", "false_positives"):
        value = rates[name].value
        if value is not None:
            metrics.values[name] = value
    atomic_write_text(run.path("predictions", "robustness.json"), json.dumps(report.to_json()))
    metrics.sections.append(robustness_section(report))


def _add_evidence(
    scorer: ModelScorer, documents: dict[str, list[Document]], metrics: Metrics, run: RunContext, most: int
) -> None:
    """Importance against marked evidence, by a threshold that was chosen on validation documents."""
    test, other = documents["test"][:most], (documents.get("validation") or [])[:most]
    if not any(r.evidence for d in test for r in d.relations):
        return
    with run.progress("Evidence", total=None) as bar:
        chosen = None
        if other:
            told = gold_importances(scorer, other, advance=bar.advance)[0]
            chosen = choose_threshold([(importance, gold) for _, importance, gold in told])
        report = evidence_report(scorer, test, threshold=chosen, advance=bar.advance)
    for name in ("importance", "mentions"):
        found = report.rankings[name].mean_average_precision
        if found is not None:
            metrics.values[f"{name}_map"] = found
    rows: list[list[Any]] = []
    for name, choice in report.choices.items():
        metrics.values[f"evidence_f1_{name}"] = choice.f1
        rows.append([name, choice.precision, choice.recall, choice.f1])
    columns = ["evidence chosen by", "precision", "recall", "F1"]
    caption = (
        f"{report.triples} gold relations with marked evidence. Importance describes the model, not the truth; `trivial` takes all "
        "sentences that mention both entities."
    )
    block = Block(kind="table", data={"columns": columns, "rows": rows, "caption": caption})
    metrics.sections.append(Section(title="Evidence from importance", blocks=[block], plugin="sief"))


def _add_examples(
    scorer: ModelScorer, documents: Sequence[Document], names: dict[str, str] | None, metrics: Metrics
) -> None:
    if not documents:
        return
    from .prediction import predict
    from .views import section

    for document in documents:
        metrics.sections.append(section(predict(scorer, document, top=3, relation_names=names)))


def _keep_threshold(model: LoadedModel, scorer: ModelScorer, run: RunContext) -> None:
    """Write the chosen threshold into the saved model, so that who loads it predicts as was measured."""
    file = run.folder / "model" / "config.json"
    if run.is_main and file.is_file():
        told = json.loads(file.read_text(encoding="utf-8"))
        if told.get("model_type") == "sief_relations":
            told["threshold"] = scorer.threshold
            atomic_write_text(file, json.dumps(told, indent=2, sort_keys=True) + "\n")
