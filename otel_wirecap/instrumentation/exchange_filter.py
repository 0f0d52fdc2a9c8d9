"""Which exchanges are captured: decided once for each, before it begins."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from otel_wirecap.capture.url import url_parts

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Leg
    from otel_wirecap.config import CaptureConfig


class ExchangeFilter:
    """Which exchanges the settings capture, and the pause.

    Args:
        config: the settings.
        excluded_urls: URLs in which one of these finds a match are not captured either.

    Attributes:
        paused: whether no new flow is captured for the time being.
        passed_over: exchanges that were not captured because of the current, or else the latest, pause.
    """

    def __init__(self, config: CaptureConfig, excluded_urls: Sequence[re.Pattern[str]] = ()) -> None:
        self.paused = False
        self.passed_over = 0
        self._legs = frozenset(config.capture_legs)
        self._include = [_pattern(glob) for glob in config.capture_include]
        self._exclude = [_pattern(glob) for glob in config.capture_exclude]
        self._excluded_urls = excluded_urls
        self._has_url_rules = bool(self._include or self._exclude or self._excluded_urls)

    def takes(self, leg: Leg, url: str) -> bool:
        """Whether exchanges of this leg with this URL are captured.

        A glob may stand for a path, a host, or both together, with or without port and scheme; case does not matter.
        """
        return leg in self._legs and (not self._has_url_rules or self._takes_url(url))

    def _takes_url(self, url: str) -> bool:
        if any(expression.search(url) for expression in self._excluded_urls):
            return False
        if not self._include and not self._exclude:
            return True
        scheme, host, port, path, _ = url_parts(url)
        path = path or "/"
        address = host if port is None else f"{host}:{port}"
        forms = (path, host, address, host + path, address + path, f"{scheme}://{address}{path}")
        if _any(self._exclude, forms):
            return False
        return not self._include or _any(self._include, forms)


def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(glob), re.IGNORECASE)


def _any(patterns: Iterable[re.Pattern[str]], forms: Iterable[str]) -> bool:
    return any(pattern.match(form) for pattern in patterns for form in forms)
