// Makes the golden vectors from JavaScript libraries alone, so that no vector comes from the code it judges.
// Needs @openzeppelin/merkle-tree (which brings @noble/hashes and @metamask/abi-utils) in NODE_PATH's node_modules:
//   node tests/vectors/make.mjs .wattmark/node/node_modules          prints nothing when the files are in step
//   node tests/vectors/make.mjs .wattmark/node/node_modules --write  writes them
import { createRequire } from 'node:module';
import { createHmac } from 'node:crypto';
import { readFileSync, writeFileSync, existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const modules = resolve(process.argv[2] ?? 'node_modules');
const require = createRequire(join(modules, 'x.js'));
const fromTree = createRequire(require.resolve('@openzeppelin/merkle-tree'));
const { StandardMerkleTree } = require('@openzeppelin/merkle-tree');
const { keccak_256 } = fromTree('@noble/hashes/sha3');
const { encode } = fromTree('@metamask/abi-utils');
const here = dirname(fileURLToPath(import.meta.url));

const bytes = (hex) => Uint8Array.from(Buffer.from(hex.replace(/^0x/, ''), 'hex'));
const hex = (data) => '0x' + Buffer.from(data).toString('hex');
const cat = (...parts) => Buffer.concat(parts.map((p) => (typeof p === 'string' ? bytes(p) : p)));
const keccak = (data) => hex(keccak_256(typeof data === 'string' ? bytes(data) : Uint8Array.from(data)));
const uint = (value, size) => bytes(BigInt(value).toString(16).padStart(size * 2, '0'));
const text = (value) => Uint8Array.from(Buffer.from(value, 'utf8'));

// -- profiles
const pack = (wh, quality) => cat(...wh.map((v, i) => cat(uint(v, 4), uint(quality[i], 1))));
const salt = (key, device, start, version) =>
  hex(createHmac('sha256', bytes(key)).update(cat(text('wattmark/salt/1'), uint(device, 8), uint(start, 5), uint(version, 4))).digest());
const DAY = 1468454400; // 2016-07-14T00:00:00Z
const key = keccak(text('a device key for the vectors, never used elsewhere'));
const part = (device, start, version, wh, quality) => {
  const packed = pack(wh, quality), s = salt(key, device, start, version);
  return { start, energyWh: wh, quality, packed: hex(packed), salt: s, dayHash: keccak(cat(s, packed)),
    certifiedWh: wh.reduce((sum, v, i) => sum + (quality[i] & 32 ? v : 0), 0) };
};
const sunny = Array.from({ length: 96 }, (_, i) => Math.max(0, Math.round(1300 * Math.sin(((i - 50) / 56) * Math.PI))) * (i >= 50 ? 1 : 0));
const period = (name, device, start, duration, version, parts) => ({
  name, deviceId: device, start, duration, version, parts,
  profileHash: keccak(cat(...parts.map((p) => p.dayHash))), energyWh: parts.reduce((sum, p) => sum + p.certifiedWh, 0) });
const profiles = { deviceKey: key, periods: [
  period('a whole day, all measured and certified', 1, DAY, 86400, 0, [part(1, DAY, 0, sunny, sunny.map(() => 33))]),
  period('each quality bit, the largest slot, a missing slot', 7, DAY, 86400, 2, [part(7, DAY, 2,
    Array.from({ length: 96 }, (_, i) => [4294967295, 0, 12, 13, 14, 15, 16][i] ?? 0),
    Array.from({ length: 96 }, (_, i) => [33, 0, 2, 36, 41, 17, 63][i] ?? 33))]),
  period('one hour of a day', 7, DAY + 39600, 3600, 0, [part(7, DAY + 39600, 0, [100, 200, 300, 400], [33, 33, 17, 33])]),
  period('half a day, a day, an hour: parts end at UTC midnight', 9, DAY + 43200, 43200 + 86400 + 3600, 1, [
    part(9, DAY + 43200, 1, Array(48).fill(7), Array(48).fill(33)),
    part(9, DAY + 86400, 1, Array(96).fill(0), Array(96).fill(0)),
    part(9, DAY + 172800, 1, [1, 2, 3, 4], [33, 33, 33, 35])]),
] };

// -- rounding: the hand-written expectations are the point, nothing is computed here
const rounding = {
  micro: [
    { text: '2.5', micro: '2500000' }, { text: '-2.8601', micro: '-2860100' }, { text: '0.0217399999999999', micro: '21740' },
    { text: '0.0000005', micro: '0' }, { text: '0.0000015', micro: '2' }, { text: '-0.0000025', micro: '-2' }, { text: '2e-05', micro: '20' },
    { text: '1', unit: 'kWh', micro: '1000000000' }, { text: '0,001', unit: 'MWh', decimalMark: ',', micro: '1000000000' } ],
  refused: ['', 'NaN', 'inf', '1_000', '1,5', '0x10', '--1', '1e40', '٣'],
  // parts of 1/partsPerWh Wh -> watt-hours: floor(sum at end) - floor(sum at start)
  wholeWh: [
    { partsPerWh: '4', parts: [1, 2, 3, 4, 5], wh: [0, 0, 1, 1, 1] },
    { partsPerWh: '10', parts: [9, 9, 9, 9], wh: [0, 1, 1, 1] },
    { partsPerWh: '3600000000', parts: [900000000, 900000000, 900000000, 900000000], wh: [0, 0, 0, 1] },
    { partsPerWh: '1000000', parts: [25410499, 501, 0], wh: [25, 0, 0] },
    { partsPerWh: '1000000', parts: [], wh: [] } ],
};

// -- statements and trees
const TYPES = ['uint64', 'uint40', 'uint32', 'uint32', 'uint64', 'uint64', 'bytes32'];
const tuple = (s) => [s.deviceId, s.start, s.duration, s.version, s.energyWh, s.previousWh, s.profileHash].map(String);
const statement = (deviceId, start, duration, version, energyWh, previousWh, label) =>
  ({ deviceId: String(deviceId), start, duration, version, energyWh: String(energyWh), previousWh: String(previousWh), profileHash: keccak(text(label)) });
const grow = (count) => Array.from({ length: count }, (_, i) => statement(1 + (i % 3), DAY + 86400 * Math.floor(i / 3), 86400, 0, 20000 + i, 0, `profile ${i}`));
const extremes = [
  statement(1, DAY, 86400, 0, 25410, 0, 'first'),
  statement(1, DAY, 86400, 1, 25000, 25410, 'corrected downwards'),
  statement(1, DAY, 86400, 2, 26000, 25000, 'corrected upwards'),
  statement('18446744073709551615', 1099511627775, 4294967295, 4294967295, '18446744073709551615', '18446744073709551615', 'every field full'),
  statement(0, 0, 0, 0, 0, 0, 'every field empty') ];
const tree = (name, statements) => {
  const t = StandardMerkleTree.of(statements.map(tuple), TYPES);
  const chosen = statements.map((_, i) => i).filter((i) => i % 2 === 0);
  const multi = t.getMultiProof(chosen);
  return { name, statements: statements.map((s, i) => ({ ...s, leaf: t.leafHash(tuple(s)), proof: t.getProof(i) })), root: t.root,
    multiProof: { chosen, leaves: multi.leaves.map((l) => t.leafHash(l)), proof: multi.proof, flags: multi.proofFlags } };
};
const trees = { types: TYPES, trees: [tree('one statement', grow(1)), tree('two', grow(2)), tree('three', grow(3)), tree('seven', grow(7)),
  tree('a hundred and six', grow(106)), tree('versions and full fields', extremes)] };

// -- batches (EIP-712), heads
const DOMAIN = 'EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)';
const BATCH = 'Batch(uint8 kind,uint16 signerEpoch,bytes32 head,bytes32 root,uint40 start,uint40 end,uint32 statements,uint64 energyWh,bytes32 archiveHash,uint40 deadline)';
const abi = (types, values) => encode(types, values);
const digest = (d, b) => {
  const separator = keccak(abi(['bytes32', 'bytes32', 'bytes32', 'uint256', 'address'],
    [bytes(keccak(text(DOMAIN))), bytes(keccak(text('Wattmark Notary'))), bytes(keccak(text('1'))), BigInt(d.chainId), d.verifyingContract]));
  const struct = keccak(abi(['bytes32', 'uint8', 'uint16', 'bytes32', 'bytes32', 'uint40', 'uint40', 'uint32', 'uint64', 'bytes32', 'uint40'],
    [bytes(keccak(text(BATCH))), b.kind, b.signerEpoch, bytes(b.head), bytes(b.root), b.start, b.end, b.statements, BigInt(b.energyWh), bytes(b.archiveHash), b.deadline]));
  return { separator, struct, digest: keccak(cat('0x1901', separator, struct)) };
};
const zero = '0x' + '00'.repeat(32);
const domain = { chainId: '2016071', verifyingContract: '0x5fbdb2315678afecb367f032d93f642f64180aa3' };
const final1 = { kind: 1, signerEpoch: 1, head: zero, root: trees.trees[4].root, start: DAY, end: DAY + 36 * 86400, statements: 106,
  energyWh: String(grow(106).reduce((sum, s) => sum + Number(s.energyWh), 0)), archiveHash: keccak(text('archive 1')), deadline: 1795000000 };
const d1 = digest(domain, final1);
const head1 = keccak(cat(zero, d1.digest));
const final2 = { ...final1, head: head1, root: trees.trees[3].root, end: DAY + 3 * 86400, statements: 7, energyWh: '140021', archiveHash: keccak(text('archive 2')) };
const d2 = digest(domain, final2);
const interim = { ...final1, kind: 2, head: zero, signerEpoch: 65535, root: trees.trees[0].root, statements: 1, energyWh: '18446744073709551615', deadline: 1099511627775 };
const batches = { types: { domain: DOMAIN, batch: BATCH }, domain, batches: [
  { name: 'first FINAL batch', batch: final1, ...d1, nextHead: head1 },
  { name: 'second FINAL batch, chained', batch: final2, ...d2, nextHead: keccak(cat(head1, d2.digest)) },
  { name: 'INTERIM batch, full fields', batch: interim, ...digest(domain, interim), nextHead: null } ] };

// -- ids
const id = (device, start, duration) => ({ deviceId: String(device), start, duration, id: hex(cat(uint(device, 8), uint(start, 5), uint(duration, 4), new Uint8Array(15))) });
const outcome = (factorId, year, country, authorisation) => ({ factorId, vintageYear: year, country, authorisationId: String(authorisation),
  id: hex(cat(uint(factorId, 4), uint(year, 2), text(country), uint(authorisation, 8), new Uint8Array(16))) });
const ids = { certificates: [id(1, DAY, 86400), id('18446744073709551615', 1099511627775, 4294967295), id(2, DAY + 3600, 3600)],
  outcomes: [outcome(1, 2016, 'US', 0), outcome(4294967295, 2035, 'CL', '18446744073709551615')] };

let stale = 0;
for (const [name, value] of Object.entries({ profiles, rounding, trees, batches, ids })) {
  const file = join(here, `${name}.json`), fresh = JSON.stringify(value, null, 1) + '\n';
  if (process.argv.includes('--write')) writeFileSync(file, fresh);
  else if (!existsSync(file) || readFileSync(file, 'utf8') !== fresh) { console.error(`${name}.json is not what the libraries give`); stale = 1; }
}
process.exit(stale);
