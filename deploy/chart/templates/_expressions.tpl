{{/* Pieces of CEL that both policies share. CEL has JSON's strings, so toJson quotes. */}}

{{/* What a pod says under a key, or what the chart's defaults say. (dict "root" $ "key" "allow") */}}
{{- define "portcullis.setting" -}}
{{- $usual := index .root.Values.defaults .key -}}
{{- if kindIs "slice" $usual }}{{ $usual = join "\n" $usual }}{{ end -}}
{{- $usual = trim (toString ($usual | default "")) -}}
{{- if has .key (list "allow" "allow-any") -}}
{{- /* One way to say who comes in: whoever sets either sets both. */ -}}
variables.notes[?{{ printf "portcullis.dev/%s" .key | toJson }}].orValue(variables.notes.exists(key, key in ["portcullis.dev/allow", "portcullis.dev/allow-any"]) ? "" : {{ toJson $usual }}).trim()
{{- else -}}
variables.notes[?{{ printf "portcullis.dev/%s" .key | toJson }}].orValue({{ toJson $usual }}).trim()
{{- end }}
{{- end }}

{{/* The values of all variables of a name: a list of one, if all is well. */}}
{{- define "portcullis.env" -}}
variables.env.filter(e, e.name == {{ toJson . }}).map(e, e.?value.orValue(""))
{{- end }}

{{/* Words between commas and new lines. */}}
{{- define "portcullis.words" -}}
{{ . }}.replace(",", "\n").split("\n").map(word, word.trim()).filter(word, word != "")
{{- end }}

{{/* Namespaces that opted in. */}}
{{- define "portcullis.labelled" -}}
namespaceSelector:
  matchExpressions:
    - {key: portcullis.dev/inject, operator: In, values: [enabled]}
    - {key: kubernetes.io/metadata.name, operator: NotIn, values: {{ include "portcullis.excluded" . }}}
{{- end }}

{{/* Pods that opted in elsewhere. */}}
{{- define "portcullis.chosen" -}}
namespaceSelector:
  matchExpressions:
    - {key: portcullis.dev/inject, operator: NotIn, values: [enabled, disabled]}
    - {key: kubernetes.io/metadata.name, operator: NotIn, values: {{ include "portcullis.excluded" . }}}
objectSelector:
  matchExpressions:
    - {key: portcullis.dev/inject, operator: In, values: [enabled]}
{{- end }}

{{/* Variables with what the pod's annotations ask for, or else the chart's defaults. */}}
{{- define "portcullis.wanted" -}}
{{- range list "app-port" "protocol" "mode" "allow" "allow-any" "client-ca" "trust-domain" "certificate" "revocations" "max-session-age" "drain" "stale" "bypass-check" "log-level" "redirect-exclude-ports" }}
- name: {{ printf "wanted-%s" . | camelcase | untitle }}
  expression: >-
    {{ include "portcullis.setting" (dict "root" $ "key" .) }}
{{- end }}
- name: ports
  expression: >-
    {{ include "portcullis.words" "variables.wantedAppPort" }}
- name: redirected
  expression: >-
    variables.wantedMode == "redirect"
- name: spoken
  expression: >-
    variables.wantedProtocol in ["", "auto"] ? "" : ",protocol=" + variables.wantedProtocol
# The first port is 15443, the next 15444, as many as the numbers below.
- name: inbound
  expression: >-
    [{{ range $n, $_ := until 16 }}{{ if $n }}, {{ end }}{{ $n }}{{ end }}].filter(n, n < variables.ports.size()).map(n,
    "0.0.0.0:" + string(15443 + n) + "=127.0.0.1:" + variables.ports[n] + variables.spoken) +
    (variables.redirected ? ["0.0.0.0:15006=redirect:" + variables.ports.join("+") + variables.spoken] : [])
{{- end }}

{{/* A text as JSON; (dict "text" "an expression"). What is left of control characters makes the sidecar refuse its start. */}}
{{- define "portcullis.json" -}}
"\"" + {{ . }}.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + "\""
{{- end }}

{{/* Lists of containers and kinds of probes: the variable's name, the containers, the field, the kind. */}}
{{- define "portcullis.probes" -}}
{{- range list (list "Containers" "containers" "object.spec.containers") (list "Inits" "initContainers" "object.spec.?initContainers.orValue([])") }}
{{- $list := . }}
{{- range list "startup" "readiness" "liveness" }}
{{ printf "asked%s%s" (title .) (index $list 0) }} {{ index $list 1 }} {{ index $list 2 }} {{ . }}Probe {{ . }}
{{- end }}
{{- end }}
{{- end }}
