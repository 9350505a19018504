{{- define "botyard.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 34 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 34 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Cluster-wide objects carry the namespace, so that two releases do not meet. */ -}}
{{- define "botyard.clusterName" -}}
{{ printf "%s-%s" .Release.Namespace (include "botyard.fullname" .) }}
{{- end }}

{{- define "botyard.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "botyard.labels" -}}
{{ include "botyard.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* list of root, values of the image, name of the value */ -}}
{{- define "botyard.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 }}
{{- $repository := required (printf "set %s.repository" (index . 2)) $image.repository -}}
{{- if $image.digest }}{{ $repository }}@{{ $image.digest }}
{{- else }}{{ $repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "botyard.secret" -}}
{{- if .Values.trial.enabled }}{{ include "botyard.fullname" . }}-trial
{{- else }}{{ required "set secrets.existingSecret, or trial.enabled for a look" .Values.secrets.existingSecret }}
{{- end }}
{{- end }}

{{- define "botyard.controlUrl" -}}
{{ .Values.agents.controlUrl | default (printf "http://%s-api.%s.svc:8080" (include "botyard.fullname" .) .Release.Namespace) }}
{{- end }}
