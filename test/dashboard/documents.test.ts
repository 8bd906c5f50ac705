import { beforeAll, describe, expect, test } from "@jest/globals";
import { type GraphQLSchema, parse, validate } from "graphql";
// The preset comes first: it sets the scene for PostGraphile.
import { createSchemaPreset } from "../../src/graphql/preset.ts";
import { makeSchema } from "postgraphile";
import * as documents from "../../src/dashboard/documents.ts";
import { measureDocument } from "../../src/graphql/limits.ts";
import { cloneDatabase } from "../support/database.ts";

let schema: GraphQLSchema;

beforeAll(async () => {
  const database = await cloneDatabase();
  ({ schema } = await makeSchema(createSchemaPreset(database.pools.server)));
});

describe.each(Object.entries(documents))("the dashboard's document %s", (_name, document) => {
  test("asks for what the schema has", () => {
    expect(validate(schema, parse(document))).toEqual([]);
  });

  test("keeps within the limits of one request", () => {
    expect(measureDocument(schema, document, {})).toMatchObject({ refusal: undefined });
  });
});
