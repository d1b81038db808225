// The verify page: a file is hashed and judged here, and only hashes are looked up. What is hashed, to the byte: docs/protocol.md.

import { keccak256 } from './keccak.js'

const MOST_BYTES = 256 * 2 ** 20
const MOST_TEXT_BYTES = 32 * 2 ** 20
const MOST_ROOTS = 64
const ORDER = ['verified', 'not final', 'cannot check', 'not found', 'revoked', 'mismatch']
const DAY_SECONDS = 86400
const SLOT_SECONDS = 900
const BYTES_PER_SLOT = 5
const CERTIFIED = 32
const RETIREMENT_START = '{"account":"0x'

const form = document.querySelector('[data-verify]')
const say = text => { form.querySelector('[data-status]').textContent = text ?? '' }

class Damaged extends Error {}

// -- bytes ------------------------------------------------------------------------------------------

export const hex = bytes => '0x' + Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')

export function bytes(text) {
  if (!/^0x([0-9a-f]{2})*$/i.test(text)) throw new Damaged(text)
  return Uint8Array.from(text.slice(2).match(/../g) ?? [], pair => parseInt(pair, 16))
}

const joined = parts => {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) { whole.set(part, at); at += part.length }
  return whole
}

const word = value => bytes('0x' + BigInt(value).toString(16).padStart(64, '0'))
const sha256 = async data => hex(new Uint8Array(await crypto.subtle.digest('SHA-256', data)))
const latin = data => new TextDecoder('latin1').decode(data)

// -- what the protocol hashes -----------------------------------------------------------------------

export function leafOf(s) {
  const numbers = [s.deviceId, s.start, s.duration, s.version, s.energyWh, s.previousWh]
  return keccak256(keccak256(joined([...numbers.map(word), bytes(s.profileHash)])))
}

export function rootOf(leaf, proof) {
  let node = hex(leaf)
  for (const sibling of proof) {
    const pair = [node, hex(bytes(sibling))].sort()
    node = hex(keccak256(joined(pair.map(bytes))))
  }
  return node
}

/** Hash and certified energy (Wh) of a period's readings; null where they are not as many as its slots and days. */
export function profileOf(start, duration, profile, salts) {
  const end = start + duration
  if (profile.length !== (duration / SLOT_SECONDS) * BYTES_PER_SLOT) return null
  const days = []
  for (let midnight = start - (start % DAY_SECONDS), at = 0; midnight < end; midnight += DAY_SECONDS) {
    const seconds = Math.min(end, midnight + DAY_SECONDS) - Math.max(start, midnight)
    const stop = at + (seconds / SLOT_SECONDS) * BYTES_PER_SLOT
    if (days.length === salts.length) return null
    days.push(keccak256(joined([salts[days.length], profile.slice(at, stop)])))
    at = stop
  }
  if (days.length !== salts.length) return null
  const view = new DataView(profile.buffer, profile.byteOffset, profile.length)
  let energyWh = 0n
  for (let at = 0; at < profile.length; at += BYTES_PER_SLOT) {
    if (profile[at + 4] & CERTIFIED) energyWh += BigInt(view.getUint32(at))
  }
  return { hash: hex(keccak256(joined(days))), energyWh }
}

/** One member of statements.json, computed again. */
export function judged({ statement, root, proof, readings }) {
  const leaf = leafOf(statement)
  const reached = rootOf(leaf, proof)
  const found = readings && profileOf(statement.start, statement.duration, bytes(readings.profile), readings.salts.map(bytes))
  const same = found && found.hash === statement.profileHash && found.energyWh === BigInt(statement.energyWh)
  return {
    statement, root, leaf: hex(leaf), reached, profileHash: found?.hash ?? null,
    data: !readings ? 'cannot check' : same ? 'verified' : 'mismatch',
    inclusion: reached === root ? 'verified' : 'mismatch',
  }
}

// -- what a file is ---------------------------------------------------------------------------------

/** Members of a bundle, which are stored one after the other without compression. */
export function members(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  const found = new Map()
  let at = 0
  while (at + 30 <= data.length && view.getUint32(at, true) === 0x04034b50) {
    const size = view.getUint32(at + 22, true)
    const start = at + 30 + view.getUint16(at + 26, true)
    found.set(latin(data.subarray(at + 30, start)), data.subarray(start, start + size))
    at = start + size
  }
  return found
}

/** The statements of a bundle whose every member is the one that its sealed manifest names. Throws Damaged. */
export async function statementsOf(data) {
  const found = members(data)
  const text = latin(found.get('manifest.json') ?? new Uint8Array())
  let manifest
  try { manifest = JSON.parse(text) } catch { throw new Damaged('manifest.json') }
  const unsealed = text.replace(/\n "seal": "0x[0-9a-f]{64}",/, '')
  if (manifest.seal !== await sha256(new TextEncoder().encode(unsealed))) throw new Damaged('manifest.json')
  for (const [name, { sha256: stated }] of Object.entries(manifest.members)) {
    if (!found.has(name) || await sha256(found.get(name)) !== stated) throw new Damaged(name)
  }
  return JSON.parse(latin(found.get('statements.json')))
}

