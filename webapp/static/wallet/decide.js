// Review decisions: the server gives the exact text, this page shows it in words made from that very text, and the reviewer's
// wallet signs it (personal_sign). This page never sees a key.

import { isRejection, onWallet, wallets } from './provider.js'
import { $, bytesOf, hexOf, keptWallet, make, notice } from './acting.js'
import { Told, say, setup, told } from './words.js'

const root = $('decide')
const trouble = notice
const utc = seconds => new Date(seconds * 1000).toISOString().slice(0, 16).replace('T', ' ')
const clock = slot => `${String(Math.floor(slot / 4)).padStart(2, '0')}:${String((slot % 4) * 15).padStart(2, '0')}`

async function post(address, body, type = 'application/json') {
  const answer = await fetch(address, { method: 'POST', body, headers: { 'Content-Type': type, 'X-CSRF-Token': setup.token } })
  const given = await answer.json().catch(() => ({}))
  if (!answer.ok) throw new Told(given.error?.detail ?? say('failed', { problem: answer.status }))
  return given
}

// -- what is signed ---------------------------------------------------------------------------------

/** The text in words: pairs of name and value, every fact of it. */
function inWords(facts) {
  const rows = [[say(facts.decision), '']]
  rows.push([say('device'), String(facts.deviceId)])
  if (facts.decision === 'clock') {
    rows.push([say('time'), `${utc(facts.from)} – ${utc(facts.until)}`], [say('off'), say('minutes', { minutes: facts.seconds / 60 })])
  } else {
    rows.push([say('day'), utc(facts.start).slice(0, 10)], [say('version'), String(facts.version)])
  }
  rows.push([say('reason'), facts.reason])
  if (facts.edits) rows.push([say('edits'), facts.edits.map(([slot, before, after]) => `${clock(slot)}: ${before} → ${after}`).join('\n')])
  for (const name of ['evidence', 'conflict', 'profileHash']) if (facts[name]) rows.push([say(name), facts[name]])
  rows.push([say('decidedAt'), `${utc(facts.decidedAt)} UTC`])
  return rows
}

/** Whether the server's text says what the reviewer entered, and nothing of it was changed on the way. */
function isAsAsked(facts, asked) {
  if (facts.reason !== asked.reason || String(facts.deviceId) !== String(asked.device_id)) return false
  if (asked.decision === 'clock') return facts.decision === 'clock'
  if (facts.start * 1000 !== Date.parse(`${asked.day}T00:00:00Z`)) return false
  if (asked.decision === setup.choose) return facts.decision === 'edit' && facts.evidence === asked.file
  const edits = JSON.stringify((facts.edits ?? []).map(([slot, , after]) => [slot, after]))
  return facts.decision === asked.decision && edits === JSON.stringify(asked.edits ?? []) && (facts.evidence ?? '') === (asked.evidence ?? '')
}

let message = null

async function show(asked) {
  const given = await post('/operators/reviews/draft.json', JSON.stringify(asked))
  const facts = JSON.parse(given.message)
  if (!isAsAsked(facts, asked)) throw told('altered')
  message = given.message
  $('sign-words').replaceChildren(...inWords(facts).flatMap(([name, value]) => {
    return [make('dt', name), Object.assign(make('dd', value), { className: 'lines' })]
  }))
  $('sign-text').textContent = message
  trouble('sign-problem', '')
  $('sign-busy').textContent = ''
  list()
  $('sign').showModal()
  $('sign-title').focus()
}

// -- the wallet -------------------------------------------------------------------------------------

function list() {
  const found = wallets()
  const before = keptWallet()
  $('sign-wallet').replaceChildren(...found.map((one, i) => {
    const option = make('option', one.name)
    option.value = i
    option.selected = one.rdns === before
    return option
  }))
  $('sign-wallet').hidden = found.length < 2
}
onWallet(list)

async function sign(text) {
  const wallet = wallets()[Number($('sign-wallet').value) || 0]
  if (!wallet) throw told('noWallet')
  $('sign-busy').textContent = say('waiting')
  const accounts = await wallet.provider.request({ method: 'eth_requestAccounts' })
  const account = accounts.find(one => one.toLowerCase() === setup.account.toLowerCase())
  if (!account) throw told('otherAccount', { account: setup.account })
  const signature = await wallet.provider.request({ method: 'personal_sign', params: [hexOf(bytesOf(text)), account] })
  $('sign-busy').textContent = say('sending')
  return (await post('/operators/reviews/decision.json', JSON.stringify({ message: text, signature }))).sha256
}

