"""Who may call what: the one table of roles, as data. docs/roles.md says the same in words.

`./run deploy` sets it up on the AccessManager and `./run deploy --check` compares it with the chain. Functions
that are not listed are open to everybody, or bound to a contract (`consume`, `issueItem`), and cannot be
closed by anyone. Nothing here imports brownie.
"""

from __future__ import annotations

from dataclasses import dataclass

ADMIN_DELAY_SECONDS = 2 * 86_400


@dataclass(frozen=True)
class Role:
    """A role of the AccessManager.

    ``id`` as on chain (0 is the AccessManager's own administrator), ``name`` and ``variable``: the label and
    the environment variable that names the holder; ``delayed`` if its calls wait for the administration delay;
    ``functions``: signatures by contract.
    """

    id: int
    name: str
    variable: str
    delayed: bool
    functions: dict[str, tuple[str, ...]]


ROLES = (
    Role(
        0,
        "administrator",
        "WATTMARK_ADMIN",
        True,
        {
            "DeviceRegistry": ("bindCertificate(address)",),
            "Notary": ("setSigners(address[],uint8)", "unpause()"),
            "EnergyCertificate": ("bindConverter(address)", "unpause()"),
        },
    ),
    Role(
        1,
        "registrar",
        "WATTMARK_REGISTRAR",
        False,
        {
            "DeviceRegistry": (
                "register(uint64,(address,uint56,uint8,uint8,bytes2,uint32,uint32,uint32,uint40,uint40,bytes16,bytes32))",
                "setAccount(uint64,address,uint40)",
                "setCapacity(uint64,uint56,uint40)",
                "deactivate(uint64,uint40)",
            )
        },
    ),
    Role(
        2,
        "factor publisher",
        "WATTMARK_FACTOR_PUBLISHER",
        False,
        {
            "EmissionFactors": (
                "publish(bytes16,uint16,uint56,bool,bytes32,string)",
                "supersede(uint32,uint56,bool,bytes32,string)",
            )
        },
    ),
    Role(
        3,
        "guardian",
        "WATTMARK_GUARDIAN",
        False,
        {
            "Notary": ("pause()", "revoke(bytes32,string)", "removeSigner(address,string)"),
            "EnergyCertificate": ("pause()",),
        },
    ),
    Role(
        4,
        "authoriser",
        "WATTMARK_AUTHORISER",
        False,
        {
            "MitigationOutcome": (
                "authorise(uint64,(bytes2,uint16,uint16,uint8,uint16,uint16,uint8,uint64,uint64,address,bytes32,string))",
            )
        },
    ),
    Role(
        5,
        "transfer recorder",
        "WATTMARK_TRANSFER_RECORDER",
        False,
        {"MitigationOutcome": ("recordFirstTransfer(uint64,bytes32)",)},
    ),
    Role(
        6,
        "adjustment recorder",
        "WATTMARK_ADJUSTMENT_RECORDER",
        False,
        {
            "MitigationOutcome": (
                "recordAdjustmentPending(uint64,bytes32)",
                "recordAdjustment(uint64,bytes32)",
            )
        },
    ),
    # Calls nothing: the label says whose decisions on held days the operators' pages take.
    Role(7, "reviewer", "WATTMARK_REVIEWER", False, {}),
)
ADMINISTRATOR = ROLES[0]
