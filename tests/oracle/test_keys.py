import json
import stat

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from oracle.config import KeyFile
from oracle.keys import SecretError, create_account, create_device_key, keystore_address, load_account, load_device_key


@pytest.fixture
def key(tmp_path):
    return KeyFile(tmp_path / "keys" / "key.json", tmp_path / "keys" / "password")


def mode(file):
    return stat.S_IMODE(file.stat().st_mode)


def test_create_account_new_files_are_private_and_open_again(key):
    address = create_account(key)
    account = load_account(key)
    assert account.address == address == keystore_address(key)
    assert mode(key.keystore) == mode(key.password_file) == 0o600
    message = encode_defunct(text="wattmark")
    assert Account.recover_message(message, signature=account.sign_message(message).signature) == address
    assert account.key.hex() not in key.keystore.read_text()


def test_create_account_existing_keystore_is_never_overwritten(key):
    create_account(key)
    before = key.keystore.read_bytes()
    with pytest.raises(SecretError, match="there is a keystore already"):
        create_account(key)
    assert key.keystore.read_bytes() == before


def test_load_account_wrong_password_refuses_without_quoting_it(key):
    create_account(key)
    key.password_file.write_text("open sesame\n")
    with pytest.raises(SecretError, match="does not open") as caught:
        load_account(key)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '"text"'])
def test_load_account_damaged_keystore_refuses(key, content):
    create_account(key)
    key.keystore.write_text(content)
    with pytest.raises(SecretError, match="not a keystore"):
        load_account(key)


def test_load_account_keystore_without_crypto_refuses(key):
    create_account(key)
    key.keystore.write_text(json.dumps({"version": 3}))
    with pytest.raises(SecretError, match="does not open"):
        load_account(key)


@pytest.mark.parametrize("exposed", ["keystore", "password_file"])
def test_load_account_readable_by_others_refuses(key, exposed):
    create_account(key)
    getattr(key, exposed).chmod(0o644)
    with pytest.raises(SecretError, match="others can read this file"):
        load_account(key)


def test_load_account_missing_keystore_names_it(key):
    with pytest.raises(SecretError, match="key.json: is not there"):
        load_account(key)


def test_create_device_key_new_file_has_32_private_bytes(tmp_path):
    file = create_device_key(tmp_path / "devices", 7)
    assert mode(file) == 0o600
    assert load_device_key(tmp_path / "devices", 7) == file.read_bytes()
    assert len(file.read_bytes()) == 32
    assert create_device_key(tmp_path / "devices", 8).read_bytes() != file.read_bytes()


def test_create_device_key_existing_file_is_never_overwritten(tmp_path):
    before = create_device_key(tmp_path, 7).read_bytes()
    with pytest.raises(SecretError, match="never overwritten"):
        create_device_key(tmp_path, 7)
    assert load_device_key(tmp_path, 7) == before
    assert [path.name for path in tmp_path.iterdir()] == ["7.key"]


def test_load_device_key_of_31_bytes_refuses(tmp_path):
    file = create_device_key(tmp_path, 7)
    file.write_bytes(file.read_bytes()[:31])
    with pytest.raises(SecretError, match="has 32 bytes, this file has 31"):
        load_device_key(tmp_path, 7)
