// max: of two schedulers that were scraped around a change of leader, one counts.
local p = import 'panels.libsonnet';

local memory(what) = 'max by (model) (berth_fleet_gpu_memory_%s_bytes{model=~"$model"})' % what;
local total(what) = 'sum(%s)' % memory(what);
local namespaces(what) = 'sum by (namespace) (max by (namespace, model) (berth_namespace_gpu_memory_%s_bytes{model=~"$model", namespace=~"$namespace"}))' % what;
local byModel(expr) = [p.query(expr, '{{model}}')];
local ratio(of, to) = '%s / (%s > 0)' % [of, to];

{
  grafanaDashboards+:: {
    'berth-fleet.json': p.dashboard(
      'fleet',
      'Fleet',
      'GPU memory of the whole cluster, as the scheduler that leads tells it. There is nothing while nobody leads.',
      [p.filter('model', 'berth_fleet_gpu_memory_total_bytes'), p.filter('namespace', 'berth_namespace_gpu_memory_booked_bytes')],
      [
        p.row('Now'),
        p.stat('Capacity', 'What can be booked: physical memory without what drivers reserve, and headroom.', 'bytes', total('capacity')),
        p.stat('Booked', 'Booked of the capacity.', 'percentunit', ratio(total('booked'), total('capacity'))),
        p.stat('In use', 'Measured of the physical memory, whoever uses it.', 'percentunit', ratio(total('measured'), total('total'))),
        p.stat('Free', 'What can be booked now.', 'bytes', total('free')),
        p.stat('Largest free', 'The most that can be booked on one GPU.', 'bytes', 'max(%s)' % memory('largest_free')),
        p.stat('Pods that wait', 'Pods that ask for GPU memory and have no node.', 'short', 'sum(max by (reason, age) (berth_pending_pods))'),
        p.stat('Places pods', '1 while the scheduler that leads places pods, 0 while it leads and does not; no value while none leads.', 'short', 'max(berth_scheduler_places_pods)'),
        p.stat('Overbooked GPUs', 'GPUs on which more is booked than they have. 0 is right.', 'short', 'max(berth_overbooked_devices)', red=1),
        p.stat('Contested GPUs', 'GPUs that more than one node reports, counted on each. 0 is right.', 'short', 'max(berth_contested_devices)', red=1),
        p.stat('Overusing pods', 'Pods that hold more than they booked, by more than 256Mi on a GPU.', 'short', 'max(berth_fleet_overusing_pods)', red=1),
        p.stat('Overdue memory', 'What pods still hold that have been gone for longer than memoryReturnTimeout.', 'bytes', total('overdue'), red=1),
        p.stat('Silent agents', 'Nodes whose agent has been silent for longer than staleAfter. They get no pods.', 'short', 'max(berth_fleet_nodes{state="stale"})', red=1),

        p.row('Memory'),
        p.lines('Memory', 'Of the chosen models together. Free is less than capacity without booked where anything else is in use.', 'bytes', [
          p.query(total(what), what)
          for what in ['total', 'capacity', 'booked', 'measured', 'free']
        ]),
        p.lines('Charged beside bookings, and blocked', 'Foreign: of no pod. Held: for pods that have a node and wait for more. Returning: of pods that are gone. Overused: beyond what was booked. Blocked: free, but for the state of its GPU or node.', 'bytes', [
          p.query(total(what), what)
          for what in ['foreign', 'held', 'returning', 'overused', 'blocked']
        ]),
        p.lines('Booked', 'Booked of the capacity, by model.', 'percentunit', byModel(ratio(memory('booked'), memory('capacity')))),
        p.lines('In use', 'Measured of the physical memory, by model.', 'percentunit', byModel(ratio(memory('measured'), memory('total')))),
        p.lines('Free', 'What can be booked now, by model.', 'bytes', byModel(memory('free'))),
        p.lines('Largest free', 'The most that can be booked on one GPU, by model.', 'bytes', byModel(memory('largest_free'))),
        p.lines('Fragmented', 'Of what is free, the part in pieces that are too small for the requests of the pods that exist, by model.', 'percentunit', byModel(ratio(memory('fragmented'), memory('free')))),

        p.row('GPUs and nodes'),
        p.stacked('GPUs by state', 'GPUs and MIG instances. Only those that are available get pods.', 'short', [p.query('sum by (state) (max by (model, state) (berth_fleet_devices{model=~"$model"}))', '{{state}}')]),
        p.stacked('Nodes by state', 'Nodes with GPUs, by what becomes of their report.', 'short', [p.query('max by (state) (berth_fleet_nodes)', '{{state}}')]),
        p.lines('Admission policies in force', '1 for a policy that refused what it must at the last check, on every scheduler; 0 for one that did not, or could not be tried.', 'short', [p.query('min by (policy) (berth_scheduler_policy_in_force)', '{{policy}}')]),

        p.row('Namespaces'),
        p.stacked('Booked', 'What the pods of a namespace were given.', 'bytes', [p.query(namespaces('booked'), '{{namespace}}')]),
        p.stacked('In use', 'What the pods of a namespace hold.', 'bytes', [p.query(namespaces('measured'), '{{namespace}}')]),
      ],
    ),
  },
}
