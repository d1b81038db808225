"""What the wallet script says, and the contracts' refusals in words. %(field)s is an argument of the error."""

from __future__ import annotations

from flask_babel import lazy_gettext

#: Errors that an act of a visitor's wallet can meet, by name. Any other is shown by its name and its arguments.
ERRORS = {
    "AmountZero": lazy_gettext("An amount of 0 cannot be moved or retired."),
    "LengthsDiffer": lazy_gettext("There are %(ids)s certificates but %(amounts)s amounts."),
    "DetailsInvalid": lazy_gettext("The details of the retirement are not complete: %(field)s."),
    "SignatureInvalid": lazy_gettext(
        "The signature does not fit: it was used already, or another account than %(account)s signed."
    ),
    "SignatureExpired": lazy_gettext("The signature was valid until %(deadline)s and it is %(time)s now. Sign again."),
    "InvalidAccountNonce": lazy_gettext("This signature was used already."),
    "ERC1155InsufficientBalance": lazy_gettext(
        "%(sender)s holds %(balance)s of %(tokenId)s, and %(needed)s are needed."
    ),
    "ERC1155MissingApprovalForAll": lazy_gettext("%(owner)s does not allow %(operator)s to move its certificates."),
    "ERC1155InvalidReceiver": lazy_gettext(
        "%(receiver)s cannot receive certificates: it is the zero address, or a contract that does not take them."
    ),
    "ERC1155InvalidOperator": lazy_gettext("The zero address cannot be given an allowance."),
    "NothingToConvert": lazy_gettext("There is nothing to convert."),
    "NothingToIssue": lazy_gettext("There is nothing to issue."),
    "FactorMissing": lazy_gettext("No emission factor is published for grid zone %(gridZone)s in %(year)s."),
    "AuthorisationUnknown": lazy_gettext("There is no authorisation %(authorisationId)s."),
    "AuthorisationNotOpen": lazy_gettext("Authorisation %(authorisationId)s is not open for conversions any more."),
    "AuthorisationDoesNotCover": lazy_gettext(
        "Authorisation %(authorisationId)s does not cover %(country)s in %(year)s."
    ),
    "AuthorisationCapExceeded": lazy_gettext(
        "Authorisation %(authorisationId)s allows %(capG)s in all; this would make it %(convertedG)s."
    ),
    "NotFirstTransferred": lazy_gettext(
        "The first transfer of authorisation %(authorisationId)s is not recorded yet, so its outcomes cannot be retired."
    ),
    "RootNotIssuable": lazy_gettext("Nothing is issued from batch %(root)s: it is not final, or it was revoked."),
    "ProofInvalid": lazy_gettext("The proof does not lead to batch %(root)s."),
    "MerkleProofInvalidMultiproof": lazy_gettext("The proof does not lead to the batch."),
    "SlotAlreadyCertified": lazy_gettext("Device %(deviceId)s is certified already for the time from %(start)s."),
    "NotEntitled": lazy_gettext("Certificates of device %(deviceId)s belong to %(account)s, not to %(caller)s."),
    "EnergyAboveCapacity": lazy_gettext("Device %(deviceId)s cannot have made %(energyWh)s: at most %(limitWh)s."),
    "PeriodOutsideActivity": lazy_gettext("Device %(deviceId)s was not active from %(start)s to %(end)s."),
    "PeriodNotEnded": lazy_gettext("The period ends at %(end)s and it is %(time)s now."),
    "BatchExhausted": lazy_gettext("All that batch %(root)s notarized is issued already."),
    "DeviceUnknown": lazy_gettext("Device %(deviceId)s is not registered."),
    "Paused": lazy_gettext("Issuing is paused. Transfers and retirements go on."),
    "GasTooLow": lazy_gettext("The transaction needs more gas: %(needed)s."),
}

#: Fields that DetailsInvalid names.
FIELDS = {
    "beneficiary": lazy_gettext("for whom"),
    "purpose": lazy_gettext("purpose"),
    "consumptionStart": lazy_gettext("the period of consumption begins after its end"),
}

