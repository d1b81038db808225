"""A browser wallet for tests: an EIP-6963 provider in the page; keys, signing and chains here. Every signature is real."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import requests
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

ANNOUNCED = """(() => {
  const heard = {}
  const tell = (name, value) => (heard[name] ?? []).forEach(listener => listener(value))
  const provider = {
    request: async ({ method, params }) => {
      const answer = JSON.parse(await window.__wallet(JSON.stringify({ method, params: params ?? [] })))
      for (const event of answer.told ?? []) tell(...event)
      if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error)
      return answer.result
    },
    on: (name, listener) => { (heard[name] ??= []).push(listener) },
    removeListener: (name, listener) => { heard[name] = (heard[name] ?? []).filter(other => other !== listener) },
  }
  window.__tell = tell
  const ANNOUNCE
})()"""
EIP6963 = """info = Object.freeze({ uuid: crypto.randomUUID(), name: 'Test Wallet', rdns: 'org.example.testwallet', icon: 'data:image/svg+xml,%3Csvg xmlns="http://www.w3.org/2000/svg"/%3E' })
  const announce = () => window.dispatchEvent(new CustomEvent('eip6963:announceProvider', { detail: Object.freeze({ info, provider }) }))
  window.addEventListener('eip6963:requestProvider', announce)
  announce()"""
INJECTED = "old = window.ethereum = provider"


class WalletError(Exception):
    """What a wallet throws: EIP-1193 ``code`` and, from the node, ``data``."""

    def __init__(self, code: int, message: str, data: Any = None):
        self.code, self.message, self.data = code, message, data


class Wallet:
    """``key`` signs; ``known`` are the chains it knows. ``refused`` methods are answered as by a person who says no.

    ``log`` holds every ``(method, params)`` asked. ``before`` runs once ahead of a method, as what its owner does meanwhile;
    ``lies`` are answers that are not true. ``wrap`` hides the node's errors as deep as MetaMask does.
    """

    def __init__(self, rpc_url: str, key: Any, chain_id: int, *, known: tuple[int, ...] = (), wrap: bool = True):
        self.url, self.account, self.chain_id = rpc_url, Account.from_key(key), chain_id
        self.known = {chain_id, *known}
        self.refused: set[str] = set()
        self.log: list[tuple[str, list[Any]]] = []
        self.before: dict[str, Callable[[], None]] = {}
        self.lies: dict[str, Any] = {}
        self.wrap, self.fee_wei = wrap, None
        self._session = requests.Session()
        self._session.trust_env = False

    def install(self, context: Any, *, announced: bool = True) -> None:
        context.expose_function("__wallet", self._answer)
        context.add_init_script(ANNOUNCED.replace("ANNOUNCE", EIP6963 if announced else INJECTED))

    def asked(self, method: str) -> list[list[Any]]:
        return [params for name, params in self.log if name == method]

    def rpc(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = self._session.post(self.url, json=body, timeout=20).json()
        if "error" in answer:
            error = answer["error"]
            if self.wrap:
                raise WalletError(-32603, "Internal JSON-RPC error.", {"originalError": error})
            raise WalletError(error["code"], error["message"], error.get("data"))
        return answer["result"]

    def _answer(self, raw: str) -> str:
        asked = json.loads(raw)
        method, params = asked["method"], asked["params"]
        self.log.append((method, params))
        chain, account = self.chain_id, self.account
        if method in self.before:
            self.before.pop(method)()
        try:
            if method in self.refused:
                raise WalletError(4001, "User rejected the request.")
            answer: dict[str, Any] = {"result": self.lies[method] if method in self.lies else self._do(method, params)}
        except WalletError as fault:
            answer = {"error": {"code": fault.code, "message": fault.message, "data": fault.data}}
        answer["told"] = [["chainChanged", hex(self.chain_id)]] if self.chain_id != chain else []
        answer["told"] += [["accountsChanged", [self.account.address.lower()]]] if self.account != account else []
        return json.dumps(answer)

    def _do(self, method: str, params: list[Any]) -> Any:
        if method in ("eth_requestAccounts", "eth_accounts"):
            return [self.account.address.lower()]
        if method == "eth_chainId":
            return hex(self.chain_id)
        if method == "wallet_switchEthereumChain":
            wanted = int(params[0]["chainId"], 16)
            if wanted not in self.known:
                raise WalletError(4902, "Unrecognized chain ID.")
            self.chain_id = wanted
            return None
        if method == "wallet_addEthereumChain":
            self.known.add(int(params[0]["chainId"], 16))
            return None
        if method == "wallet_watchAsset":
            return True
        if method == "eth_signTypedData_v4":
            assert params[0].lower() == self.account.address.lower()
            message = encode_typed_data(full_message=json.loads(params[1]))
            return "0x" + self.account.sign_message(message).signature.hex()
        if method == "personal_sign":
            assert params[1].lower() == self.account.address.lower()
            return "0x" + self.account.sign_message(encode_defunct(hexstr=params[0])).signature.hex()
        if method == "eth_sendTransaction":
            return self.send(params[0])
        return self.rpc(method, *params)

    def send(self, asked: dict[str, Any], *, nonce: int | None = None, fee_wei: int | None = None) -> str:
        """Sign and send as a wallet does: its own nonce, its own fee, this chain."""
        assert asked["from"].lower() == self.account.address.lower()
        if int(asked.get("chainId", hex(self.chain_id)), 16) != self.chain_id:
            raise WalletError(-32602, "The transaction is for another chain.")
        count = int(self.rpc("eth_getTransactionCount", self.account.address, "pending"), 16)
        fee = fee_wei or 2 * int(self.rpc("eth_gasPrice"), 16)
        signed = self.account.sign_transaction({
            "type": 2, "chainId": self.chain_id, "nonce": count if nonce is None else nonce, "to": asked["to"],
            "data": asked.get("data", "0x"), "value": int(asked.get("value", "0x0"), 16), "gas": int(asked["gas"], 16),
            "maxFeePerGas": fee, "maxPriorityFeePerGas": min(fee, 10**9),
        })  # fmt: skip
        return str(self.rpc("eth_sendRawTransaction", "0x" + signed.raw_transaction.hex()))
