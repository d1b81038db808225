// Wallets in this browser: EIP-6963 discovery, with window.ethereum where no wallet announces itself, and their chain.

const found = new Map()
const listeners = new Set()

window.addEventListener('eip6963:announceProvider', event => {
  const { info, provider } = event.detail ?? {}
  if (!info?.uuid || typeof provider?.request !== 'function') return
  // One wallet may announce itself again, but nobody in its place.
  if (found.has(info.uuid)) return
  // A picture from elsewhere would tell its host who looks at this page.
  const icon = /^data:image\//.test(info.icon ?? '') ? info.icon : null
  found.set(info.uuid, { name: String(info.name).slice(0, 60), rdns: String(info.rdns), icon, provider })
  listeners.forEach(listener => listener())
})
window.dispatchEvent(new Event('eip6963:requestProvider'))

/** Every wallet found so far: `{ name, rdns, icon, provider }`. */
export function wallets(fallbackName = 'window.ethereum') {
  const several = [...found.values()]
  if (!several.length && typeof window.ethereum?.request === 'function') {
    several.push({ name: fallbackName, rdns: 'window.ethereum', icon: null, provider: window.ethereum })
  }
  return several
}

export const onWallet = listener => listeners.add(listener)

/** Wallets wrap the node's and each other's errors: every code and every text in one. */
export function* layers(error, depth = 0) {
  if (!error || typeof error !== 'object' || depth > 5) return
  yield error
  for (const inner of [error.data, error.data?.originalError, error.error, error.cause]) yield* layers(inner, depth + 1)
}

export const hasCode = (error, ...codes) => [...layers(error)].some(layer => codes.includes(layer.code))
export const isRejection = error => hasCode(error, 4001, 'ACTION_REJECTED')

export async function isOnChain(provider, chain) {
  return BigInt(await provider.request({ method: 'eth_chainId' })) === BigInt(chain.chainId)
}

export async function addChain(provider, chain) {
  const nativeCurrency = { name: chain.currency, symbol: chain.currency, decimals: 18 }
  const params = [{ chainId: chain.chainId, chainName: chain.name, rpcUrls: [chain.rpcUrl], nativeCurrency }]
  await provider.request({ method: 'wallet_addEthereumChain', params })
}

/** Bring the wallet to the chain: switch, and add it first where the wallet does not know it (4902). False: it did not go there. */
export async function bringToChain(provider, chain) {
  const change = () => provider.request({ method: 'wallet_switchEthereumChain', params: [{ chainId: chain.chainId }] })
  if (await isOnChain(provider, chain)) return true
  try {
    await change()
  } catch (error) {
    if (isRejection(error)) return false
    if (!hasCode(error, 4902) || !chain.rpcUrl) throw error
    try {
      await addChain(provider, chain)
      if (!(await isOnChain(provider, chain))) await change()
    } catch (refusal) {
      if (isRejection(refusal)) return false
      throw refusal
    }
  }
  return isOnChain(provider, chain)
}
