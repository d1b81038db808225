// The portfolio: calls are made here from the published ABI, tried out on the chain, shown in kWh beside what the wallet
// will show, and signed in the wallet. This page never sees a key, and every read of the chain goes through the wallet.

import { decodeFunctionResult, encodeFunctionData, getAddress, isAddress } from './viem.js'
import { isOnChain, isRejection, onWallet, wallets } from './provider.js'
import { $, inWords, keep, keepWallet, kept, keptWallet, make, notice, offerWallets, priced, reachChain, sent } from './acting.js'
import { choose, fitting } from './split.js'
import { follow } from './follow.js'
import { handOver } from './relay.js'
import { Told, milli, money, number, parseMilli, say, setup, short, told, tokenName, unit } from './words.js'

const KEPT_ACTS = `wattmark:acts:${setup.chain.chainId}`
const SIGNATURE_SECONDS = 3_600n
const TOKENS = { certificate: 'EnergyCertificate', outcome: 'MitigationOutcome' }
const FINAL = ['final', 'reverted', 'replaced', 'cancelled', 'dropped', 'relayFailed']

let wallet = null     // { name, rdns, provider }
let account = null    // checksummed
let held = null       // this page's model
let abi = null
let act = null        // what the dialog is about

// -- the wallet -------------------------------------------------------------------------------------

const ask = (method, ...params) => wallet.provider.request({ method, params })
const problem = text => notice('wallet-problem', text)
const wordsOf = (error, contract = 'EnergyCertificate') => inWords(error, contract, abi?.errors)

async function connect(chosen, method = 'eth_requestAccounts') {
  const [first] = await chosen.provider.request({ method, params: [] })
  if (!first) { if (method === 'eth_requestAccounts') throw told('locked'); return }
  if (wallet?.provider !== chosen.provider) listen(chosen.provider)
  wallet = chosen
  keepWallet(chosen.rdns)
  await accountIs(first)
}

async function accountIs(address) {
  account = address ? getAddress(address) : null
  if (account && !setup.account) { window.location.assign(`/portfolio/${account}`); return }
  await showWallet()
  if (account) resume()
}

function listen(provider) {
  provider.on?.('accountsChanged', ([first]) => { closeDialog(); accountIs(first) })
  provider.on?.('chainChanged', id => { if (BigInt(id) !== BigInt(setup.chain.chainId)) closeDialog(); showWallet() })
  provider.on?.('disconnect', () => showWallet())
}

async function showWallet() {
  const own = account === setup.account
  $('wallet-state').textContent = account ? `${say('connected')}: ${short(account)} · ${wallet.name}` : say('locked')
  $('wallet-connect').textContent = account ? say('otherWallet') : say('connect')
  $('wallet-connect').classList.toggle('pri', !account)
  $('wallet-leave').hidden = !account
  $('wallet-own').hidden = !account || own
  if (account) $('wallet-own').href = `/portfolio/${account}`
  let here = true
  try { here = !account || await isOnChain(wallet.provider, setup.chain) } catch { here = false }
  $('wallet-chain').hidden = here
  problem(!here ? say('wrongChain', { chain: setup.chain.name }) : account && !own ? say('otherAccount') : '')
}

function chooser() {
  offerWallets(async found => {
    try { await connect(found); $('chooser').close() } catch (error) { $('chooser').close(); problem(wordsOf(error)) }
  })
}

$('wallet-connect').addEventListener('click', chooser)
$('wallet-leave').addEventListener('click', () => { wallet = account = null; keepWallet(null); window.location.assign(window.location.pathname) })
$('wallet-chain').addEventListener('click', async () => {
  try { await reachChain(wallet.provider) } catch (error) { problem(wordsOf(error)); return }
  showWallet()
})

/** A wallet is there, on this chain, with the account of this page; else the reader is told what to do. */
function ready() {
  if (!wallet || !account) { chooser(); return false }
  if (account !== setup.account) { problem(say('otherAccount')); $('wallet-problem').scrollIntoView({ block: 'center' }); return false }
  return true
}

// -- what the page knows ----------------------------------------------------------------------------