WORDS = {
    # finding and connecting a wallet
    "connected": lazy_gettext("Connected"),
    "connect": lazy_gettext("Connect a wallet"),
    "otherWallet": lazy_gettext("Another wallet"),
    "browserWallet": lazy_gettext("Wallet of this browser"),
    "wrongChain": lazy_gettext("The wallet is on another chain. Nothing is sent until it is on %(chain)s."),
    "chainRefused": lazy_gettext("The wallet did not change to %(chain)s, so nothing was sent."),
    "noRpc": lazy_gettext("The wallet does not know %(chain)s. Add it there by hand, with an RPC address of your own."),
    "otherAccount": lazy_gettext("The wallet uses another account than the one shown here."),
    "locked": lazy_gettext("The wallet shows no account. Unlock it and try again."),
    "pending": lazy_gettext("The wallet is waiting for your answer already: open it."),
    # refusals
    "rejected": lazy_gettext("You said no in the wallet. Nothing was sent."),
    "refuses": lazy_gettext("The contract refuses: %(reason)s"),
    "walletSays": lazy_gettext("The wallet says: %(reason)s"),
    "noFunds": lazy_gettext("The account holds %(balance)s %(currency)s; the fee may come to %(fee)s %(currency)s."),
    "noFundsRelay": lazy_gettext("Choose “Without a fee” to let the relay pay."),
    "unknownReason": lazy_gettext("no reason given"),
    "badAmount": lazy_gettext("Write an amount above 0 with up to three decimals."),
    "tooMuch": lazy_gettext("You hold %(held)s %(unit)s of this."),
    "badAddress": lazy_gettext("This is not an address: 0x and 40 hex digits, capitals as they were given."),
    "ownAddress": lazy_gettext("This is the account it lies in already."),
    "contractAddress": lazy_gettext("This is one of the contracts themselves; certificates sent there would be lost."),
    "badCountry": lazy_gettext("A country has two letters, such as ES."),
    "badDates": lazy_gettext("The first day must not lie after the last."),
    "needPurpose": lazy_gettext("Say what it is retired for."),
    "needBeneficiary": lazy_gettext("Say for whom: a name, an address, or both."),
    "nothingChosen": lazy_gettext("Choose at least one row first."),
    "notEnough": lazy_gettext("Only %(held)s kWh fit this choice."),
    "noneFits": lazy_gettext("No certificate held fits this choice."),
    "notRetirable": lazy_gettext("An outcome among these cannot be retired yet: its first transfer is not recorded."),
    "loadFailed": lazy_gettext("The site does not answer. Try again."),
    "noHash": lazy_gettext("The wallet named no transaction. Look there whether it was sent before you try again."),
    # what is about to be done
    "transfer": lazy_gettext("Transfer"),
    "retire": lazy_gettext("Retire"),
    "convert": lazy_gettext("Convert"),
    "issue": lazy_gettext("Issue"),
    "allow": lazy_gettext("Allow"),
    "revoke": lazy_gettext("Take back"),
    "signInWallet": lazy_gettext("Go on in the wallet"),
    "signMessage": lazy_gettext("Sign in the wallet, without a fee"),
    "simulating": lazy_gettext("Trying it out on the chain…"),
    "waitingForWallet": lazy_gettext("Answer in your wallet…"),
    "handingOver": lazy_gettext("Handing it to the relay…"),
    "total": lazy_gettext("Total"),
    "certificates": lazy_gettext("Certificate"),
    "outcomes": lazy_gettext("Outcome"),
    "statements": lazy_gettext("Statement"),
    "inWallet": lazy_gettext("In the wallet"),
    "to": lazy_gettext("To"),
    "forWhom": lazy_gettext("For"),
    "purpose": lazy_gettext("Purpose"),
    "place": lazy_gettext("Place"),
    "consumed": lazy_gettext("Consumed"),
    "contract": lazy_gettext("Contract"),
    "function": lazy_gettext("Function"),
    "fee": lazy_gettext("Fee, about"),
    "feeNone": lazy_gettext("None for you: the relay pays."),
    "youGet": lazy_gettext("You get"),
    "operator": lazy_gettext("Operator"),
    "outcomeFrom": lazy_gettext("of mitigation outcomes"),
    "cannotUndo": lazy_gettext("A retirement cannot be undone, by anybody."),
    "publicForEver": lazy_gettext("This name will be public for ever: “%(name)s”."),
    "publicTexts": lazy_gettext("Purpose, place and period will be public for ever too."),
    "convertUndo": lazy_gettext("A conversion cannot be undone: the certificates are used up."),
    "estimateOnly": lazy_gettext("Without an authorisation the result is an avoided-emission estimate and says so."),
    "transferUndo": lazy_gettext("Only the receiver can send it back."),
    "allowAll": lazy_gettext("The operator can move everything you hold of this contract until you take this back."),
    "rawUnits": lazy_gettext("Wallets show whole Wh: %(raw)s is %(kwh)s kWh."),
    "rawGrams": lazy_gettext("Wallets show whole grams: %(raw)s is %(kwh)s kg CO₂e."),
    # what became of it
    "sent": lazy_gettext("Sent, waiting for a block"),
    "relayed": lazy_gettext("Signed, the relay sends it"),
    "mined": lazy_gettext("In block %(block)s, not final yet"),
    "final": lazy_gettext("Final, in block %(block)s"),
    "reverted": lazy_gettext("It failed on the chain: %(reason)s"),
    "sped": lazy_gettext("The wallet sent it again with another fee; the new transaction is followed."),
    "replaced": lazy_gettext("Another transaction of the wallet took its place. This one did not happen."),
    "cancelled": lazy_gettext("It was cancelled in the wallet and did not happen."),
    "dropped": lazy_gettext("The node no longer knows it, so it will not happen unless the wallet sends it again."),
    "unsure": lazy_gettext("Signed; the relay does not answer, and may send it all the same. Do not sign again before its fate shows here."),
    "relayUnknown": lazy_gettext("it never arrived there; nothing was retired"),
    "relayFailed": lazy_gettext("The relay could not send it: %(reason)s"),
    "transaction": lazy_gettext("Transaction"),
    "forget": lazy_gettext("Remove from this list"),
    "watched": lazy_gettext("The wallet shows it now."),
    "notWatched": lazy_gettext("The wallet did not take it. Few wallets can show certificates yet."),
    # the relay's answers
    "relay:busy": lazy_gettext("An earlier retirement of this account is still under way. Wait for it."),
    "relay:account-limit": lazy_gettext("This account has had its free retirements of this hour. Retire from the wallet, or wait."),
    "relay:hour-limit": lazy_gettext("The relay has sent all it may this hour. Retire from the wallet, or wait."),
    "relay:slow-down": lazy_gettext("Too many requests. Wait a minute."),
    "relay:expired": lazy_gettext("The signature is no longer valid. Sign again."),
    "relay:fees": lazy_gettext("The chain asks for more at this moment than the relay pays. Retire from the wallet, or wait."),
    "relay:empty": lazy_gettext("The relay has no money left. Retire from the wallet."),
    "relay:too-many": lazy_gettext("These are too many certificates for one signature. Choose fewer."),
    "relay:too-dear": lazy_gettext("This costs more than the relay pays. Choose fewer certificates."),
    "relay:unreachable": lazy_gettext("The chain cannot be reached at this moment. Nothing was sent."),
}  # fmt: skip
