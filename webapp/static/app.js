// What pages do in the browser: copy, read a chart, print, and follow a validation. Every page works without it.

const words = document.body.dataset

document.addEventListener('click', async event => {
  const copy = event.target.closest('[data-copy]')
  if (copy) {
    await navigator.clipboard.writeText(copy.dataset.copy)
    copy.classList.add('done')
    copy.title = words.copied
    setTimeout(() => copy.classList.remove('done'), 1500)
  }
  if (event.target.closest('[data-print]')) window.print()
})

for (const chart of document.querySelectorAll('[data-chart]')) {
  const readout = chart.parentElement.querySelector('[data-readout]')
  const resting = readout?.textContent
  chart.addEventListener('pointermove', event => {
    if (readout && event.target.dataset.read) readout.textContent = event.target.dataset.read
  })
  chart.addEventListener('pointerleave', () => { if (readout) readout.textContent = resting })
}

// Where the current tab of the navigation lies out of sight on a narrow screen, bring it in.
const here = document.querySelector('.nav a[aria-current]')
if (here) {
  const list = here.closest('ul')
  const [left, right] = [here.offsetLeft - list.offsetLeft, here.offsetLeft - list.offsetLeft + here.offsetWidth]
  if (right > list.clientWidth) list.scrollLeft = Math.min(left - 40, right - list.clientWidth / 2)
}

const status = document.querySelector('[data-job]')

async function follow(id) {
  const bar = document.createElement('progress')
  const count = document.createElement('span')
  status?.replaceChildren(bar, count)
  for (;;) {
    const answer = await fetch(`/checks/jobs/${id}.json`, { headers: { Accept: 'application/json' } })
    if (!answer.ok) return
    const { job } = await answer.json()
    if (job.total) { bar.max = job.total; bar.value = job.done }
    count.textContent = `${job.done} / ${job.total || '…'}`
    if (job.state === 'done' || job.state === 'failed') break
    await new Promise(resolve => setTimeout(resolve, 400))
  }
  window.location.reload()
}

for (const form of document.querySelectorAll('form[data-validate]')) {
  form.addEventListener('submit', async event => {
    event.preventDefault()
    const button = form.querySelector('button')
    button.disabled = true
    const answer = await fetch(form.action, { method: 'POST', body: new URLSearchParams(new FormData(form)), headers: { Accept: 'application/json' } })
    if (!answer.ok) { form.submit(); return }
    follow((await answer.json()).id)
  })
}

if (status?.dataset.jobId) follow(status.dataset.jobId)
