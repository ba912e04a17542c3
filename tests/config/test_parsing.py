"""Settings: their reading, their faults, their presets."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.config import (
    DOWNSAMPLES,
    PRESETS,
    NetworkConfig,
    TrainConfig,
    coerce_option,
    gather_settings,
    merge_settings,
    parse_assignments,
    parse_settings,
    read_settings,
    read_toml,
    to_dict,
    to_toml,
    unknown_setting,
)
from tokenizer.errors import ConfigError, InputError


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int = 1
    rates: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outer:
    count: int = 0
    rate: float = 0.5
    flag: bool = False
    name: str = ""
    maybe: int | None = None
    sizes: tuple[int, ...] = ()
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    inner: Inner = dataclasses.field(default_factory=Inner)


def faults(cls: type[Any], values: Mapping[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(cls, values)
    assert str(caught.value) == "; ".join(caught.value.faults)
    return caught.value.faults


class TestCoercion:
    @pytest.mark.parametrize(
        ("key", "value", "wanted"),
        [
            ("rate", "1e-4", 1e-4),
            ("rate", 3, 3.0),
            ("rate", " 2.5 ", 2.5),
            ("count", "3", 3),
            ("count", "-3", -3),
            ("count", "1e3", 1000),
            ("count", 4.0, 4),
            ("count", 2**60 + 1, 2**60 + 1),
            ("count", str(2**60 + 1), 2**60 + 1),
            ("flag", "yes", True),
            ("flag", "False", False),
            ("flag", 1, True),
            ("flag", "0", False),
            ("maybe", None, None),
            ("maybe", "7", 7),
            ("sizes", "64,96, 128", (64, 96, 128)),
            ("sizes", "64 96", (64, 96)),
            ("sizes", ["64", 96], (64, 96)),
            ("sizes", [], ()),
            ("weights", {"l1": "0.5", "l2": 1}, {"l1": 0.5, "l2": 1.0}),
            ("inner", {"size": "3", "rates": [1]}, Inner(3, (1.0,))),
        ],
    )
    def test_to_the_declared_type(self, key: str, value: Any, wanted: Any) -> None:
        found = getattr(parse_settings(Outer, {key: value}), key)
        assert found == wanted
        assert type(found) is type(wanted)

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("count", 3.5, "a whole number"),
            ("count", "3.5", "a whole number"),
            ("count", True, "a whole number"),
            ("count", "many", "a whole number"),
            ("count", None, "a whole number"),
            ("count", float("inf"), "a whole number"),
            ("count", float("nan"), "a whole number"),
            ("count", "inf", "a whole number"),
            ("count", [1], "a whole number"),
            ("rate", "fast", "a number"),
            ("rate", False, "a number"),
            ("rate", float("nan"), "a number"),
            ("rate", "inf", "a number"),
            ("rate", 10**400, "a number"),
            ("flag", "maybe", "true or false"),
            ("flag", 2, "true or false"),
            ("name", 3, "text"),
            ("maybe", "x", "a whole number"),
            ("sizes", 5, "a list, each a whole number"),
            ("sizes", ["a"], "a list, each a whole number"),
            ("weights", 3, "a table of settings"),
            ("weights", "l2", "a table of settings"),
            ("inner", 3, "a table of settings"),
            ("inner", "tiny", "a table of settings"),
            ("inner", [1], "a table of settings"),
        ],
    )
    def test_a_fault_says_what_was_given_and_expected(self, key: str, value: Any, expected: str) -> None:
        assert faults(Outer, {key: value}) == (f"{key} is {value!r}, expected {expected}",)

    def test_nested_keys_are_named_in_full(self) -> None:
        assert faults(Outer, {"inner": {"size": "x"}}) == ("inner.size is 'x', expected a whole number",)
        assert faults(Outer, {"weights": {"l1": "x"}}) == ("weights.l1 is 'x', expected a number",)
        assert faults(Outer, {"inner": {"sise": 1}}) == ("unknown setting 'inner.sise', did you mean 'size'?",)

    def test_all_faults_at_once(self) -> None:
        values = {"count": 1.5, "nmae": "x", "inner": {"size": "x", "zzz": 1}, "weights": {"a": "b"}, "rate": 1}
        assert set(faults(Outer, values)) == {
            "count is 1.5, expected a whole number",
            "unknown setting 'nmae', did you mean 'name'?",
            "inner.size is 'x', expected a whole number",
            "unknown setting 'inner.zzz'",
            "weights.a is 'b', expected a number",
        }

    def test_what_is_not_given_has_its_default(self) -> None:
        assert parse_settings(Outer, {}) == Outer()
        assert parse_settings(Outer, {"inner": {"size": 4}}).inner == Inner(4, ())

    def test_where_prefixes_the_keys(self) -> None:
        with pytest.raises(ConfigError, match=r"^unknown setting 'a\.size2', did you mean 'size'\?$"):
            parse_settings(Inner, {"size2": 1}, "a.")

    def test_coerce_option(self) -> None:
        assert coerce_option("3", int, "quantizer.heads") == 3
        assert coerce_option(None, float | None, "x") is None
        with pytest.raises(ConfigError, match=r"^quantizer\.heads is 'x', expected a whole number$"):
            coerce_option("x", int, "quantizer.heads")
        with pytest.raises(ConfigError, match=r"^q is inf, expected a whole number$"):
            coerce_option(float("inf"), int | None, "q")
        with pytest.raises(ConfigError, match=r"^q\.a is 'x', expected a number$"):
            coerce_option({"a": "x"}, Mapping[str, float], "q")


class TestFaultsTogether:
    def test_types_and_ranges(self) -> None:
        assert set(
            faults(TrainConfig, {"lr": "x", "warmup": 2, "seed": -1, "stepz": 1, "network": {"latent_dim": 0}})
        ) == {
            "lr is 'x', expected a number",
            "warmup is 2.0, expected 0 or more and less than 1",
            "seed is -1, expected 0 or more",
            "unknown setting 'stepz', did you mean 'steps'?",
            "network.latent_dim is 0, expected 1 to 4096",
        }

    @pytest.mark.parametrize(
        "values",
        [
            {"network": {"downsample": "x", "widths": [8], "depths": [1]}},
            {"network": {"widths": "x", "depths": [1]}},
            {"network": {"widht": [8, 8], "downsample": 8}},
            {"steps": "x", "minutes": 3},
            {"image_size": 40, "network": {"downsample": "x"}},
            {"image_size": 40, "network": 3},
            {"freeze": ["encoder"], "init_from": 3},
        ],
    )
    def test_nothing_is_compared_with_what_cannot_be_read(self, values: dict[str, Any]) -> None:
        assert len(faults(TrainConfig, values)) == 1

    def test_old_names(self) -> None:
        (line,) = faults(TrainConfig, {"revive_until": 1})
        assert line == "unknown setting 'revive_until': it is called replace_dead_until now"
        assert unknown_setting("normalise", ["normal"], "a.") == "unknown setting 'a.normalise', did you mean 'normal'?"

    def test_what_could_be_read(self) -> None:
        found = read_settings(Outer, {"count": "x", "rate": 2, "nmae": 1, "inner": {"size": "x"}})
        assert found.value == Outer(rate=2.0)
        assert found.unread == {"count", "name", "inner.size"}
        assert len(found.faults) == 3


class TestLayers:
    def test_which_wins(self, tmp_path: Path) -> None:
        (tmp_path / "c.toml").write_text("seed = 1\nlr = 1\nkeep = 1\nminutes = 1\n[quantizer]\nname = 'ste'\n")
        found = gather_settings(
            {"seed": 4, "codebook_size": 8, "workers": None},
            {"seed": 2, "lr": 2, "keep": 2, "steps": 2},
            tmp_path / "c.toml",
            ["seed=3", "lr=3", "quantizer.codebook_size=3"],
        )
        assert found == {"seed": 4, "lr": "3", "keep": 2, "steps": 2, "quantizer": {"name": "ste", "codebook_size": 8}}

    def test_a_later_layer_wins_key_by_key(self) -> None:
        first = {"a": 1, "b": {"x": 1, "y": {"z": 1}}}
        merged = merge_settings(first, {"b": {"y": {"w": 2}, "x": 3}}, {"c": 4})
        assert merged == {"a": 1, "b": {"x": 3, "y": {"z": 1, "w": 2}}, "c": 4}
        assert first == {"a": 1, "b": {"x": 1, "y": {"z": 1}}}

    def test_a_value_replaces_a_table_and_back(self) -> None:
        assert merge_settings({"a": {"x": 1}}, {"a": 2}) == {"a": 2}
        assert merge_settings({"a": 2}, {"a": {"x": 1}}) == {"a": {"x": 1}}
        assert merge_settings() == {}

    def test_assignments(self) -> None:
        pairs = ["lr=1e-4", "quantizer.name=diveq", " quantizer.codebook_size = 32 ", "lr=2", "a.b.c=x=y", "empty="]
        assert parse_assignments(pairs) == {
            "lr": "2",
            "quantizer": {"name": "diveq", "codebook_size": "32"},
            "a": {"b": {"c": "x=y"}},
            "empty": "",
        }
        assert parse_assignments([]) == {}

    def test_pairs_without_equals_are_all_named(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_assignments(["lr", "steps=3", "seed:4"])
        assert caught.value.faults == (
            "'lr' is not of the form KEY=VALUE",
            "'seed:4' is not of the form KEY=VALUE",
        )

    def test_assignments_are_coerced(self) -> None:
        config = parse_settings(
            TrainConfig, parse_assignments(["lr=1e-4", "network.widths=[8, 16,24]", "network.depths=1 1 2", "steps=5"])
        )
        assert (config.lr, config.network.widths, config.network.depths, config.steps) == (
            1e-4,
            (8, 16, 24),
            (1, 1, 2),
            5,
        )


leaves = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.integers(0, 9)),
)
tables = st.recursive(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), leaves, max_size=4),
    lambda inner: st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.one_of(leaves, inner), max_size=3
    ),
    max_leaves=6,
)


class TestToml:
    @given(tables)
    def test_any_table_comes_back(self, values: dict[str, Any]) -> None:
        assert tomllib.loads(to_toml(values)) == values

    @pytest.mark.parametrize("text", ["\U0001f600", "\x7f", 'a"b\\c', "\n\t\0", "é", "C:\\new"])
    def test_text_comes_back(self, text: str) -> None:
        assert tomllib.loads(to_toml({"a": text, "b": {text: [text]}})) == {"a": text, "b": {text: [text]}}

    def test_tables_in_tables(self) -> None:
        assert to_toml({"a": {"b": {"c": 1}}, "x": 2}) == "x = 2\n\n[a.b]\nc = 1\n"

    def test_what_has_no_value_is_left_out(self) -> None:
        assert to_toml({"a": None, "b": {"c": None, "d": True}}) == "[b]\nd = true\n"

    @pytest.mark.parametrize(
        "config",
        [
            TrainConfig(),
            TrainConfig(
                network=NetworkConfig(8, (3, 5), (0, 1), 2),
                quantizer={"name": "diveq", "codebook_size": 77, "noise": {"std": 1e-05}},
                loss={"l1": 0.25, "frequency": 3},
                image_size=40,
                minutes=0.1,
                lr=1e-07,
                val_data='photos/"odd" \U0001f600\\x',
                seed=2**40,
            ),
        ],
    )
    def test_train_config_round_trip(self, tmp_path: Path, config: TrainConfig) -> None:
        path = tmp_path / "config.toml"
        path.write_text(to_toml(to_dict(config)), encoding="utf-8")
        assert parse_settings(TrainConfig, read_toml(path)) == config

    @pytest.mark.parametrize("data", [b"lr = ", b"\xff", b"lr = 1\nlr = 2"])
    def test_no_toml(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "c.toml").write_bytes(data)
        with pytest.raises(InputError, match=r"^cannot read the config file .*c\.toml: "):
            read_toml(tmp_path / "c.toml")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"c\.toml: .*No such file"):
            read_toml(tmp_path / "c.toml")
        with pytest.raises(InputError, match="cannot read the config file"):
            read_toml(tmp_path)


class TestTrainConfig:
    def test_the_defaults_are_right(self) -> None:
        assert TrainConfig().faults() == []
        assert parse_settings(TrainConfig, {}) == TrainConfig()

    @pytest.mark.parametrize("key", ["image_size", "steps", "minutes", "batch_size", "lr", "clip_norm"])
    @pytest.mark.parametrize("value", [0, -16])
    def test_positive(self, key: str, value: int) -> None:
        assert faults(TrainConfig, {key: value}) == (f"{key} is {getattr_of(key, value)}, expected more than 0",)

    @pytest.mark.parametrize("key", ["log_every", "eval_every", "save_every"])
    def test_intervals_are_positive(self, key: str) -> None:
        assert faults(TrainConfig, {key: 0}) == (f"{key} is {getattr_of(key, 0)}, expected more than 0",)

    @pytest.mark.parametrize("key", ["warmup", "quantize_after", "ema_decay"])
    def test_shares(self, key: str) -> None:
        assert getattr(parse_settings(TrainConfig, {key: 0}), key) == 0
        assert getattr(parse_settings(TrainConfig, {key: 0.999}), key) == 0.999
        for value in (1.0, -0.1):
            assert faults(TrainConfig, {key: value}) == (f"{key} is {value}, expected 0 or more and less than 1",)

    @pytest.mark.parametrize("key", ["weight_decay", "replace_dead_until", "workers", "val_images", "seed"])
    def test_not_negative(self, key: str) -> None:
        assert getattr(parse_settings(TrainConfig, {key: 0}), key) == 0
        assert faults(TrainConfig, {key: -1}) == (f"{key} is {getattr_of(key, -1)}, expected 0 or more",)

    def test_precision(self) -> None:
        assert parse_settings(TrainConfig, {"precision": "bfloat16"}).precision == "bfloat16"
        assert faults(TrainConfig, {"precision": "fp16"}) == (
            "precision is 'fp16', expected one of auto, float32, tf32, bfloat16, float16",
        )

    def test_one_budget(self) -> None:
        assert faults(TrainConfig, {"steps": 5, "minutes": 1}) == ("steps and minutes are both given: name one budget",)

    def test_image_size_fits_the_network(self) -> None:
        assert parse_settings(TrainConfig, {"image_size": 48}).image_size == 48
        assert faults(TrainConfig, {"image_size": 40}) == (
            "image_size is 40, expected a multiple of network.downsample (16)",
        )

    def test_a_downsample_of_0_is_a_fault_like_others(self) -> None:
        found = faults(TrainConfig, {"image_size": 64, "network": {"downsample": 0}})
        assert any(fault.startswith("network.downsample is 0, expected one of") for fault in found)

    def test_all_of_them_at_once(self) -> None:
        found = faults(TrainConfig, {"lr": 0, "warmup": 2, "seed": -1, "precision": "x", "network": {"latent_dim": 0}})
        named = {fault.split(" is ")[0] for fault in found}
        assert named == {"network.latent_dim", "lr", "warmup", "seed", "precision"}


def getattr_of(key: str, value: float) -> object:
    """The value as the declared type shows it."""
    return (
        float(value)
        if key in ("minutes", "lr", "clip_norm", "save_every", "weight_decay", "replace_dead_until")
        else value
    )


class TestNetworkConfig:
    @pytest.mark.parametrize(
        ("config", "fault"),
        [
            (NetworkConfig(downsample=12), "network.downsample is 12, expected one of (4, 8, 16, 32)"),
            (NetworkConfig(downsample=0), "network.downsample is 0, expected one of (4, 8, 16, 32)"),
            (NetworkConfig(8, (8, 8), (1,)), "network.widths (8, 8) and network.depths (1,) differ in length"),
            (NetworkConfig(8, (8,) * 4, (1,) * 4), "network.widths has 4 stages, a downsample of 8 takes 2"),
            (NetworkConfig(32, (8,) * 3, (1,) * 3), "network.widths has 3 stages, a downsample of 32 takes 4"),
            (NetworkConfig(16, (), ()), "network.widths has 0 stages, a downsample of 16 takes 3"),
            (NetworkConfig(8, (8, 8), (1, -1)), "network.widths must be 1 to 65536 and network.depths 0 to 256"),
            (NetworkConfig(8, (0, 8), (1, 1)), "network.widths must be 1 to 65536 and network.depths 0 to 256"),
            (NetworkConfig(latent_dim=0), "network.latent_dim is 0, expected 1 to 4096"),
        ],
    )
    def test_each_rule(self, config: NetworkConfig, fault: str) -> None:
        assert config.faults() == [fault]

    @pytest.mark.parametrize("downsample", DOWNSAMPLES)
    @pytest.mark.parametrize("preset", PRESETS)
    def test_presets(self, preset: str, downsample: int) -> None:
        widths, depths = PRESETS[preset][downsample]
        values = {"downsample": downsample, "widths": list(widths), "depths": list(depths)}
        assert parse_settings(TrainConfig, {"network": values}).network == NetworkConfig(downsample, widths, depths)

    def test_the_default_is_a_preset(self) -> None:
        default = NetworkConfig()
        assert (default.widths, default.depths) == PRESETS["tiny"][default.downsample]


def test_a_network_says_what_it_is() -> None:
    plain = NetworkConfig(8, (8, 16), (1, 2))
    assert str(plain) == "downsample 8, widths (8, 16), depths (1, 2)"
    own = NetworkConfig(8, (8, 16), (1, 2), decoder_depths=(1, 3), linear=True)
    assert str(own) == f"{plain}, decoder widths (8, 16), depths (1, 3), a linear path beside both"


@pytest.mark.parametrize(
    ("widths", "depths", "faults"),
    [
        ((8,), (1, 1), ["has 1 stages, a downsample of 8 takes 2", "decoder_widths (8,) and network.decoder_depths"]),
        ((8, 8), (1,), ["network.decoder_widths (8, 8) and network.decoder_depths (1,) differ in length"]),
        ((0, 8), None, ["network.decoder_widths must be 1 to 65536"]),
        (None, (1, -1), ["network.decoder_depths 0 to 256"]),
    ],
)
def test_a_decoder_of_a_wrong_shape(
    widths: tuple[int, ...] | None, depths: tuple[int, ...] | None, faults: list[str]
) -> None:
    found = NetworkConfig(8, (8, 8), (1, 1), decoder_widths=widths, decoder_depths=depths).faults()
    assert len(found) == len(faults)
    assert all(text in line for text, line in zip(faults, found, strict=True))
