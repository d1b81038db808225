// What the wallet scripts take from viem: calldata and errors by the published ABI. Nothing of it asks a node or a wallet.
export { decodeErrorResult, decodeFunctionResult, encodeFunctionData, getAddress, isAddress } from 'viem/utils'
