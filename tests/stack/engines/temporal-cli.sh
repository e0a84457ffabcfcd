# shellcheck shell=bash
# The temporal command-line client, a tool without a server.

source "$STACK_DIR/temporal.sh"

engine_install() { temporal_install_cli; }
engine_address() { echo "$TEMPORAL_CLI"; }
engine_version() { "$TEMPORAL_CLI" --version | awk '{ print $3 }'; }
engine_env() { export_line STACK_TEMPORAL_CLI "$TEMPORAL_CLI"; }
