"""What the chain said, event by event, and what must hold of it whatever the model says."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from .model import AUTHORISED, FIRST_TRANSFERRED, ZERO, Authorisation, World

CERTIFICATE, OUTCOME = "EnergyCertificate", "MitigationOutcome"
BPS = 10_000


class InvariantBroken(AssertionError):
    """What must always hold does not, by the chain's own words."""


def always(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantBroken(what)


class Ledger:
    """Sums over the events since the deployment. Of the model only the clock and the published factors are read."""

    def __init__(self, world: World, history: Iterable[tuple]) -> None:
        self._world = world
        self.issued: Counter = Counter()
        self.issued_by_root: Counter = Counter()
        self.settled: Counter = Counter()
        self.consumed: Counter = Counter()
        self.approvals: set[tuple[str, str]] = set()
        self.retirements = {CERTIFICATE: 0, OUTCOME: 0}
        self.certified: dict[int, list[tuple[int, int]]] = {}
        #: Of each device (since, account): what is announced replaces what is planned, never what was in force.
        self.accounts: dict[int, list[tuple[int, str]]] = {}
        # Conversions and authorisations:
        self.converted: Counter = Counter()
        self.converted_by_authorisation: Counter = Counter()
        self.terms: dict[int, Authorisation] = {}
        self.states: dict[int, int] = {}
        self.cancelled: Counter = Counter()  # by outcome id: what the mitigation levy took
        self.credited: Counter = Counter()  # by outcome id and account: what conversions and shares come to
        self.minted: Counter = Counter()  # the same, of the outcomes that came into being
        self._levied: deque[tuple[str, int, int]] = deque()
        self.absorb(history)

    def absorb(self, logs: Iterable[tuple]) -> None:
        """Raises InvariantBroken where these events of one call, in order, say what must not be."""
        logs = tuple(logs)
        corrected = {values[0] for _, name, values in logs if name == "Corrected"}
        fresh = {values[0] for _, name, values in logs if name == "Issued"}
        fresh |= {values[2] for _, name, values in logs if name == "Converted"}
        for contract, name, values in logs:
            if name == "Issued":
                self._issue(*values[:4], corrected)
            elif name == "Settled":
                self.settled[values[0]] += values[2]
            elif name == "Consumed":
                self.consumed.update(dict_sum(values[1], values[2]))
            elif name == "ApprovalForAll":
                (self.approvals.add if values[2] else self.approvals.discard)((values[0], values[1]))
            elif name == "TransferSingle" and values[1] == ZERO:
                self._mint(contract, values[2], values[3:4], values[4:5], fresh)
            elif name == "TransferBatch" and values[1] == ZERO:
                self._mint(contract, *values[2:5], fresh)
            elif name in ("Retired", "RetiredBatch"):
                self.retirements[contract] += 1
                always(values[0] == self.retirements[contract], "retirements are numbered one after another")
                if contract == OUTCOME:
                    self._use(values[2] if name == "RetiredBatch" else (values[2],))
            elif name == "Observed":
                self._observe(values)
            elif name == "DeviceRegistered":
                self.accounts[values[0]] = [(0, values[1])]
            elif name == "AccountSet":
                self._set_account(*values)
            elif name == "Authorised":
                self.terms[values[0]] = Authorisation(*values[2])
                self.states[values[0]] = AUTHORISED
            elif name == "StateAdvanced":
                always(values[1] == self.states[values[0]] + 1, "states move one at a time")
                self.states[values[0]] = values[1]
            elif name == "Converted":
                self._convert(*values)
            elif name == "LeviesTaken":
                self._levy(*values)
        always(not self._levied, "levies are taken")
        always(self.minted == self.credited, "grams go to the converter and the share of proceeds")

    # -- certificates ---------------------------------------------------------------------------------------------

    def account_at(self, device_id: int, time: int) -> str:
        """Whose a statement that starts at `time` (Unix seconds) is."""
        return [account for since, account in self.accounts[device_id] if since <= time][-1]

    def _set_account(self, device_id: int, account: str, since: int) -> None:
        now = self._world.now
        kept = [entry for entry in self.accounts[device_id] if entry[0] <= now and entry[0] != since]
        self.accounts[device_id] = [*kept, (since, account)]

    def _issue(self, id_: int, root: bytes, account: str, energy_wh: int, corrected: set[int]) -> None:
        device_id, start, duration = parts_of(id_)
        always(account == self.account_at(device_id, start), "the account at the start is paid")
        if id_ not in self.issued:
            taken = self.certified.setdefault(device_id, [])
            for other, end in taken:
                always(start + duration <= other or end <= start, "a slot is certified once")
            taken.append((start, start + duration))
        else:
            always(id_ in corrected, "a slot is certified once")
        if id_ not in corrected:
            self.issued_by_root[root] += energy_wh
        self.issued[id_] += energy_wh

    def _mint(self, contract: str, to: str, ids: Sequence[int], amounts: Sequence[int], fresh: set[int]) -> None:
        """Of what is not `fresh`, issued or converted in this call, conservation speaks."""
        for id_, amount in zip(ids, amounts, strict=True):
            if id_ in fresh and contract == OUTCOME:
                self.minted[id_, to] += amount
            elif id_ in fresh:
                always(to == self.account_at(*parts_of(id_)[:2]), "the account at the start is paid")

    def _observe(self, values: tuple) -> None:
        """What must hold inside a callback too."""
        id_, _, _, issued_wh, notarized_wh, roomy, balances, retired = values
        always(issued_wh <= notarized_wh, "issued <= notarized, inside a callback")
        if roomy and id_ in self.converted:
            always(balances + retired <= self.converted[id_], "conservation, inside a callback")
        elif roomy:
            gone = self.consumed[id_] + self.settled[id_]
            always(balances + retired + gone <= self.issued[id_], "conservation, inside a callback")

    # -- outcomes -------------------------------------------------------------------------------------------------

    def _convert(self, account: str, _: int, outcome_id: int, amount_wh: int, co2e_g: int, rest: int) -> None:
        factor = self._world.factors.factors[outcome_id >> 224]
        always(amount_wh * factor.grams_per_mwh == co2e_g * 10**6 + rest and rest < 10**6, "grams by the factor")
        authorisation_id = authorisation_of(outcome_id)
        self.converted[outcome_id] += co2e_g
        self.converted_by_authorisation[authorisation_id] += co2e_g
        self.credited[outcome_id, account] += co2e_g
        if not authorisation_id:
            return
        terms, year = self.terms[authorisation_id], outcome_id >> 208 & 0xFFFF
        always(self.states[authorisation_id] == AUTHORISED, "converted while authorised")
        always(terms.first_year <= year <= terms.last_year, "converted as authorised")
        always(terms.country == (outcome_id >> 192 & 0xFFFF).to_bytes(2, "big"), "converted as authorised")
        always(self.converted_by_authorisation[authorisation_id] <= terms.cap_g, "authorised cap")
        if terms.proceeds_bps or terms.mitigation_bps:
            self._levied.append((account, outcome_id, co2e_g))

    def _levy(self, outcome_id: int, share_g: int, mitigation_g: int) -> None:
        """Both levies are rounded up, the second to what the first has left."""
        account, expected_id, co2e_g = self._levied.popleft()
        terms = self.terms[authorisation_of(outcome_id)]
        always(outcome_id == expected_id, "levies are taken")
        always(share_g == -(-co2e_g * terms.proceeds_bps // BPS), "levies are rounded up")
        always(mitigation_g == min(-(-co2e_g * terms.mitigation_bps // BPS), co2e_g - share_g), "levies are rounded up")
        self.cancelled[outcome_id] += mitigation_g
        self.credited[outcome_id, account] -= share_g + mitigation_g
        self.credited[outcome_id, terms.proceeds_account] += share_g

    def _use(self, ids: Iterable[int]) -> None:
        for authorisation_id in map(authorisation_of, ids):
            if authorisation_id:
                always(self.states[authorisation_id] >= FIRST_TRANSFERRED, "used after its first transfer")


def parts_of(certificate_id: int) -> tuple[int, int, int]:
    """Device, start and duration."""
    return certificate_id >> 192, certificate_id >> 152 & 2**40 - 1, certificate_id >> 120 & 2**32 - 1


def authorisation_of(outcome_id: int) -> int:
    return outcome_id >> 128 & 2**64 - 1


def dict_sum(keys: Sequence[int], values: Sequence[int]) -> Counter:
    total: Counter = Counter()
    for key, value in zip(keys, values, strict=True):
        total[key] += value
    return total