/** What a file is and what can be said of it here: `query` is what the site is asked, `results` what was computed. */
export async function examine(data) {
  const head = latin(data.subarray(0, 8))
  const text = data.length <= MOST_TEXT_BYTES && /^(PK\x03\x04|%PDF-|[{[])/.test(head) ? latin(data) : ''
  const isPdf = text.startsWith('%PDF-')
  let results = []
  if (text.startsWith('PK') && text.includes('manifest.json') || isPdf && text.includes('PK\x03\x04')) {
    const bundle = data.subarray(text.indexOf('PK\x03\x04'), text.lastIndexOf('PK\x05\x06') + 22)
    results = (await statementsOf(bundle)).map(judged)
    if (!isPdf) return asked(results)
  }
  const at = text.indexOf(RETIREMENT_START)
  if (at >= 0 && text.includes('"schema":"wattmark/retirement/')) {
    const facts = text.slice(at, text.indexOf('\n', at) + 1)
    const told = JSON.parse(facts)
    return { query: { retirement: `${told.token}/${told.number}`, facts: await sha256(new TextEncoder().encode(facts)) }, results }
  }
  if (results.length) return asked(results)
  if (text.includes('"profileHash"')) return asked([judged(JSON.parse(new TextDecoder().decode(data)))])
  return { query: { sha256: await sha256(data) }, results: [] }
}

const asked = results => ({ query: { root: [...new Set(results.map(result => result.root))] }, results })

// -- what is shown ----------------------------------------------------------------------------------

const worst = verdicts => ORDER[Math.max(...verdicts.map(verdict => ORDER.indexOf(verdict)))]

function place(result, name, verdict) {
  const card = result.querySelector(`[data-part="${name}"]`)
  const template = document.querySelector(`template[data-card="${name}"][data-for="${verdict}"]`)
  if (card && template) card.replaceWith(template.content.cloneNode(true))
}

function table(results) {
  const shown = document.querySelector('template[data-table]').content.cloneNode(true)
  const body = shown.querySelector('tbody')
  for (const { statement, profileHash, leaf, reached, data, inclusion } of results.slice(0, 100)) {
    const row = body.insertRow()
    const day = new Date(statement.start * 1000).toISOString().slice(0, 10)
    for (const [text, bad] of [[`${statement.deviceId}, ${day}`], [profileHash ?? '–', data === 'mismatch'], [leaf], [reached, inclusion === 'mismatch']]) {
      const cell = row.insertCell()
      cell.textContent = text.length > 20 && text.startsWith('0x') ? `${text.slice(0, 10)}…${text.slice(-8)}` : text
      cell.title = text
      cell.className = bad ? 'mono bad' : 'mono'
    }
  }
  return shown
}

/** Put what was computed here into what the site said; of a retirement the site judged the data itself. */
function merge(result, results, isRetirement) {
  result.querySelector('[data-computed]')?.append(table(results))
  const data = worst(results.map(one => one.data))
  const inclusion = worst(results.map(one => one.inclusion))
  if (!isRetirement || data === 'mismatch') place(result, 'data', data)
  if (inclusion === 'mismatch') place(result, 'inclusion', inclusion)
  const verdicts = [...result.querySelectorAll('[data-part]')].map(card => card.dataset.verdict)
  const head = document.querySelector(`template[data-head="${worst(verdicts)}"]`)
  if (verdicts.length) result.querySelector('[data-headline]')?.replaceWith(head.content.cloneNode(true))
}

async function check(file) {
  const result = document.querySelector('#result')
  result.replaceChildren()
  if (file.size > MOST_BYTES) return say(form.dataset.large)
  if (!window.crypto?.subtle) return say(form.dataset.insecure)
  say(form.dataset.reading)
  let query, results
  try {
    ({ query, results } = await examine(new Uint8Array(await file.arrayBuffer())))
  } catch {
    // Whatever cannot be read as what it says it is was damaged or made up.
    return say(form.dataset.damaged)
  }
  if (query.root?.length > MOST_ROOTS) return say(form.dataset.many)
  const wanted = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) wanted.append(name, one)
  try {
    const answer = await fetch(`/verify?${wanted}`)
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
    const found = page.querySelector('#result')
    if (!answer.ok || !found) throw new Error(answer.status)
    result.replaceChildren(...found.childNodes)
    say('')
  } catch {
    say(form.dataset.offline)
    const computed = document.createElement('div')
    computed.dataset.computed = ''
    result.replaceChildren(computed)
  }
  if (results.length) merge(result, results, Boolean(query.retirement))
  result.focus()
}

if (form) {
  const input = form.querySelector('input[type=file]')
  const local = form.querySelector('[data-local]')
  local.hidden = false
  form.querySelector('[data-send]').classList.remove('pri')
  const start = () => { if (input.files[0]) check(input.files[0]) }
  local.addEventListener('click', start)
  input.addEventListener('change', start)
  const zone = form.querySelector('.dropzone')
  for (const name of ['dragover', 'dragleave', 'drop']) {
    zone.addEventListener(name, event => {
      event.preventDefault()
      zone.classList.toggle('over', name === 'dragover')
      if (name === 'drop' && event.dataTransfer.files.length) { input.files = event.dataTransfer.files; start() }
    })
  }
}
