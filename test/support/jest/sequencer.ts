import { createRequire } from "node:module";
import type { Test } from "@jest/test-result";

const require = createRequire(import.meta.url);
const { default: Sequencer } = require("@jest/test-sequencer") as { default: new (...options: unknown[]) => Orders };
declare class Orders {
  sort(tests: Test[]): Test[];
}

/** The longest first, so that all workers are done at about the same time. Jest itself goes by how long they took, once it knows. */
const longest = [
  "browser/hostile", "main", "browser/screens", "browser/journey", "concurrency/mixed", "sql/insight/points_analytics", "processes", "sql/metrics/metric_events",
  "properties/", "postgres/embedded", "concurrency/events", "sql/insight/backtest_points", "cli/import", "rest/contract", "postgres/migrate",
  "graphql/fields", "rest/bad_input", "rest/every_operation", "graphql/subscriptions", "access/bad_calls",
].map((name) => `/test/${name}`);

export default class LongestFirst extends Sequencer {
  override sort(tests: Test[]): Test[] {
    const place = ({ path }: Test): number => longest.findIndex((name) => path.includes(name)) + 1 || Infinity;
    return super.sort(tests).sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)));
  }
}
