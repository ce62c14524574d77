"""LLM4CDSR against the numbers of the official code, for every `llm4cdsr*.npz` in the golden folder.

The folder is `$RECBOLE_CDSR_GOLDEN`, by default this one; all sizes and settings come from each file's `meta`.
Losses go through `calculate_loss` and logits through `full_sort_predict`, the code that training and evaluation run.
They run in double precision, so that what is compared with the tolerance is the rounding of the official run alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_files import GoldenDataset, Settings, assert_same, files_of, part, read, results_of
from recbole.data.interaction import Interaction

from recbole_cdsr.interop import load_official, official_places
from recbole_cdsr.model.llm4cdsr import LLM4CDSR

FILES = files_of("llm4cdsr")
RESULTS = results_of(FILES)


@dataclass
class Golden:
    """One file's arrays and the model, batches and results made of them."""

    arrays: dict[str, np.ndarray]
    meta: dict
    model: LLM4CDSR
    training: Interaction
    evaluation: Interaction


def golden_model(meta: dict) -> LLM4CDSR:
    assert meta["global_emb"], "without the global text table the golden README defines no mapping"
    assert meta["local_emb"], "without the local text tables the golden README defines no mapping"
    settings = Settings(
        "LLM4CDSR",
        MAX_ITEM_LIST_LENGTH=meta["max_len"],
        hidden_size=meta["hidden_size"],
        n_layers=meta["trm_num"],
        n_heads=meta["num_heads"],
        hidden_dropout_prob=meta["dropout_rate"],
        attn_dropout_prob=meta["dropout_rate"],
        alpha=meta["alpha"],
        beta=meta["beta"],
        tau=meta["tau"],
        tau_reg=meta["tau_reg"],
        freeze_emb=meta["freeze_emb"],
        global_dim=None,
        attention="bidirectional",
        mask_padding=False,
    )
    items, profiles = (1 + meta["nA"] + meta["nB"], meta["gdim"]), (1 + meta["users"], meta["udim"])
    return LLM4CDSR(settings, GoldenDataset(meta, items, profiles))


