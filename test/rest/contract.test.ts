import { describe, expect, test } from "@jest/globals";
import { addressOf, operations, operationsByAddress, reference, startContract } from "../support/contract.ts";
import { referenceDirectory } from "../support/reference.ts";
import { administrationAnswers } from "./contract/administration.ts";
import { engagementAnswers } from "./contract/engagement.ts";
import { pointsAnswers } from "./contract/points.ts";

const describeContract = reference === undefined ? describe.skip : describe;

describeContract(`every answer has the contract's schema (${referenceDirectory})`, () => {
  const contract = startContract();
  pointsAnswers(contract);
  administrationAnswers(contract);
  engagementAnswers(contract);

  test("and no operation, and none of its statuses, was left out", () => {
    const { seen } = contract;
    expect([...seen.keys()].sort()).toEqual(operations.map(addressOf).sort());
    const untried = operations.flatMap((operation) => {
      const statuses = seen.get(addressOf(operation)) ?? new Set();
      const documented = reference?.statusesOf(operation.api, operation.method, addressOf(operation).split(" ")[2] ?? "") ?? [];
      return [...new Set([...Object.keys(operation.answers).map(Number), ...documented])]
        // Tried on every operation by every_operation.test.ts.
        .filter((status) => ![400, 401, 403, 422].includes(status) && !statuses.has(status))
        .map((status) => `${addressOf(operation)} ${status}`);
    });
    expect(untried).toEqual([]);
  });

  test("and the contract has none beyond them", () => {
    const missing = (reference?.operations() ?? []).filter((address) => !operationsByAddress.has(address));
    expect(missing).toEqual([]);
  });
});
