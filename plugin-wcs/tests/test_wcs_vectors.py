"""Vectors hold what they were given, refuse what they cannot hold, and come back from every kind of file as they were written."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import logging
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fascicle_wcs.errors import VectorError
from fascicle_wcs.vectorfiles import read_vectors, write_vectors
from fascicle_wcs.vectors import Vectors
from fascicle_wcs.wordllama import wordllama_vectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def some(n: int = 5, d: int = 3) -> Vectors:
    return Vectors(tuple(f"w{i}" for i in range(n)), np.random.default_rng(0).normal(size=(n, d)), "toy")


# ---- in memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "matrix", "told"),
    [
        (("a", "b", "a"), np.eye(3), "'a' stands twice"),
        (("a", "b"), np.eye(3), r"shape \(3, 3\) for 2 words"),
        (("a",), np.ones(3), r"expected \(1, d\)"),
        (("a",), np.zeros((1, 0)), r"expected \(1, d\)"),
        (("a", "b"), [[0.0, 1.0], [np.nan, 0.0]], "'b' has a number that is not finite"),
        (("a",), [[1e300]], "'a' has a number that is not finite in float32"),
        (("a",), [["x"]], "expected real numbers"),
    ],
)
def test_what_are_not_vectors_is_refused(words: tuple[str, ...], matrix: object, told: str) -> None:
    with pytest.raises(VectorError, match=f"toy: .*{told}"):
        Vectors(words, np.array(matrix), "toy")


def test_neighbours_go_by_angle_and_not_by_length() -> None:
    words = ("a", "near", "long", "zero", "opposite")
    vectors = Vectors(words, np.array([[2, 0], [3, 1], [100, 100], [0, 0], [-1, 0]]))
    found = vectors.neighbours("a", 9)
    assert [word for word, _ in found] == ["near", "long", "zero", "opposite"]
    assert [cosine for _, cosine in found] == pytest.approx([3 / 10**0.5, 0.5**0.5, 0, -1])
    with pytest.raises(VectorError, match="no vector for 'A' among 5 words"):
        vectors.neighbours("A")


def test_rows_outside_are_refused() -> None:
    with pytest.raises(VectorError, match="row -1 of 5; expected 0 to 4"):
        some().take([0, -1])


# ---- saved ---------------------------------------------------------------------------------------------------------------


def test_saved_vectors_come_back_the_same_and_memory_mapped(tmp_path: Path) -> None:
    saved = Vectors(("café", "new york", "\ud800", '"\n'), np.random.default_rng(0).normal(size=(4, 3)), "été")
    opened = Vectors.open(saved.save(tmp_path / "new" / "folder"))
    assert (opened.words, opened.name) == (saved.words, saved.name)
    assert opened.matrix.tobytes() == saved.matrix.tobytes()
    assert isinstance(opened.matrix, np.memmap)
    assert isinstance(opened.first(2).matrix, np.memmap)
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["matrix.npy", "words.json"]


def test_vectors_can_be_saved_over_the_files_they_are_mapped_from(tmp_path: Path) -> None:
    opened = Vectors.open(some().save(tmp_path))
    opened.first(3).save(tmp_path)
    assert Vectors.open(tmp_path).matrix.tobytes() == opened.matrix[:3].tobytes()


def test_files_of_two_savings_are_not_mixed(tmp_path: Path) -> None:
    some().save(tmp_path / "one")
    Vectors(some().words, some().matrix + 1).save(tmp_path / "two")
    (tmp_path / "two" / "words.json").replace(tmp_path / "one" / "words.json")
    with pytest.raises(VectorError, match="not of the same saving"):
        Vectors.open(tmp_path / "one")


def test_a_folder_without_vectors_is_named(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match=r"no saved vectors.*expected matrix\.npy and words\.json"):
        Vectors.open(tmp_path)
    some().save(tmp_path)
    (tmp_path / "matrix.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(VectorError, match="is broken"):
        Vectors.open(tmp_path)


# ---- text files ----------------------------------------------------------------------------------------------------------


def text(tmp_path: Path, content: str, name: str = "toy.vec") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize("suffix", [".vec", ".txt", ".vec.gz", ".vec.bz2", ".vec.xz"])
def test_written_vectors_are_read_bit_by_bit(tmp_path: Path, suffix: str) -> None:
    words = ("the", "new york", "windows 95", "\N{NO-BREAK SPACE}", "a\N{LINE SEPARATOR}b", "été", "1.5")
    written = Vectors(words, np.random.default_rng(0).normal(size=(7, 5)) * 10.0 ** np.arange(-10, 15, 5))
    read = read_vectors(write_vectors(tmp_path / f"toy{suffix}", written))
    assert read.words == words
    assert read.matrix.tobytes() == written.matrix.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == [f"toy{suffix}"]


def test_what_is_written_packed_is_packed(tmp_path: Path) -> None:
    assert gzip.decompress(write_vectors(tmp_path / "toy.gz", some(2)).read_bytes()).startswith(b"2 3\nw0 ")


@pytest.mark.parametrize("word", ["", " a", "a ", "a\nb", "a\tb", "a  b"])
def test_a_word_that_text_cannot_hold_is_not_written(tmp_path: Path, word: str) -> None:
    with pytest.raises(VectorError, match=r"word 0, .*cannot hold"):
        write_vectors(tmp_path / "toy.vec", Vectors((word,), np.ones((1, 2))))
    with pytest.raises(VectorError, match=r"name the file \.vec"):
        write_vectors(tmp_path / "toy.bin", some())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        "3 2\ndog 1 2\nnew york 3 4\n3 5 6\n",
        "dog 1 2\nnew york 3 4\n3 5 6\n",
        "\ufeffdog 1 2\r\nnew york 3 4\r\n3 5 6\r\n",
        "3 2 \ndog 1 2 \nnew york 3 4 \n\n3 5 6",
        "dog\t1\t2\nnew york\t3\t4\n3\t5\t6\n",
        " dog  1  2\nnew york 3  4\n3 5 6\n",
    ],
    ids=["header", "GloVe", "Windows", "trailing blanks", "tabs", "wide blanks"],
)
def test_every_dialect_of_text_says_the_same(tmp_path: Path, content: str) -> None:
    read = read_vectors(text(tmp_path, content))
    assert read.words == ("dog", "new york", "3")
    assert read.matrix.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_vectors_of_one_number_without_header_are_not_taken_for_headers(tmp_path: Path) -> None:
    assert read_vectors(text(tmp_path, "7 3\n8 4\n")).matrix.tolist() == [[3], [4]]
    assert read_vectors(text(tmp_path, "1 1\n8 4\n")).words == ("8",)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"cat 1", "line 3: expected a word and 2 numbers, got 2 fields: 'cat 1'"),
        (b"cat 1 x", "line 3: .*could not convert string to float: 'x'"),
        (b"cat 1 nan", "line 3: .*not finite"),
        (b"cat 1 1e39", "line 3: .*not finite"),
        (b"1 2", "line 3: expected a word"),
        (b"c\xffat 1 2", "line 3: .*utf-8"),
    ],
)
def test_a_broken_line_is_named_or_skipped_and_counted(
    tmp_path: Path, line: bytes, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "toy.vec"
    path.write_bytes(b"3 2\ndog 1 2\n" + line + b"\ncat 3 4\n")
    with pytest.raises(VectorError, match=rf"toy\.vec: {told}"):
        read_vectors(path)
    read = read_vectors(path, on_error="skip")
    assert (read.words, read.matrix.tolist()) == (("dog", "cat"), [[1, 2], [3, 4]])
    assert "1 broken, skipped: line 3" in caplog.text


def test_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    path = text(tmp_path, "9 2\nDog 1 2\ncat 3 4\ndog 0 0\ncow 5 6\nbroken\n")
    assert read_vectors(path, first=4).words == ("Dog", "cat", "dog", "cow")
    assert read_vectors(path, words=["cow", "cat"]).words == ("cat", "cow")
    assert read_vectors(path, words=["Cow", "CAT"], lower=True).words == ("cat", "cow")
    with pytest.raises(VectorError, match="line 6"):
        read_vectors(path, first=5)
    with pytest.raises(VectorError, match="line 6"):
        read_vectors(path, words=["absent"])


def test_wanted_words_are_looked_for_among_the_first(tmp_path: Path) -> None:
    path = text(tmp_path, "dog 1 2\ndog 0 0\ncat 3 4\ncow 5 6\n")
    assert read_vectors(path, first=2, words=["cow", "cat"]).words == ("cat",)
    with pytest.raises(VectorError, match="no words of the 1 that were asked for"):
        read_vectors(path, first=2, words=["cow"])


def test_of_words_that_are_spelt_the_same_the_first_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = text(tmp_path, "Été 1 2\nE\u0301te\u0301 3 4\nété 5 6\nzéro 0 0\n")
    assert read_vectors(path).words == ("Été", "été", "zéro")
    assert "1 words again (the first counts), 1 zero vectors" in caplog.text
    lowered = read_vectors(path, lower=True)
    assert (lowered.words, lowered.row("été").tolist()) == (("été", "zéro"), [1, 2])
    assert len(read_vectors(path, normalize_unicode=None)) == 4


def test_a_file_that_is_cut_off_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = text(tmp_path, "3 2\ndog 1 2\ncat 3 4\n")
    with pytest.raises(VectorError, match="2 words, but the header promises 3"):
        read_vectors(path)
    assert len(read_vectors(path, on_error="skip")) == 2
    assert "skipped: the end" in caplog.text
    packed = write_vectors(tmp_path / "toy.vec.gz", some(500))
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(VectorError, match="is the file whole"):
        read_vectors(packed)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "the file is empty"),
        ("dog\ncat\n", "one field"),
        ("5 0\ndog\n", "vectors of 0 numbers"),
        ("2 3\n", "promises 2"),
    ],
)
def test_what_is_no_vector_file_is_refused(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(VectorError, match=told):
        read_vectors(text(tmp_path, content))


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    path = text(tmp_path, "dog 1 2\n")
    for wrong, told in (
        ({"first": 0}, "first: "),
        ({"words": []}, "words is empty"),
        ({"on_error": "x"}, "on_error: "),
    ):
        with pytest.raises(VectorError, match=told):
            read_vectors(path, **wrong)  # type: ignore[arg-type]
    with pytest.raises(VectorError, match=r"cannot be read: .*No such file"):
        read_vectors(tmp_path / "absent.vec")
    with pytest.raises(VectorError, match="export word2vec text"):
        read_vectors(tmp_path / "toy.kv")


# ---- binary files and folders --------------------------------------------------------------------------------------------


def word2vec(tmp_path: Path, vectors: Vectors, end: bytes, count: int | None = None) -> Path:
    path = tmp_path / "toy.bin"
    entries = (
        w.encode() + b" " + row.astype("<f4").tobytes() + end
        for w, row in zip(vectors.words, vectors.matrix, strict=True)
    )
    path.write_bytes(f"{count or len(vectors)} {vectors.dim}\n".encode() + b"".join(entries))
    return path


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["bare", "line ends"])
def test_word2vec_binary_is_read(tmp_path: Path, end: bytes) -> None:
    # More than one reading of 1 MB, so that entries lie across its border.
    written = some(5000, 64)
    path = word2vec(tmp_path, written, end)
    assert read_vectors(path).words == written.words
    assert read_vectors(path).matrix.tobytes() == written.matrix.tobytes()
    assert read_vectors(path, first=3).words == written.words[:3]
    assert read_vectors(path, words=["w4999", "w7"]).words == ("w7", "w4999")


def test_a_broken_binary_is_refused(tmp_path: Path) -> None:
    path = word2vec(tmp_path, some(5), b"", count=7)
    with pytest.raises(VectorError, match="breaks off in word 6 of 7"):
        read_vectors(path)
    assert len(read_vectors(path, first=5)) == 5
    path.write_bytes(b"\x80\x04 pickle\n")
    with pytest.raises(VectorError, match="expected `words dimensions`"):
        read_vectors(path)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Only these of the optional packages are installed."""

    def install(modules: dict[str, Any]) -> None:
        optional = {"gensim", "fasttext", "spacy", "wordllama"}
        find, load = importlib.util.find_spec, importlib.import_module
        tops = {name.split(".")[0] for name in modules}
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda n, *a: (n in tops or None) if n in optional else find(n, *a)
        )
        monkeypatch.setattr(importlib, "import_module", lambda n, *a: modules[n] if n in modules else load(n, *a))

    return install


