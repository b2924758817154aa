// Counters are those of each scheduler that has led: sum. Of gauges, that of one scheduler counts around a change of leader: max.
local p = import 'panels.libsonnet';

local pending = 'max by (reason, age) (berth_pending_pods{reason=~"$reason"})';
local perMinute(metric, label) = [p.query('sum by (%s) (rate(%s[$__rate_interval])) * 60' % [label, metric], '{{%s}}' % label)];
local lastHour(metric, label) = [p.query('sum by (%s) (increase(%s[1h]))' % [label, metric], '{{%s}}' % label)];
local lastHourOf(metric, legend) = p.query('sum(increase(%s[1h]))' % metric, legend);
local waits(quantile) = [p.query('histogram_quantile(%g, sum by (le, size) (rate(berth_scheduler_creation_to_bind_duration_seconds_bucket{size=~"$size"}[1h])))' % quantile, '{{size}}')];

{
  grafanaDashboards+:: {
    'berth-pending.json': p.dashboard(
      'pending',
      'Pending and evictions',
      'Pods that wait for GPU memory, what was decided about them, and who was evicted.',
      [p.filter('reason', 'berth_pending_pods'), p.filter('size', 'berth_scheduler_creation_to_bind_duration_seconds_bucket')],
      [
        p.row('Now'),
        p.stat('Pods that wait', 'Pods that ask for GPU memory and have no node.', 'short', 'sum(%s)' % pending),
        p.stat('For ten minutes', 'Those that were made more than ten minutes ago.', 'short', 'sum(max by (reason, age) (berth_pending_pods{reason=~"$reason", age=~"10m|1h"}))'),
        p.stat('For an hour', 'Those that were made more than an hour ago.', 'short', 'sum(max by (reason, age) (berth_pending_pods{reason=~"$reason", age="1h"}))', red=1),
        p.stat('Bound', 'Pods that were bound to GPUs in the last hour.', 'short', 'sum(increase(berth_scheduler_placements_total[1h]))'),
        p.stat('Evicted', 'Pods that were evicted in the last hour, whatever the reason.', 'short', 'sum(increase(berth_scheduler_evictions_total[1h]))'),
        p.stat('Bindings that failed', 'In the last hour, after the memory had been booked.', 'short', 'sum(increase(berth_scheduler_bind_failures_total[1h]))', red=1),

        p.row('Pods that wait'),
        p.stacked('By reason', 'Pods that wait, by the first reason that is true; docs/metrics.md explains each.', 'short', [p.query('sum by (reason) (%s)' % pending, '{{reason}}')]),
        p.stacked('By age', 'Pods that wait, by the last of these times that has passed since they were made.', 'short', [p.query('sum by (age) (%s)' % pending, '{{age}}')]),
        p.lines('Half of the pods wait less than', 'From the creation of a pod to its bind, by size class, over the hour before.', 's', waits(0.5)),
        p.lines('99% of the pods wait less than', 'From the creation of a pod to its bind, by size class, over the hour before.', 's', waits(0.99)),

        p.row('Decisions'),
        p.lines('Decisions', 'Decisions about pods that ask for GPU memory, per minute.', 'short', perMinute('berth_scheduler_decisions_total', 'decision')),
        p.lines('Why pods are refused', 'Decisions to refuse a pod, by reason, per minute.', 'short', perMinute('berth_scheduler_decisions_total{decision="refused"}', 'reason')),
        p.lines('Placements', 'Pods that were bound, by what they had to wait for, per minute.', 'short', perMinute('berth_scheduler_placements_total', 'after')),
        p.lines('Wake-ups', 'Pods that were put back into the queue, per minute. Far more of these than of placements: reports change a lot, or many pods wait for little.', 'short', [
          p.query('sum(rate(berth_scheduler_wakeups_total[$__rate_interval])) * 60', 'wake-ups'),
        ]),
        p.lines('Bindings that failed', 'After the memory had been booked, in the hour before, by reason.', 'short', lastHour('berth_scheduler_bind_failures_total', 'reason')),
        p.lines('Places given up', 'Claims of waiting pods that were given up in the hour before, by reason.', 'short', lastHour('berth_scheduler_plans_rejected_total', 'reason')),

        p.row('Evictions'),
        p.stacked('By reason', 'Pods that were evicted in the hour before.', 'short', lastHour('berth_scheduler_evictions_total', 'reason')),
        p.lines('Chosen to make room', 'Pods that were chosen for eviction in the hour before (an eviction may fail), and searches that ended at their bound, so that it may not be the cheapest.', 'short', [
          lastHourOf('berth_scheduler_victims_total', 'victims'),
          lastHourOf('berth_scheduler_searches_cut_short_total', 'searches cut short'),
        ]),
        p.lines('Memory of those chosen', 'Their memory as charged when they were chosen, in the hour before.', 'bytes', [lastHourOf('berth_scheduler_evicted_gpu_memory_bytes_total', 'memory')]),
        p.lines('From eviction to bind', "From the eviction of a pod's victims to its bind, over the hour before.", 's', [
          p.query('histogram_quantile(%g, sum by (le) (rate(berth_scheduler_eviction_to_bind_duration_seconds_bucket[1h])))' % q, 'less than this: %g%%' % (100 * q))
          for q in [0.5, 0.99]
        ]),
        p.lines('For driver upgrades', 'Tries to evict pods for a driver upgrade in the hour before, by outcome.', 'short', lastHour('berth_scheduler_driver_upgrade_evictions_total', 'outcome')),
        p.lines('Pods that deviate', 'Pods found to deviate from their allocation, or to lack their GPUs, in the hour before, by the reason of the Event.', 'short', lastHour('berth_controller_pod_deviations_total', 'reason')),
      ],
    ),
  },
}
