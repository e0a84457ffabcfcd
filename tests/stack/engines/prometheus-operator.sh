# shellcheck shell=bash
# The kinds of the Prometheus operator, as it defines them for the Kubernetes API: files, and nothing that runs.

PROMETHEUS_OPERATOR=prometheus-operator-0.85.0

prometheus_operator_crds() {
  local kinds=example/prometheus-operator-crd/monitoring.coreos.com
  go_files github.com/prometheus-operator/prometheus-operator@v0.85.0 "$1" "${kinds}_servicemonitors.yaml" "${kinds}_prometheusrules.yaml"
}

engine_install() { fetch "$PROMETHEUS_OPERATOR" prometheus_operator_crds; }
engine_address() { fetched "$PROMETHEUS_OPERATOR"; }
engine_version() { echo "${PROMETHEUS_OPERATOR##*-}"; }
engine_env() { export_line STACK_PROMETHEUS_OPERATOR "$(fetched "$PROMETHEUS_OPERATOR")"; }
