from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recbole_cdsr  # isort: skip  # noqa: F401 - makes RecBole importable

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.convert.interactions import Interactions
from recbole_cdsr.convert.overlap import OverlapDilution, leave_one_out_files, with_overlap_ratio
from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.quick_start import create_dataset

RATIOS = (0.25, 0.5, 0.75, 1.0)
TYPES = {"user_id": "token", "item_id": "token", "timestamp": "float"}


def catalogue(*sizes: int) -> pd.DataFrame:
    names = ["book", "movie", "music"][: len(sizes)]
    tokens = [(f"{name}:{i}", name) for name, size in zip(names, sizes, strict=True) for i in range(size)]
    return pd.DataFrame(tokens, columns=["item_id", "domain"])


def random_interactions(items: pd.DataFrame, n_users: int = 60, seed: int = 0) -> pd.DataFrame:
    """Users of 2 to 9 interactions by user and time; a third of them in the first domain only; tied times."""
    random = np.random.default_rng(seed)
    frames = []
    for user in range(n_users):
        pool = items if user % 3 else items[items["domain"] == "book"]
        length = 2 + user % 8
        frames.append(
            pd.DataFrame(
                {
                    "user_id": f"u{user}",
                    "item_id": random.choice(pool["item_id"], length),
                    "timestamp": np.sort(random.integers(0, 6, length)).astype(float),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def numbered(parts: dict[str, pd.DataFrame], items: pd.DataFrame) -> dict[str, Interactions]:
    """Frames as the converters hold them."""
    users, user_tokens = pd.factorize(pd.concat([frame["user_id"] for frame in parts.values()]))
    domains, names = pd.factorize(items["domain"])
    index, stop, found = pd.Index(items["item_id"]), 0, {}
    for part, frame in parts.items():
        stop += len(frame)
        found[part] = Interactions(
            users=users[stop - len(frame) : stop].astype(np.int32),
            items=index.get_indexer(frame["item_id"]).astype(np.int32),
            times=frame["timestamp"].to_numpy(dtype=np.float64),
            ratings=None,
            user_tokens=user_tokens.to_numpy(dtype=object),
            item_tokens=items["item_id"].to_numpy(dtype=object),
            item_domains=domains,
            domain_names=tuple(names),
        )
    return found


def as_frame(rows: Interactions) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": rows.user_tokens[rows.users],
            "item_id": rows.item_tokens[rows.items],
            "timestamp": rows.times,
        }
    )


def diluted_at(
    parts: dict[str, pd.DataFrame], items: pd.DataFrame, ratio: float, seed: int
) -> tuple[OverlapDilution, dict[str, pd.DataFrame]]:
    diluted = with_overlap_ratio(numbered(parts, items), ratio, seed)
    return diluted, {part: as_frame(rows) for part, rows in diluted.parts.items()}


def plain_leave_one_out(whole: pd.DataFrame, items: pd.DataFrame) -> dict[str, pd.DataFrame]:
    files = leave_one_out_files(numbered({"": whole}, items)[""])
    return {part: as_frame(rows) for part, rows in files.items()}


def sequences(frame: pd.DataFrame) -> dict[str, list[str]]:
    return frame.groupby("user_id", sort=False)["item_id"].agg(list).to_dict()


def test_leave_one_out_as_three_files_exactly() -> None:
    rows = [
        ("two", "book:1", 5.0), ("two", "movie:1", 6.0),
        ("three", "book:1", 5.0), ("three", "movie:1", 5.0), ("three", "book:2", 9.0),
        ("five", "movie:2", 7.0), ("five", "book:1", 1.0), ("five", "movie:1", 7.0), ("five", "book:3", 2.0),
        ("five", "book:2", 8.0),
    ]  # fmt: skip
    parts = plain_leave_one_out(pd.DataFrame(rows, columns=list(TYPES)), catalogue(4, 3))
    assert {part: sequences(frame) for part, frame in parts.items()} == {
        "train": {
            "two": ["book:1", "movie:1"],
            "three": ["book:1", "movie:1"],
            "five": ["book:1", "book:3", "movie:2"],
        },
        "valid": {"five": ["book:1", "book:3", "movie:2", "movie:1"]},
        "test": {
            "three": ["book:1", "movie:1", "book:2"],
            "five": ["book:1", "book:3", "movie:2", "movie:1", "book:2"],
        },
    }
    assert parts["valid"]["timestamp"].tolist() == [1.0, 2.0, 7.0, 7.0]


@pytest.mark.parametrize("sizes", [(6, 5), (5, 4, 4)], ids=["two domains", "three domains"])
def test_only_the_names_of_split_users_in_training_rows_change(sizes: tuple[int, ...]) -> None:
    items = catalogue(*sizes)
    whole = random_interactions(items)
    plain = plain_leave_one_out(whole, items)
    domain_of = items.set_index("item_id")["domain"]
    domains = plain["train"].groupby("user_id", sort=False)["item_id"].agg(lambda tokens: domain_of[tokens].nunique())
    overlapped = set(domains[domains > 1].index)
    assert len(overlapped) > 20
    kept_before: set[str] = set()
    for ratio in RATIOS:
        diluted, frames = diluted_at({"": whole}, items, ratio, seed=7)
        pd.testing.assert_frame_equal(frames["valid"], plain["valid"])
        pd.testing.assert_frame_equal(frames["test"], plain["test"])
        train = frames["train"]
        pd.testing.assert_frame_equal(train.drop(columns="user_id"), plain["train"].drop(columns="user_id"))
        split = train["user_id"] != plain["train"]["user_id"]
        of_split = set(plain["train"]["user_id"][split])
        kept = overlapped - of_split
        assert of_split <= overlapped
        assert len(kept) == diluted.kept == round(ratio * len(overlapped) + 1e-9)
        assert kept_before <= kept  # nested
        kept_before = kept
        expected = plain["train"]["user_id"] + "@" + plain["train"]["item_id"].map(domain_of)
        assert (train["user_id"][split] == expected[split]).all()
        assert not set(train["user_id"]) & of_split
        assert diluted.single_domain == train["user_id"][split].nunique()
    assert kept_before == overlapped


def test_the_draw_follows_the_seed() -> None:
    items = catalogue(6, 5)
    whole = random_interactions(items)

    def drawn(seed: int) -> list[str]:
        return diluted_at({"": whole}, items, 0.5, seed)[1]["train"]["user_id"].tolist()

    assert drawn(1) == drawn(1) != drawn(2)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 7)), min_size=1, max_size=60),
    ratio=st.floats(0.01, 1),
    seed=st.integers(0, 5),
)
def test_any_training_file_against_a_plain_reading(rows: list[tuple[int, int]], ratio: float, seed: int) -> None:
    items = catalogue(3, 3, 2)
    tokens = items["item_id"].tolist()
    rows = sorted(rows, key=lambda row: row[0])
    train = pd.DataFrame([(f"u{u}", tokens[i], float(k)) for k, (u, i) in enumerate(rows)], columns=list(TYPES))
    judged = pd.DataFrame([("held", tokens[0], 0.0), ("held", tokens[4], 1.0)], columns=list(TYPES))
    parts = {"train": train, "valid": judged, "test": judged}
    active = defaultdict(set)
    for user, item in zip(train["user_id"], train["item_id"], strict=True):
        active[user].add(item.split(":")[0])
    overlapped = [user for user, domains in active.items() if len(domains) > 1]
    if not overlapped:
        with pytest.raises(DataError, match="no training user has interactions in two domains"):
            diluted_at(parts, items, ratio, seed)
        return
    diluted, frames = diluted_at(parts, items, ratio, seed)
    after = sequences(frames["train"])
    kept = [user for user in overlapped if user in after]
    assert len(kept) == diluted.kept == int(ratio * len(overlapped) + 0.5)
    expected = {}
    for user, sequence in sequences(train).items():
        if user in overlapped and user not in kept:
            for domain in active[user]:
                expected[f"{user}@{domain}"] = [item for item in sequence if item.startswith(domain)]
        else:
            expected[user] = sequence
    assert after == expected