async function load() {
  const [model, published] = await Promise.all([fetch(`/portfolio/${setup.account}.json`), abi ?? fetch(setup.abi)])
  if (!model.ok) throw told('loadFailed')
  abi ??= await published.json()
  held = await model.json()
  for (const [kind, rows] of [['certificate', held.certificates], ['outcome', held.outcomes]]) {
    for (const row of rows) Object.assign(row, { amount: BigInt(row.amount), name: kind === 'outcome' ? row.name : tokenName(row.id) })
  }
}

/** The page as it is now, in place, so that dialogs and the list of acts stay. */
async function refresh() {
  const answer = await fetch(window.location.href)
  if (!answer.ok) return
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').getElementById('holdings')
  if (fresh) $('holdings').replaceWith(document.adoptNode(fresh))
  await load()
}

const picked = kind => {
  const ids = [...document.querySelectorAll(`[data-pick=${kind}]:checked`)].map(box => box.value)
  return rowsOf(kind).filter(row => ids.includes(row.id))
}
const rowsOf = kind => (kind === 'outcome' ? held.outcomes : held.certificates)

document.addEventListener('change', event => {
  const kind = event.target.dataset?.pick
  if (!kind || !held) return
  const rows = picked(kind), sum = rows.reduce((total, row) => total + row.amount, 0n)
  document.querySelector(`[data-tools=${kind}] [data-chosen]`).textContent = rows.length ? `${number(rows.length)} · ${milli(sum)} ${unit(TOKENS[kind])}` : ''
})

document.addEventListener('click', async event => {
  const button = event.target.closest('[data-act],[data-issue],[data-revoke]')
  if (!button || !ready()) return
  problem('')
  try {
    if (!held) await load()
    const { act: what, issue, revoke, contract } = button.dataset
    if (issue) await openIssue(issue)
    else if (revoke) review(allowance(contract, revoke, false))
    else {
      const kind = button.closest('[data-tools]').dataset.tools, rows = picked(kind)
      if (!rows.length) throw told('nothingChosen')
      if (what === 'watch') await watch(kind, rows)
      else openForm(what, kind, rows)
    }
  } catch (error) {
    problem(wordsOf(error))
    $('wallet-problem').scrollIntoView({ block: 'center' })
  }
})

document.addEventListener('submit', async event => {
  const form = event.target
  if (form.id !== 'quick' && form.id !== 'allow') return
  event.preventDefault()
  if (!ready()) return
  problem('')
  const given = Object.fromEntries(new FormData(form))
  try {
    if (!held) await load()
    if (form.id === 'allow') return await review(allowance(given.contract, address(given.operator), true))
    const wanted = parseMilli(given.amount)
    if (wanted === null) throw told('badAmount')
    const rows = fitting(held.certificates, given)
    if (!rows.length) throw told('noneFits')
    const chosen = choose(rows, wanted)
    if (!chosen) throw told('notEnough', { held: milli(rows.reduce((total, row) => total + row.amount, 0n)) })
    openForm(event.submitter?.value ?? 'retire', 'certificate', chosen, given)
  } catch (error) {
    problem(wordsOf(error))
    $('wallet-problem').scrollIntoView({ block: 'center' })
  }
})

// -- the dialog: a form, then what will be signed ---------------------------------------------------

const form = $('act-form'), CHECK = $('act-go').textContent
const trouble = text => notice('act-problem', text)
const busy = text => { $('act-busy').textContent = text; for (const id of ['act-go', 'act-back']) $(id).disabled = Boolean(text) }
const isoDay = seconds => new Date(seconds * 1000).toISOString().slice(0, 10)

function closeDialog() {
  act = null
  if ($('act').open) $('act').close()
}
$('act-close').addEventListener('click', closeDialog)
$('act').addEventListener('close', () => { act = null })

