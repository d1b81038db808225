// What becomes of a transaction: waiting, in a block, final; replaced, dropped, reverted. Kept over reloads of the page.

import { hex } from './acting.js'
import { ticketOf } from './relay.js'
import { decoded, revertData, say } from './words.js'

const FIRST_MS = 500, SLOWEST_MS = 8_000
//: Blocks that are searched for the transaction that took another's nonce.
const SEARCHED_BLOCKS = 64n
//: A transaction that no node knows, or a request that the relay does not know, may be on its way for this long.
const UNKNOWN_MS = 60_000

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

/** Tells `report(state, values)` whenever something is new; `indexed()` once the site's pages know of it. Ends with the act. */
export async function follow(act, provider, errors, report, indexed) {
  const ask = (method, ...params) => provider.request({ method, params })
  const wait = growing()
  let known = false, missing = 0, shown = ''
  const tell = (state, values = {}) => {
    const now = JSON.stringify([state, values])
    if (now !== shown) report(state, values)
    shown = now
  }
  for (;;) {
    try {
      const ticket = act.ticket ? await ticketOf(act.ticket) : null
      if (ticket?.state === 'failed') return tell('relayFailed', { reason: ticket.problem })
      if (ticket) {
        act.hash = ticket.transaction ?? act.hash
        act.unsure &&= ticket.state === 'silent' || ticket.state === 'unknown'
      }
      const receipt = act.hash ? await ask('eth_getTransactionReceipt', act.hash) : null
      if (receipt && BigInt(receipt.status) === 0n) {
        return tell('reverted', { reason: await why(ask, act, errors, receipt) })
      }
      if (receipt) {
        missing = 0
        const block = Number(receipt.blockNumber)
        const site = await onSite(act.hash)
        if (site.indexed && !known) { known = true; await indexed() }
        tell(site.final ? 'final' : 'mined', { block })
        if (site.final) return
      } else if (ticket) {
        missing = ticket.state === 'unknown' ? missing || Date.now() : 0
        if (missing && Date.now() - missing > UNKNOWN_MS) return tell('relayFailed', { reason: say('relayUnknown') })
        tell(act.unsure ? 'unsure' : 'relayed')
      } else {
        const end = await lost(ask, act)
        if (end === 'sped') { report('sped'); shown = ''; continue }
        if (end === 'unknown') missing ||= Date.now()
        else missing = 0
        if (end === 'replaced' || end === 'cancelled') return tell(end)
        if (missing && Date.now() - missing > UNKNOWN_MS) return tell('dropped')
        tell('sent')
      }
    } catch (fault) {
      // A wallet or a site that does not answer says nothing about the transaction: ask again later.
      console.debug(fault)
    }
    await pause(wait())
  }
}

function growing() {
  let milliseconds = FIRST_MS
  return () => { const now = milliseconds; milliseconds = Math.min(milliseconds * 1.15, SLOWEST_MS); return now }
}

/** Whether the site's index has the transaction, and whether its block is final by the site's rule. */
async function onSite(hash) {
  const answer = await fetch(`/transactions/${hash}.json`)
  if (!answer.ok) return { indexed: false, final: false }
  const { transaction } = await answer.json()
  return { indexed: transaction.indexed !== null, final: transaction.final === true }
}

/** Without a receipt: still 'waiting', 'unknown' to the node, or its nonce went to another: 'sped', 'cancelled', 'replaced'. */
async function lost(ask, act) {
  const known = await ask('eth_getTransactionByHash', act.hash)
  if (known) { act.nonce = hex(known.nonce); return 'waiting' }
  const used = BigInt(await ask('eth_getTransactionCount', act.from, 'latest'))
  if (used <= BigInt(act.nonce)) return 'unknown'
  if (await ask('eth_getTransactionReceipt', act.hash)) return 'waiting'
  const last = BigInt(await ask('eth_blockNumber'))
  for (let number = last; number >= BigInt(act.block) && last - number < SEARCHED_BLOCKS; number--) {
    const block = await ask('eth_getBlockByNumber', hex(number), true)
    const other = block?.transactions.find(tx => tx.from.toLowerCase() === act.from.toLowerCase() && BigInt(tx.nonce) === BigInt(act.nonce))
    if (!other) continue
    if (other.to?.toLowerCase() === act.to.toLowerCase() && other.input === act.data) { act.hash = other.hash; return 'sped' }
    return other.to?.toLowerCase() === act.from.toLowerCase() && BigInt(other.value) === 0n && other.input === '0x' ? 'cancelled' : 'replaced'
  }
  return 'replaced'
}

async function why(ask, act, errors, receipt) {
  try {
    await ask('eth_call', { from: act.from, to: act.to, data: act.data }, hex(BigInt(receipt.blockNumber) - 1n))
  } catch (error) {
    const data = revertData(error)
    if (data) return decoded(act.contract, errors, data)
  }
  return '…'
}