def test_a_fasttext_model_is_read_by_a_package_also_for_unknown_words(
    tmp_path: Path, packages: Callable[[dict[str, Any]], None]
) -> None:
    path = tmp_path / "cc.fr.300.bin"
    path.write_bytes(struct.pack("<ii", 793712314, 12))
    packages({})
    with pytest.raises(VectorError, match="pip install gensim"):
        read_vectors(path)

    def vector(word: str) -> np.ndarray:
        return np.array([len(word), 1.0])

    gensim = SimpleNamespace(index_to_key=["the", "dog"], get_vector=vector)
    fasttext = SimpleNamespace(get_words=lambda on_unicode_error: ["the", "dog"], get_word_vector=vector)
    for modules in (
        {"gensim.models.fasttext": SimpleNamespace(load_facebook_vectors=lambda _: gensim)},
        {"fasttext": SimpleNamespace(load_model=lambda _: fasttext)},
    ):
        packages(modules)
        assert read_vectors(path).matrix.tolist() == [[3, 1], [3, 1]]
        assert read_vectors(path, first=1).words == ("the",)
        assert read_vectors(path, words=["doghouse", "dog"]).words == ("dog", "doghouse")


def test_a_spacy_pipeline_is_read_by_spacy_in_the_order_of_its_rows(
    tmp_path: Path, packages: Callable[[dict[str, Any]], None]
) -> None:
    vocab = tmp_path / "fr_core_news_md" / "fr_core_news_md-3.8.0" / "vocab"
    vocab.mkdir(parents=True)
    (vocab / "vectors").touch()
    (vocab / "key2row").touch()
    packages({})
    with pytest.raises(VectorError, match="pip install spacy"):
        read_vectors(tmp_path / "fr_core_news_md")

    key2row = {13: 1, 12: 1, 11: 0, 99: 0}  # 99: a string that the pipeline does not keep
    pipeline = SimpleNamespace(
        strings={11: "le", 12: "chat", 13: "chaton"},
        vectors=SimpleNamespace(mode="default", key2row=key2row, data=np.array([[1, 0], [0, 1]])),
    )

    class Vocab:
        def from_disk(self, folder: Path) -> SimpleNamespace:
            assert folder == vocab
            return pipeline

    packages({"spacy.vocab": SimpleNamespace(Vocab=Vocab)})
    for folder in (vocab, vocab.parent, vocab.parent.parent):
        read = read_vectors(folder)
        assert read.words == ("le", "chaton", "chat")
        assert read.matrix.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_a_matrix_is_read_with_the_words_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "toy.npy", np.arange(6.0).reshape(3, 2))
    with pytest.raises(VectorError, match=r"one a line in toy\.txt, toy\.words, words\.txt"):
        read_vectors(tmp_path / "toy.npy")
    (tmp_path / "toy.txt").write_text("dog\nnew york\n", encoding="utf-8")
    with pytest.raises(VectorError, match=r"float64 \(3, 2\), but toy\.txt has 2 words"):
        read_vectors(tmp_path / "toy.npy")
    (tmp_path / "toy.txt").write_text("dog\nnew york\ncat\n", encoding="utf-8")
    assert read_vectors(tmp_path / "toy.npy").row("new york").tolist() == [2, 3]
    np.save(tmp_path / "toy.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(VectorError, match="expected a plain matrix"):
        read_vectors(tmp_path / "toy.npy")


def test_a_saved_folder_stays_memory_mapped_where_its_words_stand(tmp_path: Path) -> None:
    saved = Vectors(("Dog", "dog", "cat"), np.arange(6.0).reshape(3, 2), "toy")
    saved.save(tmp_path)
    assert isinstance(read_vectors(tmp_path, first=2).matrix, np.memmap)
    assert read_vectors(tmp_path, lower=True).words == ("dog", "cat")
    assert read_vectors(tmp_path, words=["cat"]).matrix.tolist() == [[4, 5]]
    with pytest.raises(VectorError, match="no vectors; expected words"):
        read_vectors(codebook(tmp_path / "other"))


# ---- wordllama -----------------------------------------------------------------------------------------------------------


def codebook(folder: Path, rows: int = 4) -> Path:
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models

    for inside in ("weights", "tokenizers"):
        (folder / inside).mkdir(parents=True)
    matrix = np.random.default_rng(0).normal(size=(rows, 256)).astype(np.float16)
    save_file(
        {"embedding.weight": matrix, "other": np.ones((2, 3), np.float32)}, folder / "weights" / "toy.safetensors"
    )
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2, "d": 3}, []))
    tokenizer.enable_padding()
    tokenizer.save(str(folder / "tokenizers" / "toy.json"))
    (folder / "other.json").write_text(json.dumps({"a": 1}), encoding="utf-8")
    return folder


