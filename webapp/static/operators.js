// Operators: signing in by a wallet, and acts that their own wallet signs. Calls are made here from the published ABI, asked of the
// access manager, tried out on the chain and shown before anything is signed. This page never sees a key.

import { decodeFunctionResult, encodeFunctionData, getAddress } from './wallet/viem.js'
import { hasCode, isRejection, wallets } from './wallet/provider.js'
import { $, bytesOf, hexOf, inWords, keepWallet, keptWallet, make, notice, offerWallets, priced, reachChain, sent } from './wallet/acting.js'
import { callOf, factorSays } from './wallet/calls.js'
import { follow } from './wallet/follow.js'
import { Told, milli, money, number, say, setup, told, utc } from './wallet/words.js'
import { keccak256 } from './keccak.js'

const MANAGER = 'AccessManager'
const FINAL = ['final', 'reverted', 'replaced', 'cancelled', 'dropped']

const problem = text => notice('wallet-problem', text)
const wordsOf = (error, contract = MANAGER) => inWords(error, contract, abi?.errors)

let wallet = null   // { name, rdns, provider }
let abi = null
let act = null      // what the dialog is about

const ask = (method, ...params) => wallet.provider.request({ method, params })

// -- the wallet -------------------------------------------------------------------------------------

/** The wallet to ask, chosen by the reader where there are several or none was used before; null: closed without a choice. */
function choose() {
  const before = wallets(say('browserWallet')).find(one => one.rdns === keptWallet())
  if (before) return Promise.resolve(before)
  return new Promise(resolve => {
    offerWallets(one => { resolve(one); $('chooser').close() })
    $('chooser').addEventListener('close', () => resolve(null), { once: true })
  })
}

/** The wallet's account, on this chain; null: the reader chose no wallet. */
async function connect() {
  const chosen = wallet ?? await choose()
  if (!chosen) return null
  const [first] = await chosen.provider.request({ method: 'eth_requestAccounts', params: [] })
  if (!first) throw told('locked')
  wallet = chosen
  keepWallet(chosen.rdns)
  await reachChain(wallet.provider)
  return getAddress(first)
}

// -- signing in -------------------------------------------------------------------------------------

async function signIn() {
  const state = text => { $('sign-in-state').textContent = text }
  problem('')
  $('sign-in').disabled = true
  try {
    const account = await connect()
    if (!account) return
    const asked = await fetch(`/operators/sign-in/message.json?address=${account}`)
    const given = await asked.json()
    if (!asked.ok) throw new Told(given.error?.detail ?? say('loadFailed'))
    state(say('signing'))
    let signature
    try {
      signature = await ask('personal_sign', hexOf(bytesOf(given.message)), account)
    } catch (error) {
      if (isRejection(error)) throw told('signInRejected')
      throw hasCode(error, 4200, -32601) ? told('cannotSign', { reason: error.message }) : error
    }
    const answer = await fetch(`/operators/sign-in.json?next=${encodeURIComponent(setup.next ?? '')}`, {
      method: 'POST', headers: { 'Content-Type': 'application/json', 'X-CSRF-Token': setup.token },
      body: JSON.stringify({ message: given.message, signature }),
    })
    const result = await answer.json()
    if (!answer.ok) throw new Told(result.error?.detail ?? say('loadFailed'))
    window.location.assign(result.next)
  } catch (error) {
    problem(wordsOf(error))
  } finally {
    state('')
    $('sign-in').disabled = false
  }
}
$('sign-in')?.addEventListener('click', signIn)

// -- documents --------------------------------------------------------------------------------------

document.addEventListener('change', async event => {
  const input = event.target
  const { hash, algorithm, name } = input.dataset
  const file = input.files?.[0]
  if (!hash || !file) return
  const state = input.closest('div').querySelector('[data-hash-state]')
  state.textContent = say('hashing')
  const data = new Uint8Array(await file.arrayBuffer())
  const digest = algorithm === 'keccak256' ? keccak256(data) : new Uint8Array(await crypto.subtle.digest('SHA-256', data))
  input.form.elements[hash].value = hexOf(digest)
  if (name) input.form.elements[name].value = file.name.slice(0, 200)
  state.textContent = say('hashed', { name: file.name })
})

// -- what is asked for --------------------------------------------------------------------------------

$('factor')?.addEventListener('input', event => { $('factor-says').textContent = factorSays(event.currentTarget).join(' ') })

document.addEventListener('submit', async event => {
  const form = event.target, { contract } = form.dataset
  if (!contract) return
  event.preventDefault()
  const what = event.submitter?.name === 'act' ? event.submitter.value : form.dataset.act
  await attempt(async () => {
    abi ??= await published()
    await open({ what, contract, functionName: what, ...callOf(form, entryOf(contract, what)) })
  }, contract)
})

document.addEventListener('click', async event => {
  const button = event.target.closest('[data-operation]')
  if (!button) return
  const { operation, target, calldata, caller } = button.dataset
  const args = operation === 'cancel' ? [caller, target, calldata] : [target, calldata]
  await attempt(async () => open({ what: operation, contract: MANAGER, functionName: operation, args, warnings: [], caller, direct: true }), MANAGER)
})

