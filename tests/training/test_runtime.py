"""Where a fit computes, and what is said when it cannot."""

from __future__ import annotations

import platform
from importlib import metadata

import pytest
import torch

from trainables.errors import FitError, UserError
from trainables.training.runtime import LIBRARIES, Runtime

CPU = Runtime.choose("cpu", "auto")


def test_a_cpu_computes_in_fp32_unless_told_otherwise() -> None:
    assert CPU.precision == "fp32"
    assert Runtime.choose("cpu", "bf16").precision == "bf16"


def test_left_alone_it_is_the_gpu_in_bf16_where_there_is_one_and_a_cpu_in_fp32_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Runtime.choose("auto", "auto", 3) == Runtime(torch.device("cuda"), "bf16", 3)
    assert Runtime.choose("cuda:1", "auto") == Runtime(torch.device("cuda:1"), "bf16")
    assert Runtime.choose("auto", "fp32").precision == "fp32"
    assert Runtime.choose("cpu", "auto") == Runtime(torch.device("cpu"), "fp32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Runtime.choose("auto", "auto") == Runtime(torch.device("cpu"), "fp32")


def test_torch_is_told_the_threads_that_were_asked_for_and_left_alone_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    for threads in (None, 3):
        Runtime.choose("cpu", "auto", threads).use_threads()
    assert told == [3]


def test_provenance_names_where_and_with_what_it_was_computed() -> None:
    found = Runtime.choose("cpu", "bf16").provenance()
    assert (found["device_type"], found["precision"]) == ("cpu", "bf16")
    assert found["device"] == (platform.processor() or platform.machine())
    assert found["threads"] == torch.get_num_threads()
    assert found["python"] == platform.python_version()
    assert found["versions"] == {name: metadata.version(name) for name in LIBRARIES} | {"torch": torch.__version__}


def test_the_forward_pass_is_in_bfloat16_only_where_that_was_chosen() -> None:
    layer, one = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Runtime.choose("cpu", precision).autocast():
            assert layer(one).dtype == dtype


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