function openForm(what, kind, rows, asked = {}) {
  form.reset()
  const contract = TOKENS[kind]
  act = { what, kind, contract, rows }
  $('act-title').textContent = say(what)
  for (const part of form.querySelectorAll('[data-for]')) part.hidden = part.dataset.for !== what
  $('act-relay').hidden = !setup.relay
  const list = make('ul')
  for (const row of rows) {
    const all = rowsOf(kind).find(other => other.id === row.id)
    const item = make('li'), text = make('span', row.name)
    text.append(make('span', [row.device, `${milli(all.amount)} ${unit(contract)}`].filter(Boolean).join(' · '), { className: 'small muted' }))
    const label = make('label', unit(contract))
    label.append(make('input', undefined, { value: milliInput(row.amount), inputMode: 'decimal', name: `amount-${row.id}`, ariaLabel: `${row.name}, ${unit(contract)}` }))
    item.append(text, label)
    list.append(item)
  }
  $('act-rows').replaceChildren(list)
  form.beneficiary.value = account
  if (kind === 'certificate') {
    const starts = rows.map(row => row.start), ends = rows.map(row => row.start + row.duration)
    form.consumptionStart.value = asked.first || isoDay(Math.min(...starts))
    form.consumptionEnd.value = asked.last || isoDay(Math.max(...ends) - 1)
    if (asked.month) {
      const [year, month] = asked.month.split('-').map(Number)
      form.consumptionStart.value = `${asked.month}-01`
      form.consumptionEnd.value = isoDay(Date.UTC(year, month, 0) / 1000)
    }
    form.country.value = rows.every(row => row.country === rows[0].country) ? rows[0].country : ''
  }
  stage('form')
  if (!$('act').open) $('act').showModal()
}

const milliInput = raw => (raw % 1000n ? `${raw / 1000n}.${String(raw % 1000n).padStart(3, '0').replace(/0+$/, '')}` : String(raw / 1000n))

function stage(name) {
  trouble('')
  busy('')
  $('act-fields').hidden = name !== 'form'
  $('act-review').hidden = name === 'form'
  $('act-back').hidden = name === 'form' || !act.rows
  if (name === 'form') $('act-go').textContent = CHECK
  form.dataset.stage = name
}
$('act-back').addEventListener('click', () => stage('form'))

form.addEventListener('submit', async event => {
  event.preventDefault()
  const current = act
  trouble('')
  try {
    if (form.dataset.stage === 'form') await review(fromForm(current))
    else await go(current)
  } catch (error) {
    // The dialog may have been closed, or opened for something else, meanwhile.
    if (act === current || act?.rows === current?.rows) { busy(''); trouble(wordsOf(error, TOKENS[current?.kind] ?? current?.contract)) }
  }
})

function address(text) {
  const value = text.trim()
  if (!isAddress(value)) throw told('badAddress')
  return getAddress(value)
}

const day = text => BigInt(Date.parse(`${text}T00:00:00Z`) / 1000)

/** What the form asks for, as a call with everything a reader wants to know about it. */
function fromForm({ what, kind, contract, rows }) {
  const items = rows.map(row => {
    const amount = parseMilli(form[`amount-${row.id}`].value)
    const all = rowsOf(kind).find(other => other.id === row.id).amount
    if (amount === null) throw told('badAmount')
    if (amount > all) throw told('tooMuch', { held: milli(all), unit: unit(TOKENS[kind]) })
    return { ...row, amount }
  })
  const ids = items.map(item => BigInt(item.id)), amounts = items.map(item => item.amount), single = items.length === 1
  const shared = { what, kind, contract, rows, items }
  if (what === 'transfer') {
    const to = address(form.to.value)
    if (to === account) throw told('ownAddress')
    if (Object.values(setup.contracts).includes(to)) throw told('contractAddress')
    const call = single ? ['safeTransferFrom', [account, to, ids[0], amounts[0], '0x']] : ['safeBatchTransferFrom', [account, to, ids, amounts, '0x']]
    return { ...shared, call, facts: [[say('to'), to]], warnings: [say('transferUndo')] }
  }
  if (what === 'convert') {
    const authorisation = BigInt(form.authorisation.value)
    const warnings = [say('convertUndo'), ...(authorisation ? [] : [say('estimateOnly')])]
    return { ...shared, contract: 'MitigationOutcome', call: ['convert', [ids, amounts, authorisation]], facts: [], warnings }
  }
  if (rows.some(row => row.retirable === false)) throw told('notRetirable')
  const details = retirementDetails()
  const name = details.beneficiaryName
  return {
    ...shared, details,
    call: single ? ['retire', [ids[0], amounts[0], details]] : ['retireBatch', [ids, amounts, details]],
    relayed: setup.relay && form.way.value === 'relay',
    facts: [
      [say('forWhom'), [name, Number(details.beneficiary) ? details.beneficiary : ''].filter(Boolean).join(', ')], [say('purpose'), details.purpose],
      [say('place'), [form.location.value.trim(), form.country.value.toUpperCase()].filter(Boolean).join(', ') || '–'],
      [say('consumed'), `${form.consumptionStart.value} – ${form.consumptionEnd.value}`],
    ],
    warnings: [say('cannotUndo'), ...(name ? [say('publicForEver', { name })] : []), say('publicTexts')],
  }
}

