"""LeCDSR against the numbers of the official code, for every `lecdsr*.npz` in the golden folder.

The folder is `$RECBOLE_CDSR_GOLDEN`, by default this one; all sizes and settings come from each file's `meta` and from
the shapes of its arrays. Losses go through `calculate_loss` and scores through `candidate_scores` and
`full_sort_predict`, the code that training and evaluation run. They run in double precision, so that what is compared
with the tolerance is the rounding of the official run alone.

Where the terms of a gradient cancel, rounding is larger than the tolerance of what is left of them: the weights of the
instance gate add up to 1 in every window, and in a window of one slot nothing at all is left. How large it is in single
precision is measured on our own code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_files import TOLERANCES, GoldenDataset, Settings, assert_same, files_of, largest, part, read, results_of
from recbole.data.interaction import Interaction

from recbole_cdsr.interop import load_official, official_places
from recbole_cdsr.model.lecdsr import LeCDSR
from recbole_cdsr.model.slots import backward_positions

FILES = files_of("lecdsr")
RESULTS = results_of(FILES)
ROUNDINGS = 8  # times what single precision changes in a result of ours: what it may change in the official one
NOTHING = 1e-12  # of the largest gradient: what is left of one whose terms all cancel


@dataclass
class Golden:
    """One file's arrays, the model and the batch made of them."""

    arrays: dict[str, np.ndarray]
    meta: dict
    model: LeCDSR
    batch: Interaction


def golden_model(meta: dict, arrays: dict[str, np.ndarray]) -> LeCDSR:
    settings = Settings(
        "LeCDSR",
        MAX_ITEM_LIST_LENGTH=meta["L"],
        hidden_size=meta["d"],
        adapter_size=meta["adapter_hidden"],
        tau=meta["tau"],
        tau_align=meta["tau2"],
        align_weight=meta["lamb"],
        loss_reduction="sum",
        official_positions=True,
        mask_padding=False,
    )
    items, (n_users, width) = (arrays[f"state/llm_{kind}.weight"].shape for kind in ("item", "user"))
    return LeCDSR(settings, GoldenDataset(meta, items, (n_users + 1, width)))


def our_ids(official: np.ndarray, meta: dict) -> np.ndarray:
    """Official ids count from 0 and end with padding, ours begin with it."""
    return np.where(official == meta["pad_id"], 0, official + 1)


def golden_batch(arrays: dict[str, np.ndarray], meta: dict) -> Interaction:
    windows, candidates = our_ids(arrays["in/seq"], meta), our_ids(arrays["in/items"], meta)
    lengths = (windows > 0).sum(axis=1)
    order = np.argsort(windows == 0, axis=1, kind="stable")  # left-padded to right-padded
    return Interaction(
        {
            "user_id": torch.from_numpy(arrays["in/user"].reshape(-1) + 1),
            "item_id_list": torch.from_numpy(np.take_along_axis(windows, order, axis=1)),
            "item_length": torch.from_numpy(lengths),
            "item_id": torch.from_numpy(candidates[:, 0]),
            "neg_item_id": torch.from_numpy(candidates[:, 1:]),
        }
    )


def load(file: Path) -> Golden:
    arrays, meta = read(file)
    model = golden_model(meta, arrays)
    load_official(model.double(), part(arrays, "state/"), "LeCDSR")
    return Golden(arrays, meta, model, golden_batch(arrays, meta))


def computed(golden: Golden) -> dict[str, torch.Tensor]:
    """Every result the model gives, by the golden name; gradients by official name, in our rows."""
    model, batch = golden.model, golden.batch
    model.train()
    psl, *alignment = model.calculate_loss(batch)
    results = {"out/psl_loss_sum": psl, "out/total_loss": sum(alignment, psl)}
    if alignment:
        results["out/align_loss"] = alignment[0] / golden.meta["lamb"]
    results["out/total_loss"].backward()
    parameters = dict(model.named_parameters())
    for name, place in official_places(model, "LeCDSR").items():
        if place.name in parameters:
            results[f"out/grad/{name}"] = parameters[place.name].grad[place.rows]
    model.eval()
    with torch.no_grad():
        candidates = torch.cat([batch["item_id"][:, None], batch["neg_item_id"]], dim=1)
        query = model.query(model.sequence_vectors(batch), batch["user_id"])
        results["out/scores"] = model.candidate_scores(query, candidates)
    return results


