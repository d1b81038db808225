// Which certificates make up an amount.

/**
 * As few as possible, because each costs gas: the largest first, and for the rest the smallest that is enough.
 * `rows` are `{ id, amount }`, amounts and `wanted` BigInt in one unit. Null where all together are not enough.
 */
export function choose(rows, wanted) {
  const falling = [...rows].sort((a, b) => (a.amount < b.amount ? 1 : a.amount > b.amount ? -1 : 0))
  const chosen = []
  let rest = wanted
  while (rest > 0n) {
    const left = falling.slice(chosen.length)
    if (!left.length) return null
    const enough = left.filter(row => row.amount >= rest).at(-1)
    chosen.push(enough ? { ...enough, amount: rest } : left[0])
    rest -= chosen.at(-1).amount
  }
  return chosen
}

/** Certificates of a month ("2016-07"), between two days (UTC, both included) and of a technology; each may be left open. */
export function fitting(rows, { month = '', first = '', last = '', technology = '' }) {
  const from = first ? Date.parse(`${first}T00:00:00Z`) / 1000 : -Infinity
  const to = last ? Date.parse(`${last}T00:00:00Z`) / 1000 + 86_400 : Infinity
  return rows.filter(row =>
    (!month || row.month === month) && row.start >= from && row.start + row.duration <= to && (!technology || row.technology === technology))
}
