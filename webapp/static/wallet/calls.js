// What operators' forms ask for, as the arguments of a contract's function. Most forms have a field for each argument, read by its type
// in the published ABI; those with rules of their own have a reader of their own.

import { getAddress, isAddress } from './viem.js'
import { bytesOf, hexOf } from './acting.js'
import { number, parseMilli, say, told } from './words.js'

/** The arguments of the function `entry` out of a form, and what to warn of: `{ args, warnings }`. */
export function callOf(form, entry) {
  const own = OWN[entry.name]
  if (own) return own(form)
  const warnings = entry.name in FOR_GOOD ? [say(FOR_GOOD[entry.name])] : []
  return { args: entry.inputs.map(({ name, type }) => read(type, form.elements[name].value)), warnings }
}

/** The figure of a factor in plain words, and what is odd about it. */
export function factorSays(form) {
  let grams
  try { grams = whole(form.gramsPerMWh.value) } catch { return [] }
  const values = { grams: number(grams), perKwh: number(Number(grams) / 1000), perMwh: number(Number(grams) / 1000) }
  return [say('factorSays', values), ...(grams > 1_500_000n ? [say('factorOdd')] : grams < 1_000n ? [say('factorLow')] : [])]
}

// -- values -----------------------------------------------------------------------------------------

/** A field's text as the ABI's type has it. Times are asked for as days and begin at 0:00 UTC. */
function read(type, text) {
  if (type === 'address') return address(text)
  if (type === 'string') return words(text)
  if (type === 'bytes32') return hash(text)
  if (type === 'uint40') return day(text)
  return whole(text, 1n, (1n << BigInt(type.replace('uint', ''))) - 1n)
}
function whole(text, least = 1n, most = (1n << 56n) - 1n) {
  const plain = text.replace(/[\s\u00a0\u202f]/g, '')
  const value = /^\d{1,20}$/.test(plain) ? BigInt(plain) : -1n
  if (value < least || value > most) throw told('badNumber')
  return value
}
function address(text) {
  const value = text.trim()
  if (!isAddress(value) || !BigInt(value)) throw told('badAddress')
  return getAddress(value)
}
function zone(text) {
  const value = text.trim()
  if (!/^[!-~]{1,16}$/.test(value)) throw told('badZone')
  return hexOf(bytesOf(value)).padEnd(34, '0')
}
function words(text) {
  if (!text.trim()) throw told('needText')
  return text.trim()
}
function hash(text) {
  const value = text.trim().toLowerCase()
  if (!/^0x[0-9a-f]{64}$/.test(value) || !BigInt(value)) throw told('badHash')
  return value
}
function day(text) {
  if (!text) throw told('needDay')
  return Date.parse(`${text}T00:00:00Z`) / 1000
}
function year(text) {
  const value = /^\d{4}$/.test(text.trim()) ? Number(text) : 0
  if (value < 1900 || value > 2100) throw told('badYear')
  return value
}
/** Per cent with up to two decimals, as basis points. */
function basisPoints(text) {
  const match = /^(\d{1,3})(?:[.,](\d{1,2}))?$/.exec(text.trim() || '0')
  const value = match ? Number(match[1]) * 100 + Number((match[2] ?? '').padEnd(2, '0')) : 10_001
  if (value > 10_000) throw told('badPercent')
  return value
}

// -- forms with rules of their own ------------------------------------------------------------------

function source(form) {
  const text = form.source.value.trim(), digest = form.sourceHash.value.trim().toLowerCase()
  if (!text || !/^0x[0-9a-f]{64}$/.test(digest)) throw told('needSource')
  return [whole(form.gramsPerMWh.value), form.illustrative.checked, digest, text]
}

/** What cannot be taken back, by function. */
const FOR_GOOD = { revoke: 'revokeForGood', deactivate: 'deactivateForGood', removeSigner: 'removeSignerSays' }

const OWN = {
  register: form => {
    const device = JSON.parse(form.dataset.device)
    return { args: [whole(form.deviceId.value, 1n, (1n << 64n) - 1n), { ...device, capacityW: BigInt(device.capacityW) }], warnings: [say('registerForGood')] }
  },
  publish: form => ({ args: [zone(form.gridZone.value), year(form.year.value), ...source(form)], warnings: [...factorSays(form), say('publicForGood')] }),
  supersede: form => ({ args: [Number(form.factorId.value), ...source(form)], warnings: [...factorSays(form), say('publicForGood')] }),
  setSigners: form => {
    const signers = form.signers.value.split(/\s+/).filter(Boolean).map(address).sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1))
    const threshold = /^\d{1,3}$/.test(form.threshold.value.trim()) ? Number(form.threshold.value) : 0
    if (!signers.length || new Set(signers).size !== signers.length || threshold < 1 || threshold > signers.length) throw told('badSigners')
    return { args: [signers, threshold], warnings: [] }
  },
  grantRole: form => ({ args: [BigInt(form.roleId.value), address(form.account.value), Number(whole(form.executionDelay.value, 0n, (1n << 32n) - 1n))], warnings: [] }),
  revokeRole: form => ({ args: [BigInt(form.roleId.value), address(form.account.value)], warnings: [] }),
  authorise: form => {
    const country = form.country.value.trim().toUpperCase(), capG = parseMilli(form.capKg.value)
    const shareOfProceedsBps = basisPoints(form.shareOfProceeds.value), overallMitigationBps = basisPoints(form.overallMitigation.value)
    const purposes = [...form.querySelectorAll('[name=purpose]:checked')].reduce((bits, box) => bits + Number(box.value), 0)
    const firstYear = year(form.firstYear.value), lastYear = year(form.lastYear.value)
    if (!/^[A-Z]{2}$/.test(country)) throw told('badCountry')
    if (firstYear > lastYear) throw told('badYear')
    if (!purposes) throw told('needPurposes')
    if (capG === null) throw told('badAmount')
    if (shareOfProceedsBps + overallMitigationBps > 10_000) throw told('badPercent')
    const given = {
      country: hexOf(bytesOf(country)), firstYear, lastYear, purposes, shareOfProceedsBps, overallMitigationBps,
      // It begins as authorised, with nothing converted.
      state: 1, capG, convertedG: 0n,
      shareOfProceedsAccount: shareOfProceedsBps ? address(form.shareOfProceedsAccount.value) : `0x${'0'.repeat(40)}`,
      documentHash: hash(form.documentHash.value), reference_: words(form.reference.value),
    }
    return { args: [whole(form.authorisationId.value, 1n, (1n << 64n) - 1n), given], warnings: [say('authoriseForGood')] }
  },
}
