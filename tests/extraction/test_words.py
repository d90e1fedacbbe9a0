"""Doc2Vec, word vectors and characters against gensim itself and plain loops."""

import gzip
import hashlib
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from crossfit.extraction import Characters, Doc2VecFeatures, WordVectors
from crossfit.views import Ragged

ANIMALS = ["cat", "dog", "horse", "sheep", "cow", "goat"]
MACHINES = ["engine", "wheel", "brake", "clutch", "piston", "valve"]


def corpus(n=80, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice((ANIMALS, MACHINES)[i % 2], 8)) for i in range(n)]


# -- documents -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[True, False], ids=["dm", "dbow"])
def doc2vec(request):
    return Doc2VecFeatures(12, epochs=30, dm=request.param).fit(corpus())


def test_documents_of_a_kind_are_near(doc2vec):
    pipe = make_pipeline(clone(doc2vec).set_params(epochs=80), LogisticRegression(C=1e4))
    assert pipe.fit(corpus(), np.arange(80) % 2).score(corpus(40, 1), np.arange(40) % 2) > 0.9


def test_documents_are_repeatable_in_any_order_and_company(doc2vec):
    texts = [*corpus(20, seed=2), "cat engine", "dog"]
    expected = doc2vec.transform(texts)
    assert expected.dtype == np.float32
    assert expected.shape == (22, doc2vec.n_features_out_)
    np.testing.assert_array_equal(doc2vec.transform(texts), expected)
    np.testing.assert_array_equal(doc2vec.transform(texts[::-1])[::-1], expected)
    np.testing.assert_array_equal(
        np.concatenate([doc2vec.transform([text]) for text in texts]), expected
    )
    np.testing.assert_array_equal(clone(doc2vec).fit(corpus()).transform(texts), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(doc2vec)).transform(texts), expected)
    other = clone(doc2vec).set_params(random_state=1).fit(corpus()).transform(texts)
    assert not np.allclose(other, expected)


def test_inference_is_gensims(doc2vec, monkeypatch):
    """Compare with gensim's own infer_vector on the same model, from the same start."""
    from gensim.models import Doc2Vec
    from gensim.models.doc2vec import TaggedDocument

    # At full size, because memory that gensim frees too early is harmless for short vectors.
    doc2vec = clone(doc2vec).set_params(vector_size=300, epochs=5).fit(corpus())
    documents = [TaggedDocument(text.split(), [i]) for i, text in enumerate(corpus())]
    model = Doc2Vec(
        documents, vector_size=300, dm=int(doc2vec.dm), epochs=5, min_count=2, sorted_vocab=0,
        seed=doc2vec.seed_, workers=1, window=5,
    )  # fmt: skip
    assert tuple(model.wv.index_to_key) == doc2vec.vocabulary_
    np.testing.assert_array_equal(model.wv.vectors, doc2vec.word_vectors_)
    np.testing.assert_array_equal(model.syn1neg, doc2vec.output_vectors_)
    for text in corpus(5, seed=4):
        digest = hashlib.sha256(repr((doc2vec.seed_, text.split())).encode()).digest()
        model.random = np.random.RandomState(int.from_bytes(digest[:4], "little"))
        start = (model.random.random_sample(300).astype(np.float32) - 0.5) / 300
        name = "gensim.models.doc2vec.pseudorandom_weak_vector"
        monkeypatch.setattr(name, lambda *_, start=start, **__: start)
        expected = model.infer_vector(text.split())
        np.testing.assert_allclose(doc2vec.transform([text])[0], expected, atol=1e-5)


def test_documents_do_not_depend_on_pythons_hashes():
    code = (
        "from crossfit.extraction import Doc2VecFeatures, WordVectors\n"
        "texts = ['cat dog cow', 'wheel brake valve'] * 9\n"
        "print(Doc2VecFeatures(4, epochs=3).fit_transform(texts).tobytes().hex())\n"
        "print(WordVectors(None, 'mean', vector_size=4).fit_transform(texts).tobytes().hex())\n"
    )
    out = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(out) == 1


def test_documents_of_unknown_words_are_zero(doc2vec):
    with pytest.warns(UserWarning, match="2 of 3 texts hold no word of the vocabulary"):
        vectors = doc2vec.transform(["zebra", "cat", ""])
    assert not vectors[[0, 2]].any()
    assert vectors[1].any()
    # Unknown words are ignored, so they do not change the random start either.
    np.testing.assert_array_equal(doc2vec.transform(["zebra Cat!"])[0], vectors[1])


