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

{{/* Whether agents see some pods only, for which they have to know labels and namespaces. */}}
{{- define "harness.selects" -}}
{{- with .Values.agents }}{{ if or .namespaces .excludedNamespaces .podSelector }}true{{ end }}{{ end }}
{{- end }}

{{/* A service account may do these (verbs) with pods, in every namespace, and nothing else. */}}
{{- define "harness.readsPods" -}}
{{- $wide := include "harness.wide" . }}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $wide }}
  labels:
    {{- include "harness.labels" .root | nindent 4 }}
    app.kubernetes.io/name: {{ .name }}
rules:
  - apiGroups: [""]
    resources: [pods]
    verbs: [{{ .verbs }}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $wide }}
  labels:
    {{- include "harness.labels" .root | nindent 4 }}
    app.kubernetes.io/name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .name }}
    namespace: {{ .root.Release.Namespace }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $wide }}
{{- end }}

{{/* Who a pod runs as: this number, nobody if there is none. */}}
{{- define "harness.user" -}}
{{- $user := default 65534 . -}}
runAsNonRoot: true
runAsUser: {{ $user }}
runAsGroup: {{ $user }}
fsGroup: {{ $user }}
seccompProfile:
  type: RuntimeDefault
{{- end }}
