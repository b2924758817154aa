{{/* The image of a component: (list $ "scheduler"). */}}
{{- define "berth.image" -}}
{{- $root := index . 0 -}}
{{ $root.Values.image.repository }}/berth-{{ index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* The labels of a component: its name. */}}
{{- define "berth.labels" -}}
app.kubernetes.io/name: berth-{{ . }}
app.kubernetes.io/part-of: berth
{{- end }}

{{/* The context of a container that needs no rights. */}}
{{- define "berth.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The context of a pod that needs no rights. */}}
{{- define "berth.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What a pod may have beside its containers: (list $ .Values.scheduler). */}}
{{- define "berth.placement" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
{{ toYaml . }}
{{- end }}
{{- with $component.nodeSelector }}
nodeSelector:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with $component.tolerations }}
tolerations:
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The version in which the cluster takes mutating admission policies; "none" if it takes none. */}}
{{- define "berth.handOffPolicy" -}}
{{- if ne .Values.handOffPolicy "auto" -}}
{{ .Values.handOffPolicy }}
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
v1
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy" -}}
v1beta1
{{- else -}}
none
{{- end -}}
{{- end }}

{{/* The files of a folder of manifests, with the accounts and objects in the release's namespace. */}}
{{- define "berth.manifests" -}}
{{- $root := index . 0 -}}
{{- range $path, $_ := $root.Files.Glob (index . 1) }}
---
{{ $root.Files.Get $path | replace "berth-system" $root.Release.Namespace }}
{{- end }}
{{- end }}

{{/* "true" if nodes advertise their GPU memory as a resource, else empty. Kubelets need a policy for it that changes what they
write. */}}
{{- define "berth.gpuMemoryResource" -}}
{{- if or .Values.gpuMemoryResource .Values.scheduler.args.gpuMemoryResource -}}
{{- if eq (include "berth.handOffPolicy" .) "none" -}}
{{- fail "gpuMemoryResource needs mutating admission policies, which the cluster does not serve, or which handOffPolicy leaves out" -}}
{{- end -}}
true
{{- end -}}
{{- end }}
