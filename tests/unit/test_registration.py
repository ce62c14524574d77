from __future__ import annotations

import importlib
import importlib.util
import pickle
import subprocess
import sys

import numpy as np
import pytest

import recbole_cdsr
from recbole_cdsr.config import OUR_MODELS, CDSRConfig
from recbole_cdsr.config_names import checkout_folder
from recbole_cdsr.errors import CDSRError

OURS = "SASRecBCE"


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run.py"])
    recbole_cdsr.register()


@pytest.fixture
def data_path(tmp_path, monkeypatch):
    """Two domains, 12 items, 20 users of 8 interactions; the working directory is a fresh one."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "data" / "tiny"
    folder.mkdir(parents=True)
    items = [f"{domain}:{number}" for domain in ("book", "movie") for number in range(6)]
    rows = [f"{item}\t{item.split(':')[0]}\tTitle of {item}" for item in items]
    (folder / "tiny.item").write_text("\n".join(["item_id:token\tdomain:token\ttitle:token_seq", *rows]) + "\n")
    rows = [
        f"u{user}\t{items[item]}\t5.0\t{1_600_000_000 + 100 * step}"
        for user in range(20)
        for step, item in enumerate(generator.permutation(len(items))[:8])
    ]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "tiny.inter").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return str(tmp_path / "data")


def test_registering_twice_is_registering_once():
    from recbole.config import Config

    before = Config.__new__
    modules = {name: sys.modules[f"recbole.model.sequential_recommender.{name.lower()}"] for name in OUR_MODELS}
    recbole_cdsr.register()
    importlib.import_module("recbole_cdsr.registration").register()
    assert Config.__new__ is before
    for name, module in modules.items():
        assert sys.modules[f"recbole.model.sequential_recommender.{name.lower()}"] is module


@pytest.mark.parametrize("name", OUR_MODELS)
def test_recbole_finds_model_dataset_and_trainer_by_name(name):
    from recbole.data import dataset
    from recbole.utils import ModelType, get_model, get_trainer

    from recbole_cdsr.data.dataset import CrossDomainSequentialDataset
    from recbole_cdsr.trainer import CDSRTrainerMixin, trainer_class_for

    alias = f"recbole.model.sequential_recommender.{name.lower()}"
    spec = importlib.util.find_spec(alias)
    assert spec.name == alias
    assert spec.loader is not None
    assert get_model(name) is getattr(importlib.import_module(OUR_MODELS[name]), name)
    assert importlib.import_module(alias).__name__ == alias
    assert getattr(dataset, f"{name}Dataset") is CrossDomainSequentialDataset
    trainer = get_trainer(ModelType.SEQUENTIAL, name)
    assert issubclass(trainer, CDSRTrainerMixin)
    assert trainer_class_for(ModelType.SEQUENTIAL, name) is trainer


def test_recboles_own_models_keep_their_dataset_and_trainer():
    from recbole.data import dataset
    from recbole.trainer import S3RecTrainer, Trainer
    from recbole.utils import ModelType, get_model, get_trainer

    assert get_model("SASRec").__module__ == "recbole.model.sequential_recommender.sasrec"
    assert get_trainer(ModelType.SEQUENTIAL, "SASRec") is Trainer
    assert get_trainer(ModelType.SEQUENTIAL, "S3Rec") is S3RecTrainer
    assert not hasattr(dataset, "SASRecDataset")
    with pytest.raises(AttributeError):
        get_model("sasrec")


def test_our_models_are_imported_only_when_asked_for():
    code = (
        "import sys, importlib.util, recbole_cdsr; recbole_cdsr.register();"
        "name = 'recbole.model.sequential_recommender.llm4cdsr';"
        "assert importlib.util.find_spec(name) is not None;"
        "assert 'recbole_cdsr.model.llm4cdsr' not in sys.modules;"
        "from recbole.utils import get_model;"
        "assert get_model('LLM4CDSR').__name__ == 'LLM4CDSR';"
        "assert 'recbole_cdsr.model.llm4cdsr' in sys.modules;"
        "import recbole_cdsr.registration; recbole_cdsr.register(); print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=checkout_folder())
    assert done.stdout.strip() == "done", done.stderr


class TestConfig:
    def make(self, *args, **kwargs):
        from recbole.config import Config

        return Config(*args, **kwargs)

    def test_our_models_get_our_config_wherever_they_are_named(self, tmp_path, monkeypatch):
        from recbole.utils import get_model

        (tmp_path / "a.yaml").write_text(f"model: {OURS}\ndataset: douban\n")
        (tmp_path / "b.yaml").write_text("model: BPR\n")
        a, b = str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")
        assert type(self.make(model=OURS, dataset="douban")) is CDSRConfig
        assert type(self.make(OURS, "douban")) is CDSRConfig
        assert type(self.make(get_model(OURS), "douban")) is CDSRConfig
        assert type(self.make(config_dict={"model": OURS, "dataset": "douban"})) is CDSRConfig
        assert type(self.make(config_file_list=[a])) is CDSRConfig
        assert type(self.make(config_file_list=[b, a])) is CDSRConfig
        assert type(self.make(config_file_list=[a, b])) is not CDSRConfig
        assert type(self.make("BPR", config_file_list=[a])) is not CDSRConfig
        monkeypatch.setattr(sys, "argv", ["run.py", f"--model={OURS}"])
        config = self.make(config_file_list=[b], dataset="douban", config_dict={"model": "BPR"})
        assert type(config) is CDSRConfig
        assert config["model"] == OURS
        assert type(self.make("BPR", "douban")) is not CDSRConfig

    @pytest.mark.parametrize("model", ["BPR", "SASRec", "FM"])
    def test_recboles_config_of_its_own_models_is_what_it_was(self, model):
        from recbole.config import Config

        settings = {"train_neg_sample_args": None, "epochs": "2 + 3", "dataset": "ml-100k"}
        config = Config(model, config_dict=dict(settings))
        assert type(config) is Config
        assert config["epochs"] == 5  # RecBole evaluates, as ever
        unhooked = object.__new__(Config)
        Config.__init__(unhooked, model, config_dict=dict(settings))
        assert str(config) == str(unhooked)
        assert config.final_config_dict == unhooked.final_config_dict

    def test_nothing_is_evaluated_for_our_models(self, tmp_path, monkeypatch):
        trace = tmp_path / "trace"
        attack = f"__import__('os').system('touch {trace}')"
        config = self.make(OURS, "douban", config_dict={"note": attack})
        assert config["note"] == attack
        monkeypatch.setattr(sys, "argv", ["run.py", f"--note={attack}"])
        assert self.make(OURS, "douban")["note"] == attack
        assert not trace.exists()

    def test_copies_and_pickles_keep_their_class(self):
        import copy

        from recbole.config import Config

        theirs = self.make("BPR", "douban")
        assert type(copy.copy(theirs)) is Config
        ours = copy.deepcopy(self.make(OURS, "douban"))
        assert type(ours) is CDSRConfig
        assert ours.fingerprint() == self.make(OURS, "douban").fingerprint()


class TestThroughRecBole:
    def test_run_recbole_trains_and_judges_our_model(self, data_path):
        from recbole.quick_start import run_recbole

        result = run_recbole(
            model=OURS,
            dataset="tiny",
            config_dict={
                "data_path": data_path,
                "epochs": 1,
                "hidden_size": 8,
                "topk": [5],
                "valid_metric": "NDCG@5",
                "show_progress": False,
                "use_gpu": False,
                "state": "ERROR",
            },
        )
        assert set(result) == {"best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"}
        assert 0 <= result["best_valid_score"] <= 1
        assert 0 < result["test_result"]["hit@5"] <= 1  # 5 of at most 6 candidates

    def test_a_pickle_in_the_checkpoint_folder_is_not_read(self, data_path, tmp_path):
        from recbole.data import create_dataset

        trace, folder = tmp_path / "trace", tmp_path / "saved"
        folder.mkdir()

        class Attack:
            def __reduce__(self):
                return (open, (str(trace), "w"))

        attack = pickle.dumps(Attack())
        (folder / "tiny-CrossDomainSequentialDataset.pth").write_bytes(attack)
        config = CDSRConfig(
            OURS, "tiny", config_dict={"data_path": data_path, "checkpoint_dir": str(folder)}, command_line=[]
        )
        dataset = create_dataset(config)
        assert type(dataset).__name__ == "CrossDomainSequentialDataset"
        assert not trace.exists()
        pickle.loads(attack)
        assert trace.exists()  # where it is read, it does run

    def test_a_missing_dataset_is_not_downloaded(self, data_path):
        from recbole.data import create_dataset

        config = CDSRConfig(OURS, "amazon-books", config_dict={"data_path": data_path}, command_line=[])
        with pytest.raises(CDSRError, match="amazon-books"):
            create_dataset(config)
