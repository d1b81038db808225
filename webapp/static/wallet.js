// Adding the chain to a visitor's wallet. Nothing is signed here.

import { addChain, wallets } from './wallet/provider.js'

const button = document.querySelector('[data-add-chain]')

if (button) {
  const status = document.querySelector('[data-add-chain-status]')
  const say = (text, tone) => { status.textContent = text; status.className = `small ${tone}` }

  button.addEventListener('click', async () => {
    const [wallet] = wallets()
    const { chainId, chainName, rpc, currency, none, done, refused } = button.dataset
    if (!wallet) return say(none, 'muted')
    button.disabled = true
    try {
      await addChain(wallet.provider, { chainId, name: chainName, rpcUrl: rpc, currency })
      say(done, 'ok')
    } catch {
      say(refused, 'warn')
    } finally {
      button.disabled = false
    }
  })
}
