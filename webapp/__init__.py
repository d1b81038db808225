"""Wattmark's web app: what the chain and the archives say, for anyone. It holds no key and sends nothing."""

from __future__ import annotations

from webapp.app import create_app
from webapp.config import DemoWallet, WebConfig

__all__ = ["DemoWallet", "WebConfig", "create_app"]
