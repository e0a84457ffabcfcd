# shellcheck shell=bash
# helm, a tool without a server: what the chart becomes, and what its schema refuses.

HELM=helm-3.19.2

engine_install() { fetch "$HELM" go_program helm.sh/helm/v3/cmd/helm@v3.19.2 helm; }
engine_address() { echo "$(fetched $HELM)/helm"; }
engine_version() { echo "${HELM#helm-}"; }
engine_env() { export_line STACK_HELM "$(fetched $HELM)/helm"; }
