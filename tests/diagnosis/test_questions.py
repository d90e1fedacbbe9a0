"""Wrong pairs, align or predict, hubs and learning curves on planted pairs with known answers."""

import numpy as np
import pytest

from crossfit import Views, evaluate
from crossfit.diagnosis import hub_effect_of, learning_curve, rank_pairs, recoveries
from crossfit.diagnosis.wrong_pairs import drawn_groups
from crossfit.metrics import hubness
from crossfit.model_selection import PairKFold
from crossfit.subspace import CCA, PLS, ReducedRank, RidgeMap


def pairs(n=400, shared=6, p=30, q=20, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, shared))
    image = Z @ rng.normal(size=(shared, p)) + noise * rng.normal(size=(n, p))
    return Views(image=image, text=Z @ rng.normal(size=(shared, q))
                 + noise * rng.normal(size=(n, q)))  # fmt: skip


def captions(n=120, per=3, seed=0):
    views = pairs(n * per, seed=seed)
    index = np.repeat(np.arange(n), per)
    image = views["image"][::per]
    return Views.from_captions(image, views["text"] * 0.2 + views["text"][::per][index], index)


# ---- wrong pairs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_swapped_pairs_come_first_and_their_share_is_found(share):
    views = pairs(600)
    wrong = np.random.default_rng(1).permutation(600)[: int(share * 600)]
    text = views["text"].copy()
    text[wrong] = text[np.roll(wrong, 1)]
    found = rank_pairs(views.replace(text=text))
    assert found.share == pytest.approx(share, abs=0.06)
    if share:
        assert np.isin(found.order[: len(wrong)], wrong).mean() > 0.95


def test_the_item_that_matches_better_is_the_one_that_was_swapped_away():
    views = pairs(300)
    text = views["text"].copy()
    text[[3, 250]] = text[[250, 3]]
    found = rank_pairs(views.replace(text=text), n_splits=2, random_state=3)
    together = [
        set(test.tolist()) for _, test in PairKFold(
            2, shuffle=True, random_state=np.random.RandomState(3)).split(views)
    ]  # fmt: skip
    assert set(found.order[:2].tolist()) == {3, 250}
    same_fold = any({3, 250} <= fold for fold in together)
    assert (found.better[3] == 250) == same_fold
    assert np.all(found.better != np.arange(300))


def test_scores_are_those_of_a_loop_over_the_folds():
    views = captions()
    found = rank_pairs(views, n_splits=3, k=4, random_state=5)
    expected = np.empty(len(views))
    folds = PairKFold(3, shuffle=True, random_state=np.random.RandomState(5))
    for train, test in folds.split(views):
        assert not set(views.groups[train]) & set(views.groups[test])
        method = CCA().fit(views[train])
        held_out = views[test]
        S = cosines(method, held_out)
        rows, columns = (held_out.distinct(name)[1] for name in ("image", "text"))
        nearest = [np.sort(part, axis=1)[:, -4:].mean(axis=1) for part in (S, S.T)]
        expected[test] = 2 * S[rows, columns] - nearest[0][rows] - nearest[1][columns]
        break  # the draws of the second fold follow those of random pairs
    np.testing.assert_allclose(found.scores[test], expected[test], atol=1e-5)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cosines(method, views):
    a, b = (unit(method.encode(views.distinct(name)[0], name)) for name in ("image", "text"))
    return a @ b.T


def test_groups_stay_together_and_the_draw_is_repeatable():
    views = captions()
    groups = views.groups // 10
    one, other = (rank_pairs(views, groups=groups, max_pairs=60, random_state=2) for _ in "ab")
    assert np.array_equal(one.scores, other.scores) and np.array_equal(one.better, other.better)
    assert np.all(groups[one.better] != groups)
    with_pls = rank_pairs(views, method=PLS(2))
    assert not np.allclose(with_pls.scores, rank_pairs(views).scores)


def test_whole_groups_are_drawn():
    groups = np.array([5, 5, 5, 1, 1, 2])
    rng = np.random.RandomState(0)
    for size in (1, 2, 3, 5):
        rows = drawn_groups(groups, size, rng)
        assert all(np.sum(groups[rows] == g) == np.sum(groups == g) for g in groups[rows])
        assert len(rows) <= max(size, 3) and len(rows)


# ---- align or predict ----------------------------------------------------------------------------


def test_ways_are_those_of_the_methods_with_the_chosen_ridge():
    views = pairs(300, noise=8.0).select("text", "image")  # the roles follow the order of the views
    train, test = views[:220], views[220:]
    relevance = test.relevance("text", "image")
    found = {each.name: each for each in recoveries(train, test)}
    assert set(found) == {"CCA", "regression text → image", "regression image → text"}
    ways = {"CCA": None, "regression text → image": "backward",
            "regression image → text": "forward"}  # fmt: skip
    for name, way in ways.items():
        reg, _, rank = found[name].settings.removeprefix("reg ").partition(", rank ")
        made = {"cca": CCA, "ridge-map": RidgeMap, "reduced-rank": ReducedRank}[found[name].method]
        method = made(reg=float(reg))
        method.set_params(**({"direction": way} if way else {}))
        method.set_params(**({"n_components": int(rank)} if rank else {}))
        scores = method.fit(train).similarity(test, query="text", gallery="image")
        by_hand = evaluate(scores, relevance, "mrr", ci=None).mean(None, "mrr")
        assert found[name].evaluation.mean(None, "mrr") == pytest.approx(by_hand), name


