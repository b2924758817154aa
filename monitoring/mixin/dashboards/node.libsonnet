// max: an agent that is replaced is there twice for a while, and so is the scheduler that leads. Agents' metrics have the label
// node from the PodMonitor.
local p = import 'panels.libsonnet';

local gpus(metric) = 'max by (UUID, gpu) (%s{node="$node", model=~"$model"})' % metric;
local eachGPU(expr) = [p.query(expr, 'GPU {{gpu}} {{UUID}}')];
local scheduler(what) = p.query('sum(max by (model) (berth_node_gpu_memory_%s_bytes{node="$node", model=~"$model"}))' % what, what);
local agent(expr, legend) = p.query('sum(rate(%s{node="$node"}[$__rate_interval])) * 60' % expr, legend);

{
  grafanaDashboards+:: {
    'berth-node.json': p.dashboard(
      'node',
      'Node',
      'The GPUs of a node: what its agent sees, what was promised of them, and what the scheduler makes of it.',
      [
        p.filter('node', 'berth_agent_report_age_seconds', all=false),
        p.filter('model', 'berth_gpu_memory_total_bytes{node="$node"}'),
        p.filter('namespace', 'berth_pod_gpu_memory_used_bytes{node="$node"}'),
      ],
      [
        p.row('Now'),
        p.stat('GPUs', 'GPUs and MIG instances that the agent sees.', 'short', 'count(%s)' % gpus('berth_gpu_memory_total_bytes')),
        p.stat('GPUs that get no pods', 'GPUs that the agent says cannot be given to pods, those among them that are cut into MIG instances.', 'short', 'count(%s) - sum(%s)' % [gpus('berth_gpu_healthy'), gpus('berth_gpu_healthy')]),
        p.stat('Memory', 'Physical memory of the GPUs.', 'bytes', 'sum(%s)' % gpus('berth_gpu_memory_total_bytes')),
        p.stat('In use', 'Of the physical memory, without what drivers reserve.', 'percentunit', 'sum(%s) / sum(%s)' % [gpus('berth_gpu_memory_used_bytes'), gpus('berth_gpu_memory_total_bytes')]),
        p.stat('Foreign', 'Held by processes of no pod.', 'bytes', 'sum(%s)' % gpus('berth_gpu_memory_foreign_bytes')),
        p.stat('Age of the report', 'Since when the report in the API is not known to be true.', 's', 'max(berth_agent_report_age_seconds{node="$node"})', red=60),

        p.row('GPUs'),
        p.lines('In use', 'Memory in use on each GPU, without what its driver reserves.', 'bytes', eachGPU(gpus('berth_gpu_memory_used_bytes'))),
        p.lines('In use of what there is', 'Memory in use of the physical memory, on each GPU.', 'percentunit', eachGPU('%s / %s' % [gpus('berth_gpu_memory_used_bytes'), gpus('berth_gpu_memory_total_bytes')])),
        p.lines('Promised', 'What pods were promised of each GPU, as the controller tells.', 'bytes', [p.query('max by (UUID) (berth_gpu_memory_booked_bytes{node="$node"})', '{{UUID}}')]),
        p.lines('Foreign', 'Held by processes of no pod, on each GPU.', 'bytes', eachGPU(gpus('berth_gpu_memory_foreign_bytes'))),
        p.lines('Reserved', 'What the driver keeps for itself, on each GPU.', 'bytes', eachGPU(gpus('berth_gpu_memory_reserved_bytes'))),
        p.lines('Health', '1 if the GPU can be given to pods, else 0, and why.', 'short', [
          p.query('max by (UUID, gpu, reason) (berth_gpu_healthy{node="$node", model=~"$model"})', 'GPU {{gpu}} {{UUID}} {{reason}}'),
        ]),

        p.row('Pods'),
        p.stacked('Held by pods', 'What each pod holds, on all GPUs of the node together. A pod whose name is not known has its UID.', 'bytes', [
          p.query('sum by (namespace, pod) (max by (namespace, pod, UUID) (berth_pod_gpu_memory_used_bytes{node="$node", namespace=~"$namespace"}))', '{{namespace}}/{{pod}}'),
        ]),
        p.stacked('Promised to pods', 'What was promised to the pods that have something of these GPUs. Only with --pod-metrics of the controller.', 'bytes', [
          p.query(
            'sum by (namespace, pod) (max by (namespace, pod, UUID) (berth_pod_gpu_memory_booked_bytes{namespace=~"$namespace"}) and on (UUID) berth_gpu_memory_booked_bytes{node="$node"})', '{{namespace}}/{{pod}}'
          ),
        ]),
        p.lines('Idle', 'For how long each pod was measured to compute nothing on any GPU. One whose activity is not measured is missing.', 's', [
          p.query('min by (namespace, pod) (berth_pod_gpu_idle_seconds{node="$node", namespace=~"$namespace"})', '{{namespace}}/{{pod}}'),
        ]),

        p.row('What the scheduler makes of it: only with perNodeMetrics: true'),
        p.lines('Memory', 'Of the chosen models together.', 'bytes', [scheduler(what) for what in ['total', 'capacity', 'booked', 'measured', 'free', 'largest_free']]),
        p.lines('Charged beside bookings, and blocked', 'Foreign: of no pod. Held: for pods that wait here for more. Returning: of pods that are gone; overdue: for too long. Overused: beyond what was booked. Blocked: free, but for the state of its GPU or node. Fragmented: free in pieces that are too small.', 'bytes', [
          scheduler(what)
          for what in ['foreign', 'held', 'returning', 'overdue', 'overused', 'blocked', 'fragmented']
        ]),

        p.row('Agent'),
        p.lines('Readings and writes', 'Readings of all devices, and writes of the report, per minute.', 'short', [
          agent('berth_agent_readings_total', 'readings'),
          p.query('sum by (result) (rate(berth_agent_report_writes_total{node="$node"}[$__rate_interval])) * 60', 'writes: {{result}}'),
        ]),
        p.lines('Errors', 'What failed, per minute: readings as a whole, renewals of the Lease, requests to the kubelet.', 'short', [
          agent('berth_agent_reading_errors_total', 'readings'),
          agent('berth_agent_lease_errors_total', 'Lease'),
          agent('berth_agent_pod_resources_errors_total', 'PodResources'),
        ]),
        p.lines('Time of a reading', 'How long a reading of all devices takes.', 's', [
          p.query('sum(rate(berth_agent_reading_seconds_total{node="$node"}[$__rate_interval])) / (sum(rate(berth_agent_readings_total{node="$node"}[$__rate_interval])) > 0)', 'reading'),
        ]),
      ],
    ),
  },
}
