# shellcheck shell=bash
# schemathesis: holds a server against its OpenAPI description. A tool without a server.

SCHEMATHESIS=schemathesis-4.32.5

schemathesis_install() {
  wheels schemathesis==4.32.5 "$1/lib"
  cat >"$1/schemathesis" <<'SH'
#!/bin/sh
PYTHONPATH=$(dirname "$0")/lib exec python3 -m schemathesis.cli "$@"
SH
  chmod +x "$1/schemathesis"
}

engine_install() { fetch "$SCHEMATHESIS" schemathesis_install; }
engine_address() { echo "$(fetched $SCHEMATHESIS)/schemathesis"; }
engine_version() { echo 4.32.5; }
engine_env() { export_line STACK_SCHEMATHESIS "$(fetched $SCHEMATHESIS)/schemathesis"; }
