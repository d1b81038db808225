"""The ``keys`` commands."""

from __future__ import annotations

from pathlib import Path

import click

from ..config import KeyFile
from .desk import Desk, cli, json_option, pass_desk, print_json, print_table


@cli.group()
def keys() -> None:
    """Keystores and device keys; files that only their owner can read.

    Example: python -m oracle keys create --keystore key.json --password-file password
    """


@keys.command("create")
@click.option(
    "--keystore",
    required=True,
    type=click.Path(path_type=Path),
    help="Where the encrypted key goes; never overwritten.",
)
@click.option(
    "--password-file",
    required=True,
    type=click.Path(path_type=Path),
    help="Holds the password; made at random if it is not there.",
)
@json_option
def keys_create(keystore: Path, password_file: Path, as_json: bool) -> None:
    """Make a new account and print its address.

    Example: python -m oracle keys create --keystore key.json --password-file password
    """
    from ..keys import create_account

    address = create_account(KeyFile(keystore, password_file))
    if as_json:
        print_json({"address": address, "keystore": str(keystore)})
    else:
        click.echo(address)


@keys.command("device")
@click.argument("device_ids", nargs=-1, required=True, type=click.IntRange(min=1))
@json_option
@pass_desk
def keys_device(desk: Desk, device_ids: tuple[int, ...], as_json: bool) -> None:
    """Make the salt keys of devices. Copy them to the devices' witnesses, and to nobody else.

    Example: python -m oracle keys device 1 2
    """
    from ..keys import create_device_key

    files = [create_device_key(desk.config.device_keys_folder, device_id) for device_id in device_ids]
    if as_json:
        print_json([str(file) for file in files])
    else:
        for file in files:
            click.echo(file)


@keys.command("show")
@json_option
@pass_desk
def keys_show(desk: Desk, as_json: bool) -> None:
    """The addresses this configuration signs with, without opening any key.

    Example: python -m oracle keys show
    """
    from ..keys import keystore_address

    named = {"key": desk.config.key, "review_key": desk.config.review_key}
    addresses = {
        name: keystore_address(key) if isinstance(key, KeyFile) else key.address for name, key in named.items() if key
    }
    if as_json:
        print_json(addresses)
    else:
        print_table("Accounts", ("use", "address"), addresses.items())
