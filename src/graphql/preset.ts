import "./environment.ts";
import type { IncomingMessage } from "node:http";
import { PgSimplifyInflectionPreset } from "@graphile/simplify-inflection";
import type { GraphQLError, GraphQLSchema } from "graphql";
import type { Pool } from "pg";
import "grafserv/express/v4";
import { makePgService } from "postgraphile/adaptors/pg";
import { SafeError } from "postgraphile/grafast";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { PostGraphileConnectionFilterPreset } from "postgraphile-plugin-connection-filter";
import { ArgumentsPlugin } from "./arguments.ts";
import { type GraphqlCaller, settingsOf } from "./callers.ts";
import { TenantsStayOutsidePlugin } from "./exposure.ts";
import { measureDocument } from "./limits.ts";
import { MissingRowsPlugin } from "./missing_rows.ts";
import { NamesPlugin } from "./names.ts";
import { PagesPlugin } from "./pages.ts";
import { SmartTagsPlugin } from "./smart_tags.ts";
import type { BalanceWatch } from "./balance_watch.ts";
import { SubscriptionsPlugin } from "./subscriptions.ts";

/** Where GraphQL answers. */
export const graphqlPath = "/graphql";
/** Where the IDE's files are. */
export const idePath = "/graphql/ide/";
/** Largest body, in bytes. */
export const largestBodyBytes = 100_000;

/** What the running endpoint adds to the schema's preset. */
export interface RequestDependencies {
  /** Whom a request acts for; undefined for one that was not authenticated, which is a fault of ours. */
  readonly callerOf: (request: IncomingMessage) => GraphqlCaller | undefined;
  readonly schema: () => PromiseLike<GraphQLSchema> | GraphQLSchema;
  readonly maskError: (error: GraphQLError) => GraphQLError;
  readonly balanceWatch: BalanceWatch;
  readonly isDevelopment: boolean;
}

/** Everything that decides the schema. `pool` logs in as the weak login: the schema is what its roles may do. */
export function createSchemaPreset(pool: Pool): GraphileConfig.Preset {
  return {
    extends: [PostGraphileAmberPreset, PgSimplifyInflectionPreset, PostGraphileConnectionFilterPreset],
    plugins: [NamesPlugin, SmartTagsPlugin, TenantsStayOutsidePlugin, PagesPlugin, ArgumentsPlugin, MissingRowsPlugin, SubscriptionsPlugin],
    disablePlugins: [
      // No global object IDs, which would carry the tenant's.
      "NodePlugin",
      "AddNodeInterfaceToSuitableTypesPlugin",
      "RegisterQueryNodePlugin",
      "PgTableNodePlugin",
      "PgNodeIdAttributesPlugin",
      // One way to filter.
      "PgConditionArgumentPlugin",
      "PgConditionCustomFieldsPlugin",
      // Filters that reach other tables, or nest without end, cost more than any limit below could know.
      "PgConnectionArgFilterBackwardRelationsPlugin",
      "PgConnectionArgFilterForwardRelationsPlugin",
      "PgConnectionArgFilterLogicalOperatorsPlugin",
      "QueryQueryPlugin",
    ],
    pgServices: [makePgService({ pool, schemas: ["laurel"], pubsub: false })],
    schema: {
      // A schema that lacks something is worse than a start that fails.
      dontSwallowErrors: true,
      // Counting a list reads all of it. Columns to filter and order by are named in the smart tags.
      defaultBehavior: "-connection:backwards -attribute:filterBy -attribute:orderBy -totalCount",
      connectionFilterAllowedOperators: [
        "isNull", "equalTo", "in", "lessThan", "lessThanOrEqualTo", "greaterThan", "greaterThanOrEqualTo", "contains",
      ],
      // `filter: null` and `filter: {}` filter nothing; refused, they would be faults of ours in the caller's eyes.
      connectionFilterAllowNullInput: true,
      connectionFilterAllowEmptyObjectInput: true,
      connectionFilterArrays: false,
      connectionFilterComputedColumns: false,
      connectionFilterSetofFunctions: false,
    },
  };
}

/** The schema's preset with all that requests need. */
export function createServerPreset(pool: Pool, dependencies: RequestDependencies): GraphileConfig.Preset {
  const { callerOf, maskError, balanceWatch } = dependencies;
  return {
    extends: [createSchemaPreset(pool)],
    plugins: [createLimitsPlugin(dependencies)],
    grafast: {
      context: ({ expressv4, ws }) => {
        const request = expressv4?.req ?? ws?.request;
        const caller = required(request && callerOf(request));
        return { pgSettings: settingsOf(caller), caller, balanceWatch };
      },
      // Milliseconds; the database's own timeout ends statements, this ends what waits for many of them.
      timeouts: { planning: 2_000, execution: 60_000 },
      explain: false,
    },
    grafserv: {
      graphqlPath,
      graphiql: true,
      graphiqlPath: graphqlPath,
      graphiqlStaticPath: idePath,
      maxRequestLength: largestBodyBytes,
      allowedRequestContentTypes: ["application/json"],
      websockets: false,
      maskError,
    },
  };
}

/** Refuses what is too large, and introspection for those who may not, before anything is validated or planned. */
function createLimitsPlugin({ callerOf, schema, isDevelopment }: RequestDependencies): GraphileConfig.Plugin {
  return {
    name: "LaurelLimitsPlugin",
    version: "1.0.0",
    grafserv: {
      middleware: {
        processGraphQLRequestBody: async (next, { body, request, graphqlWsContext }) => {
          const { query, variableValues } = body;
          if (typeof query === "string") {
            const variables = isRecord(variableValues) ? variableValues : {};
            const measured = measureDocument(await schema(), query, variables);
            if (measured.refusal !== undefined) refuse(400, "REFUSED", measured.refusal);
            if (measured.subscribes && graphqlWsContext === undefined) {
              refuse(400, "REFUSED", "Subscribe over a WebSocket at this address, by the protocol graphql-transport-ws.");
            }
            const incoming = request?.requestContext.expressv4?.req ?? (graphqlWsContext?.extra as { request?: IncomingMessage } | undefined)?.request;
            const caller = required(incoming && callerOf(incoming));
            if (measured.introspects && caller.role !== "laurel_admin" && !isDevelopment) {
              refuse(403, "LR041", "Introspection is for admin keys.");
            }
          }
          return next();
        },
      },
    },
  };
}

function refuse(statusCode: number, code: string, message: string): never {
  throw new SafeError(message, { statusCode, code });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function required(caller: GraphqlCaller | undefined): GraphqlCaller {
  if (caller === undefined) throw new Error("a GraphQL request was let through without authentication");
  return caller;
}
