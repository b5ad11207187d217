"""timm's training loop on the device, with the CPU's losses; in a process of its own, see timm_loop.py."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.shows(
    "timm",
    "a loop of its parts: channels last, `Mixup`, `ModelEmaV3`, `NativeScaler`, `create_optimizer_v2`, schedulers; compiled",
    'model.to("tpu", memory_format=torch.channels_last)',
)
def test_timms_loop_is_the_cpus():
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed (the extra `ecosystem`)")
    command = [sys.executable, "-W", "ignore", "-m", "tests.ecosystem.timm_loop"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    theirs, ours = found["cpu"], found["tpu"]
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
    assert ours["average"] == pytest.approx(theirs["average"], rel=1e-3, abs=1e-3)
    for mine, other in zip(ours["scores"], theirs["scores"], strict=True):
        assert mine == pytest.approx(other, rel=1e-3, abs=1e-3)
    assert not found["fallbacks"] and ours["programs"] == 0
    batch, numbers = 4 * 3 * 8 * 8 * 4 + 4 * 8, 1024
    assert ours["to_device"] <= batch + numbers and ours["to_host"] <= 128
