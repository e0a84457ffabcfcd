# shellcheck shell=bash
# age's own command, a tool without a server: the judge of what is encrypted.

AGE=age-1.2.1

engine_install() { fetch "$AGE" go_program filippo.io/age/cmd/age@v1.2.1 age; }
engine_address() { echo "$(fetched $AGE)/age"; }
engine_version() { echo 1.2.1; }
engine_env() { export_line STACK_AGE "$(fetched $AGE)/age"; }
