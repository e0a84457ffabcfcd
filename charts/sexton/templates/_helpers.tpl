{{/* The name of everything: `sexton` for a release of that name, RELEASE-sexton for another. */}}
{{- define "sexton.name" -}}
{{- if contains "sexton" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-sexton" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "sexton.account" -}}
{{- .Values.serviceAccount.name | default (include "sexton.name" .) }}
{{- end }}

{{/* What selects pods, and so may never change. */}}
{{- define "sexton.selector" -}}
app.kubernetes.io/name: sexton
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sexton.labels" -}}
{{ include "sexton.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "sexton.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* sexton.yaml. `sexton once` serves nothing, so that CronJobs get no `http`. A key that is null is left out: Helm takes away only
     those of the defaults, and sexton takes none without a value. */}}
{{- define "sexton.config" -}}
{{- $config := .Values.config }}
{{- if eq .Values.mode "cronjobs" }}{{ $config = omit $config "http" }}{{ end }}
{{- regexReplaceAll "(?m)^ *[A-Za-z_]+: null\\n?" (merge (dict "policies" "/etc/sexton/policies") $config | toYaml) "" }}
{{- end }}

{{/* The files of the policies: those of the values in the place of the shipped ones. */}}
{{- define "sexton.policies" -}}
{{- $values := .Values.policies }}
{{- range $path, $_ := .Files.Glob "policies/*.yaml" }}
{{- $name := base $path }}
{{ $name }}: |
{{- $own := index $values (trimSuffix ".yaml" $name) }}
{{- if $own }}
{{ toYaml $own | indent 2 }}
{{- else }}
{{ $.Files.Get $path | trimSuffix "\n" | indent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Variables from Secrets, as a list. */}}
{{- define "sexton.env" -}}
{{- range $name, $from := . }}
{{- if $from }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key }}}}
{{- end }}
{{- end }}
{{- end }}

{{/* The same for a person: which key of which Secret, and for what. */}}
{{- define "sexton.secrets" -}}
{{- range $name, $from := . }}
{{- if $from }}
     {{ $from.secret }}, key {{ $from.key }}   ({{ $name }})
{{- end }}
{{- end }}
{{- end }}

{{/* The pod of everything: dict "root" $, "component", "args", "resources", and if they differ "account", "token", "env",
     "labels", "ports", "once" (it ends), "config" (what its ConfigMaps are called before `-config`). */}}
{{- define "sexton.pod" -}}
{{- $root := .root }}
{{- $values := $root.Values }}
metadata:
  labels:
    {{- include "sexton.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- with .labels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    {{- /* A change of the configuration is a change of the pod. */}}
    checksum/config: {{ include "sexton.config" $root | sha256sum }}
    checksum/policies: {{ include "sexton.policies" $root | sha256sum }}
    {{- with $values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ .account | default (include "sexton.account" $root) }}
  automountServiceAccountToken: {{ .token | default false }}
  {{- if .once }}
  restartPolicy: Never
  {{- end }}
  {{- /* Longer than sexton takes to its next safe point after SIGTERM. */}}
  terminationGracePeriodSeconds: 60
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- if .daemon }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{ include "sexton.selector" $root | nindent 10 }}
          app.kubernetes.io/component: daemon
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: sexton
      image: {{ include "sexton.image" $root | quote }}
      {{- with $values.image.pullPolicy }}
      imagePullPolicy: {{ . }}
      {{- end }}
      args: {{ toYaml .args | nindent 8 }}
      {{- if .daemon }}
      ports:
        - {name: http, containerPort: 8080, protocol: TCP}
      {{- end }}
      env:
        - {name: SEXTON_CONFIG, value: /etc/sexton/config/sexton.yaml}
        {{- include "sexton.env" $values.env | nindent 8 }}
        {{- /* Tokens are read by who serves. */}}
        {{- if and .daemon $values.config.http }}{{ with $values.daemon.env }}{{ include "sexton.env" . | nindent 8 }}{{ end }}{{ end }}
        {{- with .env }}{{ include "sexton.env" . | nindent 8 }}{{ end }}
      {{- if and .daemon $values.config.http }}
      startupProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 30
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      {{- end }}
      resources: {{ toYaml .resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/sexton/config, readOnly: true}
        - {name: policies, mountPath: /etc/sexton/policies, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- range $name, $file := $values.files }}
        - {name: {{ $name }}, mountPath: {{ $file.path }}, readOnly: true}
        {{- end }}
  volumes:
    {{- $maps := .config | default (include "sexton.name" $root) }}
    - {name: config, configMap: {name: {{ $maps }}-config}}
    - {name: policies, configMap: {name: {{ $maps }}-policies}}
    - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
    {{- range $name, $file := $values.files }}
    {{- /* 0440: libpq, which pg_dump uses, refuses a key that others may read. */}}
    - {name: {{ $name }}, secret: {secretName: {{ $file.secret }}, defaultMode: 0440}}
    {{- end }}
{{- end }}
