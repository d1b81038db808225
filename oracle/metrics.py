"""How the oracle is: what it waits for, how far the chain is, what its account holds; for a person and for Prometheus.

:func:`health` looks once at database and chain. The same figures are served as metrics by the watching oracle and by a
witness; docs/oracle.md names them and shows alerts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from .chain import Chain, ChainView
from .domain import DayState, SagaState
from .errors import CannotListen, ChainError
from .store import VERSIONS, Act, Store, utc_now

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: A device-day on its way to finality that has not moved for longer is a problem, in seconds.
MAX_LAG_SECONDS = 72 * 3600
#: Gas that the account must be able to pay for: the issue of 100 certificates (docs/oracle.md).
NEEDED_GAS = 5_000_000
#: A device-day in one of these states is on its way; a notarized one that cannot be issued says so as its reason.
_ON_THE_WAY = (DayState.ACCEPTED, DayState.SEALED, DayState.NOTARIZED, DayState.ISSUED)


@dataclass(frozen=True, slots=True)
class Health:
    """``lag_seconds``: how long the device-day that waits longest on its way to finality has not moved; 0 if none waits.

    ``failed`` counts failed acts, ``not_issued`` notarized device-days that the contract refuses. Block numbers are -1
    where there is none, ``balance_wei`` None without an account. ``problems`` says in words what wants a hand.
    """

    chain_answers: bool
    head_block: int
    head_time: int
    final_block: int
    lag_seconds: int
    held: int
    failed: int
    not_issued: int
    acts_waiting: int
    signer: str | None
    balance_wei: int | None
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"problems": list(self.problems)}


def health(store: Store, chain: ChainView, signer: str | None = None, max_lag_seconds: int = MAX_LAG_SECONDS) -> Health:
    """Look at database and chain once; what is wrong becomes one of the ``problems``."""
    problems: list[str] = []
    head, head_time, final, balance = -1, 0, -1, None
    answers = False
    try:
        chain.check_identity()
        latest = chain.head()
        head, head_time, final, answers = latest.number, latest.time, chain.final_number(), True
        if signer and isinstance(chain, Chain):
            balance = chain.native_balance_wei(signer)
            needed = NEEDED_GAS * ((latest.base_fee_wei or 0) + chain.gas_price_wei())
            if balance < needed:
                problems.append(
                    f"{signer} holds {balance} wei; {needed} are needed for a batch of certificates: top it up"
                )
    except ChainError as fault:
        problems.append(f"chain: {fault}")
    lag, held, not_issued = 0, 0, 0
    with store.session() as session:
        for kind in VERSIONS:
            refused = (kind.state == DayState.NOTARIZED) & kind.reason.startswith("not issued:")
            oldest = session.scalar(select(func.min(kind.updated_at)).where(kind.state.in_(_ON_THE_WAY), ~refused))
            if oldest is not None:
                lag = max(lag, int((utc_now() - oldest).total_seconds()))
            held += session.scalar(select(func.count()).select_from(kind).where(kind.state == DayState.HELD)) or 0
            not_issued += session.scalar(select(func.count()).select_from(kind).where(refused)) or 0
        counted = session.execute(select(Act.state, func.count()).group_by(Act.state)).tuples()
        acts: dict[SagaState, int] = dict(counted.all())
    failed = acts.get(SagaState.FAILED, 0)
    waiting = sum(count for state, count in acts.items() if state not in (SagaState.FAILED, SagaState.FINAL))
    if lag > max_lag_seconds:
        problems.append(f"a device-day on its way to finality has not moved for {lag // 3600} h; run again, see gaps")
    if not_issued:
        problems.append(f"{not_issued} notarized device-days cannot be issued; gaps --state notarized says why")
    return Health(
        answers, head, head_time, final, lag, held, failed, not_issued, waiting, signer, balance, tuple(problems)
    )


class _Collector(Collector):
    """Looks at the oracle's health whenever Prometheus asks."""

    def __init__(self, store: Store, chain: ChainView, signer: str | None):
        self._store, self._chain, self._signer = store, chain, signer

    def collect(self) -> Iterator[Metric]:
        found = health(self._store, self._chain, self._signer)
        gauges = {
            "chain_answers": ("1 if a node answered and is of the right chain", int(found.chain_answers)),
            "head_block": ("Number of the last block", found.head_block),
            "head_time_seconds": ("Time of the last block, UTC seconds", found.head_time),
            "final_block": ("Number of the last final block, -1 while there is none", found.final_block),
            "lag_seconds": ("How long the device-day waiting longest has not moved", found.lag_seconds),
            "held_device_days": ("Device-days that wait for a review or for data", found.held),
            "failed_acts": ("Acts on the chain that failed", found.failed),
            "not_issued_device_days": ("Notarized device-days that the contract refuses to issue", found.not_issued),
            "waiting_acts": ("Acts on the chain on their way to finality", found.acts_waiting),
            "problems": ("What wants a hand; status says what", len(found.problems)),
        }
        if found.balance_wei is not None:
            gauges["signer_balance_wei"] = ("What the sending account holds", found.balance_wei)
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"wattmark_{name}", text, value=value)


def registry_of(store: Store, chain: ChainView, signer: str | None = None) -> CollectorRegistry:
    """Metrics of an oracle or witness; further counters may be registered beside them."""
    registry = CollectorRegistry()
    registry.register(_Collector(store, chain, signer))
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """The text that Prometheus reads (:data:`CONTENT_TYPE`)."""
    return generate_latest(registry)


def serve_metrics(listen: str, registry: CollectorRegistry) -> None:
    """Serve ``/metrics`` on ``listen`` (host:port) in a thread, until the process ends; CannotListen if it is taken."""
    host, _, port = listen.rpartition(":")
    try:
        start_http_server(int(port), addr=host, registry=registry)
    except OSError as fault:
        raise CannotListen(listen, fault, setting="metrics_listen") from None
