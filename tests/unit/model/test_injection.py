"""Which of a model's tables take features, what they start from, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from in_memory import Settings
from torch import nn

from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm.features import LLMFeatures
from recbole_cdsr.llm.reduction import pca
from recbole_cdsr.model.injected_embedding import AdaptedEmbedding, InjectedEmbedding
from recbole_cdsr.model.injection import inject, plan_injection

N_ITEMS, N_USERS, FEATURES, WIDTH = 30, 20, 12, 8
MODES = ["init", "adapter", "concat", "frozen"]


class Model(nn.Module):
    """Embeddings by name, `name=(rows, width)`, and one layer that is not injected."""

    def __init__(self, **tables: tuple[int, int]) -> None:
        super().__init__()
        for name, (rows, width) in tables.items():
            table = nn.Embedding(rows, width)
            nn.init.normal_(table.weight, std=0.05)
            setattr(self, name, table)
        self.output = nn.Linear(WIDTH, 1)


def features(
    *, users: bool = True, encoders: tuple[str, str] = ("a", "a"), seed: int = 0, n_items: int = N_ITEMS
) -> LLMFeatures:
    random = np.random.default_rng(seed)
    items = random.normal(size=(n_items, FEATURES)).astype(np.float32) * np.linspace(3, 0.1, FEATURES, dtype=np.float32)
    profiles = random.normal(size=(N_USERS, FEATURES)).astype(np.float32)
    items[0] = profiles[0] = 0
    profiles[5] = 0  # a user without a history
    provenance = {part: {"encoder": {"name": name}} for part, name in zip(("items", "profiles"), encoders, strict=True)}
    return LLMFeatures(items, profiles if users else None, provenance)


def plan_of(model: nn.Module, mode: str, n_users: int = N_USERS, **keys):
    return plan_injection(model, Settings(llm_injection=mode, **keys), N_ITEMS, n_users)


def injected(model: nn.Module, mode: str, given: LLMFeatures | None = None, **keys) -> nn.Module:
    torch.manual_seed(1)
    inject(model, plan_of(model, mode, **keys), given or features())
    return model


class TestFinding:
    @pytest.mark.parametrize(
        ("tables", "items", "users"),
        [
            ({"item_embedding": (N_ITEMS, 8), "position_embedding": (N_ITEMS, 8)}, ["item_embedding"], []),
            ({"item_embedding": (N_ITEMS + 1, 8)}, ["item_embedding"], []),  # BERT4Rec: a mask token
            (
                {"user_embedding": (N_USERS, 8), "item_embedding": (N_ITEMS, 8)},
                ["item_embedding"],
                ["user_embedding"],
            ),
            (  # HGN
                {"item_embedding": (N_ITEMS, 8), "item_embedding_for_prediction": (N_ITEMS, 8)},
                ["item_embedding", "item_embedding_for_prediction"],
                [],
            ),
            (  # NeuMF
                {
                    "user_mf_embedding": (N_USERS, 4),
                    "item_mf_embedding": (N_ITEMS, 4),
                    "user_mlp_embedding": (N_USERS, 8),
                    "item_mlp_embedding": (N_ITEMS, 8),
                },
                ["item_mf_embedding", "item_mlp_embedding"],
                ["user_mf_embedding", "user_mlp_embedding"],
            ),
            ({"item_matrix": (N_ITEMS, 8)}, ["item_matrix"], []),  # RepeatNet
            ({"item_embedding": (N_ITEMS, 8), "item_bias": (N_ITEMS, 1)}, ["item_embedding"], []),
            ({"item_embedding": (N_ITEMS, 8), "item_kind": (5, 8)}, ["item_embedding"], []),
            (  # FOSSIL: weights of each user, not vectors
                {"item_embedding": (N_ITEMS, 8), "user_lambda": (N_USERS, 3)},
                ["item_embedding"],
                [],
            ),
            (  # NNCF: named after what they are neighbours of
                {
                    "user_embedding": (N_USERS, 8),
                    "item_embedding": (N_ITEMS, 8),
                    "user_neigh_embedding": (N_ITEMS, 5),
                    "item_neigh_embedding": (N_USERS, 5),
                },
                ["item_embedding"],
                ["user_embedding"],
            ),
        ],
    )
    def test_tables_are_found_by_name_and_rows(self, tables, items, users):
        plan = plan_of(Model(**tables), "init")
        assert (list(plan.item_tables), list(plan.user_tables)) == (items, users)

    def test_neighbours_are_told_apart_with_more_users_than_items(self):
        model = Model(item_embedding=(N_ITEMS, 8), item_neigh_embedding=(N_ITEMS + 1, 8))
        assert plan_of(model, "init", n_users=N_ITEMS + 1).item_tables == ("item_embedding",)

    def test_a_table_in_a_sub_module_is_found(self):
        model = nn.Module()
        model.encoder = Model(item_embedding=(N_ITEMS, 8))
        assert plan_of(model, "adapter").item_tables == ("encoder.item_embedding",)
        injected(model, "adapter")
        assert isinstance(model.encoder.item_embedding, AdaptedEmbedding)

    def test_names_of_the_users_own_replace_the_search(self):
        model = Model(IU_emb=(N_ITEMS, 8), UI_emb=(N_USERS, 8), item_embedding=(N_ITEMS, 8))
        plan = plan_of(model, "init", llm_item_tables=["IU_emb"], llm_user_tables=["UI_emb"])
        assert (plan.item_tables, plan.user_tables) == (("IU_emb",), ("UI_emb",))

    def test_users_are_left_alone_when_asked_and_when_frozen(self):
        model = Model(item_embedding=(N_ITEMS, 8), user_embedding=(N_USERS, 8))
        assert plan_of(model, "init", llm_user_tables=[]).user_tables == ()
        assert plan_of(model, "frozen").user_tables == ()
        assert plan_of(model, "frozen", llm_user_tables=["user_embedding"]).user_tables == ("user_embedding",)

    def test_users_alone_can_take_features(self):
        model = Model(item_embedding=(N_ITEMS, 8), user_embedding=(N_USERS, 6))
        plan = plan_of(model, "init", llm_item_tables=[])
        assert (plan.item_tables, plan.user_tables) == ((), ("user_embedding",))

    @pytest.mark.parametrize("mode", [None, "none"])
    def test_nothing_is_planned_without_a_mode(self, mode):
        assert plan_of(Model(), mode) is None


class TestRefusing:
    def refused(self, model: nn.Module, mode: str = "adapter", **keys) -> str:
        with pytest.raises(ConfigError) as error:
            injected(model, mode, **keys)
        return str(error.value)

    def test_a_model_without_a_table(self):
        assert self.refused(Model()) == (
            "llm_injection is 'adapter', but Model has no embedding with a row for each item; remove llm_injection, or "
            "choose another model."
        )

    def test_a_table_that_no_name_gives_away(self):
        model = Model(LI_emb=(N_ITEMS, 8), UI_emb=(N_USERS, 8), IL_emb=(N_ITEMS, 8))
        assert "as in llm_item_tables: [LI_emb, IL_emb]." in self.refused(model)

    def test_a_name_that_is_not_there(self):
        model = Model(item_embedding=(N_ITEMS, 8))
        sentence = self.refused(model, llm_item_tables=["item_embeding"])
        assert sentence == (
            "llm_item_tables names 'item_embeding', which is no embedding of Model; did you mean item_embedding?"
        )
        assert "it has item_embedding." in self.refused(model, llm_item_tables=["xyz"])
        assert "no embedding of Model" in self.refused(model, llm_item_tables=["output"])  # a layer, not a table
        assert "it has none at all." in self.refused(Model(), llm_user_tables=["u"], llm_item_tables=[])

    def test_a_table_too_small(self):
        model = Model(item_embedding=(N_ITEMS, 8), position_embedding=(10, 8))
        sentence = self.refused(model, llm_item_tables=["position_embedding"])
        assert "has 10 rows, and there are 30 to describe" in sentence

    def test_nothing_to_inject_into(self):
        model = Model(item_embedding=(N_ITEMS, 8))
        assert "no table of Model is left to take features" in self.refused(model, llm_item_tables=[])

    def test_a_table_for_both(self):
        model = Model(item_embedding=(N_ITEMS, 8))
        both = {"llm_item_tables": ["item_embedding"], "llm_user_tables": ["item_embedding"]}
        assert "keep it in one of them" in self.refused(model, **both)

    @pytest.mark.parametrize("mode", ["adapter", "concat", "frozen"])
    def test_weights_shared_with_another_layer(self, mode):
        model = Model(item_embedding=(N_ITEMS, 8))
        model.scorer = nn.Linear(8, N_ITEMS)
        model.scorer.weight = model.item_embedding.weight
        assert "item_embedding of Model shares its weights with scorer; only" in self.refused(model, mode)

    def test_init_keeps_shared_weights_shared(self):
        model = Model(item_embedding=(N_ITEMS, 8))
        model.scorer = nn.Linear(8, N_ITEMS)
        model.scorer.weight = model.item_embedding.weight
        before = model.scorer.weight.detach().clone()
        injected(model, "init")
        assert model.scorer.weight is model.item_embedding.weight
        assert not torch.equal(model.scorer.weight, before)

    def test_an_embedding_with_rules_of_its_own(self):
        model = Model(item_embedding=(N_ITEMS, 8))
        model.item_embedding.max_norm = 1.0
        assert "max_norm" in self.refused(model)

    def test_features_that_tell_nothing_apart(self):
        given = features()
        given.items[1:] = 1
        with pytest.raises(FeatureError, match="The features of items are the same for all"):
            injected(Model(item_embedding=(N_ITEMS, 8)), "init", given)

    def test_nothing_left_to_train(self):
        model = Model(item_embedding=(N_ITEMS, 8), user_embedding=(N_USERS, 8))
        model.output.requires_grad_(False)
        assert "nothing left to train" in self.refused(model, "frozen", llm_user_tables=["user_embedding"])

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            ({"llm_injection": "adaptor"}, "llm_injection is 'adaptor'; it must be one of none, init, adapter"),
            ({"llm_item_tables": "item_embedding"}, "llm_item_tables is 'item_embedding'; it must be a list"),
            ({"llm_item_tables": [3]}, "it must be a list of names"),
            ({"llm_injection_std": 0}, "llm_injection_std is 0; it must be a finite number above 0"),
            ({"llm_injection_std": float("inf")}, "a finite number above 0"),
            ({"llm_injection_std": True}, "a finite number above 0"),
            ({"llm_injection_dim": 0}, "llm_injection_dim is 0; it must be a whole number"),
            ({"llm_injection_whiten": "zca"}, "llm_injection_whiten is 'zca'; it must be True or False"),
            ({"llm_adapter_hidden": 2.5}, "llm_adapter_hidden is 2.5; it must be a whole number"),
        ],
    )
    def test_values_that_mean_nothing(self, keys, expected):
        with pytest.raises(ConfigError) as error:
            plan_injection(Model(item_embedding=(N_ITEMS, 8)), Settings({"llm_injection": "init"} | keys), N_ITEMS, 3)
        assert expected in str(error.value)


class TestStart:
    def model(self) -> Model:
        torch.manual_seed(0)
        return Model(item_embedding=(N_ITEMS + 1, WIDTH), user_embedding=(N_USERS, WIDTH))

    def test_init_lays_items_along_their_principal_components(self):
        model = self.model()
        before = model.item_embedding.weight.detach().clone()
        injected(model, "init")
        table = model.item_embedding.weight.detach()
        components = pca(features().items[1:], WIDTH)
        scale = float(table[1, 0]) / components[0, 0]
        np.testing.assert_allclose(table[1:N_ITEMS].numpy(), components * scale, rtol=1e-4, atol=1e-6)
        assert scale > 0
        assert float(table[1:N_ITEMS].std()) == pytest.approx(float(before[1:N_ITEMS].std()), rel=0.01)
        assert torch.equal(table[[0, N_ITEMS]], before[[0, N_ITEMS]])  # padding and mask token
        assert type(model.item_embedding) is nn.Embedding
        assert model.item_embedding.weight.requires_grad

    def test_users_of_the_same_encoder_lie_along_the_items_axes(self):
        """Their scores start as what text says of them; with axes of their own they would not."""

        def agreement(encoders: tuple[str, str]) -> float:
            given = features(encoders=encoders)
            model = injected(self.model(), "init", given)
            items, users = model.item_embedding.weight[1:N_ITEMS], model.user_embedding.weight
            known = [u for u in range(1, N_USERS) if u != 5]
            centred = given.items[1:] - given.items[1:].mean(axis=0)
            text = (given.profiles[known] - given.items[1:].mean(axis=0)) @ centred.T
            learnt = (users[known] @ items.T).detach().numpy()
            return float(np.corrcoef(text.ravel(), learnt.ravel())[0, 1])

        assert agreement(("a", "a")) > 0.99
        assert abs(agreement(("a", "b"))) < 0.9

    @pytest.mark.parametrize("mode", MODES[:3])
    def test_users_without_a_history_stay_the_models_own(self, mode):
        model = self.model()
        before = model.user_embedding.weight.detach().clone()
        injected(model, mode)
        after = model.user_embedding.weight.detach()
        assert torch.equal(after[[0, 5]], before[[0, 5]])
        assert not (after == before).all(dim=1)[[1, 2, 3]].any()

    def test_without_profiles_users_stay_as_they_are(self):
        model = self.model()
        user_table = model.user_embedding
        report = inject(model, plan_of(model, "adapter"), features(users=False))
        assert model.user_embedding is user_table
        assert [table["name"] for table in report["tables"]] == ["item_embedding"]

    def test_frozen_rows_have_length_one_on_average(self):
        model = injected(self.model(), "frozen")
        rows = model.item_embedding.weight.detach()[1:N_ITEMS]
        assert float(rows.square().sum(dim=1).mean()) == pytest.approx(1, rel=1e-4)
        assert isinstance(model.user_embedding, nn.Embedding)
        assert not isinstance(model.user_embedding, InjectedEmbedding)

    @pytest.mark.parametrize("mode", MODES)
    def test_the_spread_can_be_set(self, mode):
        model = injected(self.model(), mode, llm_injection_std=0.3)
        before = self.model().item_embedding.weight.detach()
        table = model.item_embedding.weight.detach()
        assert float(table[1:N_ITEMS].std()) == pytest.approx(0.3, rel=0.05)
        if mode != "frozen":
            assert torch.equal(table[[0, N_ITEMS]], before[[0, N_ITEMS]])  # rows without features stay as they are

    def test_concatenation_takes_the_models_own_rows_as_they_are_where_no_spread_is_set(self):
        before = self.model().item_embedding.weight.detach()
        assert torch.equal(injected(self.model(), "concat").item_embedding.own.detach(), before)

    @pytest.mark.parametrize("mode", ["init", "adapter", "concat"])
    def test_rows_start_with_the_spread_of_the_models_own(self, mode):
        model = injected(self.model(), mode)
        for table in (model.item_embedding, model.user_embedding):
            assert float(table.weight.detach()[1:N_USERS].std()) == pytest.approx(0.05, rel=0.2)

    def test_a_table_of_zeros_gets_a_spread(self):
        model = self.model()
        nn.init.zeros_(model.user_embedding.weight)  # TransRec
        injected(model, "adapter")
        assert float(model.user_embedding.weight.detach()[1].std()) > 0.05

    @pytest.mark.parametrize("mode", ["init", "frozen"])
    def test_features_narrower_than_the_table(self, mode):
        given = features()
        narrow = LLMFeatures(given.items[:, :3].copy(), None, given.provenance)
        model = self.model()
        before = model.item_embedding.weight.detach().clone()
        injected(model, mode, narrow)
        rest = model.item_embedding.weight.detach()[1:N_ITEMS, 3:]
        assert torch.equal(rest, before[1:N_ITEMS, 3:] if mode == "init" else torch.zeros_like(rest))

    def test_wide_features_can_be_reduced(self):
        model = injected(self.model(), "adapter", llm_injection_dim=5)
        assert model.item_embedding.adapter.weight.shape == (WIDTH, 5)
        norms = model.item_embedding.features[1:N_ITEMS].square().sum(dim=1)
        assert float(norms.mean()) == pytest.approx(1, rel=1e-4)

    @pytest.mark.parametrize("mode", ["adapter", "concat"])
    def test_whitened_features_are_as_wide_along_every_axis(self, mode):
        table = injected(self.model(), mode, llm_injection_whiten=True, llm_injection_std=0.05).item_embedding
        x = table.features[1:N_ITEMS]  # [29, 12]
        assert torch.allclose(x.T @ x / len(x), torch.eye(12) / 12, atol=1e-4)
        assert float(x.square().sum(dim=1).mean()) == pytest.approx(1, rel=1e-4)
        assert float(table.weight.detach()[1:N_ITEMS].std()) == pytest.approx(0.05, rel=0.05)

    def test_whitened_features_can_be_reduced_too(self):
        given = features()
        table = injected(self.model(), "adapter", given, llm_injection_whiten=True, llm_injection_dim=5).item_embedding
        components = pca(given.items[1:], 5)
        whitened = components / components.std(axis=0) / 5**0.5
        np.testing.assert_allclose(table.features[1:N_ITEMS].numpy(), whitened, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("mode", ["init", "frozen"])
    def test_whitened_components_have_the_same_spread(self, mode):
        table = injected(self.model(), mode, llm_injection_whiten=True, llm_injection_std=0.3).item_embedding
        spreads = table.weight.detach()[1:N_ITEMS].std(dim=0, correction=0)
        assert torch.allclose(spreads, torch.full((WIDTH,), 0.3), rtol=1e-3)

    @pytest.mark.parametrize(
        ("mode", "keys", "used"),
        [
            ("adapter", {}, FEATURES),
            ("concat", {}, FEATURES),
            ("init", {}, WIDTH),
            ("frozen", {}, WIDTH),
            ("adapter", {"llm_injection_dim": 5}, 5),
            ("concat", {"llm_injection_dim": 100, "llm_injection_whiten": True}, FEATURES - 2),
            ("adapter", {"llm_injection_whiten": True}, FEATURES - 2),
            ("init", {"llm_injection_whiten": True}, WIDTH),
        ],
    )
    def test_the_report_says_how_many_axes_are_used(self, mode, keys, used, caplog):
        caplog.set_level("INFO")
        given = features(users=False)
        given.items[:, -2:] = given.items[:, :2]  # two axes with nothing along them
        (table,) = injected(self.model(), mode, given, **keys).llm_injection["tables"]
        assert (table["width"], table["features"], table["used"]) == (WIDTH, FEATURES, used)
        said = f"of {FEATURES} features{f', {used} axes of them,' if used < FEATURES else ''} into width {WIDTH};"
        assert said in caplog.text

    def test_a_hidden_layer(self):
        model = injected(self.model(), "adapter", llm_adapter_hidden=7)
        assert [layer.weight.shape for layer in model.item_embedding.adapter if isinstance(layer, nn.Linear)] == [
            (7, FEATURES),
            (WIDTH, 7),
        ]

    def test_one_table_under_two_names_stays_one(self):
        model = self.model()
        model.out_item_embedding = model.item_embedding  # GRU4RecCPR
        injected(model, "adapter")
        assert isinstance(model.out_item_embedding, AdaptedEmbedding)
        assert model.out_item_embedding is model.item_embedding

    def test_given_features_are_not_written_to(self):
        given = features()
        copies = given.items.copy(), given.profiles.copy()
        for mode in MODES:
            injected(self.model(), mode, given)
        assert np.array_equal(given.items, copies[0])
        assert np.array_equal(given.profiles, copies[1])

    def test_the_report_is_plain(self):
        report = inject(model := self.model(), plan_of(model, "concat"), features())
        assert report == model.llm_injection
        sizes = {"own_rows": 2, "width": 8, "features": 12, "used": 12}
        assert report == {
            "mode": "concat",
            "tables": [
                {"name": "item_embedding", "of": "items", "rows": 29} | sizes,
                {"name": "user_embedding", "of": "users", "rows": 18} | sizes,
            ],
        }


class TestAppending:
    @pytest.mark.parametrize(
        ("mode", "keys"),
        [
            ("frozen", {}),
            ("frozen", {"llm_injection_std": 0.3}),
            ("adapter", {}),
            ("adapter", {"llm_injection_dim": 5, "llm_adapter_hidden": 6}),
            ("adapter", {"llm_injection_whiten": True}),
            ("frozen", {"llm_injection_whiten": True}),
        ],
    )
    def test_a_further_item_with_the_text_of_a_known_one_has_its_row(self, mode, keys):
        given = features()
        table = injected(Model(item_embedding=(N_ITEMS, WIDTH)), mode, given, **keys).eval().item_embedding
        with torch.no_grad():
            before = table.weight.clone()
            table.append(given.items[[3, 7, 29]])
            after = table.weight
        assert (table.num_embeddings, len(after)) == (N_ITEMS + 3, N_ITEMS + 3)
        assert torch.equal(after[:N_ITEMS], before)
        assert torch.allclose(after[N_ITEMS:], before[[3, 7, 29]], atol=1e-6)
        assert torch.allclose(table(torch.tensor([N_ITEMS + 1])), before[[7]], atol=1e-6)

    def test_more_components_than_features_are_padded(self):
        given = features()
        table = injected(Model(item_embedding=(N_ITEMS, 20)), "frozen", given).item_embedding
        table.append(given.items[[4]])
        assert torch.allclose(table.weight[-1], table.weight[4], atol=1e-6)