function retirementDetails() {
  const text = name => form[name].value.trim()
  const country = text('country').toUpperCase()
  if (!text('purpose')) throw told('needPurpose')
  if (!text('beneficiaryName') && !text('beneficiary')) throw told('needBeneficiary')
  if (country && !/^[A-Z]{2}$/.test(country)) throw told('badCountry')
  const start = text('consumptionStart') ? day(text('consumptionStart')) : 0n
  // The last day is meant with all of it.
  const end = text('consumptionEnd') ? day(text('consumptionEnd')) + 86_400n : start
  if (start > end) throw told('badDates')
  return {
    beneficiary: text('beneficiary') ? address(text('beneficiary')) : `0x${'0'.repeat(40)}`,
    beneficiaryName: text('beneficiaryName'),
    purpose: text('purpose'),
    country: country ? `0x${[...country].map(letter => letter.charCodeAt(0).toString(16)).join('')}` : '0x0000',
    location: text('location'),
    consumptionStart: Number(start),
    consumptionEnd: Number(end),
  }
}

function allowance(contract, operator, allowed) {
  return {
    what: allowed ? 'allow' : 'revoke', contract, items: [], call: ['setApprovalForAll', [operator, allowed]],
    facts: [[say('operator'), operator]], warnings: allowed ? [say('allowAll')] : [],
  }
}

async function openIssue(root) {
  const answer = await fetch(`/portfolio/${setup.account}/issue/${root}.json`)
  const found = await answer.json()
  if (!answer.ok) throw new Told(found.error?.detail ?? say('loadFailed'))
  const items = found.statements.map(row => ({ name: `${row.device} · ${isoDay(row.start)}`, amount: BigInt(row.energy_wh) }))
  const statement = ([deviceId, start, duration, version, energyWh, previousWh, profileHash]) =>
    ({ deviceId: BigInt(deviceId), start: Number(start), duration: Number(duration), version: Number(version), energyWh: BigInt(energyWh), previousWh: BigInt(previousWh), profileHash })
  const [, statements, ...proof] = found.args
  const args = [root, found.function === 'issue' ? statement(statements) : statements.map(statement), ...proof]
  await review({ what: 'issue', contract: found.contract, items, call: [found.function, args], facts: [], warnings: [] })
}

/** Try it out, then show it: amounts in kWh beside the wallet's raw units, what cannot be undone, what it costs. */
async function review(planned) {
  act = planned
  $('act-title').textContent = say(planned.what)
  if (!$('act').open) { stage('review'); $('act-review').replaceChildren(); $('act-back').hidden = true; $('act').showModal() }
  busy(say('simulating'))
  try {
    await prepare(planned)
  } catch (error) {
    if (planned.rows) throw error
    busy('')
    trouble(wordsOf(error, planned.contract))
    $('act-go').disabled = true
    return
  }
  if (act !== planned) return
  stage('review')
  $('act-review').replaceChildren(...reviewed(planned))
  $('act-go').textContent = say(planned.relayed ? 'signMessage' : 'signInWallet')
  $('act-title').focus()
}

