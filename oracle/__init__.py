"""Wattmark's oracle: from meter files to notarized, issued and checked energy certificates.

A library and a command line (``python -m oracle``). It talks to the chain through web3.py alone and
never imports the contract workshop (brownie) or the web app (flask).
"""
