import contextlib
import json
import os
import stat

import pytest

from oracle.archive import ArchivedStatement, read_archive, roots_in, write_archive
from oracle.domain import Profile, Quality, Statement, Visibility
from oracle.errors import ArchiveError, ProtocolError
from oracle.merkle import root_from_proof
from oracle.protocol import day_hash, day_salt, keccak256, pack_profile, profile_hash, statement_leaf

DAY = 86_400
GOOD = int(Quality.MEASURED | Quality.CERTIFIED)
POLICY = {"tareBandPermille": 5}


def record(device_id=1, day=0, energy_wh=(0,) * 48 + (25,) * 48, assessment='{"corroboration":"corroborated"}'):
    start = 1_467_331_200 + day * DAY  # 2016-07-01
    packed = pack_profile(Profile(start, energy_wh, (GOOD,) * 96))
    salt = day_salt(b"k" * 32, device_id, start, 0)
    hashed = profile_hash([day_hash(salt, packed)])
    statement = Statement(device_id, start, DAY, 0, sum(energy_wh), 0, hashed)
    return ArchivedStatement(statement, packed, salt, (b"\x11" * 32, b"\x22" * 32), assessment)


def write(folder, records=None, **changes):
    records = [record(day=day) for day in range(3)] if records is None else records
    return write_archive(folder, records, **{"visibility": Visibility.PUBLIC, "policy": POLICY, **changes})


def test_write_archive_batch_reads_back_whole(tmp_path):
    records = [record(2, 1), record(1, 2), record(1, 0)]
    trail = [{"deviceId": 1, "decision": "accept"}]
    withheld = [{"deviceId": 2, "start": 1_467_331_200, "reason": "missing slots"}]
    written = write(tmp_path / "archive", records, review_trail=trail, withheld=withheld)
    read = read_archive(tmp_path / "archive", written.root)
    assert read.problem is None
    assert read.records == (records[2], records[1], records[0])
    assert read.archive_hash == written.archive_hash
    assert (read.manifest["reviewTrail"], read.manifest["withheld"], read.manifest["policy"]) == (
        trail,
        withheld,
        POLICY,
    )
    assert read.manifest["visibility"] == "public"
    assert all(each.recomputed_profile_hash() == each.statement.profile_hash for each in read.records)
    for each in read.records:
        leaf = statement_leaf(each.statement)
        assert root_from_proof(leaf, read.tree.proof(leaf)) == written.root
    assert read.record(2, 1_467_331_200 + DAY) == records[0]
    assert read.record(2, 1_467_331_200) is None


def test_write_archive_archive_hash_is_keccak_of_the_manifest_file(tmp_path):
    written = write(tmp_path)
    raw = (tmp_path / f"{written.root.hex()}.json").read_bytes()
    assert written.archive_hash == keccak256(raw)
    stated = json.loads(raw)["files"][0]
    parquet = (tmp_path / stated["name"]).read_bytes()
    assert (stated["bytes"], stated["keccak256"]) == (len(parquet), "0x" + keccak256(parquet).hex())


def test_write_archive_other_order_gives_the_same_bytes(tmp_path):
    records = [record(day=day) for day in range(5)]
    one, other = write(tmp_path / "one", records), write(tmp_path / "other", records[::-1])
    assert (one.root, one.archive_hash) == (other.root, other.archive_hash)


def test_write_archive_files_are_readable_by_all_and_alone_in_the_folder(tmp_path):
    written = write(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"{written.root.hex()}.json", f"{written.root.hex()}.parquet"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}


def test_write_archive_private_devices_is_for_its_owner_alone(tmp_path):
    write(tmp_path, visibility=Visibility.PRIVATE)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_read_archive_not_permitted_names_the_file(tmp_path, monkeypatch):
    written = write(tmp_path, visibility=Visibility.PRIVATE)
    name = f"{written.root.hex()}.json"

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(tmp_path), "read_bytes", denied)
    with pytest.raises(ArchiveError, match=f"{name} may not be read by this user"):
        read_archive(tmp_path, written.root)
    assert roots_in(tmp_path) == [written.root]


def test_write_archive_whole_archive_is_never_written_again(tmp_path):
    """Its archive hash may be signed: other policy or decisions must not slip under the same root."""
    first = write(tmp_path)
    again = write(tmp_path, policy={"tareBandPermille": 9}, review_trail=[{"deviceId": 1}])
    assert (again.archive_hash, again.manifest) == (first.archive_hash, first.manifest)


def test_write_archive_damaged_archive_in_place_refuses(tmp_path):
    root = write(tmp_path).root
    manifest = tmp_path / f"{root.hex()}.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"keccak256":"0x', b'"keccak256":"0y'))
    with pytest.raises(ArchiveError, match="restore it or move it away"):
        write(tmp_path)


@pytest.mark.parametrize("crash_at", [1, 2])
def test_write_archive_crash_before_a_rename_leaves_no_archive(tmp_path, monkeypatch, crash_at):
    replace, calls = os.replace, []

    def crash(source, target):
        calls.append(target)
        if len(calls) == crash_at:
            raise OSError("power cut")
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="power cut"):
        write(tmp_path)
    assert roots_in(tmp_path) == []
    assert not list(tmp_path.glob(".part-*"))
    monkeypatch.setattr(os, "replace", replace)
    assert read_archive(tmp_path, write(tmp_path).root).problem is None


def test_write_archive_float_in_the_policy_refuses_and_writes_nothing(tmp_path):
    with pytest.raises(ProtocolError, match="no floating point"):
        write(tmp_path, policy={"tareBand": 0.005})
    assert list(tmp_path.iterdir()) == []


def test_write_archive_same_statement_twice_refuses(tmp_path):
    with pytest.raises(ProtocolError, match="comes twice"):
        write(tmp_path, [record(), record()])


def test_read_archive_unknown_root_refuses(tmp_path):
    with pytest.raises(ArchiveError, match="is not here"):
        read_archive(tmp_path, b"\x01" * 32)


def test_read_archive_any_flipped_bit_of_the_parquet_is_seen(tmp_path):
    root = write(tmp_path).root
    file = tmp_path / f"{root.hex()}.parquet"
    whole = file.read_bytes()
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with contextlib.suppress(ArchiveError):
            assert read_archive(tmp_path, root).problem


def test_read_archive_any_flipped_bit_of_the_manifest_changes_the_archive_hash(tmp_path):
    written = write(tmp_path)
    file = tmp_path / f"{written.root.hex()}.json"
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert read_archive(tmp_path, written.root).archive_hash != written.archive_hash


def test_read_archive_of_another_root_under_this_name_is_named(tmp_path):
    one, other = write(tmp_path / "one"), write(tmp_path / "other", [record(day=9)])
    for suffix in ("json", "parquet"):
        (tmp_path / "one" / f"{one.root.hex()}.{suffix}").write_bytes(
            (tmp_path / "other" / f"{other.root.hex()}.{suffix}").read_bytes()
        )
    assert read_archive(tmp_path / "one", one.root).problem == f"its statements lead to root 0x{other.root.hex()}"


def test_recomputed_profile_hash_missing_salt_or_slot_never_matches():
    whole = record()
    for profile, salts in (
        (whole.profile[:-5], whole.salts),
        (whole.profile, whole.salts[:-1]),
        (whole.profile, whole.salts * 2),
    ):
        assert (
            ArchivedStatement(whole.statement, profile, salts).recomputed_profile_hash() != whole.statement.profile_hash
        )
