// What a Prometheus without an operator reads by rule_files.
local mixin = import 'mixin/mixin.libsonnet';

std.manifestYamlDoc({ groups: mixin.prometheusAlerts.groups + mixin.prometheusRules.groups }, quote_keys=false)
