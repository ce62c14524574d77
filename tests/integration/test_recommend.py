"""What `recommend` prints and writes, against scores computed by hand for one user at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_cdsr import llm
from recbole_cdsr.cli import main
from recbole_cdsr.recommend.new_items import SCORE_WHOLE_TABLE
from recbole_cdsr.trained_run import SavedRun, TrainedRun
from recbole_cdsr.trainer.checkpoint import load_checkpoint, save_checkpoint

from .small_models import SMALL

LECDSR = {"hidden_size": 16, "adapter_size": 16, "n_negatives": 5, "profile_clusters": 3}
TYPES = {"user_id": "token", "item_id": "token", "timestamp": "float"}
# A model that scores pairs, one whose rows go through a transform, one with a mask token, one that knows no user.
MODELS = {
    "LLM4CDSR": SMALL,
    "LeCDSR": LECDSR,
    "SASRec": {},
    "BERT4Rec": {},
    "SHAN": {},
    "BPR": {},
    "NeuMF": {},
    "Pop": {},
}


class ByHand:
    """Scores of one history at a time, in a window of full width, with the history left out of the candidates."""

    def __init__(self, place):
        saved = SavedRun.open(Path(place))
        self.run = TrainedRun(saved, saved.config())
        self.data = self.run.data
        self.ids = self.data.field2token_id["item_id"]

    def scores(self, user, history, domain):
        model, width = self.run.model_of(domain), self.data.config["MAX_ITEM_LIST_LENGTH"] or 0
        window = [self.ids[item] for item in history[-width:]]
        row = Interaction(
            {
                "user_id": torch.tensor([user]),
                "item_id_list": torch.tensor([window + [0] * (width - len(window))]),
                "item_length": torch.tensor([len(window)]),
                "Inverse_item_id_list": torch.tensor([[0] * (width - len(window)) + window]),
            }
        )
        with torch.no_grad():
            if self.data.config["model"] == "NeuMF":
                items = torch.arange(self.data.item_num)
                pairs = Interaction({"user_id": torch.full((len(items),), user), "item_id": items})
                return model.predict(pairs).numpy()
            return model.full_sort_predict(row).view(-1).numpy().copy()

    def best(self, user, history, domain, topk, leave_out=True):
        scores = self.scores(user, history, domain)
        first, stop = self.data.domain_offsets[self.data.domain_names.index(domain) :][:2]
        left = set(history) if leave_out else set()
        candidates = [item for item in range(first, stop) if self.token(item) not in left]
        ranked = sorted(candidates, key=lambda item: -scores[item])[:topk]
        return [self.token(item) for item in ranked], [scores[item] for item in ranked]

    def token(self, item):
        return str(self.data.id2token("item_id", item))

    def user(self, token):
        return self.data.field2token_id["user_id"][token]


def histories_of(dataset):
    ordered = dataset.interactions.sort_values(["user_id", "timestamp"])
    return {user: items.tolist() for user, items in ordered.groupby("user_id")["item_id"]}


def of_domain(user, domain):
    chosen = [entry for entry in user["recommendations"] if entry["domain"] == domain]
    assert [entry["rank"] for entry in chosen] == list(range(1, len(chosen) + 1))
    return [entry["item"] for entry in chosen], [entry["score"] for entry in chosen]


@pytest.mark.parametrize("model", MODELS)
def test_the_best_items_of_all_users_are_those_of_scores_by_hand(trained, module_dataset, recommend, model):
    place = trained(model, **MODELS[model])["run_dir"]
    users = recommend(place, "--all-users", "--topk", "5")
    by_hand, histories = ByHand(place), histories_of(module_dataset)
    titles = pd.read_csv(module_dataset.folder / "tiny.item", sep="\t").set_index("item_id:token")["title:token_seq"]

    assert sorted(user["user"] for user in users) == sorted(histories)
    for user in users:
        token = user["user"]
        for domain in ("books", "movies"):
            items, scores = of_domain(user, domain)
            wanted, expected = by_hand.best(by_hand.user(token), histories[token], domain, 6)
            assert np.allclose(scores, expected[:5], atol=1e-5)
            if len(set(np.round(expected, 4))) == 6:  # else any order of equal ones is right
                assert items == wanted[:5]
            assert not set(items) & set(histories[token])
        assert all(entry["title"] == titles[entry["item"]] for entry in user["recommendations"])


def test_a_shorter_list_is_the_beginning_of_a_longer_one_also_among_equal_scores(trained, module_dataset, recommend):
    place = trained("Pop")["run_dir"]
    position = {item: row for row, item in enumerate(module_dataset.interactions["item_id"].drop_duplicates())}
    longest = recommend(place, "--all-users", "--topk", "20")
    for topk in (1, 3, 5, 8):
        for short, long in zip(recommend(place, "--all-users", "--topk", str(topk)), longest, strict=True):
            for domain in ("books", "movies"):
                items, scores = of_domain(long, domain)
                assert of_domain(short, domain) == (items[:topk], scores[:topk])
                ranked = sorted(zip(items, scores, strict=True), key=lambda pair: (-pair[1], position[pair[0]]))
                assert [item for item, _ in ranked] == items
                assert len(set(scores)) < len(scores)


def test_named_users_come_in_their_order_with_what_led_there(trained, module_dataset, recommend, capsys):
    place = trained("SASRec")["run_dir"]
    histories = histories_of(module_dataset)
    users = recommend(place, "--users", "u7", "--users", "u3", "u7", "--topk", "3", "--show-history", "4")
    assert [user["user"] for user in users] == ["u7", "u3"]
    for user in users:
        assert [entry["item"] for entry in user["history"]] == histories[user["user"]][-4:]
        assert {entry["domain"] for entry in user["recommendations"]} == {"books", "movies"}

    assert main(["recommend", "--run", str(place), "--users", "u7", "--topk", "3", "--show-history", "4"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("user u7: 8 items known, the latest 4 of them\n")
    for entry in [*users[0]["history"], *users[0]["recommendations"]]:
        assert f"{entry['title']} ({entry['item']})" in printed


def test_one_domain_with_what_is_known_already(trained, module_dataset, recommend):
    """All 20 movies, of which each user knows 4; asked for more than there are."""
    place = trained("LLM4CDSR", **SMALL)["run_dir"]
    by_hand, histories = ByHand(place), histories_of(module_dataset)
    (kept,) = recommend(place, "--users", "u5", "--topk", "50", "--domain", "movies", "--keep-history")
    (left_out,) = recommend(place, "--users", "u5", "--topk", "50", "--domain", "movies")
    items, scores = of_domain(kept, "movies")
    assert items == by_hand.best(by_hand.user("u5"), histories["u5"], "movies", 50, leave_out=False)[0]
    assert len(items) == len(kept["recommendations"]) == 20
    assert np.isfinite(scores).all()
    assert of_domain(left_out, "movies")[0] == [item for item in items if item not in histories["u5"]]


def test_tab_separated_lines_say_the_same(trained, tmp_path, recommend):
    place = trained("SASRec")["run_dir"]
    users = recommend(place, "--all-users", "--topk", "4")
    assert (
        main(["recommend", "--checkpoint", place, "--all-users", "--topk", "4", "--output", f"{tmp_path}/r.tsv"]) == 0
    )
    table = pd.read_csv(tmp_path / "r.tsv", sep="\t")
    flat = [(user["user"], *(entry.values())) for user in users for entry in user["recommendations"]]
    expected = pd.DataFrame(flat, columns=["user", "domain", "item", "title", "rank", "score"])
    pd.testing.assert_frame_equal(table, expected[list(table.columns)])


class TestNewUsers:
    @pytest.mark.parametrize("model", ["LLM4CDSR", "SASRec", "Pop"])
    def test_the_history_of_a_known_user_gives_the_same(self, trained, module_dataset, recommend, tmp_path, model):
        place = trained(model, **MODELS[model])["run_dir"]
        history = histories_of(module_dataset)["u9"]
        (known,) = recommend(place, "--users", "u9")
        (given,) = recommend(place, "--history", ",".join(history))
        assert given["user"] == "new-1"
        lines = [{"user": "somebody", "items": history}, {"user": "u9", "items": history[:2]}]
        (tmp_path / "new.jsonl").write_text("\n\n".join(map(json.dumps, lines)), encoding="utf-8")
        from_file, shorter = recommend(place, "--histories", str(tmp_path / "new.jsonl"))
        for same in (from_file, known):
            for domain in ("books", "movies"):
                assert of_domain(same, domain)[0] == of_domain(given, domain)[0]
                assert np.allclose(of_domain(same, domain)[1], of_domain(given, domain)[1], atol=1e-5)
        assert shorter["user"] == "u9"
        assert [entry["item"] for entry in shorter["history"]] == history[:2]

    def test_a_profile_is_made_of_the_history(self, trained, module_dataset, recommend):
        """As that of a training user was: with their training items, a new user is that user."""
        place = trained("LeCDSR", **LECDSR)["run_dir"]
        by_hand, history = ByHand(place), histories_of(module_dataset)["u4"][:-2]
        (given,) = recommend(place, "--history", ",".join(history), "--topk", "5")
        expected = by_hand.best(by_hand.user("u4"), history, "books", 5)
        items, scores = of_domain(given, "books")
        assert items == expected[0]
        assert np.allclose(scores, expected[1], atol=1e-5)
        without = by_hand.best(0, history, "books", 5)
        assert not np.allclose(scores, without[1], atol=1e-5)

    def test_a_model_with_a_table_of_users_says_that_it_cannot(self, trained, capsys):
        place = trained("BPR")["run_dir"]
        assert main(["recommend", "--run", place, "--history", "books:1"]) == 2
        assert "BPR knows users by what it learnt of each in training" in capsys.readouterr().err


class TestNewItems:
    """A new item with the text of a known one."""

    @pytest.fixture
    def twins(self, module_dataset, tmp_path):
        """New items with the features of books 0, 7 and movie 3."""
        features = np.load(next(module_dataset.root.parent.glob("module-runs*/items.npy")))
        np.save(tmp_path / "new.npy", features[[0, 7, 23]])
        rows = "item_id,domain,title\nn:0,books,First\nn:7,books,Second\nn:3,movies,Third\n"
        (tmp_path / "new.csv").write_text(rows, encoding="utf-8")
        return ["--new-items", str(tmp_path / "new.csv"), "--new-item-features", str(tmp_path / "new.npy")]

    @pytest.mark.parametrize("mode", ["adapter", "frozen"])
    @pytest.mark.parametrize("model", sorted(SCORE_WHOLE_TABLE))
    def test_with_injected_text_it_scores_as_its_twin(self, trained, recommend, twins, model, mode):
        place = trained(model, llm_injection=mode, llm_user_tables=[])["run_dir"]
        known = recommend(place, "--all-users", "--keep-history", "--topk", "20")
        both = recommend(place, "--all-users", "--keep-history", "--topk", "23", *twins)
        for before, after in zip(known, both, strict=True):
            scores = {entry["item"]: entry["score"] for entry in after["recommendations"]}
            assert {entry["item"] for entry in after["recommendations"] if "new" in entry} == {"n:0", "n:7", "n:3"}
            for new, old in (("n:0", "books:0"), ("n:7", "books:7"), ("n:3", "movies:3")):
                assert scores[new] == pytest.approx(scores[old], abs=1e-5)
            for entry in before["recommendations"]:
                assert scores[entry["item"]] == pytest.approx(entry["score"], abs=1e-5)

    def test_llm4cdsr_gives_the_global_part_of_its_twins_score(self, trained, module_dataset, recommend, twins):
        place = trained("LLM4CDSR", **SMALL)["run_dir"]
        by_hand, histories = ByHand(place), histories_of(module_dataset)
        model = by_hand.run.model_of("books")
        model.local_embedding.weight.data.zero_()  # what is left is h . g(v)
        for user in recommend(place, "--users", "u1", "u2", "--only-new", *twins):
            assert {entry["item"] for entry in user["recommendations"]} == {"n:0", "n:7", "n:3"}
            text_part = by_hand.scores(by_hand.user(user["user"]), histories[user["user"]], "books")
            for entry in user["recommendations"]:
                twin = f"{entry['domain']}:{entry['item'].split(':')[1]}"
                assert entry["score"] == pytest.approx(text_part[by_hand.ids[twin]], abs=1e-5)
                assert entry["new"] is True

    def test_text_is_encoded_as_in_training(self, trained, module_dataset, recommend, tmp_path, capsys):
        place = trained("LLM4CDSR", **SMALL, item_features_file=None)["run_dir"]
        by_hand, histories = ByHand(place), histories_of(module_dataset)
        by_hand.run.model_of("books").local_embedding.weight.data.zero_()
        title = "A movies tale of love, part 2"  # of movies:2
        (tmp_path / "new.tsv").write_text(f"title:token_seq\titem_id:token\tdomain\n{title}\tn:1\tmovies\n", "utf-8")
        (user,) = recommend(place, "--users", "u6", "--only-new", "--new-items", str(tmp_path / "new.tsv"))
        (entry,) = user["recommendations"]
        scores = by_hand.scores(by_hand.user("u6"), histories["u6"], "movies")
        assert (entry["item"], entry["title"], entry["domain"]) == ("n:1", title, "movies")
        assert entry["score"] == pytest.approx(scores[by_hand.ids["movies:2"]], abs=1e-5)

        # Another wording of the texts is not that of training.
        other = Path(place).with_name("reworded")
        shutil.copytree(place, other)
        state = load_checkpoint(other / "best.pth")
        wording = (Path(llm.__file__).parent / "prompt_files" / "item_en.yaml").read_text(encoding="utf-8")
        wording = wording.replace("{value}", "LOUD {value}").replace("item_en", "loud")
        (tmp_path / "loud.yaml").write_text(wording, encoding="utf-8")
        state["config"]["prompt_files"] = {"item": str(tmp_path / "loud.yaml")}
        save_checkpoint(other / "best.pth", {key: value for key, value in state.items() if key != "format"})
        arguments = ["--users", "u6", "--new-items", str(tmp_path / "new.tsv")]
        assert main(["recommend", "--run", str(other), *arguments]) == 2
        assert "trained on other item features" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("model", "settings", "words"),
        [
            ("SASRec", {}, "it knows items by ids alone"),
            ("SASRec", {"llm_injection": "concat"}, "every item has a row of its own that is learnt"),
            ("LeCDSR", LECDSR, "a row of an output table that is learnt for each item"),
            ("LLM4CDSR", SMALL | {"use_global": False}, "use_global is False"),
            ("BERT4Rec", {"llm_injection": "adapter"}, "it is not known to score rows behind its table"),
        ],
    )
    def test_a_model_that_cannot_says_why(self, trained, capsys, twins, model, settings, words):
        place = trained(model, **settings)["run_dir"]
        assert main(["recommend", "--run", place, "--users", "u1", *twins]) == 2
        error = capsys.readouterr().err
        assert f"{model} cannot score items that it was not trained on: " in error
        assert words in error


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("new.tsv", "item_id\ttitle\nn:1\tA\n", "line 1: there is no column 'domain'"),
        ("new.tsv", "item_id\tdomain\ttilte\nn:1\tbooks\tA\n", "no column 'tilte'; did you mean title?"),
        ("new.tsv", "item_id\tdomain\n", "holds a header and no item"),
        ("new.csv", "item_id,domain\nn:1,books\nn:1,books\n", "item 2 ('n:1', domain 'books'): this item_id stands"),
        ("new.csv", "item_id,domain\nbooks:1,books\n", "this item is known to 'tiny' already"),
        ("new.csv", "item_id,domain\nn:1,book\n", "the domain must be one of books, movies"),
        ("new.csv", "item_id,domain\n,books\n", "the item has no item_id"),
        ("new.csv", "item_id,domain,title\nn:1,books,The good, the bad\n", "more cells than the header; quote cells"),
        ("new.tsv", "item_id\tdomain\nn:1\tbooks\tA\n", "more cells than the header; quote cells that hold a tab"),
        ("new.csv", "item_id,domain\nn:1,books\n", "give their vectors with --new-item-features"),
        ("none.csv", None, "cannot be read (No such file"),
    ],
)
def test_tables_that_are_no_new_items(trained, tmp_path, capsys, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    place = trained("LLM4CDSR", **SMALL)["run_dir"]
    assert main(["recommend", "--run", place, "--users", "u1", "--new-items", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("kind", ["jsonl", "tsv"])
def test_what_a_model_prints_is_no_line_of_the_output(trained, capsys, kind):
    """FEARec tells its filters when it is built."""
    place = trained("FEARec", n_layers=2, n_heads=2, hidden_size=16, inner_size=16)["run_dir"]
    capsys.readouterr()
    assert main(["recommend", "--run", place, "--users", "u1,u2", "--format", kind, "--topk", "2"]) == 0
    printed = capsys.readouterr()
    assert "modes_q" in printed.err
    lines = printed.out.splitlines()
    if kind == "jsonl":
        assert [json.loads(line)["user"] for line in lines] == ["u1", "u2"]
    else:
        assert lines[0].startswith("user\tdomain")
        assert [line.split("\t")[0] for line in lines[1:]] == ["u1"] * 4 + ["u2"] * 4


def test_each_domain_is_scored_by_its_own_checkpoint(trained, module_dataset, recommend):
    place = Path(trained("SASRecBCE", select="per_domain", epochs=2, hidden_size=16)["run_dir"])
    state = load_checkpoint(place / "best_movies.pth")  # as if another epoch had been best for movies
    state["state_dict"]["item_embedding.weight"] *= -1
    save_checkpoint(place / "best_movies.pth", {key: value for key, value in state.items() if key != "format"})
    (user,) = recommend(place, "--users", "u2")
    for domain in ("books", "movies"):
        by_hand = ByHand(place / f"best_{domain}.pth")
        wanted, scores = by_hand.best(by_hand.user("u2"), histories_of(module_dataset)["u2"], domain, 10)
        assert of_domain(user, domain)[0] == wanted
        assert np.allclose(of_domain(user, domain)[1], scores, atol=1e-5)


def test_held_out_users(held_out, run, recommend, capsys, caplog):
    """A model with a table of users knows those who were folded in; others are left out, or named."""
    place = run("BPR", held_out, epochs=1)["run_dir"]
    assert len(recommend(place, "--all-users")) == 60
    state = load_checkpoint(Path(place) / "best.pth")
    state["config"]["fold_in"] = False
    save_checkpoint(Path("unfolded.pth"), {key: value for key, value in state.items() if key != "format"})
    assert main(["recommend", "--checkpoint", "unfolded.pth", "--all-users", "--output", "all.jsonl"]) == 0
    assert len(Path("all.jsonl").read_text().splitlines()) == 44
    assert "16 users are left out" in caplog.text
    assert main(["recommend", "--checkpoint", "unfolded.pth", "--users", "u59"]) == 2
    assert "BPR has a table of users and was not trained on 'u59'" in capsys.readouterr().err


def test_titles_are_the_items_own_also_where_the_model_had_others(tiny, run, item_features, recommend):
    file = str(item_features(tiny))
    place = run("SASRec", tiny, epochs=1, llm_injection="init", item_features_file=file, llm_permute_seed=3)["run_dir"]
    titles = pd.read_csv(tiny.folder / "tiny.item", sep="\t").set_index("item_id:token")["title:token_seq"]
    told = [entry for line in recommend(place, "--all-users") for entry in line["recommendations"]]
    assert {entry["title"] == titles[entry["item"]] for entry in told} == {True}


def test_items_are_told_by_their_tokens_where_titles_cannot_be_read(tiny, run, recommend, caplog):
    for file in tiny.folder.glob("tiny.*"):
        file.write_text(file.read_text(encoding="utf-8").replace("\t", ";"), encoding="utf-8")
    place = run("SASRec", tiny, epochs=1, field_separator=";")["run_dir"]
    told = [entry for line in recommend(place, "--all-users") for entry in line["recommendations"]]
    assert {entry["title"] == entry["item"] for entry in told} == {True}
    assert "Items are told by their tokens alone" in caplog.text
