{{- define "harness.labels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: harness
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "harness.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/name: {{ .name }}
{{- end }}

{{/* What every container may: nothing. */}}
{{- define "harness.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What every pod has: no variables for each Service, a secret to pull with if need be. */}}
{{- define "harness.pod" -}}
enableServiceLinks: false
{{- with .Values.pullSecret }}
imagePullSecrets:
  - name: {{ . }}
{{- end }}
{{- end }}

{{/* What the service of a pod is called in telemetry: by its labels it would be the release. */}}
{{- define "harness.service" -}}
resource.opentelemetry.io/service.name: {{ . }}
{{- end }}

{{/* What nothing else in the cluster is called: whose it is, and of which of our installations. */}}
{{- define "harness.wide" -}}
{{ .root.Release.Name }}-{{ .root.Release.Namespace }}-{{ .name }}
{{- end }}

{{- define "harness.user" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
fsGroup: 65534
seccompProfile:
  type: RuntimeDefault
{{- end }}
