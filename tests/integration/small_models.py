"""Settings that make our models small."""

from __future__ import annotations

SMALL = {"hidden_size": 16, "global_dim": 16, "profile_clusters": 3}
SMALL_LLMCDSR = {
    "hidden_size": 16,
    "n_recalled": 3,
    "noisy_batch_size": 8,
    "meta_batch_size": 16,
    "pretrain_epochs": 2,
    "pretrain_batch_size": 16,
}
