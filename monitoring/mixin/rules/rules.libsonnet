// max: of two schedulers that were scraped around a change of leader, one counts.
{
  prometheusRules+:: {
    local ratio(of, to) = |||
      max by (model) (%s)
      /
      (max by (model) (%s) > 0)
    ||| % [of, to],
    local byModel(record, of, to) = { record: record, expr: ratio(of, to) },
    // What is there each minute of an hour, added up, is sixty times what was there for the hour. A second less than an hour has
    // sixty minutes for Prometheus 3 as for Prometheus 2, which counts both ends of a range.
    local hours(what) = [
      {
        record: 'namespace_model:berth_gpu_memory_%s:gibibytes' % what,
        expr: 'max by (namespace, model) (berth_namespace_gpu_memory_%s_bytes) / 2^30' % what,
      },
      {
        record: 'namespace_model:berth_gpu_memory_%s:gibibyte_hours1h' % what,
        expr: 'sum_over_time(namespace_model:berth_gpu_memory_%s:gibibytes[59m59s:1m]) / 60' % what,
      },
    ],
    groups+: [
      {
        name: 'berth-fleet',
        rules: [
          byModel('model:berth_gpu_memory_booked:ratio', 'berth_fleet_gpu_memory_booked_bytes', 'berth_fleet_gpu_memory_capacity_bytes'),
          byModel('model:berth_gpu_memory_measured:ratio', 'berth_fleet_gpu_memory_measured_bytes', 'berth_fleet_gpu_memory_total_bytes'),
          byModel('model:berth_gpu_memory_fragmented:ratio', 'berth_fleet_gpu_memory_fragmented_bytes', 'berth_fleet_gpu_memory_free_bytes'),
        ],
      },
      {
        name: 'berth-namespaces',
        rules: hours('booked') + hours('measured'),
      },
    ],
  },
}