const inTheirWords = error => (error instanceof Told ? error.message : isRejection(error) ? say('rejected') : say('failed', { problem: String(error?.message ?? error).slice(0, 200) }))

$('sign-go').addEventListener('click', async () => {
  $('sign-go').disabled = true
  trouble('sign-problem', '')
  try {
    const sha256 = await sign(message)
    $('sign').close()
    watch(sha256)
    await refresh()
  } catch (error) {
    trouble('sign-problem', inTheirWords(error))
  } finally {
    $('sign-busy').textContent = ''
    $('sign-go').disabled = false
  }
})

/** Tell what became of a decision until the oracle has taken or refused it. */
async function watch(sha256) {
  $('decided').hidden = false
  for (let seconds = 2; ; seconds = Math.min(seconds * 1.5, 30)) {
    const answer = await fetch(`/operators/reviews/decisions/${sha256}.json`).catch(() => null)
    const found = answer?.ok ? await answer.json() : null
    if (found) {
      $('decided').dataset.state = found.progress
      $('decided').lastElementChild.textContent = [found.words, found.refusal].filter(Boolean).join(': ')
    }
    if (['taken', 'refused'].includes(found?.progress)) return refresh()
    await new Promise(resolve => setTimeout(resolve, seconds * 1000))
  }
}

/** The list of decisions as it is now; a day that is in a batch since has no page here any more. */
async function refresh() {
  const answer = $('live') && await fetch(window.location.href).catch(() => null)
  const fresh = answer?.ok && new DOMParser().parseFromString(await answer.text(), 'text/html').getElementById('live')
  if (fresh) $('live').replaceWith(document.adoptNode(fresh))
}

// -- the forms --------------------------------------------------------------------------------------

for (const form of document.querySelectorAll('form[data-clock]')) {
  form.addEventListener('submit', async event => {
    event.preventDefault()
    const asked = { decision: 'clock', device_id: Number(form.dataset.clock), start: Number(form.dataset.start), reason: form.elements.reason.value.trim() }
    const problem = form.querySelector('[data-problem]')
    problem.textContent = ''
    await show(asked).catch(error => { problem.textContent = inTheirWords(error) })
  })
}

const form = $('decision')

form?.addEventListener('change', () => { $('edit').hidden = form.elements.decision.value !== 'edit' })

form?.addEventListener('input', ({ target }) => {
  if (target.dataset.slot) target.parentElement.toggleAttribute('data-changed', target.value !== target.dataset.before)
})

/** Slots that were given other figures, `[slot, Wh]`. */
function edits() {
  const changed = [...form.querySelectorAll('[data-slot]')].filter(input => input.value.trim() !== input.dataset.before)
  if (!changed.length) throw told('noEdits')
  return changed.map(input => {
    const text = input.value.trim()
    if (!/^\d{1,10}$/.test(text) || Number(text) > 4294967295) throw told('badWh', { slot: clock(Number(input.dataset.slot)) })
    return [Number(input.dataset.slot), Number(text)]
  })
}

form?.addEventListener('submit', async event => {
  event.preventDefault()
  trouble('decision-problem', '')
  const chosen = form.querySelector('input[name=decision]:checked')
  if (!chosen) return form.reportValidity()
  try {
    const asked = { decision: chosen.value, device_id: Number(root.dataset.device), day: root.dataset.day, reason: form.elements.reason.value.trim() }
    if (!asked.reason) { form.elements.reason.focus(); return form.reportValidity() }
    if (asked.decision === setup.choose) asked.file = chosen.dataset.file
    if (asked.decision === 'edit') {
      asked.edits = edits()
      const [file] = $('evidence').files
      if (!file) throw told('noEvidence')
      $('decision-busy').textContent = say('hashing')
      asked.evidence = (await post('/operators/reviews/evidence.json', file, 'application/octet-stream')).sha256
    }
    await show(asked)
  } catch (error) {
    trouble('decision-problem', inTheirWords(error))
  } finally {
    $('decision-busy').textContent = ''
  }
})
