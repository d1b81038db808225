// Operators: signing in by a wallet, and acts that their own wallet signs. Calls are made here from the published ABI, asked of the
// access manager, tried out on the chain and shown before anything is signed. This page never sees a key.

import { decodeFunctionResult, encodeFunctionData, getAddress, isAddress } from './wallet/viem.js'
import { bringToChain, hasCode, isRejection, layers, onWallet, wallets } from './wallet/provider.js'
import { follow } from './wallet/follow.js'
import { Told, decoded, money, number, revertData, say, setup, short, told, utc } from './wallet/words.js'
import { keccak256 } from './keccak.js'

const KEPT_WALLET = 'wattmark:wallet', MANAGER = 'AccessManager'
const FINAL = ['final', 'reverted', 'replaced', 'cancelled', 'dropped']

const $ = id => document.getElementById(id)
const hex = value => `0x${BigInt(value).toString(16)}`
const hexOf = bytes => `0x${[...bytes].map(byte => byte.toString(16).padStart(2, '0')).join('')}`
const bytesOf = text => new TextEncoder().encode(text)
const make = (tag, text, attributes = {}) => {
  const element = Object.assign(document.createElement(tag), attributes)
  if (text !== undefined) element.textContent = text
  return element
}
const problem = text => { $('wallet-problem').hidden = !text; $('wallet-problem').lastElementChild.textContent = text }

let wallet = null   // { name, rdns, provider }
let abi = null
let act = null      // what the dialog is about

const ask = (method, ...params) => wallet.provider.request({ method, params })

// -- the wallet -------------------------------------------------------------------------------------

function kept() { try { return JSON.parse(localStorage.getItem(KEPT_WALLET)) } catch { return null } }
function keep(rdns) { try { localStorage.setItem(KEPT_WALLET, JSON.stringify(rdns)) } catch { /* private browsing */ } }

/** The wallet to ask, chosen by the reader where there are several or none was used before; null: closed without a choice. */
function choose() {
  const found = wallets(say('browserWallet')), before = found.find(one => one.rdns === kept())
  if (before) return Promise.resolve(before)
  return new Promise(resolve => {
    const show = () => {
      const list = wallets(say('browserWallet'))
      $('wallets-none').hidden = list.length > 0
      $('wallets').replaceChildren(...list.map(one => {
        const button = make('button', undefined, { type: 'button' })
        if (one.icon) button.append(make('img', undefined, { src: one.icon, alt: '' }))
        button.append(make('span', one.name))
        button.addEventListener('click', () => { resolve(one); $('chooser').close() })
        const item = make('li')
        item.append(button)
        return item
      }))
    }
    onWallet(show)
    show()
    $('chooser').addEventListener('close', () => resolve(null), { once: true })
    $('chooser').showModal()
  })
}

/** The wallet's account, on this chain; null: the reader chose no wallet. */
async function connect() {
  const chosen = wallet ?? await choose()
  if (!chosen) return null
  const [first] = await chosen.provider.request({ method: 'eth_requestAccounts', params: [] })
  if (!first) throw told('locked')
  wallet = chosen
  keep(chosen.rdns)
  try {
    if (!(await bringToChain(wallet.provider, setup.chain))) throw told('chainRefused', { chain: setup.chain.name })
  } catch (error) {
    if (error instanceof Told) throw error
    throw hasCode(error, 4902) ? told('noRpc', { chain: setup.chain.name }) : error
  }
  return getAddress(first)
}

function inWords(error, contract = MANAGER) {
  if (error instanceof Told) return error.message
  if (isRejection(error)) return say('rejected')
  if (hasCode(error, -32002)) return say('pending')
  const data = revertData(error)
  if (data && abi) return say('refuses', { reason: decoded(contract, abi.errors, data) })
  const texts = [...layers(error)].map(layer => layer.message).filter(text => typeof text === 'string')
  return say('walletSays', { reason: (texts.at(-1) ?? String(error)).slice(0, 200) || say('unknownReason') })
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
    problem(inWords(error))
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

// -- forms, as calls --------------------------------------------------------------------------------

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

function source(form) {
  const text = form.source.value.trim(), hash = form.sourceHash.value.trim().toLowerCase()
  if (!text || !/^0x[0-9a-f]{64}$/.test(hash)) throw told('needSource')
  return [whole(form.gramsPerMWh.value), form.illustrative.checked, hash, text]
}

const CALLS = {
  register: form => {
    const device = JSON.parse(form.dataset.device)
    return { args: [whole(form.deviceId.value, 1n, (1n << 64n) - 1n), { ...device, capacityW: BigInt(device.capacityW) }], warnings: [say('registerForGood')] }
  },
  publish: form => {
    const year = /^\d{4}$/.test(form.year.value.trim()) ? Number(form.year.value) : 0
    if (year < 1900 || year > 2100) throw told('badYear')
    return { args: [zone(form.gridZone.value), year, ...source(form)], warnings: [...factorSays(form), say('publicForGood')] }
  },
  supersede: form => ({ args: [Number(form.factorId.value), ...source(form)], warnings: [...factorSays(form), say('publicForGood')] }),
  setSigners: form => {
    const signers = form.signers.value.split(/\s+/).filter(Boolean).map(address).sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1))
    const threshold = /^\d{1,3}$/.test(form.threshold.value.trim()) ? Number(form.threshold.value) : 0
    if (!signers.length || new Set(signers).size !== signers.length || threshold < 1 || threshold > signers.length) throw told('badSigners')
    return { args: [signers, threshold], warnings: [] }
  },
  pause: () => ({ args: [], warnings: [] }),
  unpause: () => ({ args: [], warnings: [] }),
  grantRole: form => ({ args: [BigInt(form.roleId.value), address(form.account.value), Number(whole(form.executionDelay.value, 0n, (1n << 32n) - 1n))], warnings: [] }),
  revokeRole: form => ({ args: [BigInt(form.roleId.value), address(form.account.value)], warnings: [] }),
}