async function prepare(planned) {
  const [functionName, args] = planned.call
  planned.from = account
  await reachChain(wallet.provider)
  planned.to = setup.contracts[planned.contract]
  planned.data = encodeFunctionData({ abi: abi.functions[planned.contract], functionName, args })
  const tx = { from: planned.from, to: planned.to, data: planned.data }
  // Tried as a call first: nodes tell an estimate's refusal in less uniform ways.
  const output = await ask('eth_call', tx, 'latest')
  if (functionName === 'convert') {
    const [, grams] = decodeFunctionResult({ abi: abi.functions.MitigationOutcome, functionName, data: output })
    planned.facts = [[say('youGet'), `${milli(grams.reduce((total, one) => total + one, 0n))} kg CO₂e ${say('outcomeFrom')}`]]
  }
  if (!planned.relayed) Object.assign(planned, await priced(wallet.provider, tx, planned.details && setup.relay ? say('noFundsRelay') : ''))
}

function reviewed({ contract, kind, items, call, facts, warnings, fee, relayed, to, what }) {
  const parts = []
  const shownUnit = unit(kind === 'outcome' ? 'MitigationOutcome' : 'EnergyCertificate')
  if (items.length) {
    const table = make('table', undefined, { className: 'review' })
    const head = make('tr'), body = make('tbody')
    const noun = say(what === 'issue' ? 'statements' : kind === 'outcome' ? 'outcomes' : 'certificates')
    head.append(...[noun, shownUnit, say('inWallet')].map((text, i) => make('th', text, { scope: 'col', className: i ? 'n' : '' })))
    const total = items.reduce((sum, item) => sum + item.amount, 0n)
    for (const item of items.length > 1 ? [...items, { name: say('total'), amount: total }] : items) {
      const row = make('tr')
      row.append(make('td', item.name), make('td', milli(item.amount), { className: 'n' }), make('td', String(item.amount), { className: 'n mono' }))
      body.append(row)
    }
    const top = make('thead')
    top.append(head)
    table.append(top, body)
    const frame = make('div', undefined, { className: 'tbl' })
    frame.append(table)
    const units = { raw: String(total), kwh: milli(total) }
    parts.push(frame, make('p', kind === 'outcome' ? say('rawGrams', units) : say('rawUnits', units), { className: 'small muted' }))
  }
  const list = make('dl', undefined, { className: 'facts' })
  const costs = relayed ? say('feeNone') : `${money(fee)} ${setup.chain.currency}`
  for (const [name, value] of [...facts, [say('contract'), `${contract} ${to}`], [say('function'), relayed ? `${call[0]}BySig` : call[0]], [say('fee'), costs]]) {
    list.append(make('dt', name), make('dd', value))
  }
  parts.push(list)
  if (warnings.length) {
    const notes = make('ul', undefined, { className: 'warnings' })
    notes.append(...warnings.map(text => make('li', text)))
    parts.push(notes)
  }
  return parts
}

// -- signing ----------------------------------------------------------------------------------------

async function go(current) {
  busy(say('waitingForWallet'))
  await reachChain(wallet.provider)
  const [now] = await ask('eth_accounts')
  // It is sent from the account that it was shown for, or not at all.
  if (!now || getAddress(now) !== current.from) throw told('otherAccount')
  if (act !== current) return
  const done = current.relayed ? await signForRelay(current) : await sent(wallet.provider, current)
  const sum = current.items.reduce((total, item) => total + item.amount, 0n)
  const title = say(current.what) + (current.items.length ? ` · ${milli(sum)} ${unit(current.kind === 'outcome' ? 'MitigationOutcome' : 'EnergyCertificate')}` : '')
  if (act === current) closeDialog()
  const { from, to, data, contract } = current
  watchAct({ ...done, from, to, data, contract, title })
}

