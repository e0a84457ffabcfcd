# shellcheck shell=bash
# Toxiproxy: cuts, slows and resets connections in fault tests.

TOXIPROXY=toxiproxy-2.12.0

engine_install() { fetch "$TOXIPROXY" go_program github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0 toxiproxy; }
engine_start() {
  local port
  port=$(ports toxiproxy 1)
  start_process toxiproxy "$(fetched $TOXIPROXY)/toxiproxy" -host 127.0.0.1 -port "$port"
  wait_healthy toxiproxy 30 engine_healthy
}
engine_healthy() { curl -fsS -m 5 "http://$(address toxiproxy)/version"; }
engine_version() { echo 2.12.0; }
engine_env() { export_line STACK_TOXIPROXY_URL "http://$(address toxiproxy)"; }
