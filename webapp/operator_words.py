"""What the operators' script says, and the refusals that their acts can meet. %(field)s is an argument of the error."""

from __future__ import annotations

from flask_babel import lazy_gettext

from . import wallet_words
from .words import ACTS

#: Errors by name; those of buyers' acts are in :mod:`webapp.wallet_words`.
ERRORS = {
    "AccessManagedUnauthorized": lazy_gettext("%(caller)s may not do this: the access manager gives it no role for it."),
    "AccessManagerUnauthorizedAccount": lazy_gettext("%(msgsender)s may not do this: it lacks role %(roleId)s."),
    "AccessManagerUnauthorizedCall": lazy_gettext("%(caller)s may not do this: the access manager gives it no role for it."),
    "AccessManagerAlreadyScheduled": lazy_gettext("This very act is planned already."),
    "AccessManagerNotScheduled": lazy_gettext("This act has to be planned first, and then waits."),
    "AccessManagerNotReady": lazy_gettext("This act is planned and still has to wait."),
    "AccessManagerExpired": lazy_gettext("This act was planned too long ago. Plan it again."),
    "DeviceAlreadyRegistered": lazy_gettext("There is a device %(deviceId)s already. Choose another number."),
    "DeviceFieldInvalid": lazy_gettext("The registry refuses the field %(field)s."),
    "MeterInUse": lazy_gettext("Device %(deviceId)s has this meter and has not ended."),
    "DeviceInDebt": lazy_gettext("Device %(deviceId)s still owes %(debtWh)s."),
    "FactorInvalid": lazy_gettext("The contract refuses the field %(field)s."),
    "FactorAlreadyPublished": lazy_gettext(
        "Grid zone %(gridZone)s has factor %(factorId)s for %(year)s already. Supersede that one instead."
    ),
    "FactorNotCurrent": lazy_gettext("Factor %(factorId)s was superseded by %(supersededBy)s already."),
    "FactorUnknown": lazy_gettext("There is no factor %(factorId)s."),
    "SignerSetInvalid": lazy_gettext("%(signers)s witnesses with a threshold of %(threshold)s cannot be."),
    "NotOnGrid": lazy_gettext("%(time)s is not on the grid of device %(deviceId)s: every %(granularity)s s from 0:00 UTC."),
    "ChangeInThePast": lazy_gettext("%(time)s is too early for device %(deviceId)s: from %(earliest)s on."),
    "DeviceInactive": lazy_gettext("Device %(deviceId)s ends at %(activeUntil)s."),
    "RootNotNotarized": lazy_gettext("Batch %(root)s is not notarized."),
    "RootAlreadyRevoked": lazy_gettext("Batch %(root)s is revoked already."),
    "SignerNotAuthorised": lazy_gettext("%(signer)s is no witness of epoch %(epoch)s."),
    "AuthorisationAlreadyExists": lazy_gettext("There is an authorisation %(authorisationId)s already."),
    "AuthorisationInvalid": lazy_gettext("The contract refuses the field %(field)s."),
    "StateDoesNotFollow": lazy_gettext(
        "Authorised, first transferred, adjustment pending, adjusted: these follow one another. Authorisation %(authorisationId)s is at step %(current)s of 4, so step %(given)s cannot come next."
    ),
    "NotPaused": lazy_gettext("It is not stopped."),
    "Paused": lazy_gettext("It is stopped already."),
}  # fmt: skip

FIELDS = {
    "deviceId": lazy_gettext("device number"),
    "account": lazy_gettext("account"),
    "capacityW": lazy_gettext("capacity"),
    "country": lazy_gettext("country"),
    "gridZone": lazy_gettext("grid zone"),
    "meterHash": lazy_gettext("meter"),
    "granularity": lazy_gettext("granularity"),
    "activeFrom": lazy_gettext("active from"),
    "year": lazy_gettext("year"),
}

