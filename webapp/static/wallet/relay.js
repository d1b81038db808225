// Handing a signed retirement to the relay. It takes the same bytes any number of times and sends them once, so an answer that was
// lost is asked for again; what is never asked for again is the holder's signature, which would retire twice.

import { keccak256 } from '../keccak.js'
import { hexOf } from './acting.js'
import { refusal, say, setup, told } from './words.js'

const ATTEMPTS = 3, FIRST_PAUSE_MS = 500
//: The site's own words for a relay that did not answer it.
const SILENT = [502, 504]

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))
const fromHex = hex => Uint8Array.from(hex.slice(2).match(/../g), byte => parseInt(byte, 16))

/** `{ hash, ticket }` as the relay took it; `unsure` where it never answered and may have it all the same. Throws its refusal in words. */
export async function handOver(contract, to, data) {
  const body = JSON.stringify({ to, data })
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (attempt) await pause(FIRST_PAUSE_MS * 2 ** attempt)
    const answer = await fetch('/relay/retirements.json', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }).catch(() => null)
    const ticket = await answer?.json().catch(() => null)
    // Asked too often says nothing about the time before, when the answer was lost.
    if (!ticket || SILENT.includes(answer.status) || attempt && answer.status === 429) continue
    if (answer.ok) return { hash: ticket.transaction, ticket: ticket.id }
    const { code, reason, detail } = ticket.error
    throw reason ? told('refuses', { reason: refusal(contract, reason.name, reason.args) }) : setup.words[`relay:${code}`] ? told(`relay:${code}`) : told('relayFailed', { reason: detail })
  }
  // The relay names a request by the hash of its bytes.
  const id = hexOf(keccak256(Uint8Array.from([...fromHex(to), ...fromHex(data)]))).slice(2)
  return { hash: null, ticket: id, unsure: true }
}

/** What the relay says of a request that was handed over: `{ state, transaction, problem }`; 'unknown' to it, or 'silent'. */
export async function ticketOf(id) {
  const answer = await fetch(`/relay/retirements/${id}.json`).catch(() => null)
  if (answer?.status === 404) return { state: 'unknown' }
  const told = answer?.ok ? await answer.json().catch(() => null) : null
  return told ?? { state: 'silent' }
}
