import pytest
import torch

from detkit.errors import DetkitError
from detkit.ops.precision import autocast, describe, emulated, layout, resolve


def test_a_named_precision_is_taken_on_any_device():
    for device in ("cpu", "cuda", "mps"):
        assert resolve("fp16", device) == torch.float16
        assert resolve("bf16", device) == torch.bfloat16
        assert resolve("fp32", device) == torch.float32


@pytest.mark.parametrize("has", [True, False])
def test_auto_is_bf16_only_where_the_hardware_has_it(monkeypatch, has):
    wanted = torch.bfloat16 if has else torch.float32
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert resolve("auto", "cpu") == resolve("auto", "cuda:0") == wanted
    assert resolve("auto", "mps") == torch.float32


def test_emulation_is_told(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # Macs' own build
    assert resolve("auto", "cpu") == torch.float32
    assert emulated(torch.bfloat16, "cpu")
    assert emulated(torch.float16, "cpu")
    assert "emulated here" in describe(torch.bfloat16, "cpu")
    assert describe(torch.float32, "cpu") == "float32"
    assert describe(torch.bfloat16, "mps") == "bfloat16"


def test_channels_come_last_but_for_fp32_on_a_cpu():
    assert layout(torch.float32, "cpu") == torch.contiguous_format
    assert layout(torch.bfloat16, "cpu") == torch.channels_last
    assert layout(torch.float32, "cuda") == torch.channels_last


def test_an_unknown_precision_is_told():
    with pytest.raises(DetkitError, match="Did you mean fp16"):
        resolve("fp61", "cpu")


def test_autocast_computes_in_that_type():
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast("cpu", dtype):
            assert layer(x).dtype == dtype