def test_ways_and_their_settings():
    views = captions()
    found = recoveries(views[:270], views[270:])
    assert [each.kind for each in found] == ["align", "predict", "predict"]
    assert all(each.evaluation.mean(None, "mrr") > 0.2 for each in found)
    again = recoveries(views[:270], views[270:])
    assert [each.settings for each in found] == [each.settings for each in again]
    sizes = [found[0].evaluation.per_query[d, "mrr"].shape for d in ("i2t", "t2i")]
    assert sizes == [(30,), (90,)]


def test_views_of_one_space_are_compared_as_they_are():
    Z = np.random.default_rng(2).normal(size=(300, 60))
    noisy = Views(image=Z + 5, text=Z + 0.8 * np.random.default_rng(3).normal(size=Z.shape))
    found = {each.kind: each for each in recoveries(noisy[:60], noisy[60:])}
    assert found["as they are"].settings == "centred"
    assert found["as they are"].evaluation.mean(None, "r@1") > 0.9
    assert found["as they are"].evaluation.mean(None, "mrr") > found["align"].evaluation.mean(
        None, "mrr"
    )


# ---- hubs ----------------------------------------------------------------------------------------


def test_hubness_and_its_correction():
    views = pairs(600, shared=20, p=60, q=50, noise=2.0)
    train, test = views[:400], views[400:]
    method = CCA(power=0).fit(train)
    found = hub_effect_of(method, train, test)
    S = cosines(method, test)
    top = np.argsort(-S, axis=1, kind="stable")[:, :10]
    assert found.plain["image2text"] == pytest.approx(hubness(top, 200))
    assert found.cosine.mean("i2t", "mrr") == pytest.approx(
        evaluate(S, np.eye(200), "mrr", directions="forward").mean("forward", "mrr")
    )
    encoded = {
        (part, name): unit(method.encode(views[name], name))
        for part, views in (("bank", train), ("test", test))
        for name in ("image", "text")
    }
    for query, gallery in (("image", "text"), ("text", "image")):
        to_bank = encoded["test", gallery] @ encoded["bank", query].T
        bias = np.sort(to_bank, axis=1)[:, -10:].mean(axis=1)
        corrected = encoded["test", query] @ encoded["test", gallery].T - 0.5 * bias
        by_hand = evaluate(corrected, np.eye(200), "mrr", directions="forward", ci=None)
        direction = f"{query}2{gallery}"
        assert found.nnn.mean(direction, "mrr") == pytest.approx(by_hand.mean("forward", "mrr"))
        top = np.argsort(-corrected, axis=1, kind="stable")[:, :10]
        assert found.corrected[direction] == pytest.approx(hubness(top, 200))
    difference = found.nnn.mean(None, "mrr") - found.cosine.mean(None, "mrr")
    assert found.test.difference == pytest.approx(difference)
    assert found.helps == (found.test.low > 0)


# ---- learning curve ------------------------------------------------------------------------------


def test_the_last_point_is_the_method_on_all_pairs():
    views = captions()
    train, test = views[:270], views[270:]
    found = learning_curve(train, test, sizes=(20, 60, 260), n_draws=2)
    assert found.sizes == (20, 60, 270)  # 260 is too near to all of them
    S = CCA().fit(train).similarity(test)
    relevance = test.relevance("image", "text")
    assert found.estimates[-1].value == pytest.approx(
        evaluate(S, relevance, "mrr").mean(None, "mrr")
    )
    assert found.estimates[0].value < found.estimates[-1].value
    assert found.gain.difference > 0 and np.isnan(found.spreads[-1]) and found.spreads[0] > 0
    again = learning_curve(train, test, sizes=(20, 60, 260), n_draws=2)
    assert again.estimates == found.estimates
    assert learning_curve(train, test, sizes=(1000,)).gain is None
    assert np.isnan(learning_curve(train, test, sizes=(1000,)).per_doubling)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: rank_pairs(v, n_splits=1), "'n_splits' parameter of rank_pairs must be an int"),
        (lambda v: rank_pairs(v, groups=[1]), "one entry per row, that is shape .400,."),
        (lambda v: rank_pairs(v[:3]), "n_splits=5 folds need at least as many groups of rows"),
        (lambda v: rank_pairs(v.select("image")), "rank_pairs compares two views, got image"),
        (lambda v: rank_pairs(np.eye(3)), "rank_pairs expects Views, got ndarray"),
        (lambda v: recoveries(v.select("text"), v), "recoveries compares two views, got text"),
        (lambda v: learning_curve(v, v, sizes=[1, 2]), "sizes must be whole numbers of at least 2"),
        (lambda v: learning_curve(v, v, sizes=[2.5]), "sizes must be whole numbers of at least 2"),
        (lambda v: learning_curve(v, v, n_draws=0), "'n_draws' parameter of learning_curve must"),
        (lambda v: hub_effect_of(CCA(), v, 5), "hub_effect_of expects Views, got int"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(pairs())
