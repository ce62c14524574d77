"""Both datasets on files: RecBole's rows, domains, leave-one-out, and the seams of RecBole's own models."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.transform import construct_transform
from recbole.utils import get_flops, init_seed

from recbole_cdsr.data.user_tables import has_user_table

LENGTHS = [4, 5, 9, 4, 14, 6, 4, 7]
MIXED = [2, 3, 4, 2, 3, 5, 8, 13, 4, 30, 6]


def judged_cases(part) -> dict[int, tuple]:
    """User, target and whole history of each judged row, by the row's key."""
    rows = part.evaluation_rows()
    return {
        int(key): (int(user), int(target), tuple(rows.flat_items[start:stop].tolist()))
        for key, user, target, (start, stop) in zip(
            rows.row_keys, rows.users, rows.targets, rows.history_pointers, strict=True
        )
    }


# ---------------------------------------------------------------------------------------- RecBole's general dataset
@pytest.mark.parametrize(("seed", "times"), [(0, 1000), (1, 10), (2, 2)])
def test_general_rows_equal_recboles(write_dataset, load, config_of, random_data, seed, times):
    """With four interactions or more for everyone RecBole's general and sequential splits leave out the same."""
    write_dataset(*random_data(LENGTHS, times=times, seed=seed))
    ours, theirs = load("BPR"), Dataset(config_of("BPR"))
    for our_part, their_part in zip(ours.build(), theirs.build(), strict=True):
        a, b = our_part[:], their_part[:]
        for field in b.interaction:
            assert a[field].dtype == b[field].dtype
            assert torch.equal(a[field], b[field]), field
        assert len(b)
        np.testing.assert_array_equal(a["target_domain"], ours.item_domain[b["item_id"]])


@pytest.mark.parametrize("model", ["BPR", "GRU4Rec"])
@pytest.mark.parametrize("keep", ["first", "last", False])
def test_removing_repeated_items_leaves_rows_of_one_time_in_their_order(
    write_dataset, load, random_data, token_cases, model, keep
):
    items, rows = random_data([24] * 12, sizes=(40, 30), times=4, alike=False)
    write_dataset(items, rows)
    expected = []
    for user in dict.fromkeys(user for user, _, _ in rows):
        own = [item for _, item, _ in sorted((row for row in rows if row[0] == user), key=lambda row: row[2])]
        once = [item for item in own if own.count(item) == 1] if keep is False else None
        last = list(reversed(dict.fromkeys(reversed(own)))) if keep == "last" else list(dict.fromkeys(own))
        expected.append((user, (last if once is None else once)[-1]))
    assert len(set(rows)) < len(rows)
    test = load(model, rm_dup_inter=keep).build()[2]
    assert sorted(token_cases(test)) == sorted(expected)


