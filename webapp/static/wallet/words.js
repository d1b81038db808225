// The texts of the page, in the reader's language, and figures as that language writes them.

import { decodeErrorResult } from './viem.js'
import { layers } from './provider.js'

export const setup = JSON.parse(document.querySelector('[data-setup]').dataset.setup)
const language = document.documentElement.lang
const locale = language === 'en' ? 'en-GB' : language
const thousandths = new Intl.NumberFormat(locale, { minimumFractionDigits: 3, maximumFractionDigits: 3 })
const whole = new Intl.NumberFormat(locale)
//: A contract that is called may put any text into its refusal.
const LONGEST = 200
const coins = new Intl.NumberFormat(locale, { maximumSignificantDigits: 3 })

/** Something to tell the reader, already in words. */
export class Told extends Error {}

const filled = (text, values) => text.replace(/%\((\w+)\)[sd]/g, (_, name) => values[name] ?? '')
export const say = (key, values = {}) => filled(setup.words[key], values)
export const told = (key, values) => new Told(say(key, values))

/** Whole Wh or g as kWh or kg, without a float in between. */
export function milli(raw) {
  const sign = raw < 0n ? '-' : '', value = raw < 0n ? -raw : raw
  return thousandths.format(`${sign}${value / 1000n}.${String(value % 1000n).padStart(3, '0')}`)
}
export const number = raw => whole.format(raw)
export const money = wei => coins.format(Number(wei) / 1e18)
export const short = value => (value.length <= 14 ? value : `${value.slice(0, 6)}…${value.slice(-4)}`)
export const utc = seconds => `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19).replace('T', ' ')} UTC`
export const unit = contract => (contract === 'MitigationOutcome' ? 'kg CO₂e' : 'kWh')

/** "12.5" or "12,5" kWh as 12500n Wh; null for anything else. */
export function parseMilli(text) {
  const match = /^(\d{1,15})(?:[.,](\d{1,3}))?$/.exec(text.replace(/[\s\u00a0\u202f]/g, ''))
  const raw = match ? BigInt(match[1]) * 1000n + BigInt((match[2] ?? '').padEnd(3, '0')) : 0n
  return raw > 0n ? raw : null
}

export function tokenName(id) {
  const value = BigInt(id), start = Number((value >> 152n) & ((1n << 40n) - 1n))
  if (value & ((1n << 120n) - 1n)) return short(`0x${value.toString(16).padStart(64, '0')}`)
  return `${value >> 192n}-${new Date(start * 1000).toISOString().slice(0, 10).replaceAll('-', '')}`
}

/** Revert data anywhere in a wallet's error. */
export function revertData(error) {
  for (const layer of layers(error)) {
    for (const value of [layer.data, layer.data?.data, layer.data?.result]) {
      if (typeof value === 'string' && /^0x([0-9a-f]{2}){4,}$/i.test(value)) return value
    }
  }
  return null
}

function field(contract, name, value) {
  if (name === 'field') return setup.fields[value] ?? String(value)
  if (/Wh$/.test(name)) return `${milli(BigInt(value))} kWh`
  if (/G$/.test(name)) return `${milli(BigInt(value))} kg CO₂e`
  if (['balance', 'needed'].includes(name)) return `${milli(BigInt(value))} ${unit(contract)}`
  if (name === 'tokenId') return contract === 'MitigationOutcome' ? short(`0x${BigInt(value).toString(16).padStart(64, '0')}`) : tokenName(value)
  if (['deadline', 'time', 'start', 'end', 'earliest', 'activeUntil'].includes(name)) return utc(value)
  if (/^0x[0-9a-f]{4}$|^0x[0-9a-f]{32}$/i.test(value)) {
    return String.fromCharCode(...value.slice(2).match(/../g).map(byte => parseInt(byte, 16)).filter(byte => byte > 31 && byte < 127))
  }
  return typeof value === 'string' && value.startsWith('0x') ? short(value) : String(value).slice(0, LONGEST)
}

/** A contract's error in words; its name and arguments where there are none. */
export function refusal(contract, name, args) {
  const shown = Object.fromEntries(Object.entries(args).map(([key, value]) => [key, field(contract, key, value)]))
  if (setup.errors[name]) return filled(setup.errors[name], shown)
  return `${name}(${Object.entries(shown).map(([key, value]) => `${key} ${value}`).join(', ')})`
}

export function decoded(contract, errors, data) {
  try {
    const { errorName, args = [], abiItem } = decodeErrorResult({ abi: errors, data })
    return refusal(contract, errorName, Object.fromEntries((abiItem.inputs ?? []).map((input, i) => [input.name, args[i]])))
  } catch {
    return short(data)
  }
}
