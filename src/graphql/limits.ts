import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  getNamedType,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLSchema,
  isInterfaceType,
  isObjectType,
  Kind,
  type OperationDefinitionNode,
  OperationTypeNode,
  parse,
  type SelectionSetNode,
} from "graphql";
import { defaultPageSize, largestPageSize } from "./pages.ts";

/** How much one request may ask for. Planning is what these protect: it blocks the process, and comes before SQL. */
export interface Limits {
  /** Words, names and signs of the document. */
  readonly tokens: number;
  /** Fields inside fields. */
  readonly depth: number;
  /** Fields in all, each fragment counted wherever it is spread. */
  readonly fields: number;
  /** Fields given another name: one request is not meant to be a thousand. */
  readonly aliases: number;
  /** Rows that could come back: pages within pages multiply. */
  readonly rows: number;
}

/** Twice what the dashboard's largest query and the IDE's own introspection need. */
export const defaultLimits: Limits = { tokens: 4_000, depth: 15, fields: 500, aliases: 50, rows: 10_000 };

/** What a document asks for, or why it is refused. */
export type Measured =
  | { readonly refusal: string }
  | { readonly refusal: undefined; readonly introspects: boolean; readonly subscribes: boolean };

interface Size {
  readonly depth: number;
  readonly fields: number;
  readonly aliases: number;
  readonly rows: number;
  readonly introspects: boolean;
}

const nothing: Size = { depth: 0, fields: 0, aliases: 0, rows: 0, introspects: false };

/**
 * Measures every operation of a document against the limits, without planning it. Whether the document is valid is
 * left to validation: what the schema does not know counts as a field and no more.
 */
export function measureDocument(
  schema: GraphQLSchema,
  query: string,
  variables: Readonly<Record<string, unknown>>,
  limits: Limits = defaultLimits,
): Measured {
  let document: DocumentNode;
  try {
    document = parse(query, { maxTokens: limits.tokens, noLocation: true });
  } catch (error) {
    return { refusal: error instanceof Error ? error.message : "The query cannot be parsed." };
  }
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition);
  }
  let introspects = false;
  let subscribes = false;
  for (const operation of document.definitions) {
    if (operation.kind !== Kind.OPERATION_DEFINITION) continue;
    const ruler = createRuler(schema, fragments, valuesOf(operation, variables));
    const size = ruler.measure(operation.selectionSet, schema.getRootType(operation.operation) ?? undefined);
    const refusal = ruler.refusal() ?? refusalOf(size, limits);
    if (refusal !== undefined) return { refusal };
    introspects ||= size.introspects;
    subscribes ||= operation.operation === OperationTypeNode.SUBSCRIPTION;
  }
  return { refusal: undefined, introspects, subscribes };
}

function refusalOf(size: Size, limits: Limits): string | undefined {
  if (size.depth > limits.depth) return `The query is ${size.depth} fields deep; at most ${limits.depth} are allowed.`;
  if (size.fields > limits.fields) return `The query has ${size.fields} fields; at most ${limits.fields} are allowed.`;
  if (size.aliases > limits.aliases) {
    return `The query has ${size.aliases} aliases; at most ${limits.aliases} are allowed.`;
  }
  if (size.rows > limits.rows) {
    return `The query could return ${size.rows} rows; at most ${limits.rows} are allowed. Ask for smaller pages with first.`;
  }
  return undefined;
}

/** The values of an operation's variables: as given, else their defaults where those are plain numbers. */
function valuesOf(
  operation: OperationDefinitionNode,
  variables: Readonly<Record<string, unknown>>,
): ReadonlyMap<string, unknown> {
  const values = new Map<string, unknown>();
  for (const { variable, defaultValue } of operation.variableDefinitions ?? []) {
    const name = variable.name.value;
    if (Object.hasOwn(variables, name)) values.set(name, variables[name]);
    else if (defaultValue?.kind === Kind.INT) values.set(name, Number(defaultValue.value));
  }
  return values;
}

interface Ruler {
  measure: (selections: SelectionSetNode, parent: GraphQLNamedType | undefined) => Size;
  /** Why a page is refused, once one was. */
  refusal: () => string | undefined;
}

function createRuler(
  schema: GraphQLSchema,
  fragments: ReadonlyMap<string, FragmentDefinitionNode>,
  variables: ReadonlyMap<string, unknown>,
): Ruler {
  // Each fragment is measured once, however often it is spread; one inside itself counts nothing here, and is refused
  // by validation.
  const known = new Map<string, Size>();
  let refusal: string | undefined;

  const measure = (selections: SelectionSetNode, parent: GraphQLNamedType | undefined): Size =>
    selections.selections
      .map((selection): Size => {
        switch (selection.kind) {
          case Kind.FIELD:
            return measureField(selection, parent);
          case Kind.INLINE_FRAGMENT: {
            const condition = selection.typeCondition?.name.value;
            return measure(selection.selectionSet, condition === undefined ? parent : schema.getType(condition));
          }
          case Kind.FRAGMENT_SPREAD:
            return measureFragment(selection.name.value);
        }
      })
      .reduce(sum, nothing);

  const measureFragment = (name: string): Size => {
    const measured = known.get(name);
    if (measured !== undefined) return measured;
    const fragment = fragments.get(name);
    if (fragment === undefined) return nothing;
    known.set(name, nothing);
    const size = measure(fragment.selectionSet, schema.getType(fragment.typeCondition.name.value));
    known.set(name, size);
    return size;
  };

  const measureField = (node: FieldNode, parent: GraphQLNamedType | undefined): Size => {
    const name = node.name.value;
    const field = isObjectType(parent) || isInterfaceType(parent) ? parent.getFields()[name] : undefined;
    const inner =
      node.selectionSet === undefined
        ? nothing
        : measure(node.selectionSet, field === undefined ? undefined : getNamedType(field.type));
    const page = pageOf(node, field);
    return {
      depth: inner.depth + 1,
      fields: inner.fields + 1,
      aliases: inner.aliases + (node.alias === undefined ? 0 : 1),
      rows: page === undefined ? inner.rows : page * (1 + inner.rows),
      introspects: inner.introspects || name === "__schema" || name === "__type",
    };
  };

  /** How many rows a list may return; undefined for what is no list. */
  const pageOf = (node: FieldNode, field: GraphQLField<unknown, unknown> | undefined): number | undefined => {
    if (field?.args.some((argument) => argument.name === "first") !== true) return undefined;
    const value = node.arguments?.find((argument) => argument.name.value === "first")?.value;
    const given =
      value?.kind === Kind.INT
        ? Number(value.value)
        : value?.kind === Kind.VARIABLE
          ? variables.get(value.name.value)
          : undefined;
    if (given === undefined) return defaultPageSize;
    if (typeof given === "number" && given >= 0 && given <= largestPageSize) return given;
    refusal ??= `${node.name.value}: first is a number from 0 to ${largestPageSize}; read on with after.`;
    return 0;
  };

  return { measure, refusal: () => refusal };
}

/** Two selections side by side. */
function sum(a: Size, b: Size): Size {
  return {
    depth: Math.max(a.depth, b.depth),
    fields: a.fields + b.fields,
    aliases: a.aliases + b.aliases,
    rows: a.rows + b.rows,
    introspects: a.introspects || b.introspects,
  };
}