def test_documents_survive_a_bundle(doc2vec):
    state, arrays = doc2vec.__crossfit_state__()
    twin = clone(doc2vec)
    frozen = {name: part.copy() for name, part in arrays.items()}
    for part in frozen.values():
        part.flags.writeable = False
    twin.__crossfit_restore__(json.loads(json.dumps(state)), frozen)
    np.testing.assert_array_equal(twin.transform(corpus(9)), doc2vec.transform(corpus(9)))


def test_vectors_of_another_size_never_reach_gensim(doc2vec):
    """It would read beyond them."""
    with pytest.raises(ValueError, match=r"vector_size=64 do not go with .* shape \(12, 12\): fit"):
        pickle.loads(pickle.dumps(doc2vec)).set_params(vector_size=64).transform(["cat"])
    state, arrays = doc2vec.__crossfit_state__()
    for name in ("word_vectors_", "output_vectors_"):
        twin = clone(doc2vec)
        twin.__crossfit_restore__(state, {**arrays, name: arrays[name][:3]})
        with pytest.raises(ValueError, match=r"shape \(3, 12\) and \(12, 12\): fit again"):
            twin.transform(["valve"])
    twin = clone(doc2vec)
    wide = {name: np.asfortranarray(part.astype(np.float64)) for name, part in arrays.items()}
    twin.__crossfit_restore__(state, {**wide, "counts_": arrays["counts_"]})
    np.testing.assert_array_equal(twin.transform(["valve"]), doc2vec.transform(["valve"]))


def test_training_leaves_global_state_alone():
    before = np.random.get_state()  # noqa: NPY002
    Doc2VecFeatures(4, epochs=2).fit_transform(corpus(20))
    WordVectors(vector_size=4, epochs=2).fit_transform(corpus(20))
    for ours, theirs in zip(np.random.get_state(), before):  # noqa: NPY002
        np.testing.assert_array_equal(ours, theirs)


# -- words -----------------------------------------------------------------------------------------


TABLE = {"a": [1, 0, 0], "cat": [0, 2, 0], "dog": [0, 0, 3], "naïve": [1, 1, 1], "sat": [4, 0, 1]}


def as_text(header=True):
    lines = [f"{word} " + " ".join(map(str, row)) for word, row in TABLE.items()]
    return "\n".join([f"{len(TABLE)} 3"] * header + lines) + "\n"


def as_binary():
    rows = [w.encode() + b" " + np.array(row, "<f4").tobytes() for w, row in TABLE.items()]
    return f"{len(TABLE)} 3\n".encode() + b"\n".join(rows) + b"\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(as_text(), encoding="utf-8")
    return path


def test_words_from_every_kind_of_file(table, tmp_path):
    (tmp_path / "glove.txt").write_text(as_text(header=False), encoding="utf-8")
    (tmp_path / "vectors.bin").write_bytes(as_binary())
    (tmp_path / "binary.vec").write_bytes(as_binary())
    texts = ["A naïve cat sat, unknown", "dog dog"]
    for name in ("vectors.txt", "glove.txt", "vectors.bin", "binary.vec"):
        binary = True if name == "binary.vec" else None
        words = WordVectors(tmp_path / name, binary=binary).fit(texts)
        got = words.transform(texts)
        assert isinstance(got, Ragged)
        assert got.dtype == np.float32
        assert got.info["words"].tolist() == ["a", "naïve", "cat", "sat", "dog", "dog"]
        assert got.values.tolist() == [TABLE[word] for word in got.info["words"]]
        assert got.lengths.tolist() == [4, 2]
        assert got[[1]].info["words"].tolist() == ["dog", "dog"]
        assert words.n_features_out_ == 3


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([*"abcde", "zz"]), max_size=6).map(" ".join),
        min_size=1,
        max_size=6,
    ),
    st.none() | st.integers(1, 4),
)
@pytest.mark.filterwarnings("ignore:.*no word that has a vector")
def test_words_against_a_plain_loop(learnt, texts, max_length):
    words = learnt.set_params(max_length=max_length)
    expected = []
    for text in texts:
        rows = [learnt.vectors_["abcde".index(w)] for w in text.split() if w != "zz"][:max_length]
        expected.append(rows or [np.zeros(5, np.float32)])
    for output in ("ragged", "mean"):
        got = words.set_params(output=output).transform(texts)
        for row, rows in zip(got, expected):
            wanted = rows if output == "ragged" else np.mean(rows, 0)
            np.testing.assert_allclose(row, wanted, atol=1e-6)


