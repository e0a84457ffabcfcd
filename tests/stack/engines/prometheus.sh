# shellcheck shell=bash
# Prometheus and promtool, programs that nothing keeps running: a test starts a Prometheus of its own. The machine's own,
# else those of the Debian package, in whatever version it has.

PROMETHEUS=prometheus-debian

# prometheus_path PROGRAM
prometheus_path() {
  if [[ -x $(fetched $PROMETHEUS)/usr/bin/$1 ]]; then echo "$(fetched $PROMETHEUS)/usr/bin/$1"; else command -v "$1"; fi
}

engine_install() {
  if command -v prometheus >/dev/null && command -v promtool >/dev/null; then return; fi
  fetch "$PROMETHEUS" debian_files prometheus
}
engine_address() { prometheus_path prometheus; }
engine_version() { "$(prometheus_path promtool)" --version 2>&1 | sed -n 's/^promtool, version \([^ ]*\).*/\1/p'; }
engine_env() {
  export_line STACK_PROMETHEUS "$(prometheus_path prometheus)"
  export_line STACK_PROMTOOL "$(prometheus_path promtool)"
}