@pytest.mark.parametrize("seed", range(4))
def test_general_and_sequential_models_are_judged_on_the_same_rows(write_dataset, load, random_data, seed):
    write_dataset(*random_data(MIXED, times=15, seed=seed, alike=False))
    parts = [load(model).build() for model in ("BPR", "GRU4Rec", "LLM4CDSR")]
    for which in (1, 2):
        cases = [judged_cases(of[which]) for of in parts]
        assert cases[0] == cases[1] == cases[2]
        assert len(cases[0]) == sum(length > 3 - which // 2 for length in MIXED)
        assert sorted(cases[0]) == list(range(len(cases[0])))
        for of in parts:  # the table that a loader reads names the same targets in the same order as the rows
            rows, table = of[which].evaluation_rows(), of[which][:]
            np.testing.assert_array_equal(table["user_id"], rows.users)
            np.testing.assert_array_equal(table["item_id"], rows.targets)
            np.testing.assert_array_equal(table["target_domain"], rows.target_domains)
            np.testing.assert_array_equal(table["row_id"], np.arange(len(rows)))


def test_general_models_train_on_every_training_interaction(write_dataset, load, random_data, token_cases):
    items, rows = random_data(MIXED, times=1000, seed=3)
    write_dataset(items, rows)
    train, valid, test = load("BPR").build()
    everything = Counter((user, item) for user, item, _ in rows)
    parts = [Counter(token_cases(part)) for part in (train, valid, test)]
    assert parts[0] + parts[1] + parts[2] == everything


def test_seconds_of_today_keep_their_order(write_dataset, load):
    """Six events a second apart: in float32 they are one moment, and the order of the file would decide."""
    items = {f"a{i}": "a" for i in range(4)} | {f"b{i}": "b" for i in range(4)}
    now, sequence = 1_790_000_000, ["a2", "b0", "a0", "b3", "a1", "b1"]
    rows = [("u", item, float(now + second)) for second, item in enumerate(sequence)]
    write_dataset(items, [rows[place] for place in (4, 1, 5, 0, 3, 2)])
    for model in ("GRU4Rec", "BPR"):
        train, valid, test = load(model).build()
        assert [part.id2token("item_id", part[:]["item_id"].numpy()).tolist()[-1] for part in (train, valid, test)] == [
            "b3", "a1", "b1",
        ]  # fmt: skip
        pointers = test.evaluation_rows().history_pointers[0]
        history = test.id2token("item_id", test.evaluation_rows().flat_items[slice(*pointers)])
        assert history.tolist() == sequence[:-1]


# ------------------------------------------------------------------------------------------------------ domains
@pytest.mark.parametrize("sizes", [(6, 5), (4, 6, 3)])
def test_item_ids_are_contiguous_per_domain(write_dataset, load, random_data, sizes):
    """Items interleaved in `.inter` and in `.item`, some of them without an interaction."""
    items, rows = random_data([6, 9, 4, 5], sizes=sizes, seed=1, alike=False)
    shuffled = [list(items)[place] for place in np.random.default_rng(2).permutation(len(items))]
    columns = {"title:token_seq": [f"about {token}" for token in shuffled], "price:float": ["1.5"] * len(items)}
    write_dataset({token: items[token] for token in shuffled}, rows, item_columns=columns)
    assert len({item for _, item, _ in rows}) < len(items)
    load_col = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "domain", "title", "price"]}
    data = load("GRU4Rec", load_col=load_col)
    in_order = list(dict.fromkeys(items[token] for token in shuffled))  # as they first appear in .item
    assert data.domain_names == in_order
    counts = Counter(items.values())
    assert data.domain_offsets.tolist() == [1, *(1 + np.cumsum([counts[name] for name in in_order]))]
    assert data.item_num == data.domain_offsets[-1] == len(items) + 1
    tokens = data.field2id_token["item_id"]
    assert tokens[0] == "[PAD]"
    assert data.item_domain[0] == -1
    for index in range(1, data.item_num):
        assert data.domain_names[data.item_domain[index]] == items[tokens[index]]
        assert data.token2id("item_id", str(tokens[index])) == index
    for k, name in enumerate(in_order):
        block = tokens[data.domain_offsets[k] : data.domain_offsets[k + 1]]
        assert {items[token] for token in block} == {name}
    data.build()
    feat = data.get_item_feature()
    assert feat["item_id"].tolist() == list(range(data.item_num))
    assert data.id2token("domain", feat["domain"].numpy()).tolist()[1:] == [items[token] for token in tokens[1:]]
    titles = data.id2token("title", feat["title"].numpy())
    assert [" ".join(words) for words in titles[1:]] == [f"about {token}" for token in tokens[1:]]
    assert not feat["title"][0].any()


def test_an_item_keeps_recboles_order_inside_its_domain(write_dataset, load, config_of, random_data):
    items, rows = random_data([8, 9, 7], sizes=(6, 5), seed=4, alike=False)
    write_dataset(items, rows)
    theirs = SequentialDataset(config_of()).field2id_token["item_id"][1:]
    by_domain = [token for name in ("d0", "d1") for token in theirs if items[token] == name]
    assert load().field2id_token["item_id"].tolist() == ["[PAD]", *by_domain]


# ------------------------------------------------------------------------------------------------ judged rows
def test_evaluation_rows_are_for_judged_splits_only(write_dataset, load, random_data):
    write_dataset(*random_data(LENGTHS))
    data = load()
    train = data.build()[0]
    for part, name in ((data, "whole"), (train, "train")):
        with pytest.raises(ValueError, match=name):
            part.evaluation_rows()