def test_a_word_is_the_mean_of_its_tokens(tmp_path: Path) -> None:
    folder = codebook(tmp_path)
    rows = np.random.default_rng(0).normal(size=(4, 256)).astype(np.float16).astype(np.float64)
    vectors = wordllama_vectors(["abb", "", "d", "?"], folder=folder, name="toy")
    assert (vectors.words, vectors.name) == (("abb", "d"), "toy")
    np.testing.assert_allclose(vectors.matrix, [(rows[0] + 2 * rows[1]) / 3, rows[3]], rtol=1e-6, atol=1e-6)


def test_a_folder_that_is_not_wordllama_is_refused(tmp_path: Path, packages: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(VectorError, match="0 tensors of 256 columns"):
        wordllama_vectors(["a"], folder=tmp_path)
    with pytest.raises(VectorError, match="they belong to two models"):
        wordllama_vectors(["d"], folder=codebook(tmp_path / "short", rows=3))
    (tmp_path / "short" / "second.json").write_text(json.dumps({"vocab": {}}), encoding="utf-8")
    with pytest.raises(VectorError, match=r"2 \*\.json files with a vocabulary"):
        wordllama_vectors(["a"], folder=tmp_path / "short")
    packages({})
    with pytest.raises(VectorError, match="pip install --no-deps wordllama"):
        wordllama_vectors(["a"])


def test_the_wheel_gives_related_words_related_vectors() -> None:
    if importlib.util.find_spec("wordllama") is None:
        pytest.skip("the wheel wordllama is not installed")
    vectors = wordllama_vectors(["maison", "house", "casa", "yellow", "running"])
    assert vectors.dim == 256
    assert {word for word, _ in vectors.neighbours("house", 2)} == {"maison", "casa"}


# ---- real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "first", "words", "dim", "query", "near"),
    [("glove.en.100d", None, 30000, 100, "king", "queen"), ("spacy.fr.300d", 5000, 5000, 300, "roi", "prince")],
)
def test_real_vectors_have_their_known_sizes_and_neighbours(
    real_data: Callable[[str], Path], name: str, first: int | None, words: int, dim: int, query: str, near: str
) -> None:
    vectors = read_vectors(real_data(f"vectors/{name}.vec.gz"), first=first)
    assert (len(vectors), vectors.dim) == (words, dim)
    assert near in dict(vectors.neighbours(query, 3))
