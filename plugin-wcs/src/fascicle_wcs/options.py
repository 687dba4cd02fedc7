"""Options of the plugin, typed. Light: no torch, no numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

__all__ = [
    "StateOptions",
    "WcsBli",
    "WcsData",
    "WcsIda",
    "WcsIsomorphism",
    "WcsMap",
    "WcsPlantedData",
    "WcsPlantedModel",
    "WcsSmallLm",
    "WcsStatic",
    "WcsTexts",
    "WcsTranslation",
    "WcsWordllama",
]

Count = Annotated[int, Ge(1)]
Step = Literal["unit", "center"]


# ---- models --------------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class WcsStatic:
    """Word vectors of two languages from files.

    >>> WcsStatic(source="fr.vec.gz", target="en.vec.gz").first
    200000
    """

    source: str
    """File or folder with the source language's vectors: word2vec text or binary, `.gz` too, `.npy` with words, spaCy, a store."""
    target: str
    """The same for the target language."""
    first: Count | None = 200_000
    """Read so many words of each, the most frequent first; None reads all."""
    lower: bool = False
    """Lower-case words, the first form wins: for vectors that keep case beside dictionaries that do not."""
    name: str | None = None
    """What tables call the vectors; None takes the files' names."""


@dataclass(kw_only=True)
class WcsWordllama:
    """Static vectors that were trained from LLaMA-2's token embeddings (wheel `wordllama`): a word is the mean of its tokens.

    Both languages lie in one space already. The words are those of the data's vocabulary.
    """

    sources: list[str] = field(default_factory=lambda: ["wheel:wordllama"])
    """Where the codebook and its tokenizer are: `wheel:wordllama`, or a folder that holds the same files."""
    name: str = "wordllama"
    """What tables call it."""


@dataclass(kw_only=True)
class WcsPlantedModel:
    """Vectors of two made-up languages, one a rotation of the other with noise. Our choice; the paper has no such data."""

    words: Annotated[int, Ge(50)] = 2000
    """Words of each language."""
    dim: Annotated[int, Ge(2)] = 64
    """Width of the vectors."""
    noise: Annotated[float, Ge(0)] = 0.02
    """Standard deviation of the noise on each coordinate of the target, vectors having length 1."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the languages; `${seed}` makes others for each run."""


@dataclass(kw_only=True)
class WcsSmallLm:
    """A small Llama that knows nothing yet, with a tokenizer learnt from the texts it is to be trained on (data `wcs_texts`)."""

    files: list[str] = field(default_factory=list)
    """`en-de:FILE`: two languages and a file of two columns with a tab between them, as the data's."""
    vocabulary: Annotated[int, Ge(300)] = 8000
    """Tokens of the byte-level BPE."""
    hidden_size: Annotated[int, Ge(8)] = 256
    """Width."""
    layers: Count = 8
    """Blocks."""
    heads: Count = 4
    """Attention heads; they divide the width."""
    max_length: Annotated[int, Ge(16)] = 256
    """Tokens that it can read."""
    name: str = "wcs_small_lm"
    """What tables call it."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size: expected a multiple of heads={self.heads}, got {self.hidden_size}")
        if not self.files:
            raise ValueError("files: got none, expected at least one such as en-de:FILE")


# ---- data ----------------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class WcsPlantedData:
    """The dictionary of the two made-up languages; the numbers are the model's."""

    words: Annotated[int, Ge(50)] = 2000
    """Words of each language."""
    dim: Annotated[int, Ge(2)] = 64
    """Width of the vectors."""
    noise: Annotated[float, Ge(0)] = 0.02
    """Noise of the target's vectors."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the languages."""
    test_rows: Count = 500
    """Pairs that are kept for the test, drawn from all frequencies; the rest may be trained on."""


@dataclass(kw_only=True)
class WcsData:
    """Bilingual dictionaries from files, and which words there are to choose from.

    >>> WcsData(train="fr-en.train.tsv", test="fr-en.test.tsv", source="fr", target="en").vocabulary
    'dictionary'
    """

    train: str
    """Dictionary to learn from: source word, tab or space, target word; MUSE, XLING and PanLex files."""
    test: str | None = None
    """Dictionary to measure on; None divides `train` as MUSE does, by source word."""
    source: str = "source"
    """Language of the first column, as ISO code; prompts and `wordfreq` use it."""
    target: str = "target"
    """Language of the second column."""
    columns: Literal["source-target", "target-source"] = "source-target"
    """Order of the columns in the files."""
    lower: bool = False
    """Lower-case both sides."""
    train_words: Count | None = None
    """Source words to learn from, from the first on; None takes all, or 5000 where `test` is None, as MUSE does."""
    test_words: Count | None = None
    """Source words to measure on; None takes all, or the 1500 behind those for training where `test` is None."""
    drop_overlap: bool = False
    """Leave pairs out of training whose source word is in the test; False only counts and warns."""
    vocabulary: str = "dictionary"
    """Words of both languages for models that can embed any: `dictionary` (those of both dictionaries), `wordfreq` (the most
    frequent ones, with the dictionaries' source words), or two files as `SOURCE_FILE:TARGET_FILE`, a word a line."""
    vocabulary_size: Count = 20_000
    """Words a language taken from `wordfreq` or from the files."""
    max_length: Count | None = None
    """Longest input in tokens when a model is fine-tuned on the dictionary; None is what the model allows."""
    name: str | None = None
    """What tables call the data; None is `source-target`."""


