"""VSE and VSE++: their losses by loops, their branches, real captions."""

import numpy as np
import pytest
import torch

import crossfit
from crossfit import Ragged, Views, evaluate
from crossfit.neural import Batch, Checkpoint, Items
from crossfit.neural.batching import store
from crossfit_ranking.testing import make_inputs, make_sentences
from crossfit_ranking.vse import VSE, VSEPP

SMALL = {"width": 12, "word_width": 8, "max_epochs": 4, "lr": 0.01, "batch_size": 32,
         "device": "cpu", "verbose": 0, "random_state": 0}  # fmt: skip


@pytest.fixture(scope="module")
def sentences():
    return make_sentences(np.random.default_rng(0), 90)[0]


# ---- the loss ----------------------------------------------------------------------------------


def _batch(images, texts, progress=0.0):
    items = {"image": torch.tensor(images), "text": torch.tensor(texts)}
    views = {role: Items(part[:, None]) for role, part in items.items()}
    return Batch(views, items, torch.tensor(images), None, progress)


def _loops(image, text, margin, hardest, owner):
    """The loss as VSE's code computes it, averaged over pairs, with the captions of an image."""
    s = image @ text.T
    total = 0.0
    pairs = [(i, t) for i in range(len(s)) for t in range(len(s)) if owner[i] == owner[t]]
    for i, t in pairs:
        texts = [max(0, margin - s[i, t] + s[i, j]) for j in range(len(s)) if owner[j] != owner[i]]
        images = [max(0, margin - s[i, t] + s[j, t]) for j in range(len(s)) if owner[j] != owner[i]]
        total += (max(texts) + max(images)) if hardest else (sum(texts) + sum(images))
    return float(total) / len(pairs)


@pytest.mark.parametrize("owner", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 2]])
def test_the_losses_are_those_of_two_loops(owner):
    generator = torch.Generator().manual_seed(0)
    image, text = (
        torch.nn.functional.normalize(torch.randn(6, 3, generator=generator), dim=1)
        for _ in range(2)
    )
    image = image[owner]  # captions of one image have its vector
    outputs = {"image": image, "text": text}
    batch = _batch(owner, [0, 1, 2, 3, 4, 5])
    found = sum(VSE()._loss(outputs, batch).values()).item()
    assert found == pytest.approx(_loops(image, text, 0.2, False, owner), abs=1e-5)
    late = _batch(owner, [0, 1, 2, 3, 4, 5], progress=0.25)
    hardest = sum(VSEPP()._loss(outputs, late).values()).item()
    assert hardest == pytest.approx(_loops(image, text, 0.2, True, owner), abs=1e-5)
    assert sum(VSEPP()._loss(outputs, batch).values()).item() == pytest.approx(found)
    assert sum(VSEPP(sum_share=0)._loss(outputs, batch).values()).item() == pytest.approx(hardest)
    one = sum(VSE(mining="top-k", k_negatives=1)._loss(outputs, batch).values()).item()
    assert one == pytest.approx(hardest)
    assert hardest <= found


def test_the_first_quarter_of_the_epochs_of_vsepp_adds_all_hinges(sentences):
    method = VSEPP(**SMALL | {"max_epochs": 8, "lr": 1e-6, "dropout": 0, "word_dropout": 0})
    losses = [row["train_loss"] for row in method.fit(sentences).net_.history]
    assert min(losses[:2]) > 2 * max(losses[2:])
    straight = VSEPP(**SMALL | {"max_epochs": 2, "lr": 1e-6, "sum_share": 0}).fit(sentences)
    assert straight.net_.history[0]["train_loss"] < losses[0] / 2


# ---- the branches ------------------------------------------------------------------------------


def test_texts_do_not_depend_on_padding_or_on_the_other_texts(sentences):
    method = VSE(**SMALL).fit(sentences)
    texts = [np.array([2, 5, 9]), np.array([4]), np.array([3, 3, 8, 11, 6])]
    together = method.encode(Ragged.from_list(texts), "text")
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)
    for words, found in zip(texts, together, strict=True):
        alone = method.encode(Ragged.from_list([words]), "text")
        np.testing.assert_allclose(alone[0], found, atol=1e-6)
    order = method.encode(Ragged.from_list([texts[i] for i in (2, 0, 1)]), "text")
    np.testing.assert_allclose(order, together[[2, 0, 1]], atol=1e-6)
    turned = method.encode(Ragged.from_list([texts[0][::-1]]), "text")
    assert np.abs(turned[0] - together[0]).max() > 1e-3  # a GRU reads in order


def test_the_text_branch_is_the_last_state_of_a_gru(sentences):
    method = VSE(**SMALL).fit(sentences)
    network = method.net_.module_.eval()
    words = torch.tensor([[3, 7, 4]])
    _, last = network.recurrent.rnn(network.words.embedding(words))
    expected = torch.nn.functional.normalize(last[0], dim=1)
    found = network.encode(store(words.numpy(), 20).take(torch.tensor([0])), "text")
    torch.testing.assert_close(found, expected)
    assert network.words.embedding.weight.shape == (12, 8)