/** The holder signs what will happen (EIP-712), the relay pays. The types are those of the published clear-signing file. */
async function signForRelay({ contract, details, items, from, to }) {
  const read = (functionName, args) => ask('eth_call', { to, data: encodeFunctionData({ abi: abi.functions[contract], functionName, args }) }, 'latest')
  const [answer, nonceData, latest] = await Promise.all([
    fetch(`/clear-signing/eip712-${contract}.json`), read('nonces', [from]), ask('eth_getBlockByNumber', 'latest', false),
  ])
  if (!answer.ok) throw told('loadFailed')
  const { domain, schemas } = (await answer.json()).context.eip712
  const single = items.length === 1, primaryType = single ? 'Retire' : 'RetireBatch'
  const { types } = schemas.find(schema => schema.primaryType === primaryType)
  const nonce = decodeFunctionResult({ abi: abi.functions[contract], functionName: 'nonces', data: nonceData })
  const clock = BigInt(Math.floor(Date.now() / 1000)), block = BigInt(latest.timestamp)
  const deadline = (clock > block ? clock : block) + SIGNATURE_SECONDS
  const ids = items.map(item => BigInt(item.id)), amounts = items.map(item => item.amount)
  const what = single ? { id: ids[0], amount: amounts[0] } : { ids, amounts }
  const message = { account: from, ...what, details, nonce, deadline }
  const typed = JSON.stringify({ domain, types, primaryType, message }, (_, value) => (typeof value === 'bigint' ? String(value) : value))
  const signature = await ask('eth_signTypedData_v4', from, typed)
  busy(say('handingOver'))
  const functionName = single ? 'retireBySig' : 'retireBatchBySig'
  const args = single ? [from, ids[0], amounts[0], details, deadline, signature] : [from, ids, amounts, details, deadline, signature]
  const data = encodeFunctionData({ abi: abi.functions[contract], functionName, args })
  return { ...await handOver(contract, to, data), block: latest.number }
}

async function watch(kind, rows) {
  const address = setup.contracts[TOKENS[kind]]
  try {
    for (const row of rows) {
      const done = await ask('wallet_watchAsset', { type: 'ERC1155', options: { address, tokenId: String(BigInt(row.id)) } })
      if (!done) throw new Error('not taken')
    }
    document.querySelector(`[data-tools=${kind}] [data-chosen]`).textContent = say('watched')
  } catch (error) {
    throw isRejection(error) ? error : told('notWatched')
  }
}

// -- what became of it ------------------------------------------------------------------------------

const key = one => one.ticket ?? one.first ?? one.hash

function saveActs(change) {
  keep(KEPT_ACTS, change(kept(KEPT_ACTS, [])))
}

function watchAct(one) {
  one.first ??= one.hash
  saveActs(all => [...all.filter(other => key(other) !== key(one)), one].slice(-20))
  const item = make('li'), state = make('span'), link = make('a', say('transaction'))
  const forget = make('button', say('forget'), { type: 'button', className: 'quiet sp', hidden: true })
  forget.addEventListener('click', () => { item.remove(); saveActs(all => all.filter(other => key(other) !== key(one))) })
  item.append(make('b', one.title), state, link, forget)
  $('acts').prepend(item)
  const report = (name, values) => {
    state.textContent = say(name, values)
    state.className = name === 'final' ? 'ok' : FINAL.includes(name) ? 'bad' : 'wait'
    item.dataset.state = name
    link.hidden = !one.hash
    if (one.hash) link.href = `/transactions/${one.hash}`
    forget.hidden = !FINAL.includes(name)
    saveActs(all => all.map(other => (key(other) === key(one) ? { ...one, done: FINAL.includes(name) } : other)))
  }
  report(one.unsure ? 'unsure' : one.ticket ? 'relayed' : 'sent')
  follow(one, wallet.provider, abi.errors, report, refresh)
}

let resumed = false
async function resume() {
  if (resumed || account !== setup.account) return
  resumed = true
  await load()
  for (const one of kept(KEPT_ACTS, [])) if (one.from === account && !one.done) watchAct(one)
}

// A wallet that was connected before is taken up again without a question.
function again() {
  const before = wallets().find(found => found.rdns === keptWallet())
  if (before && !wallet) connect(before, 'eth_accounts').catch(() => {})
}
onWallet(again)
again()
