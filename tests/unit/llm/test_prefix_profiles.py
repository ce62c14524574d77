"""Profiles of rows are those of a user who consumed what comes before the target."""

from __future__ import annotations

import numpy as np

from recbole_cdsr.data.sequences import Histories, Rows
from recbole_cdsr.llm.prefix_profiles import PrefixProfiler
from recbole_cdsr.llm.profiles import interest_clusters, profile_vectors


def test_a_row_has_the_profile_of_its_own_history():
    random = np.random.default_rng(1)
    items = random.standard_normal((200, 8)).astype(np.float32)
    labels = random.integers(0, 5, 200)
    # Few different items in long histories: repetitions and clusters of more than ten items occur.
    sequences = [random.choice(random.integers(1, 200, 40), size) for size in random.integers(2, 80, 30)]
    flat_items = np.concatenate(sequences)
    begins = np.append(0, np.cumsum([len(sequence) for sequence in sequences]))
    places = [(user, end) for user, sequence in enumerate(sequences) for end in range(1, len(sequence))]
    chosen = [places[place] for place in random.permutation(len(places))[:200]]
    rows = Rows(*(np.array([begins[user] + shift * end for user, end in chosen]) for shift in (0, 1)))

    made = PrefixProfiler(items, labels).profiles(flat_items, rows)

    for (user, end), profile in zip(chosen, made, strict=True):
        history = Histories(np.array([1]), np.array([0, end]), sequences[user][:end])
        alone = interest_clusters(items, labels, history)
        np.testing.assert_allclose(profile, profile_vectors(items, alone)[0], atol=1e-6)