@dataclass(kw_only=True)
class WcsTexts:
    """Text of several languages from parallel files, without what belongs together: to train a language model on."""

    files: list[str] = field(default_factory=list)
    """`en-de:FILE`: two languages and a file of two columns with a tab between them."""
    test_rows: Count = 200
    """Paragraphs of each language set aside."""
    block_length: Annotated[int, Ge(8)] = 128
    """Tokens of a row; a row is of one language."""
    split_seed: Annotated[int, Ge(0)] = 0
    """Seed of the orders, apart from the run's."""
    name: str = "texts"
    """What tables call the data."""

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files: got none, expected at least one such as en-de:FILE")


# ---- states of a language model ------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class StateOptions:
    """Which states of a language model stand for a word; without meaning for static vectors."""

    layers: list[Annotated[int, Ge(0)]] = field(default_factory=list)
    """Layers: 0 is the input of the first block, i the output of the i-th; empty takes all."""
    pool: Literal["mean", "last"] = "mean"
    """Of a word's tokens: their mean, or the last (what the next token sees, nearest to the paper's wording)."""
    template: str | None = None
    """Text around the word, with `{word}`; None is the bare word behind the start token."""
    batch_tokens: Annotated[int, Ge(16)] = 4096
    """Tokens read at once, padding included."""


# ---- training ------------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class WcsMap:
    """One map from the source space to the target space, for each layer; the model is left as it is."""

    method: Literal["procrustes", "vecmap", "rcsls", "identity"] = "procrustes"
    """`procrustes`: equation 1. `vecmap`: whitening and re-weighting around it. `rcsls`: the retrieval criterion, relaxed.
    `identity`: no map, the control."""
    seeds: Literal["dictionary", "identical", "numerals", "unsupervised"] = "dictionary"
    """Where the first pairs come from: the training dictionary, words spelt alike, numbers, or the vectors' geometry alone."""
    pairs: Count | None = None
    """Use the first so many source words of the training dictionary; the paper uses 1000. None uses all."""
    shuffle: bool = False
    """Control: permute the target side of the pairs."""
    self_learning: bool = False
    """Grow the dictionary from the map and the map from the dictionary until nothing changes; needed by weak seeds."""
    normalize: list[Step] = field(default_factory=lambda: ["unit", "center", "unit"])
    """Steps on both sides before the fit. The paper mentions none; without them a common direction decides."""
    completion: Literal["identity", "svd"] = "identity"
    """Where pairs are fewer than dimensions: nothing is turned that no pair speaks of, or whatever the decomposition returns."""
    ridge: Annotated[float, Ge(0)] = 0.0
    """Pull towards the identity, as a share of the largest singular value."""
    reduce: Literal["pca", "none"] = "pca"
    """Where the two sides differ in width: the wider one on its principal axes, or an error."""
    knn: Count = 10
    """Neighbours of CSLS in self-learning."""
    cutoff: Count = 20_000
    """Words of each side in self-learning."""
    max_iter: Count = 500
    """Rounds of self-learning at most."""
    states: StateOptions = field(default_factory=StateOptions)
    """Which states of a language model stand for a word."""

    def __post_init__(self) -> None:
        if self.seeds == "unsupervised" and not self.self_learning:
            raise ValueError("seeds: unsupervised seeds are weak, expected self_learning: true beside them, got false")
        if self.shuffle and self.self_learning:
            raise ValueError("shuffle: expected false with self_learning, which would repair the pairs; got true")


@dataclass(kw_only=True)
class PromptOptions:
    """How a language model is asked for a translation."""

    shots: Annotated[int, Ge(0)] = 2
    """Examples before the question; the paper has one, prompt-based work five."""
    nearest: bool = False
    """Take the training pairs whose source word is nearest to the word asked for; False draws them once, by the seed."""
    max_new_tokens: Count = 5
    """Tokens of an answer at most."""
    beams: Count = 1
    """Beams; the first answer that is in the target vocabulary wins. 1 is greedy."""
    batch_size: Count = 16
    """Prompts asked at once."""


