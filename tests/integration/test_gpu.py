"""Training, judging, saving and loading on CUDA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recbole_cdsr.trainer.checkpoint import load_checkpoint

from .small_models import SMALL_LLMCDSR

OURS = ("LLM4CDSR", "LeCDSR", "LLMCDSR", "SASRecBCE")
WITH_TEXT = ("LLM4CDSR", "LeCDSR", "LLMCDSR")
WHITENED = {"llm_injection": "adapter", "llm_injection_whiten": True}
CASES = {
    "LLM4CDSR": ("LLM4CDSR", {}),
    "LeCDSR": ("LeCDSR", {}),
    "LLMCDSR": ("LLMCDSR", SMALL_LLMCDSR),
    "LLMCDSR on padding": ("LLMCDSR", SMALL_LLMCDSR | {"mask_padding": False}),
    "SASRecBCE": ("SASRecBCE", {}),
    "SASRec": ("SASRec", {}),
    "SASRec trimmed": ("SASRec", {"trim_windows": True}),
    "SASRec on whitened text": ("SASRec", WHITENED),
    "BPR": ("BPR", {}),
    "Pop": ("Pop", {}),
}


def on_cuda(test):
    """Mark a test as one that needs a GPU."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
    return pytest.mark.gpu(skip(test))


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def model(case):
    return case[0]


@pytest.fixture
def dataset(model, tiny, keep_one_domain):
    """Both domains for all users; LLMCDSR, which augments users of one domain, has a third of each kind."""
    if model == "LLMCDSR":
        keep_one_domain(tiny, 0, 1)
    return tiny


@pytest.fixture
def settings(case, dataset, small, item_features):
    """Settings of a run on CUDA; the CPU's are these with `use_gpu` False."""
    model, own = case
    chosen = {"use_gpu": True, "gpu_id": "0", "eval_candidates": ["full", "uni10"]}
    if model in WITH_TEXT or "llm_injection" in own:
        chosen["item_features_file"] = str(item_features(dataset))
    if model in ("LLM4CDSR", "LeCDSR"):
        chosen |= small
    return chosen | own


def test_a_run_with_these_settings_is_resumed_on_the_cpu(dataset, run, model, settings):
    """What the tests on CUDA run is known to work, where there is none."""
    settings |= {"use_gpu": False, "run_dir": "run"}
    first = run(model, dataset, **settings, epochs=1)
    assert first["test"]["uni10"]["overall"]["count"] == 60
    result = run(model, dataset, **settings, epochs=2, resume=True)
    assert result["train_losses"][:1] == first["train_losses"]
    assert result["epochs"] == (1 if model == "Pop" else 2)
    if model == "LLMCDSR":
        assert result["notes"]["pre-training"].keys() == {"books", "movies"}
        state = load_checkpoint(Path(result["run_dir"]) / "last.pth")["state_dict"]
        assert state["recall_network.pooling"].any(dim=1).all()  # the meta step has taken place, into both domains


@on_cuda
def test_a_run_on_cuda_is_kept_and_resumed(dataset, run, model, settings):
    short = run(model, dataset, **settings, epochs=2)
    assert short["environment"]["device"] == torch.cuda.get_device_name(0)
    assert short["test"]["uni10"]["overall"]["count"] == 60
    state = load_checkpoint(Path(short["run_dir"]) / "last.pth")
    assert all(tensor.device.type == "cpu" for tensor in state["state_dict"].values())
    assert len(state["random"]["cuda"]) == torch.cuda.device_count()
    if model == "Pop":
        return  # one pass over the data is all there is

    longer = run(model, dataset, **settings, epochs=4, resume=True)
    straight = run(model, dataset, **settings, epochs=4, checkpoint_dir="elsewhere")
    assert longer["run_dir"] == short["run_dir"]
    # CUDA adds up in no fixed order, dropout and negatives are drawn alike.
    assert longer["train_losses"] == pytest.approx(straight["train_losses"], rel=1e-3)


@on_cuda
def test_a_checkpoint_of_cuda_is_judged_alike_on_the_cpu_and_the_other_way(dataset, run, model, settings):
    epochs = 1 if model == "Pop" else 3
    on_gpu = run(model, dataset, **settings, epochs=epochs, run_dir="gpu")
    on_cpu = run(model, dataset, **settings | {"use_gpu": False}, epochs=epochs, run_dir="gpu", resume=True)
    assert on_cpu["environment"]["device"] == "cpu"
    for metric, value in on_gpu["test"]["overall"].items():
        assert on_cpu["test"]["overall"][metric] == pytest.approx(value, abs=0.02), metric  # a rank may differ

    first = run(model, dataset, **settings | {"use_gpu": False}, epochs=1, run_dir="cpu")
    moved = run(model, dataset, **settings, epochs=epochs, run_dir="cpu", resume=True)
    assert moved["train_losses"][:1] == first["train_losses"]
    assert moved["epochs"] == epochs


@on_cuda
def test_a_domain_of_its_own_is_judged_on_cuda(dataset, run, model, settings):
    result = run(model, dataset, **settings, epochs=2, select="per_domain")
    assert result["best_epoch"].keys() == {"books", "movies"}
    assert sum(cell["count"] for cell in result["test"]["domains"].values()) == 60


@on_cuda
@pytest.mark.parametrize("mode", ["init", "adapter", "concat", "frozen"])
@pytest.mark.parametrize("baseline", ["SASRec", "LightGCN"])
def test_features_are_injected_on_cuda_and_judged_alike_on_the_cpu(tiny, run, item_features, baseline, mode):
    settings = {"llm_injection": mode, "item_features_file": str(item_features(tiny)), "epochs": 2, "run_dir": "run"}
    on_gpu = run(baseline, tiny, **settings, use_gpu=True, gpu_id="0")
    on_cpu = run(baseline, tiny, **settings, use_gpu=False, resume=True)
    for metric, value in on_gpu["test"]["overall"].items():
        assert on_cpu["test"]["overall"][metric] == pytest.approx(value, abs=0.02), metric  # a rank may differ


@on_cuda
def test_our_models_keep_all_their_tensors_on_the_device(dataset, model, settings):
    if model not in OURS:
        pytest.skip("a model of RecBole")
    from recbole_cdsr.config import CDSRConfig
    from recbole_cdsr.data.loaders import prepare_loaders
    from recbole_cdsr.quick_start import create_dataset

    config = CDSRConfig(model, dataset.name, config_dict=dataset.settings | settings, command_line=[])
    data = create_dataset(config)
    train, valid, _ = prepare_loaders(config, data)
    network = config.model_class(config, train._dataset).to(config["device"])
    assert config["device"].type == "cuda"
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert {name for name, tensor in tensors.items() if tensor.device.type != "cuda"} == set()

    losses = network.calculate_loss(next(iter(train)).to(config["device"]))
    sum(losses if isinstance(losses, tuple) else (losses,)).backward()
    network.eval()
    rows = next(iter(valid))[0].to(config["device"])
    with torch.no_grad():
        for _ in range(2):  # the second time from the candidates' vectors of the first
            scores = network.full_sort_predict(rows)
            assert scores.device.type == "cuda"
            single = network.predict(rows)
            assert single.device.type == "cuda"
            picked = scores[torch.arange(len(single), device=scores.device), rows["item_id"]]
            assert torch.allclose(single, picked, atol=1e-4)
