{{- define "broker.name" -}}
{{ default .Release.Name .Values.broker.name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- define "broker.labels" -}}
app.kubernetes.io/part-of: bucketmq
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
{{- /* A user or a role: what is said of it, and whose it is. */}}
{{- define "broker.companion" -}}
apiVersion: bucketmq.io/v1alpha1
kind: {{ .kind }}
metadata:
  name: {{ .item.name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "broker.labels" .root | nindent 4 }}
    {{- with .item.labels }}{{- toYaml . | nindent 4 }}{{- end }}
  {{- with .item.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  brokerRef: {name: {{ include "broker.name" .root }}}
  {{- with omit .item "name" "labels" "annotations" }}{{- toYaml . | nindent 2 }}{{- end }}
{{- end }}