def test_leave_one_out_counts_against_plain_python(write_dataset, load, random_data, token_cases):
    items, rows = random_data(MIXED, times=10_000, seed=6)
    write_dataset(items, rows)
    by_user = defaultdict(list)
    for user, item, _ in sorted(rows, key=lambda row: row[2]):
        by_user[user].append(item)
    trained = {user: of[: {2: 2, 3: 2}.get(len(of), len(of) - 2)] for user, of in by_user.items()}
    _, valid, test = load("GRU4Rec").build()
    judged = test.evaluation_rows()
    counts = Counter(item for of in trained.values() for item in of)
    assert judged.train_item_counts.tolist() == [counts[token] for token in test.field2id_token["item_id"]]
    assert sorted(token_cases(valid)) == sorted((user, of[-2]) for user, of in by_user.items() if len(of) > 3)
    assert sorted(token_cases(test)) == sorted((user, of[-1]) for user, of in by_user.items() if len(of) > 2)
    for user, (start, stop) in zip(judged.users, judged.history_pointers, strict=True):
        history = test.id2token("item_id", judged.flat_items[start:stop]).tolist()
        assert history == by_user[str(test.id2token("user_id", user))][:-1]
    assert not test.judged_users_unseen().any()


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ([5, 4], None),
        ([5, 3, 2, 2], "of 4 users 2 are trained on only, and 1 are not validated."),
        ([3, 3], "of 2 users 0 are trained on only, and 2 are not validated. Nobody is validated"),
    ],
)
def test_users_that_are_not_judged_are_told(write_dataset, load, caplog, lengths, told):
    items = {f"i{i}": f"d{i % 2}" for i in range(6)}
    write_dataset(items, [(f"u{u}", f"i{(u + t) % 6}", t) for u, n in enumerate(lengths) for t in range(n)])
    with caplog.at_level("INFO"):
        load()
    messages = [record.getMessage() for record in caplog.records if "Leave-one-out" in record.getMessage()]
    assert len(messages) == (told is not None)
    assert all(told in message for message in messages)


# --------------------------------------------------------------------------------------------------- our own models
def test_rows_of_a_sequence_to_sequence_model(write_dataset, load, random_data):
    items, rows = random_data(MIXED, sizes=(9, 7, 5), times=10_000, seed=2, alike=False)
    write_dataset(items, rows)
    by_user = defaultdict(list)
    for user, item, _ in sorted(rows, key=lambda row: row[2]):
        by_user[user].append(item)
    trained = {user: of[: {2: 2, 3: 2}.get(len(of), len(of) - 2)] for user, of in by_user.items()}
    data = load("LLM4CDSR", MAX_ITEM_LIST_LENGTH=6)
    train, valid, test = data.build()
    np.random.seed(0)
    batch = train[:]
    assert len(train) == len(by_user)
    longest = min(6, max(map(len, trained.values())) - 1)
    shape = (len(train), longest)
    assert batch["item_id_list"].shape == batch["target_id_list"].shape == batch["neg_item_id_list"].shape == shape
    assert batch["domain_item_id"].shape == (len(train), 3)
    assert "timestamp_list" not in batch
    for row, user in enumerate(train.id2token("user_id", batch["user_id"].numpy())):
        sequence = [data.token2id("item_id", item) for item in trained[user]]
        length = min(6, len(sequence) - 1)
        padding = [0] * (longest - length)
        assert batch["item_length"][row] == length
        assert batch["item_id_list"][row].tolist() == sequence[-length - 1 : -1] + padding
        assert batch["target_id_list"][row].tolist() == sequence[-length:] + padding
        assert batch["item_id"][row] == sequence[-1]
        assert batch["target_domain"][row] == data.item_domain[sequence[-1]]
        negatives = batch["neg_item_id_list"][row].tolist()
        assert negatives[length:] == padding
        for target, negative in zip(sequence[-length:], negatives[:length], strict=True):
            assert data.item_domain[negative] == data.item_domain[target]
            block = set(range(*data.domain_offsets[[data.item_domain[target], data.item_domain[target] + 1]]))
            assert negative not in sequence or block <= set(sequence)
        for domain, item in enumerate(batch["domain_item_id"][row].tolist()):
            of_domain = [each for each in sequence if data.item_domain[each] == domain]
            assert item in of_domain if of_domain else item == 0
    for part in (valid, test):
        judged = part[:]
        assert not {"target_id_list", "neg_item_id_list", "domain_item_id"} & set(judged.interaction)
        assert judged["item_id_list"].shape[1] == judged["item_length"].max()


def test_draws_follow_the_seed(write_dataset, load, random_data):
    write_dataset(*random_data(MIXED, sizes=(60, 50), alike=False))
    train = load("LLM4CDSR").build()[0]
    draws = []
    for seed in (1, 1, 2):
        init_seed(seed, True)
        batch = train[np.arange(len(train))]
        draws.append(torch.cat([batch["neg_item_id_list"].ravel(), batch["domain_item_id"].ravel()]).tolist())
    assert draws[0] == draws[1] != draws[2]


