import { PgSimplifyInflectionPreset } from "@graphile/simplify-inflection";
import type { Pool } from "pg";
import { makePgService } from "postgraphile/adaptors/pg";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { PostGraphileConnectionFilterPreset } from "postgraphile-plugin-connection-filter";
import { TenantsStayOutsidePlugin } from "./exposure.ts";
import { NamesPlugin } from "./names.ts";
import { PagesPlugin } from "./pages.ts";
import { SmartTagsPlugin } from "./smart_tags.ts";

export function createPreset({ pool }: { readonly pool: Pool }): GraphileConfig.Preset {
  return {
    extends: [PostGraphileAmberPreset, PgSimplifyInflectionPreset, PostGraphileConnectionFilterPreset],
    plugins: [NamesPlugin, SmartTagsPlugin, TenantsStayOutsidePlugin, PagesPlugin],
    disablePlugins: [
      "QueryQueryPlugin",
      "PgConditionArgumentPlugin",
      "PgConditionCustomFieldsPlugin",
      "NodePlugin",
      "AddNodeInterfaceToSuitableTypesPlugin",
      "RegisterQueryNodePlugin",
      "NodeAccessorPlugin",
      "PgTableNodePlugin",
      "PgNodeIdAttributesPlugin",
    ],
    pgServices: [makePgService({ pool, schemas: ["laurel"], pubsub: false })],
    schema: {
      defaultBehavior: "-connection:backwards -attribute:filterBy -attribute:orderBy -totalCount",
      connectionFilterAllowedOperators: ["isNull", "equalTo", "in", "lessThan", "lessThanOrEqualTo", "greaterThan", "greaterThanOrEqualTo", "contains"],
      connectionFilterArrays: false,
      connectionFilterComputedColumns: false,
      connectionFilterSetofFunctions: false,
    },
  };
}
