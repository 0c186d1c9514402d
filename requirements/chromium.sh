#!/bin/sh
# The browser of tests/report/test_site_browser.py: installs Debian's Chromium if there is none and this
# is root on Debian or Ubuntu; says what to do anywhere else. Quick when it is there.
set -eu
for name in "${RATCHET_CHROMIUM:-}" chromium chromium-browser google-chrome; do
  if [ -n "$name" ] && command -v "$name" >/dev/null; then
    exit 0
  fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "No Chromium here. Install it (Debian: apt-get install chromium), or set RATCHET_CHROMIUM." >&2
  exit 1
fi
echo "Installing Chromium (about 100 MB, once)..."
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
