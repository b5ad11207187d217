"""Targets: which platform each means, and what is said of those that cannot be."""

from __future__ import annotations

import pytest

from tpu_dynamo_runtime import PlatformUnavailable, UnknownTarget, resolve, targets


@pytest.fixture
def plugins(monkeypatch):
    """Decide which plugins are installed."""

    def install(*platforms: str) -> None:
        monkeypatch.setattr(targets, "plugin_installed", lambda platform: platform in ("cpu", *platforms))

    install()
    return install


def test_auto_is_a_tpu_where_there_is_one(plugins):
    plugins("tpu")
    assert resolve("auto", tpu_chips=4) == "tpu"


def test_auto_is_the_cpu_elsewhere(plugins):
    plugins("tpu", "cuda")
    assert resolve("auto", tpu_chips=0) == "cpu"


def test_auto_without_libtpu_is_the_cpu(plugins):
    assert resolve("auto", tpu_chips=4) == "cpu"


def test_the_cpu_is_always_there(plugins):
    assert resolve("cpu", tpu_chips=0) == "cpu"


def test_the_environment_says_what_auto_is(plugins, monkeypatch):
    plugins("tpu", "cuda")
    for named, meant in [("cuda", "cuda"), (" cpu ", "cpu"), ("auto", "tpu"), ("", "tpu")]:
        monkeypatch.setenv("TPU_DYNAMO_TARGET", named)
        assert resolve("auto", tpu_chips=4) == meant
        assert resolve("tpu", tpu_chips=4) == "tpu"
    monkeypatch.setenv("TPU_DYNAMO_TARGET", "gpu")
    with pytest.raises(UnknownTarget, match="unknown target 'gpu'"):
        resolve("auto", tpu_chips=4)


@pytest.mark.parametrize("target", ["cpuu", "", "v9:2x2", "CPU"])
def test_an_unknown_target_lists_the_known_ones(target):
    with pytest.raises(UnknownTarget, match="Known targets: auto, cpu, cuda, tpu"):
        resolve(target, tpu_chips=0)


def test_a_missing_plugin_says_how_to_install_it(plugins):
    with pytest.raises(PlatformUnavailable, match=r"plugin is not installed\n.*tpu-dynamo\[tpu\]"):
        resolve("tpu", tpu_chips=4)
    with pytest.raises(PlatformUnavailable, match=r"plugin is not installed\n.*jax\[cuda"):
        resolve("cuda", tpu_chips=0)


def test_a_missing_tpu_is_said(plugins):
    plugins("tpu")
    with pytest.raises(PlatformUnavailable, match="no TPU is attached"):
        resolve("tpu", tpu_chips=0)
