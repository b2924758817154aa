// What dashboards are made of, in the classic JSON model of Grafana 10 and later.
local datasource = { type: 'prometheus', uid: '${datasource}' };

local width = 24;  // of Grafana's grid

local panel(type, title, description, unit, queries, size) = {
  type: type,
  title: title,
  description: description,
  datasource: datasource,
  gridPos: size,
  fieldConfig: { defaults: { unit: unit, min: 0, color: { mode: 'palette-classic' } }, overrides: [] },
  targets: [queries[i] { refId: std.char(std.codepoint('A') + i) } for i in std.range(0, std.length(queries) - 1)],
};

{
  query(expr, legend): { expr: expr, legendFormat: legend, datasource: datasource, editorMode: 'code' },

  // stat shows the value of one query now, and none if there is none now; red from a value on if that is given.
  stat(title, description, unit, expr, red=null)::
    panel('stat', title, description, unit, [$.query(expr, title) { instant: true, range: false }], { w: 4, h: 4 }) {
      fieldConfig+: { defaults+: {
        color: { mode: 'thresholds' },
        thresholds: { mode: 'absolute', steps: [{ color: 'green', value: null }] + (if red == null then [] else [{ color: 'red', value: red }]) },
      } },
      options: { colorMode: 'value', graphMode: 'none', reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false } },
    },

  // lines shows queries over time.
  lines(title, description, unit, queries, stacked=false)::
    panel('timeseries', title, description, unit, queries, { w: 12, h: 8 }) {
      fieldConfig+: { defaults+: { custom: {
        drawStyle: 'line',
        lineWidth: 1,
        fillOpacity: if stacked then 40 else 0,
        showPoints: 'never',
        stacking: { mode: if stacked then 'normal' else 'none', group: 'A' },
      } } },
      options: { legend: { displayMode: 'table', placement: 'bottom', calcs: ['lastNotNull', 'max'] }, tooltip: { mode: 'multi', sort: 'desc' } },
    },

  stacked(title, description, unit, queries):: $.lines(title, description, unit, queries, stacked=true),

  row(title):: { type: 'row', title: title, collapsed: false, panels: [], gridPos: { w: width, h: 1 } },

  // filter is a variable with the values of a label.
  filter(label, metric, all=true):: {
    type: 'query',
    name: label,
    label: label,
    datasource: datasource,
    query: 'label_values(%s, %s)' % [metric, label],
    definition: self.query,
    refresh: 2,  // when the range of time changes
    sort: 1,
    multi: all,
    includeAll: all,
    [if all then 'allValue']: '.*',
    [if all then 'current']: { text: ['All'], value: ['$__all'] },
  },

  // dashboard places panels from left to right, and a new line begins where one is full.
  dashboard(name, title, description, filters, panels):: {
    local placed = std.foldl(
      function(done, p)
        local full = done.x + p.gridPos.w > width;
        local x = if full then 0 else done.x, y = if full then done.y + done.height else done.y;
        {
          x: x + p.gridPos.w,
          y: y,
          height: if full then p.gridPos.h else std.max(done.height, p.gridPos.h),
          panels: done.panels + [p { id: std.length(done.panels) + 1, gridPos+: { x: x, y: y } }],
        },
      panels,
      { x: 0, y: 0, height: 0, panels: [] },
    ),
    uid: 'berth-' + name,
    title: 'Berth / ' + title,
    description: description,
    tags: ['berth'],
    schemaVersion: 39,
    editable: true,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-6h', to: 'now' },
    timezone: 'browser',
    links: [{ type: 'dashboards', title: 'Berth', tags: ['berth'], asDropdown: true, includeVars: true, keepTime: true }],
    annotations: { list: [] },
    templating: { list: [{ type: 'datasource', name: 'datasource', label: 'data source', query: 'prometheus' }] + filters },
    panels: placed.panels,
  },
}
