import "postgraphile";

/**
 * Rows belong to the tenant that the caller's key stands for, so that tenants are named nowhere in the schema: no
 * column shows one, and no row is found by a key that includes one (spec T1, Q9).
 */
export const TenantsStayOutsidePlugin: GraphileConfig.Plugin = {
  name: "LaurelTenantsStayOutsidePlugin",
  version: "1.0.0",
  schema: {
    entityBehavior: {
      pgCodecAttribute: {
        override: (behavior, [, attribute]) => (attribute === "tenant_id" ? [behavior, "-*"] : behavior),
      },
      pgResourceUnique: {
        override: (behavior, [, unique]) =>
          unique.attributes.includes("tenant_id")
            ? [behavior, "-single", "-constraint:resource:update", "-constraint:resource:delete"]
            : behavior,
      },
    },
  },
};
