"""Models of relations between the entities of a document: any encoder of transformers, and one of three heads.

| base | encoder | head | after |
|---|---|---|---|
| `bilstm` | BiLSTM over the encoder's frozen word vectors | bilinear | DocRED's baseline (Yao et al., ACL 2019) |
| `bilinear` | the transformer | bilinear | the same with BERT |
| `atlop` | the transformer | localized context pooling, adaptive threshold | ATLOP (Zhou et al., AAAI 2021) |
| `graph` | the transformer | heterogeneous graph of sentences and mentions | HeterGSAN, the base of the official SIEF code |
| `graph_bilstm` | BiLSTM | the same graph | the same, as with GloVe |

Each takes the tensors of `features.collate` and gives (N, R + 1) logits, so each can be trained under any loss on them.

Letters: B documents, L word pieces, S sentences, M mentions, E entities, N pairs, C = R + 1 columns, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from .errors import ModelError
from .focusing import relation_loss

if TYPE_CHECKING:
    from torch import Tensor

    from .focusing import Link

__all__ = ["Base", "RelationConfig", "RelationModel", "RelationOutput"]

Base = Literal["bilstm", "bilinear", "atlop", "graph", "graph_bilstm"]
ENTITY_IDS = 64
DISTANCES = 20


class RelationConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """What a [`RelationModel`] is made of.

    Args:
        base: see the module.
        encoder: configuration of the transformer, as a mapping.
        relations: names of the R relations, without "no relation".
        entity_types: names of the types that have an embedding; others share one.
        max_pieces: word pieces of a document that are read; longer documents lose sentences at the end.
        window: word pieces that the transformer reads at once; longer documents are read in windows that overlap.
        overlap: word pieces that neighbouring windows share at least.
        hidden: width of the BiLSTM (both directions) and of the bilinear head's entities.
        embedding: width of entity type, entity number and distance.
        layers: of the graph.
        heads: of the graph.
        emb: width of ATLOP's pair representation; a multiple of `block`.
        block: of ATLOP's grouped bilinear.
        dropout: on the head's inputs.
        threshold: probability above which a relation is predicted; chosen on data for the link `sigmoid`.

    Example:
        >>> RelationConfig(base="atlop", relations=["owns"]).link
        'threshold'
    """

    model_type = "sief_relations"

    def __init__(
        self,
        base: Base = "atlop",
        encoder: dict[str, Any] | None = None,
        relations: list[str] | None = None,
        entity_types: list[str] | None = None,
        max_pieces: int = 1024,
        window: int = 512,
        overlap: int = 128,
        hidden: int = 256,
        embedding: int = 20,
        layers: int = 2,
        heads: int = 4,
        emb: int = 384,
        block: int = 64,
        dropout: float = 0.1,
        threshold: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if base not in get_args(Base):
            raise ModelError(f"base: got {base!r}, expected one of {', '.join(get_args(Base))}")
        self.base, self.encoder = base, dict(encoder or {})
        self.relations, self.entity_types = list(relations or []), list(entity_types or [])
        self.max_pieces, self.window, self.overlap = max_pieces, window, overlap
        self.hidden, self.embedding, self.layers, self.heads = hidden, embedding, layers, heads
        self.emb, self.block, self.dropout, self.threshold = emb, block, dropout, threshold
        if emb % block:
            raise ModelError(f"emb: got {emb}, expected a multiple of block={block}")

    @property
    def link(self) -> Link:
        """How logits become probabilities."""
        return "threshold" if self.base == "atlop" else "sigmoid"

    @property
    def markers(self) -> bool:
        """Whether mentions are marked in the text."""
        return self.base == "atlop"


@dataclass
class RelationOutput(ModelOutput):
    """What a [`RelationModel`] answers."""

    loss: Tensor | None = None
    """L_RE, where labels were given."""
    logits: Tensor | None = None
    """(N, C)."""


class RelationModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Relations between the entities of documents.

    Args:
        config: what it is made of; the encoder's weights are random, see [`RelationModel.on`].

    Example:
        >>> from transformers import BertConfig
        >>> small = BertConfig(
        ...     vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        ... )
        >>> model = RelationModel(
        ...     RelationConfig("bilinear", small.to_dict(), relations=["owns"], hidden=8, emb=64)
        ... ).eval()
        >>> ids, mentions = torch.tensor([[1, 5, 6, 2]]), torch.tensor([[0, 1]])
        >>> batch = dict(
        ...     input_ids=ids, attention_mask=torch.ones_like(ids), sentence_ids=torch.tensor([[-1, 0, 0, -1]])
        ... )
        >>> batch |= dict(mention_starts=mentions + 1, mention_ends=mentions + 2, mention_entities=mentions)
        >>> batch |= dict(mention_sentences=mentions * 0, mention_types=mentions * 0)
        >>> model(**batch, pairs=torch.tensor([[0, 0, 1]]), distances=torch.tensor([1])).logits.shape
        torch.Size([1, 2])
    """

    config_class = RelationConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True

    def __init__(self, config: RelationConfig) -> None:
        super().__init__(config)
        kind = dict(config.encoder)
        inner = AutoConfig.for_model(kind.pop("model_type"), **kind)
        # ATLOP reads attention weights, which only the eager implementation returns
        attention = {"attn_implementation": "eager"} if config.base == "atlop" else {}
        self.encoder: Any = AutoModel.from_config(inner, **attention)  # type: ignore[no-untyped-call]
        width, columns = inner.hidden_size, len(config.relations) + 1
        self.lstm = _Lstm(config, width) if config.base.endswith("bilstm") else None
        if self.lstm is not None:
            self.supports_gradient_checkpointing = False
            width = config.hidden
            self._keep_word_vectors_only()
        self.features = _TokenFeatures(config) if config.base.startswith("graph") and self.lstm is None else None
        if self.features is not None:
            width += 2 * config.embedding
        if config.base == "atlop":
            self.head: nn.Module = _AtlopHead(config, width, columns)
        elif config.base.startswith("graph"):
            self.head = _GraphHead(config, width, columns)
        else:
            self.head = _BilinearHead(config, width, columns)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def on(cls, encoder: Any, **config: Any) -> RelationModel:
        """A new head on a pretrained encoder, whose weights are copied.

        Args:
            encoder: any encoder of `AutoModel`.
            config: of [`RelationConfig`].

        Raises:
            ModelError: an encoder-decoder.
        """
        if encoder.config.is_encoder_decoder:
            raise ModelError(f"encoder: got the encoder-decoder {type(encoder).__name__}, expected an encoder")
        model: Any = cls(RelationConfig(encoder=encoder.config.to_dict(), **config))
        if model.lstm is None:
            model.encoder.load_state_dict(encoder.state_dict())
        else:
            model.encoder.get_input_embeddings().load_state_dict(encoder.get_input_embeddings().state_dict())
        made: RelationModel = model.to(encoder.dtype)
        return made

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        sentence_ids: Tensor,
        mention_starts: Tensor,
        mention_ends: Tensor,
        mention_entities: Tensor,
        mention_sentences: Tensor,
        mention_types: Tensor,
        pairs: Tensor,
        distances: Tensor,
        labels: Tensor | None = None,
        **_: Any,
    ) -> RelationOutput:
        """Logits of each pair; see `features.collate` for the arguments."""
        mentions = _Mentions(mention_starts, mention_ends, mention_entities, mention_sentences, mention_types)
        attention = None
        if self.lstm is not None:
            words = self.encoder.get_input_embeddings()(input_ids)
            states = self.lstm(words, attention_mask, mentions)
        else:
            states, attention = self._read(input_ids, attention_mask)
        if self.features is not None:
            states = torch.cat([states, self.features(mentions, states.shape[1]).to(states.dtype)], -1)
        logits = self.head(states, attention, mentions, sentence_ids, pairs, distances)
        loss = None if labels is None else relation_loss(logits, labels, self.config.link)
        return RelationOutput(loss=loss, logits=logits)

    def _keep_word_vectors_only(self) -> None:
        """A BiLSTM reads the word vectors; the transformer above them is not needed."""
        embeddings = self.encoder.get_input_embeddings()
        self.encoder = _WordVectors(embeddings)
        embeddings.requires_grad_(False)

    def _read(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, L, D) states and, for ATLOP, (B, H, L, L) attention of the last layer.

        A document longer than the window is read in windows of its own, so that what else is in the batch does not matter; where
        windows overlap, it is their mean.
        """
        if ids.shape[1] <= self.config.window:
            return self._read_once(ids, mask)
        b, index, shown = _windows(mask.sum(1).tolist(), self.config.window, self.config.overlap, ids.device)
        h, a = self._read_once(ids[b, index], shown.long())  # (K, W, D), (K, H, W, W)
        at = (b.expand_as(index), index)
        counted = ids.new_zeros(ids.shape).index_put(at, shown.long(), accumulate=True)
        states = h.new_zeros(*ids.shape, h.shape[-1]).index_put(at, h * shown[..., None], accumulate=True)
        states = states / counted.clamp(min=1)[..., None]
        if a is None:
            return states, None
        both = shown[:, :, None] & shown[:, None]  # (K, W, W)
        cells = (b[..., None].expand_as(both), index[:, :, None].expand_as(both), index[:, None].expand_as(both))
        B, L = ids.shape
        seen = ids.new_zeros(B, L, L).index_put(cells, both.long(), accumulate=True)
        looks = a.permute(0, 2, 3, 1) * both[..., None]  # (K, W, W, H)
        summed = a.new_zeros(B, L, L, a.shape[1]).index_put(cells, looks, accumulate=True)
        return states, (summed / seen.clamp(min=1)[..., None]).permute(0, 3, 1, 2)

    def _read_once(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.config.base != "atlop":
            return self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state, None
        out = self.encoder(input_ids=ids, attention_mask=mask, output_attentions=True)
        if not out.attentions:
            raise ModelError(
                'ATLOP reads attention weights, and the encoder returned none: load it with attn_implementation="eager"'
            )
        return out.last_hidden_state, out.attentions[-1]

    def _init_weights(self, module: nn.Module) -> None:
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()


def _windows(lengths: list[int], window: int, overlap: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of K windows over documents: (K, 1) the document, (K, W) the pieces, (K, W) which are real; each has [CLS] and [SEP]."""
    size = window - 2
    places = [
        (b, start, n)
        for b, n in enumerate(lengths)
        for start in ([0] if n <= window else [*range(0, n - 2 - size, max(1, size - overlap)), n - 2 - size])
    ]
    b, start, n = torch.tensor(places, device=device).T[..., None]  # (K, 1) each
    offset = torch.arange(min(window, max(lengths)), device=device)
    inner = (n - 2).clamp(max=size)
    index = torch.where(offset == 0, 0, torch.where(offset <= inner, start + offset, n - 1))
    return b, index, offset <= inner + 1


