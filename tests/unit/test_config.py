"""The table of options: bounds, sources, and what is generated from it."""

from __future__ import annotations

from typing import Any

import pytest

from scoop.config import BY_NAME, OPTIONS, Config, ConfigError, environment_table


def test_defaults_and_environment() -> None:
    assert Config.load({}).workers is None
    assert Config.load({"SCOOP_WORKERS": ""}).workers is None
    given = {"SCOOP_WORKERS": "0x10", "SCOOP_COPY": "0", "SCOOP_STOP_GRACE": "0.5", "OTHER": "x"}
    config = Config.load(given)
    assert (config.workers, config.copy, config.stop_grace, config.crash_limit) == (16, False, 0.5, 3)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("SCOOP_WORKERS", "0", "from 1 to 4000, not 0"),
        ("SCOOP_WORKERS", "two", "whole number of processes"),
        ("SCOOP_WORKERS", "2.5", "not '2.5'"),
        ("SCOOP_COPY", "maybe", "1 or 0"),
        ("SCOOP_STOP_GRACE", "nan", "a number of seconds"),
        ("SCOOP_STOP_GRACE", "-1", "not -1.0"),
        ("SCOOP_VERBOSE", "-1", "at least 0"),
    ],
)
def test_bad_variables(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load({name: text})
    assert str(caught.value).startswith(f"{name} must be ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "values", [{"workers": True}, {"workers": 2.0}, {"copy": 1}, {"threads": 0}, {"seed": 1 << 127}]
)
def test_bad_values(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(values))} must be"):
        Config().with_values(**values)


def test_a_config_is_frozen_and_closed() -> None:
    config = Config().with_values(workers=3, seed=-5)
    assert (config.workers, config.seed) == (3, -5)
    with pytest.raises(AttributeError, match="frozen"):
        config.workers = 4
    with pytest.raises(TypeError, match="no such option: workerz"):
        config.with_values(workerz=4)
    assert "workers=3" in repr(config)


def test_the_table_is_complete() -> None:
    table = environment_table()
    flags = [flag for option in OPTIONS for flag in option.flags]
    assert len(set(flags)) == len(flags)
    for option in OPTIONS:
        assert BY_NAME[option.name] is option
        assert option.environ in table
        assert option.help
        assert option.check(option.default, option.name) == option.default