def right_padded(windows: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Move each row's real entries, which stand at its end, to its beginning."""
    order = np.argsort(~real, axis=1, kind="stable")
    return np.take_along_axis(np.where(real, windows, 0), order, axis=1)


def local_negatives(arrays: dict[str, np.ndarray], n_first: int) -> np.ndarray:
    """The negatives of the domain threads at the matched positions of the mixed thread, as global ids.

    The j-th position of a row with a target in a domain belongs to the j-th position of that domain's thread.
    """
    mask, result = arrays["train/domain_mask"], np.zeros_like(arrays["train/neg"])
    for domain, (suffix, shift) in enumerate((("A", 0), ("B", n_first))):
        for row in range(len(mask)):
            own = arrays[f"train/seq{suffix}"][row] > 0
            result[row, mask[row] == domain] = arrays[f"train/neg{suffix}"][row, own] + shift
    return result


def training_batch(arrays: dict[str, np.ndarray], meta: dict) -> Interaction:
    real = arrays["train/seq"] > 0
    fields = {
        "item_id_list": arrays["train/seq"],
        "target_id_list": arrays["train/pos"],
        "neg_item_id_list": arrays["train/neg"],
        "local_neg_item_id_list": local_negatives(arrays, meta["nA"]),
    }
    batch = {name: torch.from_numpy(right_padded(windows, real)) for name, windows in fields.items()}
    batch["item_length"] = torch.from_numpy(real.sum(axis=1))
    batch["user_id"] = torch.from_numpy(arrays["train/user_id"] + 1)
    pairs = np.concatenate([arrays["train/reg_A"], arrays["train/reg_B"]], axis=1)
    batch["domain_item_id"] = torch.from_numpy(pairs)
    return Interaction(batch)


def evaluation_batch(arrays: dict[str, np.ndarray]) -> Interaction:
    real = arrays["eval/seq"] > 0
    return Interaction(
        {
            "item_id_list": torch.from_numpy(right_padded(arrays["eval/seq"], real)),
            "item_length": torch.from_numpy(real.sum(axis=1)),
            "target_domain": torch.from_numpy(arrays["eval/target_domain"]),
        }
    )


def load(file: Path) -> Golden:
    arrays, meta = read(file)
    model = golden_model(meta)
    load_official(model.double(), part(arrays, "state/"))
    return Golden(arrays, meta, model, training_batch(arrays, meta), evaluation_batch(arrays))


def computed(golden: Golden) -> dict[str, torch.Tensor]:
    """Every result the model gives, by the golden name; gradients by official name, in our rows."""
    golden.model.train()  # dropout as in meta
    meta = golden.meta
    parts = iter(golden.model.calculate_loss(golden.training))  # a part with weight 0 is left out
    results = {"out/loss_rec": next(parts)}
    if meta["alpha"] > 0:
        results["out/loss_reg"] = next(parts) / meta["alpha"]
    if meta["beta"] > 0:
        results["out/loss_user"] = next(parts) / meta["beta"]
    total = sum(golden.model.calculate_loss(golden.training))
    total.backward()
    results["out/loss_total"] = total
    parameters = dict(golden.model.named_parameters())
    for name, place in official_places(golden.model).items():
        if place.name in parameters:
            parameter = parameters[place.name]
            # A thread that no window of the batch reaches takes no part in the graph: the official gradient is zero.
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            results[f"out/grad/{name}"] = gradient[place.rows]

    golden.model.eval()
    with torch.no_grad():
        scores = golden.model.full_sort_predict(golden.evaluation)
    candidates = torch.from_numpy(golden.arrays["eval/item_indices"])
    results["out/eval_logits"] = scores.gather(1, candidates)
    return results


@pytest.fixture(scope="module")
def outcomes() -> dict[Path, tuple[Golden, dict[str, torch.Tensor]]]:
    return {file: (golden := load(file), computed(golden)) for file in FILES}


def weight_of(key: str, meta: dict) -> float:
    """Weight of the part of the loss that a result belongs to."""
    if key == "out/loss_reg":
        return meta["alpha"]
    return meta["beta"] if key == "out/loss_user" or key.startswith("out/grad/user_") else 1.0


@pytest.mark.parametrize(
    ("file", "key"),
    [(f, key) for f, key in RESULTS if "/feats_" not in key],
    ids=[f"{f.stem}-{key}" for f, key in RESULTS if "/feats_" not in key],
)
def test_losses_logits_and_gradients(outcomes, file: Path, key: str) -> None:
    golden, results = outcomes[file]
    expected = golden.arrays[key]
    if key not in results and weight_of(key, golden.meta) == 0:
        pytest.skip("this part of the loss has weight 0, so training does not compute it")
    if key.startswith("out/grad/"):
        place = official_places(golden.model)[key.removeprefix("out/grad/")]
        assert not expected[: place.n_padding_rows].any()  # padding has no place with us, and no gradient there
        expected = expected[place.official_rows].reshape(results[key].shape)
    assert_same(results[key], expected)


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
@pytest.mark.parametrize("thread", ["AB", "A", "B"])
def test_thread_states(outcomes, file: Path, thread: str) -> None:
    golden, _ = outcomes[file]
    model, arrays = golden.model, golden.arrays
    expected = arrays[f"out/feats_{thread}"]
    real = arrays[{"AB": "train/seq"}.get(thread, f"train/seq{thread}")] > 0
    with torch.no_grad():
        step = model.training_step(golden.training)
    states = step.mixed_states if thread == "AB" else step.thread_states["AB".index(thread)]
    # Packed and left-padded windows both list the tokens by row, then by time.
    assert_same(states, expected[real])
    # Where the official code has padding ours has no token at all. Padding is zero before the last layer norm, so
    # its official state is that norm's bias, which is also what ours gives for a row without tokens.
    module = model.mixed_thread if thread == "AB" else model.domain_threads["AB".index(thread)]
    padding = expected[~real]
    assert_same(module.last_norm.bias.expand(len(padding), -1), padding)


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_single_precision_gives_the_same_losses_and_logits(outcomes, file: Path) -> None:
    golden, results = load(file), outcomes[file][1]
    golden.model.float()
    for key, value in computed(golden).items():
        if not key.startswith("out/grad/"):
            assert_same(value, results[key].detach().numpy(), tolerance=1e-4, dtype=np.float32)


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_scores_stay_inside_the_target_domain(outcomes, file: Path) -> None:
    golden, _ = outcomes[file]
    scores = golden.model.full_sort_predict(golden.evaluation)
    domain_of_item = golden.model.item_domain
    inside = domain_of_item[None, :] == golden.evaluation["target_domain"][:, None]
    assert torch.isfinite(scores[inside]).all()
    assert (scores[~inside] == -torch.inf).all()
