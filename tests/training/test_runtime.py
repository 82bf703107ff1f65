"""Where a fit computes, and what is said when it cannot."""

from __future__ import annotations

import pytest
import torch

from trainables.errors import FitError, UserError
from trainables.training.runtime import Runtime

CPU = Runtime.choose("cpu", "auto")


def test_a_cpu_computes_in_fp32_unless_told_otherwise() -> None:
    assert CPU.precision == "fp32"
    assert Runtime.choose("cpu", "bf16").precision == "bf16"


def test_a_device_that_torch_does_not_know_is_refused() -> None:
    with pytest.raises(UserError, match=r"device is 'gpu'\. Use 'auto', 'cpu', 'cuda'"):
        Runtime.choose("gpu", "auto")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no GPU here"):
        Runtime.choose("cuda", "auto")


def test_chance_inside_comes_from_the_seed_and_outside_goes_on_as_if_nothing_was_drawn() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = torch.rand(1)
    with CPU.seeded(5):
        inside = torch.rand(3)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    with CPU.seeded(5):
        assert torch.equal(torch.rand(3), inside)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), RuntimeError("can't allocate memory: 9 TB")],
)
def test_running_out_of_memory_is_a_failure_of_the_fit(error: RuntimeError) -> None:
    with pytest.raises(FitError, match=r"ran out of memory training rank 128\. Try a smaller batch") as caught:
        _fail(error)
    assert caught.value.reason == "out-of-memory"


def _fail(error: RuntimeError) -> None:
    with CPU.memory("training rank 128"):
        raise error


def test_other_errors_pass_through_untouched() -> None:
    with pytest.raises(RuntimeError, match="shapes"), CPU.memory("training"):
        raise RuntimeError("shapes do not match")


def test_memory_that_a_machine_does_not_have_is_told_apart_from_other_errors() -> None:
    with pytest.raises(FitError, match="the machine ran out of memory"), CPU.memory("allocating"):
        torch.empty(2**60)
