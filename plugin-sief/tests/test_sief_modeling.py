"""The five bases: what a document is told does not depend on what else is in the batch, and odd documents are answered too."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from sief_documents import RELATIONS, TYPES, WORDS, random_document, relation_model, tiny_encoder, tokenizer

from fascicle.hf.adapters import add_lora
from fascicle.hf.training_options import LoraOptions
from fascicle.objects import LoadedModel, Step
from fascicle_sief.document import Document, Mention, Relation
from fascicle_sief.errors import ModelError
from fascicle_sief.features import DocumentEncoder, collate
from fascicle_sief.inference import encoder_of
from fascicle_sief.modeling import RelationConfig, RelationModel, _bucket, _GraphHead, _Lstm, _Mentions
from fascicle_sief.objective import Focusing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BASES = ("bilstm", "bilinear", "atlop", "graph", "graph_bilstm")
TRANSFORMERS = ("bilinear", "atlop", "graph")


def exact(base: str, **config: Any) -> Any:
    """The base in float64, a copy that a test may train."""
    return copy.deepcopy(relation_model(base, **config)).double()


def batch_of(model: Any, documents: Sequence[Document]) -> dict[str, torch.Tensor]:
    encode = encoder_of(model, tokenizer())
    return collate([encode(d, i) for i, d in enumerate(documents)], encode.pad_id, len(model.config.relations))


def logits_of(model: Any, documents: Sequence[Document]) -> list[torch.Tensor]:
    """Of each document, read in one batch."""
    with torch.no_grad():
        z = model(**batch_of(model, documents)).logits
    return list(z.split([len(d.all_pairs()) for d in documents]))


def long_document(sentences: int, title: str = "long") -> Document:
    """Ten words a sentence; two entities, named in the first and in the last one, and one in the middle."""
    texts = [[WORDS[(i * k + k) % 6] for i in range(10)] for k in range(1, sentences + 1)]
    entities = [[Mention(0, 0, 1), Mention(sentences - 1, 3, 5)], [Mention(0, 4, 5), Mention(sentences - 1, 8, 9)]]
    return Document(title, texts, [*entities, [Mention(sentences // 2, 2, 3)]])


# ---- batches -------------------------------------------------------------------------------------------------------------


def test_the_bilstm_is_the_packed_one() -> None:
    torch.manual_seed(0)
    ours = _Lstm(RelationConfig(base="bilstm", relations=["r"], hidden=8, embedding=2), width=3).double()
    theirs = torch.nn.LSTM(7, 4, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            half = ours.from_end if name.endswith("_reverse") else ours.from_start
            weight.copy_(half.get_parameter(name.removesuffix("_reverse")))
    lengths = torch.tensor([6, 1, 4, 6])
    mask = (torch.arange(6) < lengths[:, None]).long()
    x = torch.randn(4, 6, 7, dtype=torch.float64, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected = torch.nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True, total_length=6)[0]
    got = ours.read(x, mask)
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(got)
    (ours_grad,), (theirs_grad,) = (torch.autograd.grad((y * weights).sum(), x) for y in (got, expected))
    assert torch.allclose(ours_grad, theirs_grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("base", BASES)
def test_a_document_is_told_the_same_alone_and_in_a_batch(base: str) -> None:
    model = exact(base)
    documents = [random_document(seed) for seed in range(12)]
    assert len({len(d) for d in documents}) > 2
    for document, together in zip(documents, logits_of(model, documents), strict=True):
        (alone,) = logits_of(model, [document])
        assert alone.shape == (len(document.all_pairs()), len(RELATIONS) + 1)
        assert torch.allclose(alone, together, rtol=0, atol=1e-9)


@pytest.mark.parametrize("base", TRANSFORMERS)
def test_a_document_that_fits_is_read_as_with_any_larger_window(base: str) -> None:
    document = long_document(3)
    assert len(batch_of(relation_model(base), [document])["input_ids"][0]) <= 60
    (want,) = logits_of(exact(base), [document])
    (got,) = logits_of(exact(base, window=60), [document])
    assert torch.equal(got, want)


@pytest.mark.parametrize("base", TRANSFORMERS)
def test_a_document_longer_than_the_window_is_read_whole_and_alike_in_any_batch(base: str) -> None:
    model = exact(base, window=48)
    short, long, longer = long_document(2), long_document(8), long_document(15)
    alone = [logits_of(model, [d])[0] for d in (short, long, longer)]
    assert all(z.isfinite().all() for z in alone)
    for z, together in zip(alone, logits_of(model, [short, long, longer]), strict=True):
        assert torch.allclose(z, together, rtol=0, atol=1e-9)
    last = [*long.sentences[:-1], tuple(reversed(long.sentences[-1]))]
    (other,) = logits_of(model, [Document("other", last, long.entities)])
    assert not torch.allclose(other, alone[1], atol=1e-4)  # the end, far beyond the first window, was read


# ---- odd documents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_3_relations_and_60_entities(base: str) -> None:
    texts = [["the", "film", "was", "good"] for _ in range(30)]
    document = Document("many", texts, [[Mention(e // 2, 2 * (e % 2), 2 * (e % 2) + 1)] for e in range(60)])
    model = relation_model(base, window=250)
    (z,) = logits_of(model, [document])
    assert z.shape == (60 * 59, 4)
    assert z.isfinite().all()


@pytest.mark.parametrize("base", BASES)
def test_an_entity_without_mention_is_answered_and_trains_with_finite_gradients(base: str) -> None:
    model = copy.deepcopy(relation_model(base)).train()
    documents = [
        Document("one dead", [["it", "was"]], [[Mention(0, 0, 1)], []], [Relation(0, 1, "owns")]),
        Document("all dead", [["good"]], [[], []]),
    ]
    out = model(**batch_of(model, documents))
    assert out.logits.isfinite().all()
    out.loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)


def test_without_attention_weights_atlop_says_what_to_load() -> None:
    model = exact("atlop")
    model.encoder.set_attn_implementation("sdpa")
    inner = model.encoder.forward

    def without(**inputs: Any) -> Any:  # sdpa has no weights to give, whatever it is asked
        out = inner(**inputs | {"output_attentions": False})
        return SimpleNamespace(last_hidden_state=out.last_hidden_state, attentions=None)

    model.encoder.forward = without
    with pytest.raises(ModelError, match='attn_implementation="eager"'):
        logits_of(model, [random_document(0)])


# ---- parts ---------------------------------------------------------------------------------------------------------------


def test_distances_fall_into_ten_buckets_on_either_side() -> None:
    first = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]  # of each bucket
    last = [0, 1, 3, 7, 15, 31, 63, 127, 255, 100_000]
    for distances in (first, last):
        assert _bucket(torch.tensor(distances)).tolist() == list(range(10, 20))
        assert _bucket(-torch.tensor(distances)).tolist() == list(range(10, 0, -1))


def slow_edges(sentences: int, where: Sequence[int], entities: Sequence[int], S: int) -> list[list[int]]:
    """One document's edges, by the words of the paper: mentions in one sentence come before mentions of one entity."""
    M = len(where)
    edges = [[0] * (S + M) for _ in range(S + M)]
    for i in range(S + M):
        for j in range(S + M):
            a, b = i - S, j - S
            if i == j:
                continue
            if i < S and j < S:
                edges[i][j] = int(i < sentences and j < sentences)
            elif i < S or j < S:
                sentence, mention = (i, b) if i < S else (j, a)
                edges[i][j] = 2 if entities[mention] >= 0 and where[mention] == sentence else 0
            elif entities[a] >= 0 and entities[b] >= 0:
                edges[i][j] = 4 if where[a] == where[b] else 3 if entities[a] == entities[b] else 0
    return edges


