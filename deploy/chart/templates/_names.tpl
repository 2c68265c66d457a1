{{/* Names and labels, used by every template. */}}
{{- define "portcullis.name" -}}
{{- if contains "portcullis" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-portcullis" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "portcullis.webhook" -}}
{{ include "portcullis.name" . }}-webhook
{{- end }}

{{- define "portcullis.match" -}}
app.kubernetes.io/name: portcullis
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "portcullis.labels" -}}
app.kubernetes.io/name: portcullis
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: portcullis
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The one image: of the injector and of every sidecar. */}}
{{- define "portcullis.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The Secret with the webhook's certificate. */}}
{{- define "portcullis.secret" -}}
{{- if eq .Values.certificate.mode "secret" }}{{ required "certificate.mode is secret: name it with certificate.secretName" .Values.certificate.secretName }}{{ else }}{{ .Values.certificate.secretName | default (include "portcullis.webhook" .) }}{{ end }}
{{- end }}

{{/* Namespaces that the webhook never looks at, one of them its own: an injector that waits for itself starts nothing. */}}
{{- define "portcullis.excluded" -}}
{{- concat .Values.webhook.excludedNamespaces (list "kube-system" .Release.Namespace) | uniq | sortAlpha | toJson }}
{{- end }}

{{/* The file of --defaults. */}}
{{- define "portcullis.defaults" -}}
{{- $own := dict "image-pull-policy" .Values.image.pullPolicy }}
{{- with .Values.redirectImage }}{{ $_ := set $own "redirect-image" . }}{{ end }}
{{- with .Values.locked }}{{ $_ := set $own "locked" . }}{{ end }}
{{- merge $own .Values.defaults | toYaml }}
{{- end }}