@pytest.fixture(scope="module")
def learnt():
    words = WordVectors(vector_size=5, min_count=1, epochs=1).fit(["a b c d e"])
    order = [words.vocabulary_.index(word) for word in "abcde"]
    words.vocabulary_, words.vectors_ = tuple("abcde"), words.vectors_[order]
    return words


def test_a_text_without_known_words(table):
    with pytest.warns(UserWarning, match="2 of 3 texts hold no word that has a vector"):
        got = WordVectors(table).fit(["x"]).transform(["zz", "cat", ""])
    assert got.lengths.tolist() == [1, 1, 1]
    assert got.values.tolist() == [[0, 0, 0], [0, 2, 0], [0, 0, 0]]
    assert got.info["words"].tolist() == ["", "cat", ""]


def test_limits(table):
    few = WordVectors(table, limit=2).fit(["x"])
    assert few.transform(["dog a cat"]).info["words"].tolist() == ["a", "cat"]
    short = WordVectors(table, max_length=2).fit(["x"])
    assert short.transform(["zz a cat dog"]).info["words"].tolist() == ["a", "cat"]
    upper = WordVectors(table, lowercase=False).fit(["x"])
    assert upper.transform(["Cat dog"]).info["words"].tolist() == ["dog"]


def test_words_learnt_are_gensims():
    from gensim.models import Word2Vec

    texts = corpus(60)
    words = WordVectors(vector_size=8, epochs=5, min_count=2).fit(texts)
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    model = Word2Vec(
        [text.split() for text in texts], vector_size=8, epochs=5, min_count=2, sg=1, seed=seed,
        workers=1,
    )  # fmt: skip
    assert words.vocabulary_ == tuple(model.wv.index_to_key)
    np.testing.assert_array_equal(words.vectors_, model.wv.vectors)
    again = WordVectors(vector_size=8, epochs=5, min_count=2).fit(texts)
    np.testing.assert_array_equal(again.vectors_, words.vectors_)


def test_words_of_a_kind_are_near():
    words = WordVectors(vector_size=16, epochs=30).fit(corpus(200))
    unit = words.vectors_ / np.linalg.norm(words.vectors_, axis=1, keepdims=True)
    of = [words.vocabulary_.index(word) for word in ANIMALS + MACHINES]
    cosines = (unit @ unit.T)[np.ix_(of, of)]
    assert cosines[:6, :6].mean() > cosines[:6, 6:].mean() + 0.2


def test_words_survive_a_bundle(table):
    for words in (WordVectors(table), WordVectors(vector_size=4)):
        words.fit(corpus(20))
        state, arrays = words.__crossfit_state__()
        twin = clone(words)
        twin.__crossfit_restore__(json.loads(json.dumps(state)), arrays)
        texts = ["a cat sat on a dog"]
        np.testing.assert_array_equal(twin.transform(texts).values, words.transform(texts).values)
        assert len(pickle.dumps(words)) < 4000