def test_the_edges_of_the_graph_are_those_of_a_slow_loop() -> None:
    documents = [d for d in map(random_document, range(40)) if any(d.entities)]
    features = batch_of(relation_model("graph"), documents)
    mentions = _Mentions(
        *(features[f"mention_{name}"] for name in ("starts", "ends", "entities", "sentences", "types"))
    )
    S = max(len(d) for d in documents)
    there = torch.arange(S) < torch.tensor([len(d) for d in documents])[:, None]
    edges = _GraphHead.edges(there, mentions)
    for b, document in enumerate(documents):
        where, of = features["mention_sentences"][b].tolist(), features["mention_entities"][b].tolist()
        assert edges[b].tolist() == slow_edges(len(document), where, of, S)
    assert set(edges.flatten().tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("base", BASES)
def test_a_saved_model_gives_the_same_logits(base: str, tmp_path: Path) -> None:
    model: Any = relation_model(base)
    model.save_pretrained(tmp_path)
    loaded: Any = RelationModel.from_pretrained(tmp_path)
    documents = [random_document(seed) for seed in range(6)]
    for a, b in zip(logits_of(model, documents), logits_of(loaded.eval(), documents), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("base", BASES)
def test_the_encoder_is_copied_and_not_changed(base: str) -> None:
    encoder = tiny_encoder()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    model = RelationModel.on(encoder, base=base, relations=list(RELATIONS), emb=64).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    out: Any = model(**batch_of(model, [random_document(seed) for seed in range(6)]))
    out.loss.backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("base", TRANSFORMERS)
def test_lora_trains_adapters_and_the_new_head_alone(base: str) -> None:
    model = copy.deepcopy(relation_model(base))
    head = ["head", *(["features"] if model.features is not None else [])]
    loaded = LoadedModel(
        model=model, tokenizer=tokenizer(), task="relations", name=base, source="random", extra={"head": head}
    )
    run: Any = SimpleNamespace(seed=1)
    adapted: Any = add_lora(loaded, LoraOptions(r=2, target_modules=["query", "value"]), run).model.train()
    before = {name: value.detach().clone() for name, value in adapted.named_parameters()}
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], 0.01)
    rows = batch_of(relation_model(base), [random_document(seed) for seed in range(6)])
    for step in range(2):  # B of an adapter is 0 at first, so A has no gradient in the first step
        Focusing().loss(adapted, dict(rows), Step(step, 2, 0.0)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, value in adapted.named_parameters() if not torch.equal(value, before[name])}
    assert any("lora_A" in name for name in changed)
    assert any("lora_B" in name for name in changed)
    assert any("head" in name for name in changed)
    assert all("lora_" in name or "modules_to_save" in name for name in changed)
    kept = {name.partition(".modules_to_save")[0] for name in before if "modules_to_save" in name}
    assert kept == {f"base_model.model.{part}" for part in head}  # whole: a part of a part could not be loaded again


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ModelError, match="base: got 'gain', expected one of bilstm, bilinear"):
        RelationConfig(base="gain")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="emb: got 100, expected a multiple of block=64"):
        RelationConfig(emb=100)
    both: Any = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=True))
    with pytest.raises(ModelError, match="expected an encoder"):
        RelationModel.on(both)
    with pytest.raises(ModelError, match="heads: got 5, expected a divisor of the width"):
        RelationModel.on(tiny_encoder(), base="graph", relations=["owns"], emb=64, heads=5)


def test_markers_and_link_belong_to_atlop() -> None:
    for base in BASES:
        config = relation_model(base).config
        assert (config.link, config.markers) == (("threshold", True) if base == "atlop" else ("sigmoid", False))
    marked = DocumentEncoder(tokenizer(), RELATIONS, types=TYPES)(Document("d", [["it", "was"]], [[Mention(0, 0, 1)]]))
    assert marked["mention_ends"][0] - marked["mention_starts"][0] == 3  # the marker, the word, the marker
