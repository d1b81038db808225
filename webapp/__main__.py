"""``python -m webapp --config FILE [--port N]``: serve the web app with waitress until Ctrl-C; ``python -m webapp relay`` the relay."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

import waitress
from flask import Flask

from oracle.errors import OracleError

from . import WebConfig, create_app


def serve_alone(app: Flask, options: argparse.Namespace, place: str) -> None:
    services = app.extensions["wattmark"]
    services.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"Wattmark on {place}", flush=True)
    try:
        waitress.serve(app, host=options.host, port=options.port, threads=options.threads, ident=None, _quiet=True)
    except (KeyboardInterrupt, SystemExit):
        pass
    finally:
        services.stop()


def serve_by_several(app: Flask, options: argparse.Namespace, place: str) -> None:
    """gunicorn, with threads if more than one: each process asks the chain for itself, one of them keeps the index."""
    from gunicorn.app.base import BaseApplication

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            settings = {
                "bind": f"{options.host}:{options.port}", "workers": options.workers, "threads": options.threads,
                "worker_class": "sync", "preload_app": True, "timeout": 60, "loglevel": "warning",
                "when_ready": lambda server: print(f"Wattmark on {place}", flush=True),
                "post_worker_init": lambda worker: app.extensions["wattmark"].start(),
                "worker_exit": lambda server, worker: app.extensions["wattmark"].stop(),
            }  # fmt: skip
            for name, value in settings.items():
                self.cfg.set(name, value)

        def load(self) -> Flask:
            return app

    Server().run()


def main() -> int:
    if sys.argv[1:2] == ["relay"]:
        # A process of its own: the web app itself never loads what holds a key.
        from .relay import main as relay

        return relay(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m webapp", description="Serve the web app; `relay --help` tells of the other process."
    )
    parser.add_argument("--config", type=Path, required=True, help="the YAML file that docs/webapp.md explains")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")
    parser.add_argument("--threads", type=int, default=8, help="requests served at once by each process (default 8)")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that serve; gunicorn leads more than one (default 1)"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        app = create_app(WebConfig.load(options.config))
    except OracleError as fault:
        print(f"webapp: {fault}", file=sys.stderr)
        return fault.exit_code
    place = f"http://{'localhost' if options.host == '127.0.0.1' else options.host}:{options.port}"
    if options.workers > 1:
        serve_by_several(app, options, place)
    else:
        serve_alone(app, options, place)
    return 0


sys.exit(main())
