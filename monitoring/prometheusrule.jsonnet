// What the Prometheus operator reads.
local mixin = import 'mixin/mixin.libsonnet';

std.manifestYamlDoc({
  apiVersion: 'monitoring.coreos.com/v1',
  kind: 'PrometheusRule',
  metadata: { name: 'berth', namespace: 'berth-system' },
  spec: { groups: mixin.prometheusAlerts.groups + mixin.prometheusRules.groups },
}, quote_keys=false)