AutoConfig.register(RelationConfig.model_type, RelationConfig, exist_ok=True)
AutoModel.register(RelationConfig, RelationModel, exist_ok=True)


class _WordVectors(nn.Module):
    """The word vectors of an encoder, alone."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.word_embeddings = embeddings

    def get_input_embeddings(self) -> nn.Module:
        return self.word_embeddings


@dataclass
class _Mentions:
    """(B, M) each."""

    starts: Tensor
    ends: Tensor
    entities: Tensor
    sentences: Tensor
    types: Tensor

    def covering(self, length: int) -> Tensor:
        """(B, M, L): 1 where a mention covers a word piece."""
        at = torch.arange(length, device=self.starts.device)
        return (self.starts[..., None] <= at) & (at < self.ends[..., None]) & (self.entities >= 0)[..., None]

    def members(self, entities: int) -> Tensor:
        """(B, E, M): 1 where a mention is one of an entity."""
        return self.entities[:, None] == torch.arange(entities, device=self.entities.device)[:, None]

    def means(self, states: Tensor) -> Tensor:
        """(B, M, D): mean state over each mention."""
        return _mean(self.covering(states.shape[1]), states)

    def count(self, pairs: Tensor) -> int:
        """E."""
        known = int(self.entities.max()) + 1 if self.entities.numel() else 0
        return max(known, int(pairs[:, 1:].max()) + 1 if len(pairs) else 0, 1)


def _mean(chosen: Tensor, values: Tensor) -> Tensor:
    """(B, K, D) means over the (B, K, X) chosen of (B, X, D); 0 where none is chosen."""
    weights = chosen.to(values.dtype)
    return (weights @ values) / weights.sum(-1, keepdim=True).clamp(min=1)


def _bucket(distances: Tensor) -> Tensor:
    """(N,) 0 to 19: 0, 1, 2-3, 4-7, ..., 256 and more, by sign."""
    size = distances.abs()
    bucket = torch.where(size > 0, size.clamp(min=1).double().log2().floor().long() + 1, 0).clamp(max=9)
    return DISTANCES // 2 + distances.sign() * bucket


class _TokenFeatures(nn.Module):
    """Embeddings of entity type and entity number, (B, L, 2 · embedding); 0 outside mentions."""

    def __init__(self, config: RelationConfig) -> None:
        super().__init__()
        self.types = nn.Embedding(len(config.entity_types) + 2, config.embedding, padding_idx=0)
        self.numbers = nn.Embedding(ENTITY_IDS + 1, config.embedding, padding_idx=0)

    def forward(self, mentions: _Mentions, length: int) -> Tensor:
        covering = mentions.covering(length)  # (B, M, L)
        number = torch.where(covering, (mentions.entities % ENTITY_IDS + 1)[..., None], 0)
        kind = torch.where(covering, (mentions.types + 1)[..., None], 0)
        if not covering.shape[1]:
            number = kind = covering.new_zeros(len(covering), 1, length, dtype=torch.long)
        return torch.cat([self.types(kind.amax(1)), self.numbers(number.amax(1))], -1)


class _Lstm(nn.Module):
    """BiLSTM over word vectors, entity types and entity numbers.

    The direction from the end reads every row turned round, its padding still last, so that neither direction meets padding before
    words and the batch stays one block: on a CPU a sixth of the time of packed sequences, forward and back, for the same result.
    """

    def __init__(self, config: RelationConfig, width: int) -> None:
        super().__init__()
        self.features = _TokenFeatures(config)
        self.norm = nn.LayerNorm(width)  # word vectors of different models differ in size by a hundred times
        size = width + 2 * config.embedding
        self.from_start, self.from_end = (nn.LSTM(size, config.hidden // 2, batch_first=True) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, words: Tensor, mask: Tensor, mentions: _Mentions) -> Tensor:
        x = self.dropout(torch.cat([self.norm(words), self.features(mentions, words.shape[1]).to(words.dtype)], -1))
        dropped: Tensor = self.dropout(self.read(x, mask))
        return dropped

    def read(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) and the mask (B, L) of its words, which come first in a row, to both directions' states (B, L, H), 0 beyond."""
        place = torch.arange(x.shape[1], device=x.device)
        turned = mask.sum(1, keepdim=True) - 1 - place
        turned = torch.where(turned < 0, place, turned)[..., None]  # (B, L, 1); its own inverse
        start = self.from_start(x)[0]
        end = self.from_end(x.gather(1, turned.expand_as(x)))[0]
        states = torch.cat([start, end.gather(1, turned.expand_as(end))], -1)
        return states * mask[..., None].to(states.dtype)


