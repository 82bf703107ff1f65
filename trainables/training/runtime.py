"""Where a fit computes, how exactly, and with how many threads: chosen once, recorded with each result."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import torch

from trainables.errors import FitError, UserError

LIBRARIES = ("torch", "torchvision", "timm", "open_clip_torch", "peft", "transformers", "numpy", "safetensors")


@dataclass(frozen=True)
class Runtime:
    """A device, the precision of the forward pass, and torch's threads (None: as they are)."""

    device: torch.device
    precision: Literal["fp32", "bf16"]
    threads: int | None = None

    @classmethod
    def choose(cls, device: str, precision: str, threads: int | None = None) -> Runtime:
        """`auto` is the GPU where there is one, and bf16 on it; fp32 on a CPU.

        Raises:
            UserError: the device is not there, or not one that torch knows.
        """
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            chosen = torch.device(name)
        except RuntimeError:
            raise UserError(f"device is '{device}'. Use 'auto', 'cpu', 'cuda' or 'cuda:1'.") from None
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"device is '{device}', but torch sees no GPU here. Use 'auto' or 'cpu'.")
        half = precision == "bf16" or (precision == "auto" and chosen.type == "cuda")
        return cls(chosen, "bf16" if half else "fp32", threads)

    def use_threads(self) -> None:
        """Tell torch; for the whole process."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)

    def autocast(self) -> AbstractContextManager[Any]:
        """The forward pass belongs in here; the losses do not."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """torch's chance comes from `seed` inside, and goes on outside as if nothing had been drawn."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            yield

    def seed(self, seed: int) -> None:
        """As torch.manual_seed, for this device and the CPU: 1 us, where that one looks for every kind, in 130 us."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)

    @contextmanager
    def memory(self, doing: str) -> Iterator[None]:
        """Running out of memory while `doing` something ends a fit for good: another try would end the same way.

        Raises:
            FitError: `out-of-memory`.
        """
        try:
            yield
        except RuntimeError as error:
            if out_of_memory(error):
                where = "GPU" if self.device.type == "cuda" else "machine"
                first = str(error).splitlines()[0]
                raise FitError(
                    "out-of-memory", f"the {where} ran out of memory {doing}. Try a smaller batch or rank. ({first})"
                ) from error
            raise

    def give_back(self) -> None:
        """Memory that nothing uses goes from torch to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def provenance(self) -> dict[str, Any]:
        """Device, precision, threads and versions, ready for JSON."""
        gpu = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if gpu else platform.processor() or platform.machine(),
            "device_type": self.device.type,
            "precision": self.precision,
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "versions": {name: metadata.version(name) for name in LIBRARIES} | {"torch": str(torch.__version__)},
        }


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the device, or the machine, had not the memory that was asked for."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
