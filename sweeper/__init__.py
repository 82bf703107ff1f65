"""The service: it decides, schedules and remembers a sweep; the fine-tuning itself is `trainables`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.screen.notebook import Sweep

__all__ = ["Sweep"]


def __getattr__(name: str) -> Any:
    """`from sweeper import Sweep`, without making `import sweeper` load pandas."""
    if name == "Sweep":
        from sweeper.screen.notebook import Sweep

        return Sweep
    raise AttributeError(f"module 'sweeper' has no attribute '{name}'")
