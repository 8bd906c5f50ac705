import "postgraphile";

/**
 * Names in the GraphQL schema follow the database's. There are no global object IDs, so that `id` is free for what
 * SQL and REST call the ID: `PointsSystem.id`, `User.id`.
 */
export const NamesPlugin: GraphileConfig.Plugin = {
  name: "LaurelNamesPlugin",
  version: "1.0.0",
  inflection: {
    replace: {
      _attributeName(previous, _preset, details) {
        const name = previous?.(details) ?? details.attributeName;
        return name === "row_id" && details.attributeName === "id" ? "id" : name;
      },
    },
  },
};
