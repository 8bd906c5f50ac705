import { expect, test } from "@jest/globals";
import { DatabaseError } from "pg";
import { isLostConnection, toHttpError } from "../../src/postgres/errors.ts";

function databaseError(code: string): DatabaseError {
  const error = new DatabaseError("relation secret_table, row (1, 2)", 0, "error");
  error.code = code;
  return error;
}

test.each([
  ["08006", 503], // connection failure
  ["57P01", 503], // shutting down
  ["57P03", 503], // starting up
  ["53300", 503], // too many connections
  ["57014", 503], // statement timeout
  ["55P03", 503], // lock timeout
  ["40P01", 503], // deadlock
  ["42501", 403], // no privilege
  ["22003", 422], // out of range
  ["23505", 422], // unique
  ["42P01", 500], // no such table
  ["XX000", 500],
])("SQLSTATE %s is answered with %i, and none of PostgreSQL's own words", (code, status) => {
  const answer = toHttpError(databaseError(code));
  expect(answer.status).toBe(status);
  expect(answer.body.error).not.toContain("secret_table");
  expect(answer.retryAfterSeconds !== undefined).toBe(status === 503);
});

test.each([
  Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" }),
  Object.assign(new Error("connect ENOENT /run/x"), { code: "ENOENT" }),
  new Error("Connection terminated unexpectedly"),
  new Error("timeout exceeded when trying to connect"),
  new AggregateError([Object.assign(new Error("no"), { code: "ECONNREFUSED" })]),
  databaseError("57P01"),
])("%s means that the database is away", (error) => {
  expect(isLostConnection(error)).toBe(true);
  expect(toHttpError(error).status).toBe(503);
});

test.each([new Error("boom"), new TypeError("x is undefined"), "text", undefined])("%s is our own fault", (error) => {
  expect(isLostConnection(error)).toBe(false);
  expect(toHttpError(error).status).toBe(500);
});
