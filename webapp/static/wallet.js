// Adding the chain to a visitor's wallet: EIP-6963 discovery first, then window.ethereum. Nothing is signed here.

const button = document.querySelector('[data-add-chain]')

if (button) {
  const found = new Map()
  window.addEventListener('eip6963:announceProvider', event => found.set(event.detail.info.uuid, event.detail.provider))
  window.dispatchEvent(new Event('eip6963:requestProvider'))
  const status = document.querySelector('[data-add-chain-status]')
  const say = (text, tone) => { status.textContent = text; status.className = `small ${tone}` }

  button.addEventListener('click', async () => {
    const provider = [...found.values()][0] ?? window.ethereum
    const { chainId, chainName, rpc, currency, none, done, refused } = button.dataset
    if (!provider) return say(none, 'muted')
    button.disabled = true
    try {
      const chain = { chainId, chainName, rpcUrls: [rpc], nativeCurrency: { name: currency, symbol: currency, decimals: 18 } }
      await provider.request({ method: 'wallet_addEthereumChain', params: [chain] })
      say(done, 'ok')
    } catch {
      say(refused, 'warn')
    } finally {
      button.disabled = false
    }
  })
}
