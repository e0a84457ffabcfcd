# shellcheck shell=bash
# actionlint, a tool without a server: the judge of the workflows, and with shellcheck of the commands in them.

ACTIONLINT=actionlint-1.7.12

engine_install() { fetch "$ACTIONLINT" go_program github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 actionlint; }
engine_address() { echo "$(fetched $ACTIONLINT)/actionlint"; }
engine_version() { echo "${ACTIONLINT#actionlint-}"; }
engine_env() { export_line STACK_ACTIONLINT "$(fetched $ACTIONLINT)/actionlint"; }