# ---------------------------------------------------------------------------------- the seams of RecBole's own models
def test_inter_matrix_of_leave_one_out_equals_recboles_and_brute_force(write_dataset, load, config_of, random_data):
    write_dataset(*random_data(MIXED, seed=8))
    ours, theirs = load().build()[0], SequentialDataset(config_of()).build()[0]
    brute = np.zeros((ours.user_num, ours.item_num))
    batch = theirs[:]
    for user, item, window, length in zip(
        batch["user_id"], batch["item_id"], batch["item_id_list"], batch["item_length"], strict=True
    ):
        brute[user, item] += 1
        if length == 1:
            brute[user, window[0]] += 1
    for form in ("coo", "csr"):
        np.testing.assert_array_equal(ours.inter_matrix(form).toarray(), brute)
        np.testing.assert_array_equal(theirs.inter_matrix(form).toarray(), brute)
    timed = ours.inter_matrix(value_field="timestamp").toarray()
    np.testing.assert_array_equal(timed, theirs.inter_matrix(value_field="timestamp").toarray())


@pytest.mark.parametrize("model", ["GRU4Rec", "Caser", "SASRecBCE", "BPR"])
def test_the_flops_probe_finds_a_row_on_the_unsplit_dataset(write_dataset, load, random_data, model):
    import logging

    write_dataset(*random_data(LENGTHS))
    data = load(model, MAX_ITEM_LIST_LENGTH=8)
    train = data.build()[0]
    config = data.config
    network = config.model_class(config, train)
    flops = get_flops(network, data, config["device"], logging.getLogger(), construct_transform(config))
    assert flops > 0
    assert len(data[torch.tensor([1])]) == 1
    assert data.phase is None


@pytest.mark.parametrize("model", ["GRU4Rec", "SASRecBCE"])
def test_any_index_gives_the_same_rows(write_dataset, load, random_data, model):
    write_dataset(*random_data(MIXED))
    part = load(model, MAX_ITEM_LIST_LENGTH=5).build()[2]
    every = part[:]
    mask = np.zeros(len(part), dtype=bool)
    mask[[2, 4]] = True
    for index in ([2, 4], (2, 4), np.array([2, 4]), torch.tensor([2, 4]), slice(2, 5, 2), mask, torch.from_numpy(mask)):
        rows = part[index]
        assert rows["row_id"].tolist() == [2, 4]
        for field in every.interaction:
            wanted = every[field][[2, 4]]
            if field.endswith("_list"):
                wanted = wanted[:, : rows[field].shape[1]]
            assert torch.equal(rows[field], wanted), field
    assert len(part[[]]) == 0
    assert part[-1]["row_id"].tolist() == [len(part) - 1]


def test_join_adds_item_and_user_features_for_baselines_only(write_dataset, tmp_path, load, random_data, token_cases):
    items, rows = random_data(MIXED)
    folder = write_dataset(items, rows, item_columns={"price:float": [f"{n}.5" for n in range(len(items))]})
    users = "".join(f"u{user}\t{user + 20}\n" for user in range(len(MIXED)))
    (folder / "tiny.user").write_text("user_id:token\tage:float\n" + users)
    columns = {
        "inter": ["user_id", "item_id", "timestamp"],
        "item": ["item_id", "domain", "price"],
        "user": ["user_id", "age"],
    }
    for model in ("GRU4Rec", "BPR"):
        part = load(model, load_col=columns).build()[2]
        batch = part[:]
        prices = {token: n + 0.5 for n, token in enumerate(items)}
        assert batch["price"].tolist() == [prices[item] for _, item in token_cases(part)]
        assert batch["age"].tolist() == [int(user[1:]) + 20 for user, _ in token_cases(part)]
        assert "price" not in part.__getitem__([0], join=False)
    assert not {"price", "age"} & set(load("SASRecBCE", load_col=columns).build()[2][:].interaction)


def test_user_tables_of_recboles_models_are_known(config_of):
    with_table = ["BPR", "LightGCN", "ItemKNN", "EASE", "FPMC", "Caser", "HGN", "TransRec", "SHAN", "NPE", "HRM"]
    with_table += ["FOSSIL", "DIN", "DIEN"]
    without = ["Pop", "Random", "SASRec", "GRU4Rec", "BERT4Rec", "NARM", "SINE", "CORE", "LLM4CDSR", "SASRecBCE"]
    for names, expected in ((with_table, True), (without, False)):
        for name in names:
            model = config_of(name).model_class
            assert has_user_table(model) is expected, name
            assert has_user_table(type("Derived", (model,), {})) is expected, name


def test_a_model_may_say_itself_whether_it_has_a_user_table(config_of):
    stated = type("Stated", (config_of("FPMC").model_class,), {"has_user_table": False})
    assert has_user_table(stated) is False


def test_loading_warns_of_nothing(write_dataset, load, random_data):
    """pandas 3 gives out read-only arrays, of which torch warns once a process when they are taken as they are."""
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        write_dataset(*random_data(MIXED))
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*not writable.*")
            for model in ("GRU4Rec", "LLM4CDSR", "BPR"):
                load(model).build()
    finally:
        torch.set_warn_always(always)
