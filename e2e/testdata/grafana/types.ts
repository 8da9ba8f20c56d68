// A dashboard by the types of Grafana's own schema, for the TypeScript compiler to compare one with. The test beside it
// appends the JSON as a constant: what the schema does not know, or a word that is none of an enumeration, is an error.
import type * as bargauge from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
// The package exports these under other names, as what a program makes of them.
import type { AnnotationQuery, Dashboard, Panel, RowPanel, VariableModel } from "./node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen";

// In JSON an enumeration of words is its words.
type Plain<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

// What is left out has a default.
type Some<T> = T extends object ? { [K in keyof T]?: Some<T[K]> } : T;

// A panel of one kind, with its options and those of its fields.
type Fields = NonNullable<Panel["fieldConfig"]>;
type Of<Kind extends string, Options, Custom = {}> = Omit<Panel, "type" | "options" | "fieldConfig" | "targets"> & {
  type: Kind;
  options?: Some<Options>;
  fieldConfig?: Omit<Fields, "defaults"> & { defaults: Omit<Fields["defaults"], "custom"> & { custom?: Some<Custom> } };
  targets: Target[];
};

// What the data source of Prometheus adds to all that asks it.
type Source = { type: "prometheus"; uid: string };
type Target = {
  refId: string;
  datasource: Source;
  expr: string;
  legendFormat?: string;
  format?: "time_series" | "table" | "heatmap";
  instant?: boolean;
  range?: boolean;
  interval?: string;
};
type Annotation = AnnotationQuery & { expr?: string; titleFormat?: string };
type Variable = VariableModel & { definition?: string };

type Ours = Omit<Dashboard, "panels" | "templating" | "annotations"> & {
  annotations: { list: Annotation[] };
  templating: { list: Variable[] };
  panels: (
    | RowPanel
    | Of<"stat", stat.Options>
    | Of<"bargauge", bargauge.Options>
    | Of<"table", table.Options, table.FieldConfig>
    | Of<"state-timeline", timeline.Options, timeline.FieldConfig>
    | Of<"timeseries", timeseries.Options, timeseries.FieldConfig>
  )[];
};

