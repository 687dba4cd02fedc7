"""Training under the focusing loss: what is drawn, which loss it is, and which models it takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from sief_documents import RELATIONS, TYPES, random_document, relation_model, tokenizer
from torch import nn

from fascicle.objects import Step
from fascicle_sief.document import drop_sentences
from fascicle_sief.errors import ModelError
from fascicle_sief.features import DocumentEncoder, collate, shorten
from fascicle_sief.focusing import FocusingLoss, relation_loss
from fascicle_sief.objective import Focusing, choose_pairs, choose_sentences, joint

if TYPE_CHECKING:
    from fascicle_sief.document import Document

STEP = Step(3, 10, 0.3)


def documents() -> list[Document]:
    return [d for d in map(random_document, range(60)) if len(d) > 1 and len(d.all_pairs()) > 2][:5]


def batch(markers: bool = False) -> dict[str, torch.Tensor]:
    encode = DocumentEncoder(tokenizer(), RELATIONS, types=TYPES, max_length=256, markers=markers)
    return collate([encode(d, i) for i, d in enumerate(documents())], relations=len(RELATIONS))


class Bag(nn.Module):
    """A model that knows nothing of this package: a bag of words, and whether the pair's mentions stand near each other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.EmbeddingBag(3000, 8)
        self.out = nn.Linear(9, len(RELATIONS) + 1)

    def forward(self, input_ids: torch.Tensor, pairs: torch.Tensor, distances: torch.Tensor, **_: Any) -> Any:
        text = self.words(input_ids)[pairs[:, 0]]
        return {"logits": self.out(torch.cat([text, distances[:, None].float()], 1))}


@pytest.mark.parametrize("one_pass", [True, False])
def test_a_model_that_knows_nothing_of_it_trains_under_it(one_pass: bool) -> None:
    model, rows = Bag(), batch()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    losses = []
    for step in range(30):
        out = Focusing(one_pass=one_pass).loss(model, rows, Step(step, 30, 0.0))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(float(out.parts["relation_loss"]))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("base", ["bilinear", "atlop", "graph", "bilstm"])
def test_the_loss_is_that_of_documents_written_without_the_sentence(base: str) -> None:
    model = relation_model(base)
    encode = DocumentEncoder(tokenizer(), RELATIONS, types=TYPES, max_length=256, markers=base == "atlop")
    rows = batch(base == "atlop")
    gone = choose_sentences(rows, 1, seed=5, step=STEP.global_step)
    views = [drop_sentences(d, set(gone[i].nonzero()[:, 0].tolist())) for i, d in enumerate(documents())]
    short = collate([encode(v.document, i) for i, v in enumerate(views)], relations=len(RELATIONS))
    labels, alive = rows["labels"], torch.tensor([a for v in views for a in v.alive])
    z, z_hat = model(**rows).logits, model(**short | {"distances": rows["distances"]}).logits
    link = model.config.link
    focusing = FocusingLoss(link=link)(z, z_hat, labels, alive)
    want = (relation_loss(z, labels, link) + focusing.loss) / 2
    for one_pass in (True, False):
        out = Focusing(seed=5, one_pass=one_pass).loss(model, dict(rows), STEP)
        assert out.loss.item() == pytest.approx(want.item(), rel=1e-5)
        assert float(out.parts["dead_rate"]) == pytest.approx(1 - alive.float().mean().item(), abs=1e-6)


def test_the_controls_are_what_they_say() -> None:
    model, rows = relation_model("bilinear"), batch()
    short = shorten(rows, choose_sentences(rows, 1, seed=0, step=STEP.global_step))
    z, z_hat = model(**rows).logits, model(**short.batch).logits
    base = relation_loss(z, rows["labels"])
    want = {
        "none": base,
        "random_drop": (base + relation_loss(z_hat, rows["labels"], pairs=short.alive)) / 2,
        "consistency": (base + FocusingLoss(exempt=False)(z, z_hat, rows["labels"], short.alive).loss) / 2,
    }
    for mode, loss in want.items():
        assert Focusing(mode).loss(model, dict(rows), STEP).loss.item() == pytest.approx(loss.item(), rel=1e-5)  # type: ignore[arg-type]
    assert Focusing(weight=0.25).loss(model, dict(rows), STEP).parts.keys() >= {"focusing_loss", "exempt_rate"}


def test_before_the_warmup_is_over_it_is_the_base_loss() -> None:
    model, rows = relation_model("bilinear"), batch()
    plain = Focusing("none").loss(model, dict(rows), STEP).loss
    assert Focusing(warmup=0.5).loss(model, dict(rows), STEP).loss == plain
    assert Focusing(warmup=0.3).loss(model, dict(rows), STEP).loss != plain