async function attempt(step, contract) {
  problem('')
  try {
    await step()
  } catch (error) {
    problem(wordsOf(error, contract))
    $('wallet-problem').scrollIntoView({ block: 'center' })
  }
}

async function published() {
  const answer = await fetch(setup.abi)
  if (!answer.ok) throw told('loadFailed')
  return answer.json()
}
const entryOf = (contract, functionName) => abi.functions[contract].find(one => one.name === functionName)

// -- what the access manager says to it ------------------------------------------------------------------

async function view(functionName, ...args) {
  const data = encodeFunctionData({ abi: abi.functions[MANAGER], functionName, args })
  return decodeFunctionResult({ abi: abi.functions[MANAGER], functionName, data: await ask('eth_call', { to: setup.contracts[MANAGER], data }, 'latest') })
}

/** Who can do it, and how: at once, by planning it, or by executing what was planned. Fills in the transaction's `from`, `to`, `data`. */
async function arrange(planned, account) {
  const { contract, functionName, args } = planned
  const target = setup.contracts[contract], manager = setup.contracts[MANAGER]
  const entry = entryOf(contract, functionName)
  const data = encodeFunctionData({ abi: [entry], functionName, args })
  Object.assign(planned, { from: account, to: target, data, entry, args, title: say(planned.what), notes: [] })
  // What is planned is executed or cancelled by who planned it; the access manager itself looks at the rest.
  if (planned.direct) {
    if (planned.caller === account || planned.what === 'cancel' && !setup.contractHolders.includes(planned.caller)) return
    if (!setup.contractHolders.includes(planned.caller)) throw told('notYours')
    planned.from = planned.caller
    planned.notes.push(say('forContract', { holder: planned.caller }))
    return
  }
  let may = null
  for (const one of [account, ...setup.contractHolders]) {
    const [immediate, delay] = await view('canCall', one, target, data.slice(0, 10))
    if (!immediate && !delay) continue
    may = { one, delay }
    break
  }
  if (!may) throw told('notYours')
  planned.from = may.one
  if (may.one !== account) planned.notes.push(say('forContract', { holder: may.one }))
  if (!may.delay) return
  const at = Number(await view('getSchedule', await view('hashOperation', may.one, target, data)))
  const now = Number((await ask('eth_getBlockByNumber', 'latest', false)).timestamp)
  if (at > now) throw told('stillWaits', { when: utc(at) })
  const name = at ? 'execute' : 'schedule'
  const outer = at ? [target, data] : [target, data, 0]
  planned.notes.push(at ? say('readyNow') : say('delayed', { delay: lasting(may.delay), when: utc(now + may.delay), lifetime: lasting(await view('expiration')) }))
  planned.title = say(at ? 'executed' : 'planned', { what: say(planned.what) })
  planned.inner = { contract, functionName, args, entry }
  Object.assign(planned, {
    contract: MANAGER, functionName: name, args: outer, entry: entryOf(MANAGER, name), to: manager,
    data: encodeFunctionData({ abi: abi.functions[MANAGER], functionName: name, args: outer }),
  })
}

const lasting = seconds => {
  const [key, unit] = [['daysLong', 86_400], ['hoursLong', 3_600], ['seconds', 1]].find(([, size]) => Number(seconds) % size === 0)
  return say(key, { number: number(Number(seconds) / unit) })
}

// -- the dialog: what will be signed ----------------------------------------------------------------------

const trouble = text => notice('act-problem', text)
const busy = text => { $('act-busy').textContent = text; $('act-go').disabled = Boolean(text) }
$('act-close')?.addEventListener('click', () => $('act').close())
$('act')?.addEventListener('close', () => { act = null })

async function open(planned) {
  const account = await connect()
  if (!account) return
  if (account !== setup.account) throw told('otherAccount')
  abi ??= await published()
  act = planned
  $('act-title').textContent = say(planned.what)
  $('act-review').replaceChildren()
  $('act-safe').hidden = $('act-go').hidden = true
  trouble('')
  $('act').showModal()
  busy(say('simulating'))
  try {
    await arrange(planned, account)
    const tx = { from: planned.from, to: planned.to, data: planned.data }
    // Tried as a call first: nodes tell an estimate's refusal in less uniform ways.
    await ask('eth_call', tx, 'latest')
    if (planned.from === account) Object.assign(planned, await priced(wallet.provider, tx))
  } catch (error) {
    busy('')
    trouble(wordsOf(error, planned.contract))
    if (act === planned && planned.data) review(planned, false)
    return
  }
  busy('')
  if (act === planned) review(planned, planned.from === account)
}

