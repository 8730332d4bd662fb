{{- define "operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- define "operator.selector" -}}
app.kubernetes.io/name: bucketmq-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: bucketmq
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
{{- define "operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "operator.fullname" .) .Values.serviceAccount.name }}{{ else }}{{ required "serviceAccount.name: name the ServiceAccount that is there, or set serviceAccount.create" .Values.serviceAccount.name }}{{ end }}
{{- end }}
{{- define "operator.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}{{ end }}
{{- end }}
{{- /* What the operator does in a namespace with brokers; nothing else of it is ever used. */}}
{{- define "operator.rules" -}}
# The objects it reconciles: read, and their finalizer set through the object itself.
- apiGroups: [bucketmq.io]
  resources: [mqttbrokers, mqttusers, mqttroles]
  verbs: [get, list, watch]
- apiGroups: [bucketmq.io]
  resources: [mqttbrokers]
  verbs: [patch]
# The owner references of what it makes block the deletion of their owner.
- apiGroups: [bucketmq.io]
  resources: [mqttbrokers/finalizers, mqttusers/finalizers]
  verbs: [update]
- apiGroups: [bucketmq.io]
  resources: [mqttbrokers/status, mqttusers/status, mqttroles/status]
  verbs: [get, patch]
# What one broker becomes. Server-side apply is a patch, and a create when nothing is there.
- apiGroups: [""]
  resources: [secrets, configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# `bucket delete` of a broker whose deletionPolicy is Delete.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# Their state, and an annotation that has the kubelet look at changed Secrets at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Only where a listener asks cert-manager for its certificate.
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, list, create, patch, delete]
{{- end }}