class _BilinearHead(nn.Module):
    """Mean of mentions, distance, bilinear."""

    def __init__(self, config: RelationConfig, width: int, columns: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, config.hidden // 2)
        self.distance = nn.Embedding(DISTANCES, config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        size = config.hidden // 2 + config.embedding
        self.bilinear = nn.Bilinear(size, size, columns)

    def forward(
        self, states: Tensor, _: Tensor | None, mentions: _Mentions, __: Tensor, pairs: Tensor, distances: Tensor
    ) -> Tensor:
        x = self.dropout(self.project(states).relu())
        entities = _mean(mentions.members(mentions.count(pairs)), mentions.means(x))  # (B, E, D)
        near = _bucket(distances)
        b, h, t = pairs.unbind(1)
        head = torch.cat([entities[b, h], self.distance(near)], -1)
        tail = torch.cat([entities[b, t], self.distance(DISTANCES - near)], -1)
        w = self.bilinear.weight  # (C, D, D)
        # as products of matrices, which train ten times faster than nn.Bilinear itself
        left = (head @ w.permute(1, 0, 2).flatten(1)).view(len(pairs), *w.shape[::2])  # (N, C, D)
        logits: Tensor = torch.einsum("ncd,nd->nc", left, tail) + self.bilinear.bias
        return logits


class _AtlopHead(nn.Module):
    """Localized context pooling and a grouped bilinear form (ATLOP)."""

    def __init__(self, config: RelationConfig, width: int, columns: int) -> None:
        super().__init__()
        self.block = config.block
        self.head_of = nn.Linear(2 * width, config.emb)  # PEFT finds modules to save by how their names end: not "head"
        self.tail_of = nn.Linear(2 * width, config.emb)
        self.bilinear = nn.Linear(config.emb * config.block, columns)

    def forward(
        self, states: Tensor, attention: Tensor | None, mentions: _Mentions, _: Tensor, pairs: Tensor, __: Tensor
    ) -> Tensor:
        assert attention is not None
        members = mentions.members(mentions.count(pairs))  # (B, E, M)
        starts = mentions.starts
        marks = states.gather(1, starts[..., None].expand(-1, -1, states.shape[-1]))  # (B, M, D): the start markers
        entities = _logsumexp(members, marks)
        B, H, L = attention.shape[:3]
        rows = attention.gather(2, starts[:, None, :, None].expand(B, H, -1, L))  # (B, H, M, L)
        looks = _mean(members, rows.transpose(1, 2).flatten(2)).view(B, -1, H, L)  # (B, E, H, L)
        b, h, t = pairs.unbind(1)
        q = (looks[b, h] * looks[b, t]).mean(1)  # (N, L)
        q = q / (q.sum(1, keepdim=True) + 1e-5)
        context = _by_document(q, states, b)  # (N, D)
        x = self.head_of(torch.cat([entities[b, h], context], -1)).tanh()
        y = self.tail_of(torch.cat([entities[b, t], context], -1)).tanh()
        x, y = x.unflatten(1, (-1, self.block)), y.unflatten(1, (-1, self.block))  # (N, G, block)
        logits: Tensor = self.bilinear((x[..., :, None] * y[..., None, :]).flatten(1))
        return logits


def _logsumexp(members: Tensor, values: Tensor) -> Tensor:
    """(B, E, D) log-sum-exp over the mentions of each entity; 0, without gradient, where there is none."""
    some = members.any(-1, keepdim=True)  # (B, E, 1)
    low = torch.finfo(values.dtype).min / 2
    pooled = torch.where(members[..., None], values[:, None], low).logsumexp(2)
    return torch.where(some, pooled, 0.0)


def _by_document(weights: Tensor, states: Tensor, document: Tensor) -> Tensor:
    """(N, D): each pair's weights (N, L) over the states (B, L, D) of its document. Pairs of a document stand together."""
    counts = torch.bincount(document, minlength=len(states)).tolist()
    each: Any = weights.split(counts)  # type: ignore[no-untyped-call]
    return torch.cat([w @ s for w, s in zip(each, states, strict=True)])


class _GraphHead(nn.Module):
    """Sentences and mentions as nodes of a graph with typed edges; entities are means of their mentions' nodes (HeterGSAN)."""

    EDGES = 5  # none, sentences, a sentence and its mention, mentions of one entity, mentions in one sentence

    def __init__(self, config: RelationConfig, width: int, columns: int) -> None:
        super().__init__()
        if width % config.heads:
            raise ModelError(f"heads: got {config.heads}, expected a divisor of the width {width}")
        self.layers = nn.ModuleList(_GraphLayer(width, config.heads, self.EDGES) for _ in range(config.layers))
        bank = width * (config.layers + 1)
        self.distance = nn.Embedding(DISTANCES, config.embedding)
        # one linear layer over [head; tail; distance], in parts: each is computed once for an entity, not once for a pair
        self.head_of = nn.Linear(bank, 2 * bank, bias=False)
        self.tail_of = nn.Linear(bank, 2 * bank, bias=False)
        self.of_distance = nn.Linear(config.embedding, 2 * bank)
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(2 * bank, columns)

    def forward(
        self,
        states: Tensor,
        _: Tensor | None,
        mentions: _Mentions,
        sentence_ids: Tensor,
        pairs: Tensor,
        distances: Tensor,
    ) -> Tensor:
        S = int(sentence_ids.max()) + 1 if sentence_ids.numel() else 0
        inside = sentence_ids[:, None] == torch.arange(S, device=states.device)[:, None]  # (B, S, L)
        x = torch.cat([_mean(inside, states), mentions.means(states)], 1)  # (B, S + M, D)
        edges = self.edges(inside.any(-1), mentions)
        bank = [x]
        for layer in self.layers:
            bank.append(layer(bank[-1], edges))
        nodes = torch.cat(bank, -1)[:, S:]  # (B, M, bank): the sentences are not read out
        entities = _mean(mentions.members(mentions.count(pairs)), nodes)
        b, h, t = pairs.unbind(1)
        hidden = self.head_of(entities)[b, h]  # (N, 2 bank), the largest of all: what follows changes it in place
        hidden += self.tail_of(entities)[b, t]
        hidden += self.of_distance(self.distance.weight)[_bucket(distances)]
        logits: Tensor = self.out(self.dropout(hidden.relu_()))
        return logits

    @staticmethod
    def edges(sentences: Tensor, mentions: _Mentions) -> Tensor:
        """(B, K, K) kind of edge between the K = S + M nodes; sentences (B, S) bool: which there are."""
        S, M = sentences.shape[1], mentions.entities.shape[1]
        real = mentions.entities >= 0  # (B, M)
        edges = mentions.entities.new_zeros(len(sentences), S + M, S + M)
        edges[:, :S, :S] = (sentences[:, :, None] & sentences[:, None]).long()
        at = torch.arange(S, device=sentences.device)
        contained = ((mentions.sentences[:, None] == at[:, None]) & real[:, None]).long() * 2  # (B, S, M)
        edges[:, :S, S:] = contained
        edges[:, S:, :S] = contained.transpose(1, 2)
        both = real[:, :, None] & real[:, None]  # (B, M, M)
        same = (mentions.entities[:, :, None] == mentions.entities[:, None]) & both
        together = (mentions.sentences[:, :, None] == mentions.sentences[:, None]) & both
        edges[:, S:, S:] = torch.where(together, 4, torch.where(same, 3, 0))
        eye = torch.eye(S + M, dtype=torch.bool, device=edges.device)
        return edges.masked_fill(eye, 0)


class _GraphLayer(nn.Module):
    """out_i = ReLU(Σ_j a_ij W x_j), a_i = softmax_j LeakyReLU(w_k · [W x_i; W x_j] + b_k), k the kind of edge; H heads."""

    def __init__(self, width: int, heads: int, kinds: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, width, bias=False)
        self.ends = nn.ModuleList(nn.Linear(width // heads, kinds) for _ in range(2))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        h = self.project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, K, D / H)
        kind = edges[:, None].expand(-1, self.heads, -1, -1)  # (B, H, K, K)
        to, of = (end(h) for end in self.ends)  # (B, H, K, kinds)
        e = to.gather(3, kind) + of.gather(3, kind.transpose(2, 3)).transpose(2, 3)
        e = nn.functional.leaky_relu(e)
        joined = kind > 0
        a = torch.where(joined, e, torch.finfo(e.dtype).min / 2).softmax(-1)
        out = torch.where(joined, a, 0.0) @ h  # a node without neighbours gets nothing
        gone: Tensor = self.dropout(out.relu()).transpose(1, 2).flatten(2)
        return gone