@pytest.mark.parametrize("form", ["strings", "ids", "words", "padded words", "vectors"])
def test_every_form_of_texts_learns_and_is_kept_in_bundles(form, sentences, tmp_path):
    rng = np.random.default_rng(0)
    ids = sentences["text"]
    table = rng.normal(size=(20, 8)).astype(np.float32)
    texts = {
        "strings": np.array([" ".join(f"w{i}" for i in row) for row in ids], dtype=object),
        "ids": ids,
        "words": Ragged(table[ids.values], ids.offsets),
        "padded words": Ragged(table[ids.values], ids.offsets).padded()[0],
        "vectors": np.stack([table[row].sum(axis=0) for row in ids]),
    }[form]
    views = Views(image=sentences["image"], text=texts)
    settings = SMALL | {"max_epochs": 25, "lr_step": None, "min_count": 1}
    method = VSE(**settings).fit(views[:70])
    scores = method.similarity(views[70:])
    found = evaluate(scores, np.eye(20), "mrr", ci=None).mean(None, "mrr")
    assert found > 0.4  # .18 at chance
    crossfit.save(method, tmp_path / "model")
    loaded = crossfit.load(tmp_path / "model")
    assert loaded.text_form_ == method.text_form_ == form.removeprefix("padded ")
    np.testing.assert_array_equal(loaded.similarity(views[70:]), scores)
    other = np.array(["a", "b"], dtype=object) if form == "vectors" else np.zeros((3, 8))
    fitted = {"strings": "strings", "ids": "word ids", "vectors": "one vector per text"}
    expected = fitted.get(form, "word vectors")
    with pytest.raises(ValueError, match=f"VSE: view 'text' was fitted on {expected}, got"):
        loaded.encode(other, "text")


def test_vectors_of_both_views_have_a_linear_map_each():
    views, _ = make_inputs(np.random.default_rng(0), 60)
    method = VSE(**SMALL | {"standardize": False}).fit(views)
    linear = method.net_.module_.linear
    for role in ("image", "text"):
        layer = linear[role][-1]
        X = torch.as_tensor(np.asarray(views[role]), dtype=torch.float32)
        expected = torch.nn.functional.normalize(X @ layer.weight.T + layer.bias, dim=1)
        np.testing.assert_allclose(method.encode(views[role], role), expected.detach(), atol=1e-5)


# ---- fits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [VSE, VSEPP])
def test_a_resumed_fit_is_the_uninterrupted_one(method, sentences, tmp_path):
    class Stop(Exception):
        pass

    def stop(estimator, epoch, record):
        if epoch == 2:
            raise Stop

    settings = SMALL | {"lr_step": 3}
    straight = method(**settings).fit(sentences)
    kept = settings | {"callbacks": [Checkpoint(str(tmp_path / "vse.pt"))]}
    with pytest.raises(Stop), crossfit.neural.listening(stop):
        method(**kept).fit(sentences)
    resumed = method(**kept).fit(sentences)
    assert len(resumed.net_.history) == 4
    np.testing.assert_array_equal(resumed.similarity(sentences), straight.similarity(sentences))


def test_more_epochs_change_the_schedule_so_that_a_checkpoint_is_rejected(sentences, tmp_path):
    kept = SMALL | {"callbacks": [Checkpoint(str(tmp_path / "vse.pt"))]}
    VSEPP(**kept).fit(sentences)
    with pytest.raises(ValueError, match="belongs to a fit with other parameters"):
        VSEPP(**kept | {"max_epochs": 8}).fit(sentences)


def test_mistakes_are_reported_in_a_sentence(sentences):
    for settings in ({"cell": "transformer"}, {"sum_share": 2.0}, {"word_dropout": 1.0},
                     {"width": 0}, {"max_words": 0}, {"min_count": 0}):  # fmt: skip
        with pytest.raises(
            ValueError, match=f"The '?{next(iter(settings))}|{next(iter(settings))}"
        ):
            VSE(**SMALL | settings).fit(sentences)


# ---- real data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [VSE, VSEPP])
def test_the_defaults_rank_pictures_and_captions(method, flickr8k):
    fitted = method(device="cpu", verbose=0, random_state=0).fit(flickr8k(0, 500))
    test = flickr8k(5000, 5150)
    scores = fitted.similarity(test)
    found = evaluate(scores, test.relevance("image", "text"), "r@10", ci=None)
    for direction in found.directions:
        assert found.mean(direction, "r@10") > 0.55  # .07 at chance


def test_vse_reads_captions_word_by_word(flickr8k):
    method = VSE(max_epochs=6, lr_step=5, device="cpu", verbose=0, random_state=0)
    method.fit(flickr8k(0, 500, "strings"))
    test = flickr8k(5000, 5150, "strings")
    found = evaluate(method.similarity(test), test.relevance("image", "text"), "r@10", ci=None)
    for direction in found.directions:
        assert found.mean(direction, "r@10") > 0.3  # .07 at chance
