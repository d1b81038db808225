// What every page that acts from a wallet does alike: offer the wallets, reach the chain, price, send, and say what went wrong.

import { bringToChain, hasCode, isRejection, layers, onWallet, wallets } from './provider.js'
import { Told, decoded, money, revertData, say, setup, told } from './words.js'

const KEPT_WALLET = 'wattmark:wallet'

export const $ = id => document.getElementById(id)
export const hex = value => `0x${BigInt(value).toString(16)}`
export const hexOf = bytes => `0x${[...bytes].map(byte => byte.toString(16).padStart(2, '0')).join('')}`
export const bytesOf = text => new TextEncoder().encode(text)
export function make(tag, text, attributes = {}) {
  const element = Object.assign(document.createElement(tag), attributes)
  if (text !== undefined) element.textContent = text
  return element
}
/** Show a problem in the notice `id`; nothing hides it. */
export const notice = (id, text) => { $(id).hidden = !text; $(id).lastElementChild.textContent = text }

// -- kept in this browser ---------------------------------------------------------------------------

export function kept(key, fallback = null) {
  try { return JSON.parse(localStorage.getItem(key)) ?? fallback } catch { return fallback }
}
export function keep(key, value) {
  try { value === null ? localStorage.removeItem(key) : localStorage.setItem(key, JSON.stringify(value)) } catch { /* private browsing */ }
}

/** The name (EIP-6963 rdns) of the wallet that was used last; null: none. */
export const keptWallet = () => kept(KEPT_WALLET)
export const keepWallet = rdns => keep(KEPT_WALLET, rdns)

// -- the wallet -------------------------------------------------------------------------------------

let offered = null
onWallet(() => offered?.())

/** Open the dialog with the wallets found and those still to come; `chosen(wallet)` with the one the reader takes. */
export function offerWallets(chosen) {
  offered = () => {
    const list = wallets(say('browserWallet'))
    $('wallets-none').hidden = list.length > 0
    $('wallets').replaceChildren(...list.map(one => {
      const button = make('button', undefined, { type: 'button' })
      if (one.icon) button.append(make('img', undefined, { src: one.icon, alt: '' }))
      button.append(make('span', one.name))
      button.addEventListener('click', () => chosen(one))
      const item = make('li')
      item.append(button)
      return item
    }))
  }
  offered()
  $('chooser').showModal()
}

/** Bring the wallet to the site's chain. Throws what to tell the reader where it does not get there. */
export async function reachChain(provider) {
  let there
  try {
    there = await bringToChain(provider, setup.chain)
  } catch (error) {
    throw hasCode(error, 4902) ? told('noRpc', { chain: setup.chain.name }) : error
  }
  if (!there) throw told('chainRefused', { chain: setup.chain.name })
}

/** An error in the reader's language; `contract` is whose it may be, `errors` the published ones, once they are loaded. */
export function inWords(error, contract, errors) {
  if (error instanceof Told) return error.message
  if (isRejection(error)) return say('rejected')
  if (hasCode(error, -32002)) return say('pending')
  const data = revertData(error)
  if (data && errors) return say('refuses', { reason: decoded(contract, errors, data) })
  const texts = [...layers(error)].map(layer => layer.message).filter(text => typeof text === 'string')
  return say('walletSays', { reason: (texts.at(-1) ?? String(error)).slice(0, 200) || say('unknownReason') })
}

// -- a transaction ----------------------------------------------------------------------------------

/** Gas with a margin, and the fee in wei that it may come to. Throws `noFunds`, with a `hint` behind it, where the account cannot pay. */
export async function priced(provider, tx, hint = '') {
  const ask = (method, ...params) => provider.request({ method, params })
  const [estimate, price, balance] = await Promise.all([ask('eth_estimateGas', tx), ask('eth_gasPrice'), ask('eth_getBalance', tx.from, 'latest')])
  const gas = BigInt(estimate) * 120n / 100n, fee = gas * BigInt(price)
  if (BigInt(balance) < fee) {
    const text = say('noFunds', { balance: money(balance), fee: money(fee), currency: setup.chain.currency })
    throw new Told(`${text} ${hint}`.trim())
  }
  return { gas, fee }
}

/** Send from the wallet: `{ hash, nonce, block }`, where nonce and block are those of the moment before. */
export async function sent(provider, { from, to, data, gas }) {
  const ask = (method, ...params) => provider.request({ method, params })
  const [nonce, block] = await Promise.all([ask('eth_getTransactionCount', from, 'pending'), ask('eth_blockNumber')])
  // With the chain named, a wallet that was changed at the last moment refuses instead of sending elsewhere.
  const hash = await ask('eth_sendTransaction', { from, to, data, gas: hex(gas), chainId: setup.chain.chainId })
  if (typeof hash !== 'string' || !/^0x[0-9a-f]{64}$/i.test(hash)) throw told('noHash')
  return { hash, nonce, block }
}
