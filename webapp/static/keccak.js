// Ethereum's keccak-256, on 32-bit halves of the lanes: numbers of JavaScript are exact only up to 53 bits.

const ROUNDS = 24
const constants = []
const steps = []

{
  // Round constants from the linear feedback shift register, rotations and places from the walk over the lanes (FIPS 202, 3.2).
  let register = 1
  for (let round = 0; round < ROUNDS; round++) {
    let low = 0
    let high = 0
    for (let j = 0; j < 7; j++) {
      const bit = 2 ** j - 1
      if (register & 1) {
        if (bit < 32) low ^= 1 << bit
        else high ^= 1 << (bit - 32)
      }
      register = (register << 1) ^ (register & 0x80 ? 0x171 : 0)
    }
    constants.push([high | 0, low | 0])
  }
  steps.push([0, 0, 0])
  let [x, y] = [1, 0]
  for (let t = 0; t < 24; t++) {
    steps.push([x + 5 * y, y + 5 * ((2 * x + 3 * y) % 5), (((t + 1) * (t + 2)) / 2) % 64])
    ;[x, y] = [y, (2 * x + 3 * y) % 5]
  }
}

/** High and low half of a lane turned left by `by` bits. */
function turned(high, low, by) {
  if (by === 0) return [high, low]
  if (by === 32) return [low, high]
  if (by > 32) return turned(low, high, by - 32)
  return [(high << by) | (low >>> (32 - by)), (low << by) | (high >>> (32 - by))]
}

function permute(high, low) {
  const h = new Int32Array(25)
  const l = new Int32Array(25)
  for (const [constantHigh, constantLow] of constants) {
    const columnHigh = [0, 1, 2, 3, 4].map(x => high[x] ^ high[x + 5] ^ high[x + 10] ^ high[x + 15] ^ high[x + 20])
    const columnLow = [0, 1, 2, 3, 4].map(x => low[x] ^ low[x + 5] ^ low[x + 10] ^ low[x + 15] ^ low[x + 20])
    for (let x = 0; x < 5; x++) {
      const [mixedHigh, mixedLow] = turned(columnHigh[(x + 1) % 5], columnLow[(x + 1) % 5], 1)
      for (let y = 0; y < 25; y += 5) {
        high[x + y] ^= columnHigh[(x + 4) % 5] ^ mixedHigh
        low[x + y] ^= columnLow[(x + 4) % 5] ^ mixedLow
      }
    }
    for (const [from, to, by] of steps) [h[to], l[to]] = turned(high[from], low[from], by)
    for (let y = 0; y < 25; y += 5) {
      for (let x = 0; x < 5; x++) {
        high[x + y] = h[x + y] ^ (~h[y + ((x + 1) % 5)] & h[y + ((x + 2) % 5)])
        low[x + y] = l[x + y] ^ (~l[y + ((x + 1) % 5)] & l[y + ((x + 2) % 5)])
      }
    }
    high[0] ^= constantHigh
    low[0] ^= constantLow
  }
}

/** keccak-256 of bytes: a Uint8Array of 32. */
export function keccak256(data) {
  const padded = new Uint8Array((Math.floor(data.length / 136) + 1) * 136)
  padded.set(data)
  padded[data.length] ^= 0x01
  padded[padded.length - 1] ^= 0x80
  const view = new DataView(padded.buffer)
  const high = new Int32Array(25)
  const low = new Int32Array(25)
  for (let at = 0; at < padded.length; at += 136) {
    for (let i = 0; i < 17; i++) {
      low[i] ^= view.getInt32(at + 8 * i, true)
      high[i] ^= view.getInt32(at + 8 * i + 4, true)
    }
    permute(high, low)
  }
  const digest = new DataView(new ArrayBuffer(32))
  for (let i = 0; i < 4; i++) {
    digest.setInt32(8 * i, low[i], true)
    digest.setInt32(8 * i + 4, high[i], true)
  }
  return new Uint8Array(digest.buffer)
}