def test_another_file_than_at_fit_is_refused(table):
    words = WordVectors(table).fit(["a"])
    table.write_text(as_text().replace("cat 0 2", "cat 9 2"), encoding="utf-8")
    with pytest.raises(ValueError, match="was fitted with the weights"):
        words.transform(["cat"])
    assert words.fit(["a"]).transform(["cat"]).values.tolist() == [[9, 2, 0]]


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_is_unpickled(tmp_path, capsys):
    for name in ("evil.txt", "evil.bin"):
        (tmp_path / name).write_bytes(pickle.dumps([Evil()]))
        with pytest.raises(
            ValueError, match=rf"cannot read '.*{name}' as word vectors in word2vec"
        ):
            WordVectors(tmp_path / name).fit(["a"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("5 3\na 1 2 3\n", "text format: "),
        ("1 3\na 1 2\n", "text format: "),
        ("1 3\na 1 2 x\n", "text format: "),
        ("", "text format: |holds no word vectors"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        WordVectors(path).fit(["a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "Git LFS"),
        (b"<!DOCTYPE html>\n<html>sign in</html>\n", "it is a web page"),
    ],
)
def test_what_was_saved_in_place_of_vectors_is_named(tmp_path, content, message):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        WordVectors(tmp_path / "x.txt").fit(["a"])


@pytest.mark.parametrize("head", [b"", b"2 3\n"])
def test_a_byte_order_mark_is_not_part_of_a_word(tmp_path, head):
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbf" + head + b"a 1 2 3\nb 4 5 6\n")
    found = WordVectors(tmp_path / "x.txt").fit_transform(["a b"])
    np.testing.assert_array_equal(found[0], [[1, 2, 3], [4, 5, 6]])


def test_a_pipe_is_not_read_as_vectors(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match=r"pipe\.txt' is not a regular file"):
        WordVectors(tmp_path / "pipe.txt").fit(["a"])


@pytest.mark.parametrize(
    ("extractor", "error", "message"),
    [
        (WordVectors("absent.txt"), FileNotFoundError, "there is no file 'absent.txt'"),
        (WordVectors(min_count=3), ValueError, "no word occurs min_count=3 times in the 2 train"),
        (Doc2VecFeatures(min_count=3), ValueError, "no word occurs min_count=3 times in the 2"),
        (WordVectors(output="sum"), ValueError, "'output' parameter of WordVectors"),
        (Doc2VecFeatures(0), ValueError, "'vector_size' parameter of Doc2VecFeatures"),
        (Characters(0), ValueError, "'length' parameter of Characters"),
    ],
)
def test_wrong_parameters_are_named(extractor, error, message):
    with pytest.raises(error, match=message):
        extractor.fit(["a b", "a"])


@pytest.mark.data
def test_doc2vec_of_real_captions(data_root):
    """A caption finds another caption of its picture among those of a hundred pictures."""
    file = Path(data_root, "flickr8k", "Flickr8k_text", "Flickr8k.token.txt")
    if not file.exists():
        pytest.skip(f"needs flickr8k in {data_root}")
    texts = [line.split("\t")[1] for line in file.read_text().splitlines()[:2000]]
    vectors = Doc2VecFeatures(50, dm=False).fit(texts).transform(texts[:500])
    vectors = vectors - vectors.mean(0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit[::5] @ unit[1::5].T
    above = (cosines > np.diag(cosines)[:, None]).sum(1)
    assert (above < 5).mean() > 0.3  # by chance .05


# -- characters ------------------------------------------------------------------------------------


def test_the_alphabet_of_the_paper():
    assert len(Characters.alphabet) == 70
    assert Characters.alphabet[-1] == " "
    assert [i for i, c in enumerate(Characters.alphabet) if c == "-"] == [36, 59]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5), st.integers(1, 15))
@settings(max_examples=60, deadline=None)
def test_characters_against_a_plain_loop(texts, length):
    ids = Characters(length).fit_transform(texts)
    hot = Characters(length, "onehot").fit_transform(texts)
    assert (ids.dtype, hot.dtype) == (np.int64, np.uint8)
    expected = np.zeros((len(texts), 70, length))
    for row, text in zip(expected, texts):
        for place, character in enumerate(text.lower()[:length]):
            if character in Characters.alphabet:
                row[Characters.alphabet.rindex(character), place] = 1
    np.testing.assert_array_equal(hot, expected)
    np.testing.assert_array_equal(ids, np.where(hot.any(1), hot.argmax(1) + 1, 0))
    assert not hot[:, 36].any()


def test_characters_by_default():
    got = Characters().transform(["A dog - 2 cats!", ""])
    assert got.shape == (2, 201)
    assert got[0, :16].tolist() == [1, 70, 4, 15, 7, 70, 60, 70, 29, 70, 3, 1, 20, 19, 41, 0]
    assert not got[1].any()


# -- files of word vectors in other formats --------------------------------------------------------


def vectors_of(path, *words, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table, vectors = WordVectors(path, **settings)._table()
    return {word: vectors[table[word]].tolist() for word in words or table}


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("separator", [" ", "\t", "  ", " \t"])
def test_blanks_in_words_and_tabs_between_numbers(tmp_path, header, separator):
    table = {"a": [1, 2, 3], ". . .": [4, 5, 6], "at name@domain.com": [7, 8, 9], "5": [1, 0, -1],
             "nan": [0, 0, 1e-3], "naïve\u0085x": [1, 2, 4], "a\u00a0b": [3, 2, 1]}  # fmt: skip
    lines = [separator.join([word, *map(str, row)]) for word, row in table.items()]
    text = "\n".join(["7 3"] * header + lines) + "\n"
    (tmp_path / "x.txt").write_bytes(text.encode())
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(text.replace("\n", "\r\n").encode()))
    for name in ("x.txt", "x.txt.gz"):
        got = vectors_of(tmp_path / name)
        assert list(got) == list(table)
        np.testing.assert_allclose(list(got.values()), list(table.values()), rtol=1e-6)


def test_the_size_without_a_header_is_that_of_most_lines(tmp_path):
    (tmp_path / "x.txt").write_text(". . . 1 2 3\na 1 2 3\nb 4 5 6\n")
    assert vectors_of(tmp_path / "x.txt") == {". . .": [1, 2, 3], "a": [1, 2, 3], "b": [4, 5, 6]}
    (tmp_path / "x.txt").write_text("a 1 2 3\nb 1 2\nc 4 5 6\n")
    with pytest.raises(ValueError, match=r"line 2: expected a word and 3 finite numbers, got 'b 1"):
        vectors_of(tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("line", "got"),
    [
        ("b 1 nan 3", "b 1 nan 3"),
        ("b 1 inf 3", "b 1 inf 3"),
        ("b 1 1e39 3", "b 1 1e39 3"),
        ("b 1 2", "b 1 2"),
        ("b", "b"),
        ("b 1 2 three", "b 1 2 three"),
        ("b 1,5 2 3", "b 1,5 2 3"),
    ],
)
@pytest.mark.parametrize("header", [True, False])
def test_lines_that_are_no_vectors_are_named(tmp_path, line, got, header):
    lines = ["3 3"] * header + ["a 1 2 3", line, "c 1 2 3"]
    (tmp_path / "x.txt").write_text("\n".join(lines) + "\n")
    message = rf"text format: line {2 + header}: expected a word and 3 finite numbers, got '{got}'"
    with pytest.raises(ValueError, match=message), np.errstate(all="raise"):
        vectors_of(tmp_path / "x.txt")


def test_a_word_that_is_not_utf_8_is_left_out(tmp_path):
    text = as_text().encode().replace("naïve".encode(), "naïve".encode("latin-1"))
    (tmp_path / "x.txt").write_bytes(text)
    with pytest.warns(UserWarning, match="1 of 5 words in .* are not UTF-8 .* first in line 5"):
        words = WordVectors(tmp_path / "x.txt").fit(["a"])
    assert words.transform(["a cat sat"]).values.tolist() == [TABLE[w] for w in ("a", "cat", "sat")]
    (tmp_path / "x.bin").write_bytes(
        as_binary().replace("naïve".encode(), "naïve".encode("latin-1"))
    )
    assert vectors_of(tmp_path / "x.bin", "cat", "sat") == {
        "cat": TABLE["cat"],
        "sat": TABLE["sat"],
    }


def test_text_files_are_read_as_gensim_does(tmp_path):
    from gensim.models import KeyedVectors

    rng = np.random.default_rng(0)
    table = KeyedVectors(7)
    table.add_vectors([f"w{i}" for i in range(50)], rng.normal(size=(50, 7)).astype(np.float32))
    for binary in (False, True):
        table.save_word2vec_format(str(tmp_path / "x"), binary=binary)
        for limit in (None, 1, 20, 99):
            theirs = KeyedVectors.load_word2vec_format(
                str(tmp_path / "x"), binary=binary, limit=limit
            )
            got = vectors_of(tmp_path / "x", limit=limit, binary=binary)
            assert list(got) == theirs.index_to_key
            np.testing.assert_array_equal(list(got.values()), theirs.vectors)
    (tmp_path / "x").write_text("2 1\na 1\na 2\n")  # the first one is used
    assert vectors_of(tmp_path / "x") == {"a": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"9999999999 300\na ", "it is too short for 9999999999 words with vectors of size 300"),
        (b"2 2\na \0\0\x80\x3f\0\0\xc0\x7fb " + b"\0" * 8, "1 words .* the first of them word 1"),
        (b"a 1 2\n", "the first line must state"),
        (b"", "the first line must state"),
    ],
)
def test_binary_files_that_are_none_are_named(tmp_path, content, message):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.bin' as .* binary format: .*{message}"):
        vectors_of(tmp_path / "x.bin")
