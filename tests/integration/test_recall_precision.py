"""`tools/recall_precision.py` on a run of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.trained_run import SavedRun, TrainedRun

TYPES = {"user_id": "token", "item_id": "token", "timestamp": "float"}
SETTINGS = {
    "hidden_size": 16,
    "n_recalled": 6,
    "noisy_batch_size": 8,
    "meta_batch_size": 16,
    "pretrain_epochs": 2,
    "epochs": 1,
}


@pytest.fixture
def tool(load_tool):
    return load_tool("recall_precision")


@pytest.fixture
def told(tool, monkeypatch, capsys):
    def told(place):
        monkeypatch.setattr("sys.argv", ["recall_precision.py", str(place)])
        capsys.readouterr()
        code = tool.main()
        return code, capsys.readouterr()

    return told


@pytest.fixture
def trained(held_out, item_features, run):
    """A pre-split release where every third user of the training part knows books alone."""
    path = held_out.folder / f"{held_out.name}.train.inter"
    frame = pd.read_csv(path, sep="\t").rename(columns=lambda column: column.split(":")[0])
    single = frame["user_id"].str[1:].astype(int) % 3 == 0
    write_atomic(path, frame[~(single & frame["item_id"].str.startswith("movies"))], TYPES)
    return run("LLMCDSR", held_out, **SETTINGS, item_features_file=str(item_features(held_out)))


def test_hits_are_counted_among_what_was_hidden(trained, tool, told):
    code, said = told(trained["run_dir"])
    assert code == 0, said.err
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.out.splitlines()[2:]]
    table = {(row[0], row[1]): row[2:] for row in rows}
    assert {domain for domain, _ in table} == {"books", "movies"}

    saved = SavedRun.open(Path(trained["run_dir"]))
    data = TrainedRun(saved, saved.config(["--show_progress=False"])).data
    log, trained_users = data.log, data.training_histories(held_out=False).user_ids
    counts = np.bincount(log.items[log.training_positions(fold_in=False)], minlength=data.item_num)
    judged: dict[int, set[int]] = {}
    first_part = {}
    for start, stop, part in zip(log.segment_starts, log.segment_stops, log.segment_parts, strict=True):
        user = int(log.users[start])
        if part and user not in trained_users and first_part.setdefault(user, part) == part:
            judged[user] = set(log.items[start:stop].tolist())
    for domain, name in enumerate(data.domain_names):
        mine = [{item for item in items if data.item_domain[item] == domain} for items in judged.values()]
        both = [
            items for items, all_items in zip(mine, judged.values(), strict=True) if 0 < len(items) < len(all_items)
        ]
        start, stop = data.domain_offsets[domain : domain + 2]
        popular = set((start + np.argsort(-counts[start:stop], kind="stable")[:10]).tolist())
        n_users, any_hit, hits, _ = table[name, "most popular"]
        assert int(n_users) == len(both) > 0
        assert float(any_hit) == pytest.approx(np.mean([bool(items & popular) for items in both]), abs=6e-5)
        precision = sum(len(items & popular) for items in both) / (len(both) * len(popular))
        assert float(hits) == pytest.approx(precision, abs=6e-6)


def test_a_text_that_is_its_item_recalls_it(trained, tool):
    """With the items' own texts as the space that is searched, an item is among the ten nearest of its text."""
    saved = SavedRun.open(Path(trained["run_dir"]))
    data = TrainedRun(saved, saved.config(["--show_progress=False"])).data
    texts = torch.from_numpy(np.asarray(data.llm_features.items))
    raw = tool.RecallNetwork(data.domain_offsets, texts.shape[1], texts.shape[1], 10, aligned=False)
    raw.item_table.copy_(texts)
    start, stop = map(int, data.domain_offsets[:2])
    assert tool.own_items(raw, texts, start, stop, 0) == 1


def test_another_run_and_other_data_are_refused(tiny, run, told):
    result = run("BPR", tiny, epochs=1)
    code, said = told(result["run_dir"])
    assert code == 2
    assert "is no run of LLMCDSR with aligned recall" in said.err
