export default { networks: { node: { type: "edr-simulated", chainId: 20261, hardfork: "prague" } } };