/** The figure in plain words, and what is odd about it. */
function factorSays(form) {
  let grams
  try { grams = whole(form.gramsPerMWh.value) } catch { return [] }
  const values = { grams: number(grams), perKwh: number(Number(grams) / 1000), perMwh: number(Number(grams) / 1000) }
  return [say('factorSays', values), ...(grams > 1_500_000n ? [say('factorOdd')] : grams < 1_000n ? [say('factorLow')] : [])]
}
$('factor')?.addEventListener('input', event => { $('factor-says').textContent = factorSays(event.currentTarget).join(' ') })

document.addEventListener('submit', async event => {
  const form = event.target, { contract } = form.dataset
  if (!contract) return
  event.preventDefault()
  const what = event.submitter?.name === 'act' ? event.submitter.value : form.dataset.act
  await attempt(async () => open({ what, contract, functionName: what, ...CALLS[what](form) }), contract)
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
    problem(inWords(error, contract))
    $('wallet-problem').scrollIntoView({ block: 'center' })
  }
}

// -- what the access manager says to it ------------------------------------------------------------------

async function view(functionName, ...args) {
  const data = encodeFunctionData({ abi: abi.functions[MANAGER], functionName, args })
  return decodeFunctionResult({ abi: abi.functions[MANAGER], functionName, data: await ask('eth_call', { to: setup.contracts[MANAGER], data }, 'latest') })
}

/** Who can do it, and how: at once, by planning it, or by executing what was planned. Fills in the transaction's `from`, `to`, `data`. */
async function arrange(planned, account) {
  const { contract, functionName, args } = planned
  const target = setup.contracts[contract], manager = setup.contracts[MANAGER]
  const entry = abi.functions[contract].find(one => one.name === functionName)
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
    contract: MANAGER, functionName: name, args: outer, entry: abi.functions[MANAGER].find(one => one.name === name), to: manager,
    data: encodeFunctionData({ abi: abi.functions[MANAGER], functionName: name, args: outer }),
  })
}

const lasting = seconds => {
  const [key, unit] = [['daysLong', 86_400], ['hoursLong', 3_600], ['seconds', 1]].find(([, size]) => Number(seconds) % size === 0)
  return say(key, { number: number(Number(seconds) / unit) })
}

// -- the dialog: what will be signed ----------------------------------------------------------------------

const trouble = text => { $('act-problem').hidden = !text; $('act-problem').lastElementChild.textContent = text }
const busy = text => { $('act-busy').textContent = text; $('act-go').disabled = Boolean(text) }
$('act-close')?.addEventListener('click', () => $('act').close())
$('act')?.addEventListener('close', () => { act = null })

async function open(planned) {
  const account = await connect()
  if (!account) return
  if (account !== setup.account) throw told('otherAccount')
  abi ??= await (await fetch(setup.abi)).json()
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
    if (planned.from === account) await price(planned, tx)
  } catch (error) {
    busy('')
    trouble(inWords(error, planned.contract))
    if (act === planned && planned.data) review(planned, false)
    return
  }
  busy('')
  if (act === planned) review(planned, planned.from === account)
}

async function price(planned, tx) {
  const [estimate, perGas, balance] = await Promise.all([ask('eth_estimateGas', tx), ask('eth_gasPrice'), ask('eth_getBalance', tx.from, 'latest')])
  planned.gas = BigInt(estimate) * 120n / 100n
  planned.fee = planned.gas * BigInt(perGas)
  if (BigInt(balance) < planned.fee) throw told('noFunds', { balance: money(balance), fee: money(planned.fee), currency: setup.chain.currency })
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
  if (name === 'activeFrom' || name === 'activeUntil') return BigInt(value) === (1n << 40n) - 1n ? '–' : utc(value)
  return String(value)
}

$('act-form')?.addEventListener('submit', async event => {
  event.preventDefault()
  const current = act
  trouble('')
  busy(say('waitingForWallet'))
  try {
    if ((await connect()) !== setup.account) throw told('otherAccount')
    const { from, to, data, gas, contract, title } = current
    const [nonce, block] = await Promise.all([ask('eth_getTransactionCount', from, 'pending'), ask('eth_blockNumber')])
    const hash = await ask('eth_sendTransaction', { from, to, data, gas: hex(gas) })
    busy('')
    $('act').close()
    watch({ hash, nonce, block, from, to, data, contract, title })
  } catch (error) {
    busy('')
    if (act === current) trouble(inWords(error, current.contract))
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
