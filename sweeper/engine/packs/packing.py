"""Which fits one actor trains at once, and how many: `resources.pack`.

Three words for what keeps a fit out of a pack, each until the attempt ends:
    alone        it was in a pack whose actor died: who is at fault is found by training each by itself.
    unpackable   fits of its kind cannot be trained together, as the training said.
    halved       memory ran out, or two actors with packs died in a row, as where the machine's memory runs out: packs
                 have half as many fits from then on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from sweeper.engine.order import Kind, Order
from sweeper.engine.packs.gain import Gain
from sweeper.state.sweep_folder import SweepFolder
from trainables.methods import METHODS

log = logging.getLogger(__name__)

DEATHS = 2  # of packs in a row: one may be chance, or a fit's fault
ALIKE = ("batch_size", "layers", "blocks")  # parameters in which fits that go together are alike


def kind_of(params: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Fits of one kind may go together; None: such a fit never does, for it shares no frozen weights with others."""
    adapter = METHODS[params["method"]].adapter
    shares_none = adapter == "full" or params.get("variant") == "dora"
    return None if shares_none else (adapter, *(params.get(name) for name in ALIKE))


class Packing:
    """What a queue asks before it gives out orders, and tells when several come back together.

    `most` fits are trained at once; 1: each by itself. `notes` are sentences for people.
    """

    def __init__(self, wanted: Literal["off", "auto"] | int, folder: SweepFolder) -> None:
        self._folder = folder
        self.notes: list[str] = []
        found = Gain.kept(folder) if wanted == "auto" else None
        self._unknown = wanted == "auto" and found is None
        self.most = found.most if found else wanted if isinstance(wanted, int) else 1
        if found:
            self.notes.append(str(found))
        self._deaths = 0  # of packs, one after the other
        self._alone: set[tuple[Kind, int, int]] = set()
        self._unpackable: set[tuple[Any, ...]] = set()

    def to_measure(self, order: Order) -> Order | None:
        """An order to measure what packs of fits like that of `order` gain; None where that is known, or asked for."""
        if not self._unknown or order.kind != "fit" or kind_of(order.params) is None:
            return None
        self._unknown = False
        return replace(order, kind="gain", rungs=())

    def measured(self, told: Mapping[str, Any]) -> None:
        """What whoever measured it told; nothing, where it came to nothing: then the next attempt tries again."""
        if "gain" in told:
            found = Gain.from_json(json.loads(told["gain"]))
            self._folder.keep_json(self._folder.packing, found.to_json())
            self.most = found.most
            self.notes.append(str(found))
            log.info("%s", found)
        else:
            self._note("packing: what it gains could not be measured, so each fit is trained by itself.")

    def room(self, order: Order) -> int:
        """How many orders there may be in the bundle of `order`, itself included."""
        kind = kind_of(order.params)
        apart = order.kind != "fit" or kind is None or kind in self._unpackable or order.key in self._alone
        return 1 if apart else self.most

    def together(self, order: Order, other: Order) -> bool:
        """Whether one actor may train both at once."""
        return self.room(order) > 1 and self.room(other) > 1 and kind_of(order.params) == kind_of(other.params)

    def back(self, orders: Sequence[Order], told: Mapping[str, Any], *, died: bool) -> bool:
        """Orders that went together are back; whether what came of it is the pack's fault, and not a fit's."""
        self._deaths = self._deaths + 1 if died else 0
        if died:
            self._alone |= {order.key for order in orders}
            log.warning("an actor died with %d fits: %s; each is trained alone now", len(orders), _named(orders))
            if self._deaths == DEATHS:
                self._deaths = 0
                self._halve(orders, f"{DEATHS} actors died one after the other, the last with")
        elif "too_many" in told:
            self._halve(orders, f"memory does not hold ({told['too_many']})")
        elif "unpackable" in told:
            self._unpackable |= {kind for order in orders if (kind := kind_of(order.params))}
            self._note(f"packing: such fits are trained one by one, since {told['unpackable']}.")
        else:
            return False
        return True

    def _halve(self, orders: Sequence[Order], why: str) -> None:
        self.most = min(self.most, max(1, len(orders) // 2))
        left = f"{self.most} at once from now on" if self.most > 1 else "each is trained by itself from now on"
        self._note(f"packing: {why} {len(orders)} fits at once; {left}.")

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            log.warning("%s", sentence)


def by_member(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What an actor's report says of each order of its bundle."""
    return list(json.loads(report["members"])) if "members" in report else [report]


def _named(orders: Sequence[Order]) -> str:
    return ", ".join(f"{order.number}/{order.seed}" for order in orders)