def test_new_names_are_nobodys_and_the_same_at_every_ratio() -> None:
    items = catalogue(2, 2)
    rows = [
        ("a", "book:0"),
        ("a", "movie:0"),
        ("a@book", "book:1"),
        ("a@book", "book:0"),
        ("b", "movie:1"),
        ("b", "book:1"),
    ]
    train = pd.DataFrame([(u, i, float(k)) for k, (u, i) in enumerate(rows)], columns=list(TYPES))
    judged = pd.DataFrame([("b@@movie", "book:0", 0.0), ("b@@movie", "movie:0", 1.0)], columns=list(TYPES))
    _, frames = diluted_at({"train": train, "valid": judged, "test": judged}, items, 0.01, seed=0)
    assert list(sequences(frames["train"])) == ["a@@@book", "a@@@movie", "a@book", "b@@@movie", "b@@@book"]


def test_a_judged_user_of_a_pre_split_release_trains_under_another_name_at_every_ratio() -> None:
    """Their training items would else be left out of their candidates at some ratios only."""
    items = catalogue(3, 3)
    rows = [("a", "book:0"), ("a", "movie:0"), ("b", "book:1"), ("b", "movie:1"), ("c", "book:2"), ("c", "book:0")]
    train = pd.DataFrame([(u, i, float(k)) for k, (u, i) in enumerate(rows)], columns=list(TYPES))
    valid = pd.DataFrame([("a", "book:1", 9.0), ("a", "movie:1", 10.0)], columns=list(TYPES))
    test = pd.DataFrame([("c", "book:1", 9.0), ("c", "movie:1", 10.0)], columns=list(TYPES))
    parts = {"train": train, "valid": valid, "test": test}
    names = {ratio: list(sequences(diluted_at(parts, items, ratio, seed=0)[1]["train"])) for ratio in (0.01, 1.0)}
    assert names == {
        0.01: ["a@book", "a@movie", "b@book", "b@movie", "c"],
        1.0: ["a@train", "b", "c"],
    }