class Outcome:
    """What the model gives for a file."""

    def __init__(self, file: Path) -> None:
        self.file, self.golden = file, load(file)
        self.results = computed(self.golden)

    @cached_property
    def in_single_precision(self) -> dict[str, torch.Tensor]:
        golden = load(self.file)
        golden.model.float()
        return computed(golden)

    @cached_property
    def largest_gradient(self) -> float:
        return max(largest(value.numpy()) for key, value in self.results.items() if key.startswith("out/grad/"))

    def rounding(self, key: str, dtype: np.dtype, tolerance: float) -> float:
        """What numbers of this type may round to beyond the tolerance of the result's own scale."""
        own = self.results[key].detach().numpy()
        if key.startswith("out/grad/") and largest(own) <= NOTHING * self.largest_gradient:
            return tolerance * self.largest_gradient
        if dtype == np.float64:
            return 0.0
        return ROUNDINGS * largest(self.in_single_precision[key].detach().numpy() - own)


@pytest.fixture(scope="module")
def outcomes() -> dict[Path, Outcome]:
    return {file: Outcome(file) for file in FILES}


@pytest.mark.parametrize(("file", "key"), RESULTS, ids=[f"{f.stem}-{key}" for f, key in RESULTS])
def test_scores_losses_and_gradients(outcomes, file: Path, key: str) -> None:
    golden, results = outcomes[file].golden, outcomes[file].results
    if key == "out/align_loss" and golden.meta["lamb"] == 0:
        pytest.skip("the alignment has weight 0, so training does not compute it")
    expected = golden.arrays[key]
    if key.startswith("out/grad/"):
        place = official_places(golden.model, "LeCDSR")[key.removeprefix("out/grad/")]
        official = torch.from_numpy(expected).reshape(results[key].shape if not place.start else expected.shape)
        expected = place.in_our_order(official).numpy()
    rounding = outcomes[file].rounding(key, expected.dtype, TOLERANCES[expected.dtype])
    assert_same(results[key], expected, rounding=rounding)


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_positions(outcomes, file: Path) -> None:
    golden = outcomes[file].golden
    model, windows = golden.model, torch.from_numpy(our_ids(golden.arrays["in/seq"], golden.meta))
    positions = backward_positions(windows, model.item_domain, model.n_domains, official=True)
    np.testing.assert_array_equal(positions, golden.arrays["in/position"])


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_all_candidates_at_once_score_as_each_does(outcomes, file: Path) -> None:
    golden = outcomes[file].golden
    with torch.no_grad():
        everywhere = golden.model.full_sort_predict(golden.batch)
    candidates = torch.from_numpy(our_ids(golden.arrays["in/items"], golden.meta))
    assert_same(everywhere.gather(1, candidates), golden.arrays["out/scores"])
    domains = golden.model.item_domain[golden.batch["item_id"]]
    with torch.no_grad():
        inside = golden.model.full_sort_predict(Interaction({**golden.batch.interaction, "target_domain": domains}))
    expected = torch.where(golden.model.item_domain[None] == domains[:, None], everywhere, -torch.inf)
    finite = torch.isfinite(expected)
    assert torch.equal(torch.isfinite(inside), finite)
    assert torch.allclose(inside[finite], expected[finite], rtol=1e-12)


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_single_precision_gives_the_same(outcomes, file: Path) -> None:
    outcome = outcomes[file]
    for key, value in outcome.in_single_precision.items():
        expected = outcome.results[key].detach().numpy()
        rounding = outcome.rounding(key, np.dtype(np.float64), 1e-4)
        assert_same(value, expected, tolerance=1e-4, dtype=np.float32, rounding=rounding)
