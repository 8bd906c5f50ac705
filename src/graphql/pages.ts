import "postgraphile";

/** Rows of a list when the caller does not say how many. */
export const defaultPageSize = 10;
/** Most rows of one list in one request; the rest is behind `after`. */
export const largestPageSize = 100;

/**
 * Gives every list a page: `first` has a default and cannot be null, and a list is paged forwards only. The largest
 * page is enforced before planning (see `checkLimits`), where it can be said in words.
 */
export const PagesPlugin: GraphileConfig.Plugin = {
  name: "LaurelPagesPlugin",
  version: "1.0.0",
  after: ["PgFirstLastBeforeAfterArgsPlugin"],
  schema: {
    hooks: {
      GraphQLObjectType_fields_field_args(args, build, context) {
        const { first } = args;
        if (!context.scope.isPgFieldConnection || first === undefined) return args;
        const others = Object.entries(args).filter(([name]) => name !== "first" && name !== "offset");
        const { GraphQLInt, GraphQLNonNull } = build.graphql;
        return {
          first: {
            ...first,
            type: new GraphQLNonNull(GraphQLInt),
            defaultValue: defaultPageSize,
            description: `How many rows to read, from 0 to ${largestPageSize}.`,
          },
          ...Object.fromEntries(others),
        };
      },
    },
  },
};