_SHARED = (
    "browserWallet", "chainRefused", "noRpc", "otherAccount", "locked", "rejected", "pending", "refuses", "walletSays",
    "unknownReason", "loadFailed", "noFunds", "noHash", "badAddress", "badAmount", "badCountry", "simulating", "waitingForWallet", "contract", "function", "fee", "sent",
    "relayed", "mined", "final", "reverted", "sped", "replaced", "cancelled", "dropped", "transaction",
)  # fmt: skip
#: Acts that are offered by the name that lists of transactions give them.
_LISTED = (
    "setAccount", "setCapacity", "deactivate", "setSigners", "removeSigner", "revoke", "pause", "unpause", "authorise",
    "recordFirstTransfer", "recordAdjustmentPending", "recordAdjustment", "grantRole", "revokeRole", "schedule", "execute",
    "cancel",
)  # fmt: skip
WORDS = {key: wallet_words.WORDS[key] for key in _SHARED} | {key: ACTS[key] for key in _LISTED} | {
    # signing in
    "signing": lazy_gettext("Sign the message in your wallet…"),
    "signInRejected": lazy_gettext("You refused the signature in the wallet. Nobody was signed in."),
    "cannotSign": lazy_gettext("This wallet cannot sign messages: %(reason)s"),
    # documents
    "hashing": lazy_gettext("Hashing the file in this browser…"),
    "hashed": lazy_gettext("%(name)s was hashed in this browser; the file itself was not sent."),
    # what is about to be done
    "register": lazy_gettext("Register device"),
    "publish": lazy_gettext("Publish factor"),
    "supersede": lazy_gettext("Supersede factor"),
    "planned": lazy_gettext("Planned: %(what)s"),
    "executed": lazy_gettext("Executed: %(what)s"),
    "calldata": lazy_gettext("Calldata"),
    "from": lazy_gettext("From"),
    "delayed": lazy_gettext(
        "Acts of this role wait %(delay)s. Now it is planned, for everybody to see. From %(when)s on it can be executed on this page, for %(lifetime)s; until then it can be cancelled."
    ),
    "readyNow": lazy_gettext("This act was planned and has waited long enough: now it is executed."),
    "stillWaits": lazy_gettext("This very act is planned already and can be executed from %(when)s on."),
    "notYours": lazy_gettext(
        "The access manager lets your account do no such thing. Nothing can be sent from here by it."
    ),
    "forContract": lazy_gettext(
        "%(holder)s may do this, a contract wallet. Load the file into the Transaction Builder of its Safe, or give the calldata to its owners."
    ),
    "safeName": lazy_gettext("Wattmark: %(what)s"),
    "seconds": lazy_gettext("%(number)s s"),
    "hoursLong": lazy_gettext("%(number)s h"),
    "daysLong": lazy_gettext("%(number)s d"),
    # forms
    "badNumber": lazy_gettext("Write a whole number above 0."),
    "badZone": lazy_gettext("1 to 16 letters, digits or signs without spaces, such as RMPA."),
    "badYear": lazy_gettext("A year from 1900 to 2100."),
    "needSource": lazy_gettext("Say where the figure is from, and choose the document."),
    "needText": lazy_gettext("A text is missing: say it in words, for the chain keeps it."),
    "needDay": lazy_gettext("Choose the day from which it holds."),
    "badHash": lazy_gettext("A hash or root has 0x and 64 hex digits; choosing a document fills in its own."),
    "badPercent": lazy_gettext("Per cent from 0 to 100 with up to two decimals, both together at most 100."),
    "needPurposes": lazy_gettext("Choose at least one purpose."),
    "badSigners": lazy_gettext("One address in each line, each once, and a threshold from 1 to their number."),
    "factorSays": lazy_gettext("%(grams)s g CO₂e per MWh: a kWh avoids %(perKwh)s g, a MWh %(perMwh)s kg."),
    "factorOdd": lazy_gettext(
        "That is more than coal gives off. Is the figure in g per MWh? 700 g per kWh are 700,000 g per MWh."
    ),
    "factorLow": lazy_gettext("That is less than 1 g per kWh. Is the figure in g per MWh? 700 g per kWh are 700,000 g per MWh."),
    "publicForGood": lazy_gettext("What is published stays on the chain for ever; a wrong factor can only be superseded."),
    "revokeForGood": lazy_gettext("A batch that is revoked can never be brought back. Nothing more is issued from it; what is issued stays with its holders."),
    "deactivateForGood": lazy_gettext("A device's end can be moved nearer, never further away."),
    "removeSignerSays": lazy_gettext("Its signatures stop counting at once; the threshold stays. Where too few are left, nothing is notarized until the administrator sets new witnesses."),
    "authoriseForGood": lazy_gettext("An authorisation can never be changed or taken back here."),
    "registerForGood": lazy_gettext("Meter, zone, country and technology of a device can never be changed."),
}  # fmt: skip