@dataclass(kw_only=True)
class InjectOptions:
    """How a map is put into the network while a prompt is read."""

    layer: Annotated[int, Ge(1)] = 9
    """Block after which the states are mapped; 9 in the paper, of 30 and 32."""
    scope: Literal["word", "last", "all"] = "word"
    """Positions that are mapped: the word's tokens, the prompt's last, or all of it. The paper does not say."""
    strength: Annotated[float, Interval(ge=0, le=1)] = 1.0
    """How far along the shortest path from the identity to the map; 1 is the map, as in the paper."""
    affine: bool = True
    """Move from the source words' mean to the target words'; the paper has no means. Needs a map that was fitted with `center`."""
    keep_norm: bool = True
    """Turn each state and keep its length, whatever the fit normalised."""


@dataclass(kw_only=True)
class WcsIda:
    """Iterative dictionary augmentation: what the plain and the mapped network agree on joins the dictionary (algorithm 1)."""

    unsupervised: bool = False
    """uIDA: the first pairs are the model's own translations, and they leave once the first map is there."""
    pairs: Count = 1000
    """Pairs to begin with; 1000 in the paper."""
    grow_to: Count = 6000
    """Size of the dictionary at which it ends; 6000 in the paper's section 6.2 (its appendix says 15000)."""
    chunk: Count = 1000
    """Source words, by frequency, asked for in each round."""
    max_iter: Count = 10
    """Rounds at most."""
    agreement: Literal["exact", "casefold"] = "casefold"
    """When two answers are the same word."""
    completion: Literal["identity", "svd"] = "identity"
    """As in `wcs_map`."""
    normalize: list[Step] = field(default_factory=lambda: ["unit", "center", "unit"])
    """As in `wcs_map`."""
    prompt: PromptOptions = field(default_factory=PromptOptions)
    """How the model is asked."""
    inject: InjectOptions = field(default_factory=InjectOptions)
    """Where and how the map is put in."""
    states: StateOptions = field(default_factory=StateOptions)
    """Which states stand for a word; the layer is that of `inject`."""


# ---- evaluation ----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class WcsBli:
    """Bilingual lexicon induction by retrieval: P@1, P@5, P@10, MRR, coverage."""

    method: Literal["csls", "nn", "invsoftmax"] = "csls"
    """How neighbours are scored."""
    knn: Count = 10
    """Neighbours in the hubness terms of CSLS."""
    oov: Literal["wrong", "drop"] = "drop"
    """Test words that have no vector, or whose translations have none: counted as wrong, or left out and told as coverage."""
    backend: Literal["auto", "numpy", "torch", "faiss"] = "auto"
    """Library of the matrix products."""
    controls: bool = True
    """Measure the identity and a map from shuffled pairs beside the map."""
    backward: bool = True
    """Also ask for the source word of each target word, by the same map."""
    layer: Annotated[int, Ge(0)] | None = None
    """Layer of a language model whose figures lead; None takes the paper's 9, or the middle one where 9 was not read."""
    words: list[str] = field(default_factory=list)
    """Source words whose neighbours stand on the page; empty takes some test words."""
    states: StateOptions = field(default_factory=StateOptions)
    """Which states stand for a word, where `training` fitted no map."""


@dataclass(kw_only=True)
class WcsIsomorphism:
    """How alike two spaces are, layer by layer, always beside controls."""

    words: Annotated[int, Ge(20)] = 1000
    """Training pairs that are compared, one target a source word, the most frequent first."""
    exclude_identical: bool = True
    """Leave out pairs that are spelt alike: a model that reads them has the same states for both, whatever the languages."""
    permutations: Annotated[int, Ge(10)] = 100
    """Draws of the permutation null."""
    resamples: Annotated[int, Ge(10)] = 20
    """Draws of the interval, each of half the words."""
    folds: Annotated[int, Ge(2)] = 5
    """Folds of the held-out residual."""
    legacy: bool = False
    """Also the Gromov-Hausdorff value that earlier work computed, for comparison with published numbers; slow."""
    states: StateOptions = field(default_factory=StateOptions)
    """Which states stand for a word, where `training` fitted no map."""


@dataclass(kw_only=True)
class WcsTranslation:
    """Bilingual lexicon induction by asking the model: plainly, and with the map inside the network."""

    rows: Count | None = None
    """Test words; None takes all."""
    controls: bool = True
    """Also ask with a random rotation in the map's place, and with the identity."""
    sweep: list[Annotated[float, Interval(ge=0, le=1)]] = field(default_factory=list)
    """Also ask at these strengths: the ablation of the injection."""
    back_translation: bool = False
    """Also count the answers that the model translates back to the word that was asked."""
    exclude_identical: bool = False
    """Only words none of whose translations is spelt as the word."""
    prompt: PromptOptions = field(default_factory=PromptOptions)
    """How the model is asked."""
    inject: InjectOptions = field(default_factory=InjectOptions)
    """Where and how the map is put in."""
    resamples: Annotated[int, Gt(99)] = 1000
    """Bootstrap samples of test words for the paired intervals."""
