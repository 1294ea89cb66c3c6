{{- define "pipeserve.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "pipeserve.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pipeserve.labels" -}}
{{ include "pipeserve.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "pipeserve.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "pipeserve.claim" -}}
{{ .Values.cache.existingClaim | default (printf "%s-cache" (include "pipeserve.fullname" .)) }}
{{- end }}

{{- define "pipeserve.modelsConfigMap" -}}
{{ .Values.modelsConfigMap | default (printf "%s-models" (include "pipeserve.fullname" .)) }}
{{- end }}

{{- define "pipeserve.scheme" -}}
{{ if .Values.tls.secret }}https{{ else }}http{{ end }}
{{- end }}

{{/* What stopping takes, in seconds. 15: the server's own 5 for the last bytes of answers, and what ending workers takes. */}}
{{- define "pipeserve.gracePeriod" -}}
{{ add .Values.preStopSeconds .Values.drainSeconds 15 }}
{{- end }}

{{/* Pods that cannot share a volume are replaced one after the other. */}}
{{- define "pipeserve.isAlone" -}}
{{ if and .Values.cache.enabled (has .Values.cache.accessMode (list "ReadWriteOnce" "ReadWriteOncePod")) }}true{{ end }}
{{- end }}

{{/* What no schema can say: keys that go together. */}}
{{- define "pipeserve.checked" -}}
{{- $most := ternary (int .Values.replicas) (int .Values.autoscaling.maxReplicas) (eq .Values.autoscaling.engine "none") }}
{{- if and (include "pipeserve.isAlone" .) (gt $most 1) }}
{{- fail (printf "cache.accessMode: %s is for one pod, and there may be %d; take ReadWriteMany, or cache.enabled: false." .Values.cache.accessMode $most) }}
{{- end }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas: it is above maxReplicas." }}
{{- end }}
{{- if eq (int .Values.autoscaling.minReplicas) 0 }}
{{- if eq .Values.autoscaling.engine "hpa" }}
{{- fail "autoscaling.minReplicas: an HPA does not scale to zero; take autoscaling.engine: keda." }}
{{- end }}
{{- if and (eq .Values.autoscaling.engine "keda") (not .Values.autoscaling.keda.wakeQuery) }}
{{- fail "autoscaling.keda.wakeQuery: without it nothing would wake the server from zero replicas." }}
{{- end }}
{{- end }}
{{- end }}
