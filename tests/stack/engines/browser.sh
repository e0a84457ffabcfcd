# shellcheck shell=bash
# Chromium, and what drives it: a browser and two packages without a server. The machine's own Chromium, else Debian's.

BROWSER=playwright-core-1.65.1-axe-core-4.14.1

chromium_path() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

browser_install() {
  command -v npm >/dev/null || missing npm "Node.js 20 or newer brings it: https://nodejs.org/"
  npm install --prefix "$1" --ignore-scripts --no-audit --no-fund --no-save playwright-core@1.65.1 axe-core@4.14.1
}

engine_install() {
  chromium_path >/dev/null || debian_package chromium /usr/bin/chromium
  fetch "$BROWSER" browser_install
}
engine_address() { chromium_path; }
engine_version() { "$(chromium_path)" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9.]+' | head -n 1; }
engine_env() {
  export_line STACK_CHROMIUM "$(chromium_path)"
  export_line STACK_BROWSER "$(fetched $BROWSER)"
}
