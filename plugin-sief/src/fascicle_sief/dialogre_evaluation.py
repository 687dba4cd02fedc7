"""`evaluation=sief_dialogre`: relations by DialogRE's rules, F1 on whole dialogues and F1c on what was said so far.

Source: the official DialogRE evaluation (Yu et al., ACL 2020), see `dialogre_scores`. A dialogue up to a turn is the
dialogue without the later ones, so the F1c is also a measure of how a model bears the removal of sentences. All pairs of a dialogue
are asked in one pass; the official code asks each on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fascicle.errors import ConfigError, DataError
from fascicle.objects import Block, Metrics, Section

from .dialogre_scores import RELATIONS, ceiling_f1c, choose_t2, dialogre_f1, dialogre_f1c
from .document import drop_sentences
from .inference import ModelScorer, encoder_of
from .prediction import predict
from .submissions import write_dialogre_prefixes, write_dialogre_scores
from .views import section

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel

    from .dialogre_options import SiefDialogre
    from .dialogre_scores import DialoguePair
    from .document import Document
    from .scorer import Scorer

__all__ = ["evaluate_dialogre", "pair_scores", "prefix_scores"]

_TOGETHER = 32
"""Dialogues whose prefixes are asked in one call: enough to batch those of like length, few enough to hold."""


def evaluate_dialogre(cfg: SiefDialogre, model: LoadedModel, data: Data, run: RunContext) -> Metrics:
    """Measure a model of relations on DialogRE. Answers `fascicle_evaluate`.

    T2 is chosen on whole validation dialogues, once for F1 and F1c. The probabilities are written as the files that the official
    script reads: `logits_dev.txt` (of the validation part, where T2 is chosen), `logits_test.txt` and `logits_testc.txt`.

    Raises:
        DataError: data without the pairs of DialogRE's evaluation in its test part, or with other relations.
        ConfigError: no T2, and no validation dialogues to choose it on.
    """
    pairs: dict[str, list[DialoguePair]] = data.extra.get("dialogue_pairs", {})
    if not pairs.get("test"):
        raise DataError(
            f"evaluation=sief_dialogre needs the pairs of DialogRE's evaluation in the test part, got data {data.name!r} without "
            "them; choose data=sief_dialogre, or a test file in DialogRE's format with data.format=dialogre"
        )
    if cfg.t2 is None and not pairs.get("validation"):
        raise ConfigError(
            "evaluation.t2: got null and no validation dialogues to choose it on; give a number, or set data.validation_part"
        )
    documents: dict[str, list[Document]] = data.extra["documents"]
    scorer = ModelScorer(model.model, encoder_of(model.model, model.tokenizer), batch_pieces=cfg.batch_pieces)
    t2 = cfg.t2
    if t2 is None:
        scores = _whole(scorer, documents["validation"], pairs["validation"], "T2", run)
        write_dialogre_scores(run.path("predictions", "logits_dev.txt"), scores)
        t2 = choose_t2(scores, pairs["validation"])
    test, asked = documents["test"], pairs["test"]
    scores = _whole(scorer, test, asked, "Relations", run)
    write_dialogre_scores(run.path("predictions", "logits_test.txt"), scores)
    values = {**dialogre_f1(scores, asked, t2), "t2": t2}
    if cfg.prefixes:
        with run.progress("Prefixes", total=len(test)) as bar:
            prefixes = prefix_scores(scorer, test, asked, scores, advance=bar.advance)
        write_dialogre_prefixes(run.path("predictions", "logits_testc.txt"), prefixes)
        values |= {**dialogre_f1c(prefixes, asked, t2), "f1c_ceiling": ceiling_f1c(asked)}
    higher = dict.fromkeys((name for name in values if name not in ("t2", "f1c_ceiling")), True)
    told = [_section(values, test, asked), *(section(predict(scorer, d, top=3)) for d in test[: cfg.examples])]
    return Metrics(values=values, primary="f1", higher_is_better=higher, sections=told)


def pair_scores(scorer: Scorer, documents: Sequence[Document], pairs: Sequence[DialoguePair]) -> np.ndarray:
    """(N, 36) probabilities of the N pairs on whole dialogues, in the order of the official relation ids.

    Args:
        scorer: knows DialogRE's relations, in any order.
        documents: the dialogues, with titles of their own.
        pairs: rows of the official evaluation, each with its dialogue's title.

    Raises:
        DataError: other relations, or a pair of another dialogue.

    Example:
        >>> from fascicle_sief.dialogre_scores import DialoguePair
        >>> from fascicle_sief.document import Document, Mention
        >>> class Friends:
        ...     relations, threshold = RELATIONS, 0.5
        ...
        ...     def probabilities(self, documents):
        ...         return [np.tile(np.arange(36) == 8, (len(d.all_pairs()), 1)) * 0.9 for d in documents]
        >>> dialogue = Document(
        ...     "d", [["Jo", ":", "Hi", "Al"]], [[Mention(0, 0, 1)], [Mention(0, 3, 4)]], pairs=[(0, 1)]
        ... )
        >>> pair = DialoguePair(("Jo: Hi Al",), "Jo", "Al", rids=(9,), triggers=("",), title="d")
        >>> float(pair_scores(Friends(), [dialogue], [pair])[0, 8])
        0.9
    """
    columns, places = _columns(scorer), _places(documents, pairs)
    p = scorer.probabilities(documents)
    rows = [p[place][pair.row] for place, pair in zip(places, pairs, strict=True)]
    return np.array(rows, dtype=float).reshape(len(pairs), -1)[:, columns]


def prefix_scores(
    scorer: Scorer,
    documents: Sequence[Document],
    pairs: Sequence[DialoguePair],
    scores: np.ndarray,
    *,
    advance: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """For each pair (turns, 36): its probabilities when turns 1 to k are read; 0 until both arguments are mentioned.

    Args:
        scorer: knows DialogRE's relations, in any order.
        documents: the dialogues, with titles of their own.
        pairs: N rows of the official evaluation, each with its dialogue's title.
        scores: (N, 36) of [`pair_scores`], the last row of each pair.
        advance: told the number of dialogues that are done.

    Raises:
        DataError: other relations, or a pair of another dialogue.

    Example:
        >>> from fascicle_sief.dialogre_scores import DialoguePair
        >>> from fascicle_sief.document import Document, Mention
        >>> class Turns:
        ...     relations, threshold = RELATIONS, 0.5
        ...
        ...     def probabilities(self, documents):
        ...         return [np.full((len(d.all_pairs()), 36), len(d) / 10) for d in documents]
        >>> jo, al = [Mention(0, 0, 1)], [Mention(1, 0, 1)]
        >>> dialogue = Document("d", [["Jo"], ["Al"], ["Jo"]], [jo, al], pairs=[(0, 1)])
        >>> pair = DialoguePair(("Jo", "Al", "Jo"), "Jo", "Al", rids=(9,), triggers=("",), title="d")
        >>> whole = pair_scores(Turns(), [dialogue], [pair])
        >>> prefix_scores(Turns(), [dialogue], [pair], whole)[0][:, 8].tolist()
        [0.0, 0.2, 0.3]
    """
    columns, places = _columns(scorer), _places(documents, pairs)
    found = [np.zeros((len(pair.turns), len(RELATIONS))) for pair in pairs]
    of_document: dict[int, list[int]] = {}
    for i, place in enumerate(places):
        found[i][-1] = scores[i]
        of_document.setdefault(place, []).append(i)
    for start in range(0, len(documents), _TOGETHER):
        together = range(start, min(start + _TOGETHER, len(documents)))
        views = {
            (d, k): drop_sentences(documents[d], range(k, len(documents[d])))
            for d in together
            for k in range(1, len(documents[d]))
        }
        asked = {place: view for place, view in views.items() if any(view.alive)}
        answers = scorer.probabilities([view.document for view in asked.values()])
        for ((d, k), view), p in zip(asked.items(), answers, strict=True):
            for i in of_document.get(d, ()):
                if view.alive[pairs[i].row]:
                    found[i][k - 1] = p[pairs[i].row, columns]
        if advance is not None:
            advance(len(together))
    return found


def _columns(scorer: Scorer) -> list[int]:
    """Of each official relation, its column."""
    column = {name: i for i, name in enumerate(scorer.relations)}
    missing, more = [name for name in RELATIONS if name not in column], sorted(column.keys() - set(RELATIONS))
    if missing or more:
        raise DataError(
            f"relations: expected DialogRE's {len(RELATIONS)}, got {len(column)}; missing {missing[:3]}, unknown {more[:3]}; leave "
            "data.relations empty"
        )
    return [column[name] for name in RELATIONS]


def _places(documents: Sequence[Document], pairs: Sequence[DialoguePair]) -> list[int]:
    """Of each pair, the number of its dialogue."""
    number = {document.title: i for i, document in enumerate(documents)}
    for pair in pairs:
        if pair.title not in number:
            raise DataError(
                f"pair ({pair.x!r}, {pair.y!r}): its dialogue {pair.title!r} is none of the {len(number)} given"
            )
        document = documents[number[pair.title]]
        if len(document) != len(pair.turns) or pair.row >= len(document.all_pairs()):
            raise DataError(
                f"dialogue {pair.title!r}: expected {len(pair.turns)} turns and a pair in row {pair.row}, got {len(document)} "
                f"turns and {len(document.all_pairs())} pairs; read both from one file"
            )
    return [number[pair.title] for pair in pairs]


def _whole(
    scorer: ModelScorer, documents: Sequence[Document], pairs: Sequence[DialoguePair], told: str, run: RunContext
) -> np.ndarray:
    with run.progress(told, total=len(documents)) as bar:
        scorer.advance = bar.advance
        scores = pair_scores(scorer, documents, pairs)
    scorer.advance = None
    return scores


def _section(values: dict[str, float], documents: Sequence[Document], pairs: Sequence[DialoguePair]) -> Section:
    """The scores side by side, with what F1c can reach."""
    mentioned = {d.title: drop_sentences(d, ()).alive for d in documents}
    nowhere = sum(not mentioned[pair.title][pair.row] for pair in pairs)
    text = (
        f"{len(pairs):,} pairs in {len(documents):,} dialogues, {sum(not pair.columns for pair in pairs):,} of them without a "
        f"relation. T2 is {values['t2']:.2f}. {nowhere:,} pairs have an argument that no turn mentions; their probabilities are 0."
    )
    rows: list[list[Any]] = [["F1", values["f1"], values["precision"], values["recall"]]]
    if "f1c" in values:
        rows += [
            ["F1c", values["f1c"], values["precision_c"], values["recall_c"]],
            ["F1c of a perfect system", values["f1c_ceiling"], 1.0, sum(bool(p.columns) for p in pairs) / len(pairs)],
        ]
    caption = "F1c counts what can be known after each turn; a pair without a relation has recall 0 there, so 1 is out of reach."
    block = Block(
        kind="table", data={"columns": ["score", "F1", "precision", "recall"], "rows": rows, "caption": caption}
    )
    return Section(
        title="Relations in dialogues", blocks=[Block(kind="text", data={"text": text}), block], plugin="sief"
    )
