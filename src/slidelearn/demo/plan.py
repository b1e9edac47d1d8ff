"""The plan of the demo: how much is read and how long is trained."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["FULL", "QUICK", "Plan"]


# Less training than the rules would choose; measured on about 50,000 functions: P@1 of 22.5 after
# 2 epochs, as after 3, and 21.6 with the default temperature and wide path.
_SETTINGS: dict[str, Any] = {"epochs": 2, "hidden": [256], "temperature": 10.0, "wide": 5.0}


@dataclass(frozen=True)
class Plan:
    """Limits that keep the demo within its 90 seconds on 2 cores, compilation included."""

    roots: tuple[str, ...] | None = None  # folders to read; None: the installed packages
    max_functions: int = 50_000
    read_seconds: float = 32.0
    min_count: int = 2  # functions that must call a name: from one, nobody learns
    train_seconds: float = 25.0
    held_out: int = 2_000  # held-out functions that are scored
    settings: dict[str, Any] = field(default_factory=lambda: dict(_SETTINGS))


FULL = Plan()
QUICK = Plan(
    max_functions=3_000, read_seconds=5.0, train_seconds=5.0, held_out=200,
    settings={"epochs": 1, "hidden": [64]},
)  # fmt: skip
