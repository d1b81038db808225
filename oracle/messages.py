"""What coordinator and witness say to each other: one model each, which checks a message and describes it as JSON Schema.

docs/witness.md tells what they mean. A message that does not fit is refused with the place of the first fault; numbers
are JSON integers, never texts, and unknown fields are no message of ours.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints, TypeAdapter, ValidationError

from .domain import Batch, BatchKind
from .errors import OracleError

Bytes32 = Annotated[str, StringConstraints(pattern="^0x[0-9a-f]{64}$")]
Address = Annotated[str, StringConstraints(pattern="^0x[0-9a-fA-F]{40}$")]
Signature = Annotated[str, StringConstraints(pattern="^0x[0-9a-fA-F]{130}$")]
UInt16 = Annotated[int, Field(ge=0, lt=1 << 16)]
UInt32 = Annotated[int, Field(ge=0, lt=1 << 32)]
UInt40 = Annotated[int, Field(ge=0, lt=1 << 40)]
UInt64 = Annotated[int, Field(ge=0, lt=1 << 64)]
#: A device id and the start of a period, UTC seconds. (JSON has no tuples: a list will do.)
DevicePeriod = Annotated[tuple[UInt64, UInt40], Strict(False)]
#: Device id, start, version and leaf.
StatementLeaf = Annotated[tuple[UInt64, UInt40, UInt32, Bytes32], Strict(False)]


class Malformed(OracleError):
    """A message is not what docs/witness.md describes."""


class Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def parse(cls, message: Any) -> Self:
        """From JSON values; Malformed names the first field that does not fit."""
        try:
            return cls.model_validate(message)
        except ValidationError as fault:
            raise Malformed(_first(fault)) from None

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


class BatchMessage(Message):
    """The parameters of a batch; what the Notary takes."""

    kind: Annotated[int, Field(ge=1, le=2)]
    signerEpoch: UInt16
    head: Bytes32
    root: Bytes32
    start: UInt40
    end: UInt40
    statements: UInt32
    energyWh: UInt64
    archiveHash: Bytes32
    deadline: UInt40

    @classmethod
    def of(cls, batch: Batch) -> BatchMessage:
        return cls(
            kind=int(batch.kind),
            signerEpoch=batch.signer_epoch,
            head=_hex(batch.head),
            root=_hex(batch.root),
            start=batch.start,
            end=batch.end,
            statements=batch.statements,
            energyWh=batch.energy_wh,
            archiveHash=_hex(batch.archive_hash),
            deadline=batch.deadline,
        )

    def batch(self) -> Batch:
        return Batch(
            BatchKind(self.kind),
            self.signerEpoch,
            bytes.fromhex(self.head[2:]),
            bytes.fromhex(self.root[2:]),
            self.start,
            self.end,
            self.statements,
            self.energyWh,
            bytes.fromhex(self.archiveHash[2:]),
            self.deadline,
        )


class ProposalMessage(Message):
    """A batch to be signed, the chain and Notary where it is to count, its archive's manifest.

    ``assessments``: those of the statements in the archive's order, sent only to a witness whose own figures differ.
    """

    schema_name: Literal["wattmark/proposal/1"] = Field(default="wattmark/proposal/1", alias="schema")
    chainId: UInt64
    notary: Address
    batch: BatchMessage
    manifest: dict[str, Any]
    assessments: list[str] | None = None


class SignAnswer(Message):
    """The witness signs."""

    schema_name: Literal["wattmark/answer/1"] = Field(default="wattmark/answer/1", alias="schema")
    root: Bytes32
    decision: Literal["sign"] = "sign"
    signer: Address
    signature: Signature


class RefuseAnswer(Message):
    """The witness does not sign; ``code`` is for machines, ``deviceDays`` is what it is about."""

    schema_name: Literal["wattmark/answer/1"] = Field(default="wattmark/answer/1", alias="schema")
    root: Bytes32
    decision: Literal["refuse"] = "refuse"
    code: Annotated[str, StringConstraints(max_length=40)]
    reason: str
    deviceDays: list[DevicePeriod] = []


class DifferencesMessage(Message):
    """Asks which of these statements the witness has otherwise."""

    schema_name: Literal["wattmark/differences/1"] = Field(default="wattmark/differences/1", alias="schema")
    proposal: ProposalMessage
    statements: list[StatementLeaf]


class Difference(Message):
    """A statement that differs: the witness's leaf and the coordinator's, null where one has none."""

    deviceId: UInt64
    start: UInt40
    ours: Bytes32 | None
    theirs: Bytes32 | None


class DifferencesAnswer(Message):
    schema_name: Literal["wattmark/answer/1"] = Field(default="wattmark/answer/1", alias="schema")
    root: Bytes32
    deviceDays: list[Difference]


class ErrorAnswer(Message):
    """Anything but 200."""

    error: str


Answer = Annotated[SignAnswer | RefuseAnswer, Field(discriminator="decision")]
_ANSWER: TypeAdapter[SignAnswer | RefuseAnswer] = TypeAdapter(Answer)


def parse_answer(message: Any) -> SignAnswer | RefuseAnswer:
    """An answer to a proposal; Malformed names the first field that does not fit."""
    try:
        return _ANSWER.validate_python(message)
    except ValidationError as fault:
        raise Malformed(_first(fault)) from None


def json_schemas() -> dict[str, Any]:
    """JSON Schema (2020-12) of every message, by its name."""
    kinds: dict[str, type[Message]] = {
        "proposal": ProposalMessage,
        "differences": DifferencesMessage,
        "differencesAnswer": DifferencesAnswer,
        "error": ErrorAnswer,
    }
    schemas = {name: kind.model_json_schema(by_alias=True) for name, kind in kinds.items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schemas, "answer": _ANSWER.json_schema()}


def _first(fault: ValidationError) -> str:
    one = fault.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in one["loc"]) or "the message"
    return f"{where[:200]}: {one['msg'][:200]}"


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
