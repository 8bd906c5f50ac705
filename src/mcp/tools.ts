/** What the MCP server needs of an OpenAPI 3.1 document. */
export interface ApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, ApiOperation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

interface ApiOperation {
  readonly operationId: string;
  readonly summary: string;
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly required: boolean; readonly schema: Schema }[];
  readonly requestBody?: { readonly content: { readonly "application/json": { readonly schema: Schema } } };
}

/** A JSON Schema. */
type Schema = Readonly<Record<string, unknown>>;

/** A tool: one operation of the admin API, with path, query and body as one object of arguments. */
export interface Tool {
  readonly name: string;
  readonly description: string;
  readonly inputSchema: Schema & { readonly type: "object" };
  readonly isReadOnly: boolean;
  /** Arguments that are part of the path. */
  readonly inPath: readonly string[];
  /** Makes the request of a call; paths are below the admin API's own. */
  readonly toRequest: (given: Readonly<Record<string, unknown>>) => { readonly method: string; readonly path: string; readonly body?: string };
}

/** Operations by tool name: everything about points, and what their rules refer to. */
const operations: Readonly<Record<string, string>> = {
  ...changes("points_systems", "points_system", "admin_points_systems"),
  ...changes("points_triggers", "points_trigger", "admin_points_triggers"),
  ...changes("points_levels", "points_level", "admin_points_levels"),
  ...changes("points_boosts", "points_boost", "admin_points_boosts"),
  preview_points: "admin_points_preview",
  backtest_points: "admin_points_backtest",
  estimate_points: "admin_points_estimate",
  get_points_earned: "admin_points_analytics_earned",
  get_points_breakdown: "admin_points_analytics_breakdown",
  get_points_by_users: "admin_points_analytics_users",
  get_points_in_first_days: "admin_points_analytics_first_days",
  get_points_insights: "admin_points_analytics_insights",
  get_points_level_summary: "admin_points_analytics_levels",
  get_points_summary: "admin_points_analytics_totals",
  list_metrics: "admin_metrics_list",
  list_attributes: "admin_attributes_list",
  list_achievements: "admin_achievements_list",
};

/** Simulations are posted, since they take a document; they change nothing. */
const simulations: ReadonlySet<string> = new Set(["preview_points", "backtest_points", "estimate_points"]);

function changes(plural: string, singular: string, prefix: string): Record<string, string> {
  return {
    [`list_${plural}`]: `${prefix}_list`,
    [`get_${singular}`]: `${prefix}_get`,
    [`create_${plural}`]: `${prefix}_create`,
    [`update_${plural}`]: `${prefix}_update`,
    [`delete_${plural}`]: `${prefix}_delete`,
  };
}

/** The tools that a server's own description of itself allows. Operations that it does not have are left out. */
export function toolsOf(document: ApiDocument): readonly Tool[] {
  const found = new Map(
    Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => [operation.operationId, { path, method, operation }] as const)),
  );
  return Object.entries(operations).flatMap(([name, id]) => {
    const described = found.get(id);
    return described === undefined ? [] : [toolOf(name, described, document)];
  });
}

function toolOf(
  name: string,
  { path, method, operation }: { readonly path: string; readonly method: string; readonly operation: ApiOperation },
  document: ApiDocument,
): Tool {
  const parameters = operation.parameters.filter((parameter) => parameter.in !== "header");
  const sent = operation.requestBody?.content["application/json"].schema;
  const body = sent === undefined ? undefined : resolve(sent, document);
  // A list of things is one argument; an object's properties are arguments of their own.
  const isList = body?.["type"] === "array";
  const properties = {
    ...Object.fromEntries(parameters.map((parameter) => [parameter.name, parameter.schema])),
    ...(body === undefined ? {} : isList ? { items: body } : (body["properties"] as Schema)),
  };
  const required = [
    ...parameters.filter((parameter) => parameter.required).map((parameter) => parameter.name),
    ...(body === undefined ? [] : isList ? ["items"] : ((body["required"] ?? []) as string[])),
  ];
  const placed = new Set(parameters.map((parameter) => parameter.name));
  return {
    name,
    description: operation.summary,
    inputSchema: { type: "object", ...withDefinitions({ properties, required }, document) },
    isReadOnly: method === "get" || simulations.has(name),
    inPath: parameters.filter((parameter) => parameter.in === "path").map((parameter) => parameter.name),
    toRequest: (given) => {
      const query = new URLSearchParams();
      for (const parameter of parameters.filter((one) => one.in === "query")) {
        const value = given[parameter.name];
        if (value === undefined || value === null) continue;
        for (const one of Array.isArray(value) ? (value as unknown[]) : [value]) query.append(parameter.name, textOf(one));
      }
      const filled = path.replaceAll(/\{(\w+)\}/g, (_, parameter: string) => encodeURIComponent(textOf(given[parameter] ?? "")));
      const address = query.size === 0 ? filled : `${filled}?${query.toString()}`;
      if (body === undefined) return { method: method.toUpperCase(), path: address };
      const content = isList ? given["items"] : Object.fromEntries(Object.entries(given).filter(([key]) => !placed.has(key)));
      return { method: method.toUpperCase(), path: address, body: JSON.stringify(content ?? null) };
    },
  };
}

const textOf = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

const reference = "#/components/schemas/";

function resolve(schema: Schema, { components }: ApiDocument): Schema {
  const named = schema["$ref"];
  return typeof named === "string" ? (components.schemas[named.slice(reference.length)] ?? {}) : schema;
}

/** Brings along the named parts that a schema refers to. */
function withDefinitions(schema: Schema, { components }: ApiDocument): Schema {
  const text = JSON.stringify(schema);
  const names = new Set<string>();
  const collect = (within: string): void => {
    for (const [, name = ""] of within.matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
      if (names.has(name)) continue;
      names.add(name);
      collect(JSON.stringify(components.schemas[name] ?? {}));
    }
  };
  collect(text);
  if (names.size === 0) return schema;
  const definitions = Object.fromEntries([...names].map((name) => [name, components.schemas[name] ?? {}]));
  return JSON.parse(JSON.stringify({ ...schema, $defs: definitions }).replaceAll(reference, "#/$defs/")) as Schema;
}
