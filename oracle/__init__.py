"""Wattmark's oracle: from meter files to notarized, issued and checked energy certificates.

A library and a command line (``python -m oracle``). It talks to the chain through web3.py alone and
never imports the contract workshop (brownie) or the web app (flask).
"""

import sys

# py_ecc, which web3 and eth-account bring, lifts Python's recursion limit a hundredfold when it is first imported: then
# a hostile text of brackets, read as JSON, would end the process by a full stack instead of raising RecursionError.
_limit = min(sys.getrecursionlimit(), 3_000)
import py_ecc  # noqa: E402, F401

sys.setrecursionlimit(_limit)
