"""The deployed system and its model side by side, both taken back to the start for every run of a machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from . import bed as beds
from . import model
from .bed import GAS, Bed, Inner, Outcome
from .encoding import Key

# A change of year lies in reach of the periods below, and so does a border of the daily slots' 128-slot words
# (2025-01-08 is day 20,096 = 157 · 128); hourly and 15-minute slots pass several.
NOW = int(datetime(2025, 1, 12, 6, 30, tzinfo=UTC).timestamp())
ACTIVE_FROM = int(datetime(2024, 12, 20, tzinfo=UTC).timestamp())
FIRST_PERIOD = int(datetime(2024, 12, 28, tzinfo=UTC).timestamp())
ADMIN_DELAY = 2 * model.DAY

# What a call that ran out of gas somewhere says.
OUT_OF_GAS = ("GasTooLow", "halt", "", "ERC1155InvalidReceiver")

DEPLOYER = "0x" + "d0" * 20
STRANGER = "0x" + "5e" * 20
ADAPTATION = "0x" + "ad" * 20
HOLDERS_OF_ROLES = tuple("0x" + f"{0xA0 + role:02x}" * 20 for role in range(7))
WITNESSES = tuple(sorted((Key.named(f"witness {i}") for i in range(6)), key=lambda key: key.address))
OWNERS = tuple(Key.named(name) for name in ("alice", "bob", "carol"))
KEYS = {key.address: key for key in OWNERS}
ALICE, BOB, CAROL = (key.address for key in OWNERS)
ZONES = ((b"10YDE-VE-------2", b"DE"), (b"10YES-REE------0", b"ES"))


def device(
    account: str,
    number: int,
    *,
    kind: int = model.GENERATION,
    visibility: int = model.PUBLIC,
    granularity: int = 3600,
    zone: int = 0,
) -> tuple:
    """A device with 40 kW that has been active since the start."""
    grid_zone, country = ZONES[zone]
    meter = b"meter" + number.to_bytes(27, "big")
    return (account, 40_000, kind, visibility, country, granularity, 1_040_100, 10_100, ACTIVE_FROM, model.NEVER,
            grid_zone, meter)  # fmt: skip


class System:
    """The contracts deployed, roles given, devices and factors recorded: where every run begins.

    Without `compares`, calls that the model predicts otherwise pass: what must hold has to show it by itself.
    """

    def __init__(self, artifacts: Mapping[str, dict] | None = None, compares: bool = True) -> None:
        self.bed = Bed(NOW)
        self.compares = True
        self.history: list[tuple] = []  # the events of the set-up
        self._deploy(artifacts or {name: beds.artifact(name) for name in beds.CONTRACTS})
        self.world = model.World(
            self.bed, NOW, DEPLOYER, [key.address for key in WITNESSES[:3]], 2, HOLDERS_OF_ROLES[model.ADMINISTRATOR]
        )
        self._add_receivers()
        self.accounts = (ALICE, BOB, CAROL, *self.receivers, ADAPTATION, self.bed.addresses["MitigationOutcome"])
        self.world.totals_of = self.accounts
        for name in ("Receiver1", "Receiver2"):
            self._tell(name, "setAccounts", self.accounts)
        self._set_up()
        self.compares = compares
        self._saved, self._snapshot = self.world.save(), self.bed.evm.snapshot()

    def reset(self) -> None:
        self.bed.evm.revert(self._snapshot)
        self._snapshot = self.bed.evm.snapshot()
        self.world.restore(self._saved)
        self.bed.set_time(self.world.now)

    # -- both sides of a call ------------------------------------------------------------------------------

    def call(self, caller: str, target: str, function: str, *arguments: Any, gas: int = GAS) -> Outcome:
        """Does the call on chain and in the model. Raises AssertionError where they differ."""
        may_starve = function == "issueMany"
        before = self.world.save() if may_starve else None
        prediction = self.world.call(caller, target, function, *arguments)
        outcome = self.bed.call(caller, target, function, *arguments, gas=gas)
        if not self.compares:
            return outcome
        if may_starve and not self._agree(prediction, outcome):
            prediction = self._starved(before, prediction, outcome, caller, target, function, arguments, gas)
        if not self._agree(prediction, outcome):
            raise AssertionError(self._difference(prediction, outcome, caller, target, function, arguments))
        return outcome

    def _starved(self, before: list, prediction: Any, outcome: Outcome, *call: Any) -> Any:
        """`issueMany` gives each contract account little gas, too little perhaps for what it does when it is called. So
        an item may fail, or what the account does; nothing else may differ. With little gas, the whole call may fail."""
        *act, arguments, gas = call
        if gas < GAS and not outcome.success and outcome.error[0] in OUT_OF_GAS:
            self.world.restore(before)
            return outcome
        armed = {receiver.name for receiver in before[-1]["receivers"].values() if receiver.armed}
        if not armed:
            return prediction
        starving = {values[0]: ("", ()) for _, name, values in outcome.logs if name == "SkippedRefused"}
        for contract, name, values in outcome.logs:
            if name == "Reentered" and contract in armed and not values[0] and values[1][0] in OUT_OF_GAS:
                starving[contract] = values[1]
        self.world.restore(before)
        self.world.starving = starving
        prediction = self.world.call(*act, *arguments)
        self.world.starving = {}
        return prediction

    @staticmethod
    def _agree(prediction: Any, outcome: Outcome) -> bool:
        result = () if prediction.result is None else prediction.result
        return (
            prediction.success == outcome.success
            and prediction.error == outcome.error
            and prediction.logs == outcome.logs
            and (not outcome.success or result == (() if outcome.result is None else outcome.result))
        )

    def _difference(self, prediction: Any, outcome: Outcome, *call: Any) -> str:
        lines = [f"the contracts differ from the model: {call}"]
        for field in ("success", "error", "result"):
            expected, found = getattr(prediction, field), getattr(outcome, field)
            if expected != found:
                lines.append(f"  {field}: expected {expected}, found {found}")
        if prediction.logs != outcome.logs:
            lines += [f"  expected log {log}" for log in prediction.logs if log not in outcome.logs]
            lines += [f"  found log {log}" for log in outcome.logs if log not in prediction.logs]
        return "\n".join(lines)

    # -- contract accounts ------------------------------------------------------------------------------------

    def _tell(self, name: str, function: str, *arguments: Any) -> None:
        outcome = self.bed.call(beds.EVERYBODY, name, function, *arguments)
        if not outcome.success:
            raise AssertionError(f"{name}.{function} reverts: {outcome.error}")

    def _change(self, address: str, **fields: Any) -> None:
        self.world.receivers[address] = self.world.receivers[address]._replace(**fields)

    def arm(self, address: str, call: Inner) -> None:
        """The account makes this call when tokens reach it next."""
        data = self.bed.calldata(*call)
        self._tell(self.bed.names[address], "arm", self.bed.addresses[call.target], data)
        self._change(address, armed=call)

    def set_mood(self, address: str, mood: int) -> None:
        self._tell(self.bed.names[address], "setMood", mood)
        self._change(address, mood=mood)

    def watch(self, address: str, root: bytes) -> None:
        self._tell(self.bed.names[address], "watch", root)
        self._change(address, watched=root)

    def sign_by_contract(self, address: str, digest: bytes) -> None:
        self._tell(self.bed.names[address], "sign", digest)
        self._change(address, signed=self.world.receivers[address].signed | {digest})

    def disarm(self, address: str) -> None:
        if self.world.receivers[address].armed:
            self._tell(self.bed.names[address], "arm", model.ZERO, b"")
            self._change(address, armed=None)

    def set_time(self, time: int) -> None:
        self.bed.set_time(time)
        self.world.now = time

    # -- deployment --------------------------------------------------------------------------------------------

    def _deploy(self, artifacts: Mapping[str, dict]) -> None:
        def put(name: str, types: Sequence[str], *arguments: Any, artifact: str = "") -> str:
            return self.bed.deploy(name, artifacts[artifact or name], types, arguments, DEPLOYER)

        signers = [key.address for key in WITNESSES[:3]]
        manager = put("AccessManager", ["address"], DEPLOYER)
        registry = put("DeviceRegistry", ["address"], manager)
        notary = put("Notary", ["address", "address[]", "uint8"], manager, signers, 2)
        certificate = put(
            "EnergyCertificate", ["address", "address", "address", "string"], manager, registry, notary, "c/"
        )
        factors = put("EmissionFactors", ["address"], manager)
        put("MitigationOutcome", ["address", "address", "address", "string"], manager, certificate, factors, "o/")
        # Another manager that an administrator may hand contracts to; it knows no role but the administrator's.
        put("OtherManager", ["address"], HOLDERS_OF_ROLES[model.ADMINISTRATOR], artifact="AccessManager")

    def _add_receivers(self) -> None:
        addresses = self.bed.addresses
        lens = self.bed.deploy("Lens", beds.actors()["Lens"], [], [], DEPLOYER)
        given = [lens, addresses["EnergyCertificate"], addresses["Notary"]]
        self.receivers = tuple(
            self.bed.deploy(name, beds.actors()["Receiver"], ["address"] * 3, given, DEPLOYER)
            for name in ("Receiver1", "Receiver2")
        )
        self.bed.forwarders.update(self.receivers)
        for address in self.receivers:
            self.world.receivers[address] = model.Receiver(self.bed.names[address])

    def _set_up(self) -> None:
        def do(caller: str, target: str, function: str, *arguments: Any) -> None:
            outcome = self.call(caller, target, function, *arguments)
            if not outcome.success:
                raise AssertionError(f"{target}.{function} reverts: {outcome.error}")
            self.history += outcome.logs

        addresses = self.bed.addresses
        for (target, function), role in model.MATRIX.items():
            selector = self.bed.abis[target].functions[function][0]
            do(DEPLOYER, "AccessManager", "setTargetFunctionRole", addresses[target], (selector,), role)
        for role, holder in enumerate(HOLDERS_OF_ROLES):
            delay = ADMIN_DELAY if role == model.ADMINISTRATOR else 0
            do(DEPLOYER, "AccessManager", "grantRole", role, holder, delay)
        do(DEPLOYER, "DeviceRegistry", "bindCertificate", addresses["EnergyCertificate"])
        do(DEPLOYER, "EnergyCertificate", "bindConverter", addresses["MitigationOutcome"])
        do(DEPLOYER, "AccessManager", "renounceRole", model.ADMINISTRATOR, DEPLOYER)

        registrar, publisher = HOLDERS_OF_ROLES[model.REGISTRAR], HOLDERS_OF_ROLES[model.PUBLISHER]
        first, second = self.receivers
        for number, given in enumerate(
            (
                device(ALICE, 1),
                device(BOB, 2, granularity=model.DAY),
                device(ALICE, 3, visibility=model.PRIVATE, zone=1),
                device(first, 4),
                device(second, 5, granularity=900, zone=1),
                device(CAROL, 6, kind=model.CONSUMPTION),
                device(first, 7, visibility=model.PRIVATE),
            ),
            start=1,
        ):
            do(registrar, "DeviceRegistry", "register", number, given)
        for (zone, _), year, grams_per_mwh in (
            (ZONES[0], 2024, 363_400),
            (ZONES[0], 2025, 344_123),
            (ZONES[1], 2025, 111_000),
        ):
            source = model.keccak(zone + bytes([year - 2000]))
            do(publisher, "EmissionFactors", "publish", zone, year, grams_per_mwh, False, source, "national inventory")


# -- counts ------------------------------------------------------------------------------------------------------


class Histogram:
    """How often each rule's calls succeeded, and with which errors they were refused."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Counter] = {}

    def count(self, machine: str, rule: str, outcome: Outcome) -> None:
        what = "success" if outcome.success else outcome.error[0] or "empty revert"
        self.counts.setdefault((machine, rule), Counter())[what] += 1

    def forget(self, machine: str) -> None:
        for key in [key for key in self.counts if key[0] == machine]:
            del self.counts[key]

    def rows(self, machine: str | None = None) -> list[tuple[str, str, int, int, Counter]]:
        """(machine, rule, calls, successes, errors) in order."""
        return [
            (
                name,
                rule,
                counter.total(),
                counter["success"],
                Counter({k: v for k, v in counter.items() if k != "success"}),
            )
            for (name, rule), counter in sorted(self.counts.items())
            if machine in (None, name)
        ]


HISTOGRAM = Histogram()
