"""A model of one's own, written as for RecBole and given as its class: trained, judged, and used again from Python."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import nn
from torch.nn import functional as F

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.trained_run import SavedRun, TrainedRun
from recbole_cdsr.trainer.judging import FullScores


class MeanOfHistory(SequentialRecommender):
    """Scores an item by its product with the mean vector of the history."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.item_embedding = nn.Embedding(self.n_items, config["embedding_size"], padding_idx=0)

    def calculate_loss(self, interaction):
        return F.cross_entropy(self.full_sort_predict(interaction), interaction[self.POS_ITEM_ID])

    def predict(self, interaction):
        return (self._mean(interaction) * self.item_embedding(interaction[self.ITEM_ID])).sum(dim=1)

    def full_sort_predict(self, interaction):
        return self._mean(interaction) @ self.item_embedding.weight.T

    def _mean(self, interaction):
        return self.item_embedding(interaction[self.ITEM_SEQ]).sum(dim=1) / interaction[self.ITEM_SEQ_LEN][:, None]


SETTINGS = {"embedding_size": 16, "loss_type": "CE", "train_neg_sample_args": None}


@pytest.mark.parametrize("mode", ["none", "init"])
def test_it_is_judged_like_any_other_and_opened_again_by_its_class(tiny, run, item_features, mode):
    settings = SETTINGS | {"llm_injection": mode, "item_features_file": str(item_features(tiny))}
    result = run(MeanOfHistory, tiny, **settings)
    assert result["variant"] == "MeanOfHistory" + ("" if mode == "none" else "+llm-init")
    assert result["test"]["overall"]["count"] == run("SASRec", tiny)["test"]["overall"]["count"]

    saved = SavedRun.open(Path(result["run_dir"]))
    opened = TrainedRun(saved, saved.config(model=MeanOfHistory))
    model = opened.model_of("books")
    scores = FullScores(model, opened.data, opened.config["eval_batch_size"], opened.config["device"])
    # Ranks by hand, of targets that share their score with nobody: among the items of the domain but the history.
    ranks = pd.read_csv(Path(result["run_dir"]) / "test_ranks.tsv", sep="\t")
    domains, by_hand, tokens = torch.as_tensor(opened.data.item_domain), [], []
    for rows, *_ in opened.test:
        with torch.no_grad():
            of_all_items = scores.of(rows)
        for row, target, history in zip(of_all_items, rows["item_id"], rows["item_id_list"], strict=True):
            better = (domains == domains[target]) & (row > row[target])
            better[history] = False
            by_hand.append(1 + int(better.sum()))
            tokens.append(opened.data.id2token("item_id", int(target)))
    assert (ranks["item_id"].tolist(), ranks["full"].tolist()) == (tokens, by_hand)


def test_a_command_knows_models_by_name_alone(tiny, run):
    saved = SavedRun.open(Path(run(MeanOfHistory, tiny, **SETTINGS)["run_dir"]))
    with pytest.raises(ConfigError, match="There is no model named 'MeanOfHistory'"):
        saved.config()