function review(planned, sendable) {
  const list = make('dl', undefined, { className: 'facts' })
  const fact = (name, value, className = '') => list.append(make('dt', name), make('dd', value, { className }))
  const shown = planned.inner ?? planned
  shown.entry.inputs.forEach((input, i) => {
    const value = shown.args[i]
    if (input.components) for (const part of input.components) fact(part.name, readable(part, value[part.name]))
    else fact(input.name, readable(input, value), input.type === 'bytes' ? 'calldata' : '')
  })
  fact(say('contract'), `${planned.contract} ${planned.to}`)
  fact(say('function'), planned.functionName)
  if (planned.inner) fact('', `${shown.contract}.${shown.functionName}`)
  if (!sendable) fact(say('from'), planned.from)
  if (planned.fee !== undefined) fact(say('fee'), `${money(planned.fee)} ${setup.chain.currency}`)
  fact(say('calldata'), planned.data, 'calldata')
  const notes = make('ul', undefined, { className: 'warnings' })
  notes.append(...[...planned.warnings, ...planned.notes].map(text => make('li', text)))
  $('act-review').replaceChildren(list, notes)
  list.querySelectorAll('.calldata').forEach(part => { part.tabIndex = 0 })
  $('act-title').textContent = planned.title
  $('act-go').hidden = !sendable
  $('act-safe').hidden = !setup.contractHolders.includes(planned.from)
  $('act-title').focus()
}

function readable({ type, name }, value) {
  if (Array.isArray(value)) return value.map(one => readable({ type: type.replace(/\[\]$/, ''), name }, one)).join(', ')
  if (type === 'bytes2' || type === 'bytes16') return String.fromCharCode(...value.slice(2).match(/../g).map(byte => parseInt(byte, 16)).filter(byte => byte > 31 && byte < 127))
  if (name === 'capG') return `${milli(value)} kg CO₂e (${value})`
  if (name === 'capacityW') return `${number(value)} W`
  if (['activeFrom', 'activeUntil', 'since'].includes(name)) return BigInt(value) === (1n << 40n) - 1n ? '–' : utc(value)
  return String(value)
}

$('act-form')?.addEventListener('submit', async event => {
  event.preventDefault()
  const current = act
  trouble('')
  busy(say('waitingForWallet'))
  try {
    if ((await connect()) !== setup.account) throw told('otherAccount')
    if (act !== current) return
    const { from, to, data, contract, title } = current
    const done = await sent(wallet.provider, current)
    if (act === current) { busy(''); $('act').close() }
    watch({ ...done, from, to, data, contract, title })
  } catch (error) {
    if (act === current) { busy(''); trouble(wordsOf(error, current.contract)) }
  }
})

// -- what became of it ------------------------------------------------------------------------------

function watch(one) {
  const item = make('li'), state = make('span'), link = make('a', say('transaction'), { href: `/transactions/${one.hash}` })
  item.append(make('b', one.title), state, link)
  $('acts').prepend(item)
  const report = (name, values) => {
    state.textContent = say(name, values)
    state.className = name === 'final' ? 'ok' : FINAL.includes(name) ? 'bad' : 'wait'
    item.dataset.state = name
    link.href = `/transactions/${one.hash}`
  }
  report('sent')
  follow(one, wallet.provider, abi.errors, report, refresh)
}

/** The part of the page that the chain changes, as it is now. */
async function refresh() {
  const answer = await fetch(window.location.href)
  const fresh = answer.ok && new DOMParser().parseFromString(await answer.text(), 'text/html').getElementById('live')
  if (fresh && $('live')) $('live').replaceWith(document.adoptNode(fresh))
}

// -- the same for the owners of a Safe ---------------------------------------------------------------------

const textOf = (value, components) => {
  if (Array.isArray(value)) return `[${value.map(one => textOf(one)).join(',')}]`
  return components ? `[${components.map(({ name }) => textOf(value[name])).join(',')}]` : String(value)
}

/** The Transaction Builder's own serialization: every object leads with its sorted keys. */
function serialized(value) {
  if (Array.isArray(value)) return `[${value.map(serialized).join(',')}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  const keys = Object.keys(value).sort()
  return `{${JSON.stringify(keys)}${keys.map(key => `${serialized(value[key])},`).join('')}}`
}

function safeFile({ from, to, data, entry, args, title }) {
  const { inputs } = entry
  const file = {
    version: '1.0', chainId: String(BigInt(setup.chain.chainId)), createdAt: Date.now(),
    meta: { name: say('safeName', { what: title }), description: '', txBuilderVersion: '1.18.0', createdFromSafeAddress: from, createdFromOwnerAddress: '' },
    transactions: [{
      to, value: '0', data, contractMethod: { inputs, name: entry.name, payable: entry.stateMutability === 'payable' },
      contractInputsValues: Object.fromEntries(inputs.map((input, i) => [input.name, textOf(args[i], input.components)])),
    }],
  }
  file.meta.checksum = hexOf(keccak256(bytesOf(serialized({ ...file, meta: { ...file.meta, name: null } }))))
  return file
}

$('act-safe')?.addEventListener('click', () => {
  const link = make('a', undefined, { download: `wattmark-${act.functionName}.json` })
  link.href = URL.createObjectURL(new Blob([JSON.stringify(safeFile(act), null, 2)], { type: 'application/json' }))
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
})
