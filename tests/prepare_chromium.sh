#!/usr/bin/env bash
# The browser that the tests of pages drive: Debian's. Where it cannot be installed those tests are skipped and say so.
set -uo pipefail
command -v chromium > /dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "chromium is not installed, and only root can install it by apt-get: tests of pages will be skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
timeout 240 sh -c 'apt-get install -y -q --no-install-recommends chromium || { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; }' > /dev/null 2>&1 \
    || echo "chromium could not be installed: tests of pages will be skipped" >&2
exit 0