def test_a_document_of_one_sentence_keeps_it_and_teaches_nothing() -> None:
    encode = DocumentEncoder(tokenizer(), RELATIONS, types=TYPES, max_length=256, markers=False)
    one = next(d for d in (random_document(s, sentences=1) for s in range(50)) if len(d.all_pairs()) > 1)
    rows = collate([encode(one)], relations=len(RELATIONS))
    assert not choose_sentences(rows, 1, 0, 0).any()
    out = Focusing().loss(relation_model("bilinear"), rows, STEP)
    assert out.parts["focusing_loss"] == 0


def test_the_sentence_depends_on_seed_step_and_document_alone_and_is_uniform() -> None:
    rows = batch()
    whole = choose_sentences(rows, 1, seed=3, step=7)
    for b in range(5):
        part = {name: rows[name][b : b + 1] for name in ("sentence_ids", "document")}
        mine = choose_sentences(part, 1, seed=3, step=7)[0]
        assert mine.tolist() == whole[b, : len(mine)].tolist()
        assert mine.sum() == 1
    assert any((choose_sentences(rows, 1, 3, s) != whole).any() for s in range(8, 12))
    assert any((choose_sentences(rows, 1, s, 7) != whole).any() for s in range(4, 8))
    counts = torch.zeros(4)
    four = {"sentence_ids": torch.tensor([[-1, 0, 1, 2, 3, -1]]), "document": torch.tensor([1])}
    for step in range(2000):
        counts += choose_sentences(four, 1, 0, step)[0]
    assert ((counts - 500) ** 2 / 500).sum() < 16.3  # chi-square, 3 degrees of freedom, p = 0.001
    assert choose_sentences(four, 3, 0, 0).sum() == 3
    assert choose_sentences(four, 9, 0, 0).sum() == 3  # one is left


def test_negatives_are_drawn_by_their_number_and_both_views_have_the_same() -> None:
    rows = batch()
    related = rows["labels"][:, 1:].any(1)
    chosen = choose_pairs(rows, 1.0, 2, seed=1, step=0)
    assert chosen[related].all()
    for b in range(5):
        mine = rows["pairs"][:, 0] == b
        positives, others = int((related & mine).sum()), int((~related & mine).sum())
        assert (chosen & ~related & mine).sum() == min(others, max(2, positives))
    assert any((choose_pairs(rows, 1.0, 2, seed=1, step=s) != chosen).any() for s in range(1, 5))
    seen: list[Any] = []
    model = Bag()
    model.register_forward_pre_hook(lambda _m, _a, kw: seen.append(kw["pairs"]), with_kwargs=True)
    Focusing(negatives=1.0, min_negatives=2, seed=1, one_pass=True).loss(model, rows, Step(0, 1, 0.0))
    (pairs,) = seen
    half = len(pairs) // 2
    assert half == int(chosen.sum())
    assert (pairs[:half, 1:] == pairs[half:, 1:]).all()
    assert (pairs[half:, 0] == pairs[:half, 0] + 5).all()


def test_distances_are_those_of_the_whole_document_or_measured_anew() -> None:
    rows = batch()
    drop = choose_sentences(rows, 1, 0, STEP.global_step)
    encode = DocumentEncoder(tokenizer(), RELATIONS, types=TYPES, max_length=256, markers=False)
    views = [drop_sentences(d, set(drop[i].nonzero()[:, 0].tolist())) for i, d in enumerate(documents())]
    anew = collate([encode(v.document, i) for i, v in enumerate(views)], relations=len(RELATIONS))["distances"]
    seen: list[Any] = []
    model = Bag()
    model.register_forward_pre_hook(lambda _m, _a, kw: seen.append(kw["distances"]), with_kwargs=True)
    for distance in ("full", "recomputed"):
        Focusing(distance=distance, one_pass=False).loss(model, rows, STEP)  # type: ignore[arg-type]
    assert (seen[1] == rows["distances"]).all()
    assert (seen[3] == anew).all()
    assert (anew != rows["distances"]).any()


def test_a_model_that_answers_something_else_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, **batch: Any) -> Any:
            return SimpleNamespace(logits=torch.zeros(len(batch["pairs"]), 2))

    with pytest.raises(ModelError, match=r"logits \(\d+, 2\), expected \(\d+, 4\)"):
        Focusing("none").loss(Odd(), batch(), STEP)


def test_two_views_in_one_batch_answer_as_two_batches() -> None:
    rows = batch()
    short = shorten(rows, choose_sentences(rows, 2, 0, 0))
    for base in ("bilinear", "graph", "bilstm"):
        model = relation_model(base)
        both = model(**joint(rows, short.batch)).logits
        apart = torch.cat([model(**rows).logits, model(**short.batch).logits])
        assert torch.allclose(both, apart, atol=1e-5)
