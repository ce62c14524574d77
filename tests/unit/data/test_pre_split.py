"""Releases that come with a training, a validation and a test file."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from recbole_cdsr.errors import DataError

ITEMS = {f"a{i}": "a" for i in range(5)} | {f"b{i}": "b" for i in range(5)}
RELEASE = {
    "train": [
        ("t1", "a0", 0.0), ("t1", "b0", 1.0), ("t1", "a1", 2.0),
        ("t2", "b1", 0.0), ("t2", "b2", 1.0),
        ("both", "a2", 0.0), ("both", "b1", 1.0),
        ("once", "a4", 0.0),
    ],
    "valid": [
        ("v1", "b3", 1.0), ("v1", "a3", 0.0), ("v1", "a0", 2.0),
        ("both", "a2", 0.0), ("both", "b1", 1.0), ("both", "b4", 2.0),
        ("vt", "a1", 0.0), ("vt", "b0", 1.0),
    ],
    "test": [
        ("s1", "b2", 0.0), ("s1", "a1", 1.0), ("s1", "a1", 2.0), ("s1", "b0", 3.0),
        ("vt", "a1", 0.0), ("vt", "b0", 1.0), ("vt", "a3", 2.0),
    ],
}  # fmt: skip
TRAINED = {"t1": ["a0", "b0", "a1"], "t2": ["b1", "b2"], "both": ["a2", "b1"], "once": ["a4"]}
FOLDED = TRAINED | {"v1": ["a3", "b3"], "vt": ["a1"], "s1": ["b2", "a1", "a1"]}


def training_sequences(part) -> dict[str, list[str]]:
    rows, held = part[:], defaultdict(list)
    users, items = (part.id2token(field, rows[field].numpy()) for field in ("user_id", "item_id"))
    for user, item in zip(users, items, strict=True):
        held[str(user)].append(str(item))
    return dict(held)


@pytest.mark.parametrize("fold_in", [True, False])
@pytest.mark.parametrize(("model", "with_table"), [("BPR", True), ("Pop", False), ("FPMC", True), ("GRU4Rec", False)])
def test_fold_in_is_for_models_with_a_user_table(write_dataset, load, model, with_table, fold_in, token_cases):
    write_dataset(ITEMS, RELEASE)
    train, valid, test = load(model, fold_in=fold_in).build()
    folded = with_table and fold_in
    assert train.fold_in == valid.fold_in == folded
    expected = FOLDED if folded else TRAINED
    sequences = training_sequences(train)
    if model in ("BPR", "Pop"):
        assert sequences == expected
    else:  # a row for every interaction with a history
        assert sequences == {user: items[1:] for user, items in expected.items() if len(items) > 1}
    matrix = train.inter_matrix(form="csr")
    brute = Counter((user, item) for user, items in expected.items() for item in items)
    held = matrix.tocoo()
    assert {
        (str(train.id2token("user_id", u)), str(train.id2token("item_id", i))): count
        for u, i, count in zip(held.row, held.col, held.data, strict=True)
    } == brute
    unseen = {part.phase: part.judged_users_unseen() for part in (valid, test)}
    tokens = {part.phase: [user for user, _ in token_cases(part)] for part in (valid, test)}
    for phase, users in tokens.items():
        assert unseen[phase].tolist() == [user not in expected for user in users]


@pytest.mark.parametrize("model", ["BPR", "GRU4Rec", "LLM4CDSR"])
def test_the_rows_of_a_release_are_taken_over(write_dataset, load, model, token_cases):
    write_dataset(ITEMS, RELEASE)
    data = load(model)
    _, valid, test = data.build()
    assert sorted(token_cases(valid)) == [("both", "b4"), ("v1", "a0"), ("vt", "b0")]
    assert sorted(token_cases(test)) == [("s1", "b0"), ("vt", "a3")]
    histories = {"v1": ["a3", "b3"], "both": ["a2", "b1"], "vt": ["a1"]}, {"s1": ["b2", "a1", "a1"], "vt": ["a1", "b0"]}
    everything = {(user, item) for rows in RELEASE.values() for user, item, _ in rows}
    counts = Counter(item for items in TRAINED.values() for item in items)
    for part, expected in zip((valid, test), histories, strict=True):
        rows = part.evaluation_rows()
        assert rows.split == part.phase
        held = {
            str(part.id2token("user_id", user)): part.id2token("item_id", rows.flat_items[start:stop]).tolist()
            for user, (start, stop) in zip(rows.users, rows.history_pointers, strict=True)
        }
        assert held == expected
        ids = zip(("user_id", "item_id"), np.divmod(rows.user_item_keys, data.item_num), strict=True)
        keys = list(zip(*(data.id2token(field, of).tolist() for field, of in ids), strict=True))
        assert set(keys) == everything
        assert len(keys) == len(everything)
        assert (np.diff(rows.user_item_keys) > 0).all()
        tokens = data.field2id_token["item_id"]
        assert dict(zip(tokens.tolist(), rows.train_item_counts.tolist(), strict=True)) == {
            token: counts[token] for token in tokens.tolist()
        }
        assert rows.target_domains.tolist() == [data.item_domain[target] for target in rows.targets]
        assert rows.domain_names == ["a", "b"]
        assert rows.row_keys.tolist() == list(range(len(rows)))
    if model == "GRU4Rec":  # a window is the end of the history
        batch = test[:]
        for row, user in enumerate(test.id2token("user_id", batch["user_id"].numpy())):
            window = batch["item_id_list"][row, : batch["item_length"][row]].numpy()
            assert test.id2token("item_id", window).tolist() == histories[1][user]


def test_training_histories_of_a_release_hold_no_target(write_dataset, load):
    write_dataset(ITEMS, RELEASE)
    data = load("LLM4CDSR")
    histories = data.training_histories()  # known before the rows are built
    tokens = {
        str(data.id2token("user_id", user)): data.id2token(
            "item_id", histories.item_ids[histories.pointers[j] : histories.pointers[j + 1]]
        ).tolist()
        for j, user in enumerate(histories.user_ids)
    }
    assert tokens == FOLDED
    train, valid, _ = data.build()
    assert train.training_histories() is valid.training_histories() is histories


@pytest.mark.parametrize("seed", range(3))
def test_no_users_target_is_in_the_training_histories(write_dataset, load, seed):
    """Every interaction has an item of its own, so that a target in a history is a leak and no repetition."""
    random = np.random.default_rng(seed)
    items = {f"{'ab'[i % 2]}{i}": "ab"[i % 2] for i in range(400)}
    free, parts = list(random.permutation(list(items))), {}
    for part, users in {"train": range(12), "valid": range(8, 20), "test": range(16, 30)}.items():
        parts[part] = [(f"u{user}", free.pop(), float(time)) for user in users for time in range(random.integers(2, 8))]
    write_dataset(items, parts, name="release")
    write_dataset(items, [row for rows in parts.values() for row in rows], name="loo")
    for name, model in (("release", "LLM4CDSR"), ("release", "BPR"), ("loo", "LLM4CDSR")):
        train, valid, test = load(model, name=name).build()
        targets = set(valid.evaluation_rows().targets) | set(test.evaluation_rows().targets)
        histories = train.training_histories()
        assert len(targets) > 10
        assert not targets & set(histories.item_ids)
        assert not targets & set(train.inter_matrix().col if model == "BPR" else train[:]["target_id_list"].unique())
        users = np.repeat(histories.user_ids, np.diff(histories.pointers))
        owner = {item: user for rows in parts.values() for user, item, _ in rows}
        pairs = zip(train.id2token("user_id", users), train.id2token("item_id", histories.item_ids), strict=True)
        assert all(owner[item] == user for user, item in pairs)


def test_a_last_row_that_is_not_the_latest_is_said(write_dataset, load, token_cases, caplog):
    valid = [("v1", "b3", 30.0), ("v2", "a1", 1.0), ("v1", "a3", 10.0), ("v2", "b1", 2.0), ("v1", "a0", 20.0)]
    tied = [("s1", "b2", 5.0), ("s1", "a1", 7.0), ("s1", "b0", 7.0), ("s2", "a1", 4.0), ("s2", "a2", 3.0)]
    folder = write_dataset(ITEMS, RELEASE | {"valid": valid, "test": tied})
    _, valid, test = load().build()
    assert token_cases(valid) == [("v1", "b3"), ("v2", "b1")]
    assert token_cases(test) == [("s1", "b0"), ("s2", "a1")]  # of equal times the last in the file
    said = [record.getMessage() for record in caplog.records if "the last row of user" in record.getMessage()]
    assert [sentence.partition(" is not the latest")[0] for sentence in said] == [
        f"{folder / 'tiny.valid.inter'}, line 6: the last row of user 'v1'",
        f"{folder / 'tiny.test.inter'}, line 6: the last row of user 's2'",
    ]
    assert "(1 such user(s))" in said[0]
    caplog.clear()
    write_dataset(ITEMS, RELEASE, name="other")  # histories in disorder, but targets that are last
    load(name="other").build()
    assert "the last row of user" not in caplog.text


def test_nothing_to_train_on_is_said(write_dataset, load):
    write_dataset(ITEMS, {"train": [("t", "a0", 0.0)], "valid": RELEASE["valid"], "test": RELEASE["test"]})
    with pytest.raises(DataError, match="no user with two training interactions"):
        load("GRU4Rec").build()


def test_the_data_are_described_with_their_domains_and_card(write_dataset, load):
    folder = write_dataset(ITEMS, RELEASE)
    assert "Domains: a (5 items), b (5 items)" in str(load())
    (folder / "tiny.card.yaml").write_text("synthetic: true\ndescription: Made for a test.\n")
    data = load("BPR")
    assert data.card.synthetic
    assert "SYNTHETIC" in str(data)
    data.build()
    assert "Made for a test." in str(data)