def test_a_person_of_several_sequences_is_kept_or_split_with_all_of_them() -> None:
    items = catalogue(4, 4)
    rows = [
        (f"p{person}#{line}", f"{domain}:{line}", float(k))
        for person in range(8)
        for line in range(3)
        for k, domain in enumerate(("book", "movie") if line < 2 else ("movie", "movie"))
    ]
    judged = pd.DataFrame([("held", "book:0", 0.0), ("held", "movie:1", 1.0)], columns=list(TYPES))
    parts = numbered({"train": pd.DataFrame(rows, columns=list(TYPES)), "valid": judged, "test": judged}, items)
    people = pd.factorize(pd.Series(parts["train"].user_tokens).str.partition("#")[0])[0]
    diluted = with_overlap_ratio(parts, 0.5, seed=0, people=people)
    assert (diluted.overlapped, diluted.kept, diluted.single_domain) == (8, 4, 20)
    names = as_frame(diluted.parts["train"])["user_id"]
    per_person = names.str.contains("@").groupby(names.str.partition("#")[0]).agg(["all", "any"])
    assert (per_person["all"] == per_person["any"]).all()
    assert per_person["all"].sum() == 4


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.5, float("nan")])
def test_a_ratio_that_is_none(ratio: float) -> None:
    items = catalogue(3, 3)
    with pytest.raises(ConfigError, match="--overlap-ratio"):
        diluted_at({"": random_interactions(items)}, items, ratio, seed=0)


def test_users_too_short_to_be_judged() -> None:
    items = catalogue(3, 3)
    rows = [("a", "book:0", 0.0), ("a", "movie:0", 1.0), ("a", "movie:1", 2.0)]
    with pytest.raises(DataError, match="nobody can be validated"):
        diluted_at({"": pd.DataFrame(rows, columns=list(TYPES))}, items, 0.5, seed=0)


def judged_cases(root: Path, name: str, model: str) -> dict[str, list[tuple]]:
    """Every judged row in tokens: user, target, history, drawn candidates, items left out, in the evaluator's order."""
    from recbole_cdsr.evaluator.candidates import CandidateSampler, CandidateSpec

    config = CDSRConfig(
        model,
        name,
        config_dict={"data_path": str(root), "use_gpu": False, "train_neg_sample_args": None}
        if model == "GRU4Rec"
        else {"data_path": str(root), "use_gpu": False},
        command_line=[],
    )
    _, *splits = create_dataset(config).build()
    cases = {}
    for split in splits:
        rows = split.evaluation_rows()
        users, items = split.field2id_token["user_id"], split.field2id_token["item_id"]
        drawn = {
            kind: CandidateSampler(CandidateSpec(f"{kind}4", kind, 4), 2026, rows).candidates(np.arange(len(rows)))
            for kind in ("uni", "pop")
        }
        pairs = np.divmod(rows.user_item_keys, rows.n_items)
        cases[split.phase] = [
            (
                users[rows.users[r]],
                items[rows.targets[r]],
                items[rows.flat_items[slice(*rows.history_pointers[r])]].tolist(),
                items[drawn["uni"][r]].tolist(),
                items[drawn["pop"][r]].tolist(),
                sorted(items[pairs[1][pairs[0] == rows.users[r]]]),
            )
            for r in range(len(rows))
        ]
    return cases


@pytest.mark.parametrize("model", ["GRU4Rec", "BPR"])
@pytest.mark.parametrize("source", ["leave-one-out", "pre-split"])
def test_judged_rows_histories_and_candidates_are_the_same_at_every_ratio(
    tmp_path: Path, model: str, source: str
) -> None:
    items = catalogue(14, 11)
    whole = random_interactions(items, n_users=40)
    if source == "leave-one-out":
        parts = {"": whole}
    else:  # users 20 to 29 are trained on and validated, 30 to 39 tested only
        user = whole["user_id"].str[1:].astype(int)
        parts = {"train": whole[user < 30], "valid": random_interactions(items, 30, 5)[60:], "test": whole[user >= 30]}
        parts = {part: frame.reset_index(drop=True) for part, frame in parts.items()}
        parts["valid"] = parts["valid"][parts["valid"].groupby("user_id")["item_id"].transform("size") > 1]
    cases, training = [], []
    for ratio in RATIOS:
        _, frames = diluted_at(parts, items, ratio, seed=3)
        name = f"at{int(100 * ratio)}"
        (tmp_path / name).mkdir()
        write_atomic(tmp_path / name / f"{name}.item", items, {"item_id": "token", "domain": "token"})
        for part, frame in frames.items():
            write_atomic(tmp_path / name / f"{name}.{part}.inter", frame, TYPES)
        cases.append(judged_cases(tmp_path, name, model))
        training.append((tmp_path / name / f"{name}.train.inter").read_bytes())
    assert len(set(training)) == len(RATIOS)
    assert len(cases[0]["valid"]) > 5
    assert len(cases[0]["test"]) > 5
    assert all(case == cases[-1] for case in cases)
